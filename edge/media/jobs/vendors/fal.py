"""The queue of fal."""

from typing import Any
from urllib.parse import quote

from edge.media.jobs.work import Work
from middlewares.stores.jobs.base import Kind

from .base import (
    Answer,
    Call,
    Polling,
    error_of,
    items,
    link,
    members,
    named,
    number,
    state_of,
    text,
    whole,
)

_AUDIO = ("audio", "audio_file", "music")
_VIDEO = ("video", "videos")


class Fal(Polling):
    """`POST /{model}`, then status and result of the request below the first two parts of the
    model's name. The id here is the path of the request. A finished request may hold an error.
    """

    kinds: tuple[Kind, ...] = ("video", "music")

    def seconds(self, work: Work) -> float:
        return work.seconds or (self.default if work.kind == "video" else 30.0)

    def submit(self, work: Work, model: str, token: str) -> Call:
        body = named(
            prompt=work.prompt,
            duration=whole(self.seconds(work)),
            aspect_ratio=work.aspect_ratio,
            resolution=work.resolution,
            image_url=work.media.image,
            tail_image_url=work.media.last_image,
            seed=work.seed,
            negative_prompt=work.negative_prompt,
            generate_audio=work.generate_audio,
            lyrics=work.lyrics,
            **work.extra,
        )
        return Call("POST", f"/{model}", body=body)

    def submitted(self, body: Any) -> Answer:
        said = members(body)
        request_id, path = text(said.get("request_id")), text(said.get("response_url"))
        if not request_id or "/requests/" not in path:
            raise ValueError("the answer has no request_id and response_url")
        app = path.partition("://")[2].partition("/")[2].partition("/requests/")[0]
        return Answer("running", id=f"{app}/requests/{quote(request_id, safe='')}")

    def poll(self, work: Work, upstream_id: str) -> Call:
        return Call("GET", f"/{upstream_id}/status")

    def polled(self, body: Any, upstream_id: str) -> Answer:
        said = members(body)
        if "status" not in said:
            return _result(said)
        state = state_of(said.get("status"))
        error = error_of(said.get("error"))
        if error and state != "running":
            return Answer("failed", error=error)
        if state == "succeeded":
            return Answer("running", then=Call("GET", f"/{upstream_id}"))
        return Answer(state, error=error)

    def cancel(self, work: Work, upstream_id: str) -> Call | None:
        return Call("PUT", f"/{upstream_id}/cancel")


def _result(said: dict[str, Any]) -> Answer:
    """The response of a finished request."""
    for names, mime in ((_VIDEO, "video/mp4"), (_AUDIO, "audio/mpeg")):
        for name in names:
            found = items(said.get(name)) or [said.get(name)]
            results: tuple[Any, ...] = ()
            for one in found:
                one = {"url": one} if isinstance(one, str) else members(one)
                seconds = number(one.get("duration")) or 0.0
                results += link(
                    one.get("url"), text(one.get("content_type")) or mime, seconds=seconds
                )
            if results:
                seconds = sum(result.seconds for result in results)
                return Answer("succeeded", results=results, seconds=seconds or None)
    return Answer("failed", error=error_of(said.get("error"), said.get("detail"), "no result"))
