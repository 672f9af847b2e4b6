"""Music tasks as gateways to Suno have them."""

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
    percent,
    state_of,
    text,
)

_SONG = 480.0
"""Seconds of the longest clip; a task makes two."""
_WELL = ("success", "200", "0", "")


class Suno(Polling):
    """`POST /suno/submit/music`, `GET /suno/fetch/{id}`. A failing `code` comes with status 200."""

    kinds: tuple[Kind, ...] = ("music",)
    default = 0.0

    def most_seconds(self, work: Work) -> float:
        return 2 * _SONG

    def submit(self, work: Work, model: str, token: str) -> Call:
        body = named(
            prompt=work.lyrics or work.prompt,
            tags=work.style or (work.prompt if work.lyrics else ""),
            title=work.title,
            mv=model,
            **work.extra,
        )
        return Call(
            "POST", "/suno/submit/music", body={**body, "make_instrumental": work.instrumental}
        )

    def submitted(self, body: Any) -> Answer:
        said = members(body)
        if text(said.get("code")).lower() not in _WELL:
            return Answer("failed", error=error_of(text(said.get("message")) or "no task"))
        data = said.get("data")
        task = text(data) or text(members(data).get("task_id"))
        if not task:
            raise ValueError("the answer has no task id")
        return Answer("running", id=task)

    def poll(self, work: Work, upstream_id: str) -> Call:
        return Call("GET", f"/suno/fetch/{quote(upstream_id, safe='')}")

    def polled(self, body: Any, upstream_id: str) -> Answer:
        said = members(members(body).get("data")) or members(body)
        state = state_of(said.get("status"))
        results = tuple(
            result
            for clip in map(members, items(said.get("data")))
            for result in link(
                clip.get("audio_url"),
                "audio/mpeg",
                seconds=number(clip.get("duration"))
                or number(members(clip.get("metadata")).get("duration"))
                or 0.0,
            )
        )
        return Answer(
            state=state,
            progress=percent(said.get("progress")),
            results=results,
            error=error_of(said.get("fail_reason")) if state == "failed" else {},
            seconds=sum(result.seconds for result in results) or None,
        )
