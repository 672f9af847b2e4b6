"""OpenAI's Videos API, as OpenAI had it and OpenRouter, LiteLLM and new-api have it."""

from typing import Any
from urllib.parse import quote

from edge.media.jobs.work import Work

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
    whole,
)

_SLACK = 120.0
"""Seconds by which the clocks of two machines may differ."""


class OpenAIVideos(Polling):
    """`POST /videos`, `GET /videos/{id}`, `GET /videos/{id}/content`.

    A submission without an answer is looked for in the list of videos: by the token, which some
    gateways give back in `metadata`, else by prompt, length and time.
    """

    default = 4.0

    def submit(self, work: Work, model: str, token: str) -> Call:
        headers = {"idempotency-key": token}
        if work.remix:
            path = f"/videos/{quote(work.remix, safe='')}/remix"
            return Call("POST", path, body={"prompt": work.prompt}, headers=headers)
        body = named(
            model=model,
            prompt=work.prompt,
            seconds=str(whole(self.seconds(work))),
            size=work.size,
            resolution=work.resolution,
            aspect_ratio=work.aspect_ratio,
            input_reference={"image_url": work.media.image} if work.media.image else None,
            seed=work.seed,
            negative_prompt=work.negative_prompt,
            generate_audio=work.generate_audio,
            fps=work.fps,
            **work.extra,
        )
        return Call("POST", "/videos", body=body, headers=headers)

    def submitted(self, body: Any) -> Answer:
        said = members(body)
        video_id = text(said.get("id")) or text(said.get("task_id"))
        if not video_id:
            raise ValueError("the answer has no id")
        return _answer(said, video_id)

    def poll(self, work: Work, upstream_id: str) -> Call:
        return Call("GET", f"/videos/{quote(upstream_id, safe='')}")

    def polled(self, body: Any, upstream_id: str) -> Answer:
        return _answer(members(body), "")

    def content(self, upstream_id: str) -> Call | None:
        return Call("GET", f"/videos/{quote(upstream_id, safe='')}/content")

    def find(self, work: Work, model: str, token: str) -> Call | None:
        return Call("GET", "/videos", query="limit=100&order=desc")

    def found(self, body: Any, work: Work, token: str, since: float) -> list[str]:
        entries = [members(one) for one in items(members(body).get("data"))]
        marked = [
            one for one in entries if token in map(text, members(one.get("metadata")).values())
        ]
        same = marked or [one for one in entries if self._may_be(one, work, since)]
        return [text(one.get("id")) for one in same if text(one.get("id"))]

    def _may_be(self, entry: dict[str, Any], work: Work, since: float) -> bool:
        created = number(entry.get("created_at"))
        seconds = number(entry.get("seconds"))
        return (
            text(entry.get("prompt")) == work.prompt
            and created is not None
            and created >= since - _SLACK
            and (seconds is None or work.remix != "" or seconds == self.seconds(work))
        )


def _answer(said: dict[str, Any], video_id: str) -> Answer:
    state = state_of(said.get("status"))
    urls = items(said.get("unsigned_urls")) or [said.get("video_url") or said.get("url")]
    results = tuple(result for url in urls for result in link(url))
    usage = members(said.get("usage"))
    seconds = number(said.get("seconds"))
    return Answer(
        state=state,
        id=video_id,
        progress=percent(said.get("progress")),
        results=results,
        error=error_of(said.get("error")),
        seconds=seconds if seconds is not None else number(usage.get("seconds")),
        cost=number(usage.get("cost")),
    )
