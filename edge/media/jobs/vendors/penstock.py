"""Another gateway of this kind, in its own shape."""

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
    whole,
)

_PATHS = {"video": "/videos/generations", "music": "/music/generations"}


class Penstock(Polling):
    """`POST /videos/generations` or `/music/generations` gives a `job_id`. The Idempotency-Key
    finds a job whose submission got no answer: it is sent again and names the same job.
    """

    kinds: tuple[Kind, ...] = ("video", "music")

    def submit(self, work: Work, model: str, token: str) -> Call:
        body = named(
            model=model,
            prompt=work.prompt,
            seconds=whole(work.seconds) if work.seconds else None,
            size=work.size,
            resolution=work.resolution,
            aspect_ratio=work.aspect_ratio,
            image=work.media.image,
            last_image=work.media.last_image,
            reference_images=list(work.media.reference_images),
            seed=work.seed,
            negative_prompt=work.negative_prompt,
            generate_audio=work.generate_audio,
            fps=work.fps,
            lyrics=work.lyrics,
            instrumental=work.instrumental or None,
            style=work.style,
            title=work.title,
            format=work.format if work.kind == "music" else "",
            composition_plan=work.composition_plan,
            **work.extra,
        )
        return Call("POST", _PATHS[work.kind], body=body, headers={"idempotency-key": token})

    def submitted(self, body: Any) -> Answer:
        said = members(body)
        job_id = text(said.get("job_id")) or text(said.get("id"))
        if not job_id:
            raise ValueError("the answer has no job_id")
        return Answer("running", id=job_id)

    def poll(self, work: Work, upstream_id: str) -> Call:
        return Call("GET", f"{_PATHS[work.kind]}/{quote(upstream_id, safe='')}")

    def polled(self, body: Any, upstream_id: str) -> Answer:
        said = members(body)
        usage = members(said.get("usage"))
        results = tuple(
            result
            for one in map(members, items(said.get("output")))
            for result in link(
                one.get("url"),
                text(one.get("mime_type")),
                seconds=number(one.get("seconds")) or 0.0,
                width=int(number(one.get("width")) or 0),
                height=int(number(one.get("height")) or 0),
            )
        )
        return Answer(
            state=state_of(said.get("status")),
            progress=percent(said.get("progress")),
            results=results,
            error=error_of(said.get("error")),
            seconds=number(usage.get("seconds")),
            cost=number(usage.get("cost")),
        )

    def cancel(self, work: Work, upstream_id: str) -> Call | None:
        return Call("POST", f"{_PATHS[work.kind]}/{quote(upstream_id, safe='')}/cancel")

    def find(self, work: Work, model: str, token: str) -> Call | None:
        return self.submit(work, model, token)

    def found(self, body: Any, work: Work, token: str, since: float) -> list[str]:
        return [self.submitted(body).id]
