"""Jobs of any vendor: created, polled, fetched and cancelled, with the lives of `controls`."""

from collections.abc import Iterable
from typing import Any

import msgspec

from edge.upstreams.simulator.account import SimulatedJob
from edge.upstreams.simulator.answer import SimulatedAnswer, plain
from edge.upstreams.simulator.prompt import PromptRejected
from edge.upstreams.simulator.request import SimulatorRequest, vendor_headers

from .fields import MediaFields

_LINK_SECONDS = 3600
_encode = msgspec.json.Encoder().encode


class JobContent(msgspec.Struct, frozen=True):
    """What a job makes: bytes and content type; its length in seconds and its size."""

    data: bytes
    type: str
    seconds: float
    size: str = ""


def create(
    request: SimulatorRequest,
    fields: MediaFields,
    shape: str,
    prefix: str,
    content: JobContent,
    source: str | None = None,
) -> SimulatedJob:
    """A new job. source: the job that it changes. Raises PromptRejected."""
    account = request.account
    key = request.headers.get(b"idempotency-key", b"").decode("latin-1")
    if key and "idempotency-key" in request.controls.refuse:
        if key in account.keys:
            message = "This idempotency key was used before."
            raise PromptRejected(422, message, None, "idempotency_key_reuse")
        account.keys.add(key)
    job = SimulatedJob(
        id=f"{prefix}{request.identity[:18]}{account.number()}",
        shape=shape,
        model=fields.model,
        prompt=str(fields.values.get("prompt") or fields.text),
        usage=request.controls.usage,
        life=request.controls.life,
        created_at=account.now(),
        content=content.data,
        content_type=content.type,
        seconds=content.seconds,
        size=content.size,
        source=source,
    )
    account.keep(job)
    return job


def find(request: SimulatorRequest, job_id: str, shape: str) -> SimulatedJob:
    """A job of one vendor's shape. Raises PromptRejected."""
    job = request.account.job(job_id)
    if job.shape != shape:
        raise PromptRejected(404, f"Job with id '{job_id}' not found.", "id")
    return job


def poll(request: SimulatorRequest, job_id: str, shape: str) -> SimulatedJob:
    """The job after one more poll. Raises PromptRejected."""
    job = find(request, job_id, shape)
    job.polls += 1
    if "gone" in job.life and job.polls > job.life["gone"]:
        raise PromptRejected(404, f"Job with id '{job_id}' not found.", "id")
    if job.polls <= job.life.get("flaky", 0):
        raise PromptRejected(503, "The job cannot be read now.")
    return job


def link(request: SimulatorRequest, job: SimulatedJob, number: int = 0) -> str:
    """The address of what a job made, public for as many fetches as its life says."""
    return f"{request.account.base}/links/{job.id}/{number}?sig=sim-secret"


def fetch(request: SimulatorRequest, job: SimulatedJob) -> SimulatedAnswer:
    """The content. Raises PromptRejected when the job has none, or when its link has expired."""
    if not job.over or job.failed:
        raise PromptRejected(404, "Video is not ready yet, use GET to check its status.", "id")
    if "expire" in job.life and job.fetched >= job.life["expire"]:
        raise PromptRejected(403, "The link has expired.")
    job.fetched += 1
    return binary(request, job.content, job.content_type)


def linked(request: SimulatorRequest) -> SimulatedAnswer:
    """GET of a link."""
    return fetch(request, request.account.job(request.path.split("/")[-2]))


def binary(request: SimulatorRequest, data: bytes, kind: str) -> SimulatedAnswer:
    """Bytes of a content type, counted as a download."""
    headers = vendor_headers(request)
    found = plain(data, request.controls, headers=headers, kind=kind.encode())
    return msgspec.structs.replace(found, counts=(("downloads", 1),))


def created(
    request: SimulatorRequest, job: SimulatedJob, members: dict[str, Any], status: int = 200
) -> SimulatedAnswer:
    """The answer to a creation, under the faults of its directive."""
    headers = vendor_headers(request)
    found = plain(_encode(members), request.controls, headers=headers, status=status)
    return msgspec.structs.replace(found, model=job.model, counts=(("jobs", 1),))


def polled(
    request: SimulatorRequest, job: SimulatedJob, members: dict[str, Any], status: int = 200
) -> SimulatedAnswer:
    """The answer to a poll. Its hint is short, so that clients which take it do not wait."""
    headers = (*vendor_headers(request), (b"openai-poll-after-ms", b"50"))
    found = plain(_encode(members), request.controls, headers=headers, status=status)
    return msgspec.structs.replace(found, counts=poll_counts(job))


def poll_counts(job: SimulatedJob) -> tuple[tuple[str, int], ...]:
    """One poll, in all and of this job."""
    return (("polls", 1), (f"polled:{job.id}", 1))


def shown(
    request: SimulatorRequest, members: Any, counts: Iterable[tuple[str, int]] = ()
) -> SimulatedAnswer:
    """Any other JSON answer."""
    found = plain(_encode(members), request.controls, headers=vendor_headers(request))
    return msgspec.structs.replace(found, counts=tuple(counts))


def expires_at(job: SimulatedJob) -> int:
    """When the links of a job end, in Unix seconds, as the vendor says."""
    return job.created_at + _LINK_SECONDS
