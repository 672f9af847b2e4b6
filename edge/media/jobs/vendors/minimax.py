"""MiniMax's music generation, which answers with the result."""

from typing import Any

from edge.media.jobs.work import Work
from middlewares.stores.jobs.base import Kind

from .base import Answer, AtOnce, Call, error_of, link, members, named, number, text

_SONG = 360.0
_FORMATS = {"mp3": "mp3", "wav": "wav", "pcm": "pcm"}


class MiniMax(AtOnce):
    """`POST /music_generation`, a request as long as the work. A failing `base_resp.status_code`
    comes with status 200."""

    kinds: tuple[Kind, ...] = ("music",)
    default = 0.0

    def most_seconds(self, work: Work) -> float:
        return _SONG

    def submit(self, work: Work, model: str, token: str) -> Call:
        body = named(
            model=model,
            prompt=", ".join(filter(None, (work.prompt, work.style))),
            lyrics=work.lyrics,
            is_instrumental=work.instrumental or None,
            output_format="url",
            audio_setting={
                "sample_rate": 44100,
                "bitrate": 256000,
                "format": _FORMATS.get(work.format, "mp3"),
            },
            **work.extra,
        )
        return Call("POST", "/music_generation", body=body)

    def submitted(self, body: Any) -> Answer:
        said = members(body)
        verdict = members(said.get("base_resp"))
        if verdict.get("status_code") not in (0, None):
            code = text(verdict.get("status_code"))
            return Answer(
                "failed",
                error={"error": {"code": code, "message": text(verdict.get("status_msg"))}}
                if code != "1026"  # new sensitive content in the prompt
                else {"error": {"code": "content_filter"}},
            )
        data = members(said.get("data"))
        seconds = (number(members(said.get("extra_info")).get("music_duration")) or 0.0) / 1000
        results = link(data.get("audio"), seconds=seconds)
        if not results:
            return Answer("failed", error=error_of("no audio in the answer"))
        return Answer("succeeded", results=results, seconds=seconds or None)
