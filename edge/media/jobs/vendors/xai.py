"""xAI's video generation."""

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


class XAI(Polling):
    """`POST /videos/generations` gives `request_id`, `GET /videos/{id}` a public URL at the end."""

    def submit(self, work: Work, model: str, token: str) -> Call:
        body = named(
            model=model,
            prompt=work.prompt,
            duration=whole(self.seconds(work)),
            aspect_ratio=work.aspect_ratio,
            resolution=work.resolution,
            image={"url": work.media.image} if work.media.image else None,
            **work.extra,
        )
        return Call("POST", "/videos/generations", body=body)

    def submitted(self, body: Any) -> Answer:
        request_id = text(members(body).get("request_id"))
        if not request_id:
            raise ValueError("the answer has no request_id")
        return Answer("running", id=request_id)

    def poll(self, work: Work, upstream_id: str) -> Call:
        return Call("GET", f"/videos/{quote(upstream_id, safe='')}")

    def polled(self, body: Any, upstream_id: str) -> Answer:
        said = members(body)
        video = members(said.get("video"))
        results = link(video.get("url"))
        seconds = number(video.get("duration"))
        state = state_of(said.get("status"))
        if results and "status" not in said:  # once it is done, older answers have no status
            state = "succeeded"
        if video.get("respect_moderation") is False:
            return Answer("failed", error={"error": {"code": "content_filter"}})
        return Answer(
            state=state,
            progress=percent(said.get("progress")),
            results=results,
            error=error_of(said.get("error")),
            seconds=seconds,
            cost=number(members(said.get("usage")).get("cost")),
        )
