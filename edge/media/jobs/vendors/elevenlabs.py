"""ElevenLabs' music generation, which answers with the audio itself."""

from typing import Any

from edge.media.jobs.work import Work
from middlewares.stores.jobs.base import Kind

from .base import Answer, AtOnce, Call, named

_FORMATS = {"mp3": "mp3_44100_128", "pcm": "pcm_44100", "ogg": "opus_48000_128"}
_SHORTEST, _LONGEST = 3.0, 600.0


class ElevenLabs(AtOnce):
    """`POST /music`: the bytes go into the store as they come."""

    kinds: tuple[Kind, ...] = ("music",)
    streams = True
    default = 30.0

    def seconds(self, work: Work) -> float:
        plan = work.composition_plan
        if plan is not None:
            sections = plan.get("sections")
            lengths = [
                one.get("duration_ms", 0)
                for one in (sections if isinstance(sections, list) else [])
                if isinstance(one, dict) and isinstance(one.get("duration_ms", 0), int)
            ]
            if sum(lengths) > 0:
                return float(min(sum(lengths) / 1000, _LONGEST))
        return min(max(super().seconds(work), _SHORTEST), _LONGEST)

    def submit(self, work: Work, model: str, token: str) -> Call:
        prompt = "\n".join(filter(None, (work.prompt, work.style, work.lyrics)))
        plan = work.composition_plan
        body = named(
            composition_plan=plan,
            prompt=prompt if plan is None else None,
            music_length_ms=round(self.seconds(work) * 1000) if plan is None else None,
            force_instrumental=work.instrumental or None if plan is None else None,
            model_id=model,
            **work.extra,
        )
        wanted = _FORMATS.get(work.format, _FORMATS["mp3"])
        return Call("POST", "/music", query=f"output_format={wanted}", body=body)

    def submitted(self, body: Any) -> Answer:
        raise ValueError("the answer is no audio")
