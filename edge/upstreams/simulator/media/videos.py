"""Video jobs as OpenAI, xAI, new-api and fal offer them."""

import re
from typing import Any

from edge.upstreams.simulator.account import SimulatedJob
from edge.upstreams.simulator.answer import SimulatedAnswer
from edge.upstreams.simulator.prompt import PromptRejected
from edge.upstreams.simulator.request import SimulatorRequest, refused

from . import jobs
from .fields import MediaFields, read_fields
from .films import film, film_words
from .images import media_files, said_of
from .jobs import JobContent
from .pictures import FORMATS

_SIZE = re.compile(r"\d{2,4}x\d{2,4}")
_LONGEST = 120
_FAILURE = {"code": "moderation_blocked", "message": "SimProvider blocked sk-sim-secret-4f9d2c."}
_COST = 0.25


# OpenAI


def create(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /videos, as a form or as JSON."""
    request, fields = read_fields(request, "prompt", takes="both")
    if refusal := refused(request):
        return refusal
    reference = media_files(request, fields, "input_reference")
    job = jobs.create(request, fields, "openai", "video_", _content(fields, "seconds", reference))
    return jobs.created(request, job, _video(job))


def remix(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /videos/ID/remix."""
    source = jobs.find(request, request.path.split("/")[-2], "openai")
    request, fields = read_fields(request, "prompt", takes="json", required=False)
    if refusal := refused(request):
        return refusal
    content = JobContent(
        film(f"{film_words(source.content)}, {fields.text}"), "video/mp4", source.seconds
    )
    job = jobs.create(request, fields, "openai", "video_", content, source.id)
    job.model, job.size = source.model, source.size
    return jobs.created(request, job, _video(job))


def listed(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /videos: `after`, `limit`, `order`."""
    found = [job for job in request.account.jobs.values() if job.shape == "openai"]
    if request.query.get("order", "desc") == "desc":
        found.reverse()
    ids = [job.id for job in found]
    if (after := request.query.get("after")) in ids:
        found = found[ids.index(str(after)) + 1 :]
    limit = int(request.query.get("limit", 20))
    page = found[:limit]
    ends = {"first_id": page[0].id, "last_id": page[-1].id} if page else {}
    data = [_video(job) for job in page]
    more = len(found) > limit
    return jobs.shown(request, {"object": "list", "data": data, **ends, "has_more": more})


def described(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /videos/ID, of OpenAI or of xAI."""
    job_id = request.path.rpartition("/")[2]
    known = request.account.jobs.get(job_id)
    if known is not None and known.shape == "xai":
        return _xai_described(request, job_id)
    job = jobs.poll(request, job_id, "openai")
    return jobs.polled(request, job, _video(job))


def deleted(request: SimulatorRequest) -> SimulatedAnswer:
    """DELETE /videos/ID."""
    job = jobs.find(request, request.path.rpartition("/")[2], "openai")
    del request.account.jobs[job.id]
    return jobs.shown(request, {"id": job.id, "object": "video.deleted", "deleted": True})


def content(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /videos/ID/content, with `variant`."""
    job = jobs.find(request, request.path.split("/")[-2], "openai")
    found = jobs.fetch(request, job)
    variant = request.query.get("variant", "video")
    if variant == "video":
        return found
    kinds = {"thumbnail": "webp", "spritesheet": "jpeg"}
    if variant not in kinds:
        raise PromptRejected(400, f"Invalid variant '{variant}'.", "variant")
    data = FORMATS[kinds[variant]](64, 64, job.id.encode(), job.prompt)
    return jobs.binary(request, data, f"image/{kinds[variant]}")


# xAI


def create_xai(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /videos/generations: answers with a `request_id`. Unknown fields are ignored."""
    request, fields = read_fields(request, "prompt", takes="json")
    if refusal := refused(request):
        return refusal
    job = jobs.create(request, fields, "xai", "", _content(fields, "duration", []))
    return jobs.created(request, job, {"request_id": job.id})


def _xai_described(request: SimulatorRequest, job_id: str) -> SimulatedAnswer:
    job = jobs.poll(request, job_id, "xai")
    if not job.over:
        return jobs.polled(request, job, {"status": "pending", "progress": job.progress}, 202)
    if job.failed:
        return jobs.polled(request, job, {"status": "failed", "error": _FAILURE})
    video = {"url": jobs.link(request, job), "duration": job.seconds, "respect_moderation": True}
    return jobs.polled(request, job, {"status": "done", "model": job.model, "video": video})


# new-api


def create_new_api(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /video/generations: answers with a `task_id`."""
    request, fields = read_fields(request, "prompt", takes="json")
    if refusal := refused(request):
        return refusal
    job = jobs.create(request, fields, "new-api", "task_", _content(fields, "duration", []))
    return jobs.created(request, job, {"task_id": job.id, "status": "queued"})


def new_api_described(request: SimulatorRequest) -> SimulatedAnswer:
    """GET /video/generations/ID."""
    job = jobs.poll(request, request.path.rpartition("/")[2], "new-api")
    members: dict[str, Any] = {"task_id": job.id, "status": "processing"}
    if job.over and job.failed:
        members |= {"status": "failed", "error": _FAILURE}
    elif job.over:
        width, height = (int(side) for side in job.size.split("x"))
        metadata = {"duration": job.seconds, "fps": 5, "width": width, "height": height}
        url = jobs.link(request, job)
        members |= {"status": "succeeded", "url": url, "format": "mp4", "metadata": metadata}
    return jobs.polled(request, job, members)


# fal


def create_fal(request: SimulatorRequest) -> SimulatedAnswer:
    """POST /fal-ai/MODEL: the model is in the path, the answer has the addresses of the job."""
    model = request.path[request.path.index("/fal-ai/") + 1 :]
    request, fields = read_fields(request, "prompt", takes="json", required=False)
    if refusal := refused(request):
        return refusal
    job = jobs.create(request, fields, "fal", "", _content(fields, "duration", []))
    job.model = model
    members = _fal_members(request, job)
    return jobs.created(request, job, {"status": "IN_QUEUE", **members, "queue_position": 0})


def fal_status(request: SimulatorRequest) -> SimulatedAnswer:
    """GET …/requests/ID/status. A job that failed is COMPLETED too."""
    job = jobs.poll(request, request.path.split("/")[-2], "fal")
    members = _fal_members(request, job)
    if not job.over:
        word = "IN_QUEUE" if job.polls == 1 else "IN_PROGRESS"
        return jobs.polled(request, job, {"status": word, **members}, 202)
    return jobs.polled(request, job, {"status": "COMPLETED", **members})


def _fal_members(request: SimulatorRequest, job: SimulatedJob) -> dict[str, str]:
    address = f"{request.account.base}/{job.model}/requests/{job.id}"
    return {
        "request_id": job.id,
        "response_url": address,
        "status_url": f"{address}/status",
        "cancel_url": f"{address}/cancel",
    }


def fal_result(request: SimulatorRequest) -> SimulatedAnswer:
    """GET …/requests/ID."""
    job = jobs.find(request, request.path.rpartition("/")[2], "fal")
    if not job.over:
        raise PromptRejected(400, "Request is still in progress")
    if job.failed:
        raise PromptRejected(422, _FAILURE["message"])
    size = len(job.content)
    video = {"url": jobs.link(request, job), "content_type": job.content_type, "file_size": size}
    return jobs.shown(request, {"video": video})


def fal_cancel(request: SimulatorRequest) -> SimulatedAnswer:
    """PUT …/requests/ID/cancel."""
    job = jobs.find(request, request.path.split("/")[-2], "fal")
    if job.over:
        raise PromptRejected(400, "ALREADY_COMPLETED")
    job.cancelled = True
    return jobs.shown(request, {"status": "CANCELLATION_REQUESTED"})


def _content(fields: MediaFields, seconds: str, reference: list[Any]) -> JobContent:
    """The film, whose words are the request: prompt, seconds, size and what it refers to."""
    length = fields.number(seconds, 4)
    if not 0 < length <= _LONGEST:
        raise PromptRejected(400, f"Invalid '{seconds}': expected 1 to {_LONGEST}.", seconds)
    size = str(fields.values.get("size") or "720x1280")
    if not _SIZE.fullmatch(size):
        raise PromptRejected(400, f"Invalid size '{size}'.", "size", "invalid_value")
    words = f"{fields.text} ({length:g} s, {size})"
    for each in reference:
        words += f" after {said_of(each)}"
    return JobContent(film(words), "video/mp4", length, size)


def _video(job: SimulatedJob) -> dict[str, Any]:
    status = "in_progress" if job.polls else "queued"
    if job.over:
        status = "failed" if job.failed else "completed"
    members: dict[str, Any] = {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": status,
        "progress": job.progress,
        "created_at": job.created_at,
        "completed_at": job.created_at if job.over else None,
        "expires_at": jobs.expires_at(job) if status == "completed" else None,
        "prompt": job.prompt,
        "seconds": f"{job.seconds:g}",
        "size": job.size,
        "remixed_from_video_id": job.source,
        "error": _FAILURE if status == "failed" else None,
    }
    if job.over and job.usage == "cost":
        members["usage"] = {"cost": _COST}
    return members
