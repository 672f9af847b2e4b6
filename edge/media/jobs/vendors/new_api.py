"""Video tasks as new-api and gateways like it have them."""

from typing import Any
from urllib.parse import quote

from edge.media.jobs.work import Work

from .base import (
    Answer,
    Call,
    Polling,
    error_of,
    link,
    members,
    named,
    number,
    percent,
    state_of,
    text,
    whole,
)


class NewAPI(Polling):
    """`POST /video/generations` gives a `task_id`; `GET /video/generations/{id}` its state and URL.

    Some wrap the answer in `data`.
    """

    def submit(self, work: Work, model: str, token: str) -> Call:
        body = named(
            model=model,
            prompt=work.prompt,
            duration=whole(self.seconds(work)),
            width=work.width,
            height=work.height,
            size=work.size,
            fps=work.fps,
            seed=work.seed,
            image=work.media.image,
            metadata=named(
                last_image=work.media.last_image,
                negative_prompt=work.negative_prompt,
                aspect_ratio=work.aspect_ratio,
                resolution=work.resolution,
                generate_audio=work.generate_audio,
            ),
            **work.extra,
        )
        if not work.width:
            body = {name: body[name] for name in body if name not in ("width", "height")}
        return Call("POST", "/video/generations", body=body)

    def submitted(self, body: Any) -> Answer:
        said = _inner(body)
        task = text(said.get("task_id")) or text(said.get("id"))
        if not task and isinstance(members(body).get("data"), str):
            task = body["data"]
        if not task:
            raise ValueError("the answer has no task_id")
        return Answer("running", id=task)

    def poll(self, work: Work, upstream_id: str) -> Call:
        return Call("GET", f"/video/generations/{quote(upstream_id, safe='')}")

    def polled(self, body: Any, upstream_id: str) -> Answer:
        said = _inner(body)
        facts = members(said.get("metadata"))
        seconds = number(facts.get("duration"))
        state = state_of(said.get("status") or said.get("task_status"))
        url = said.get("url") or said.get("result_url") or said.get("video_url")
        return Answer(
            state=state,
            progress=percent(said.get("progress")),
            results=link(
                url,
                seconds=seconds or 0.0,
                width=int(number(facts.get("width")) or 0),
                height=int(number(facts.get("height")) or 0),
            ),
            error=error_of(said.get("error"), said.get("fail_reason")) if state == "failed" else {},
            seconds=seconds,
        )


def _inner(body: Any) -> dict[str, Any]:
    said = members(body)
    inner = said.get("data")
    return inner if isinstance(inner, dict) and "status" not in said else said
