"""Jobs as their owners see them: in our own shape, and in that of OpenAI's videos.

Nothing of the upstream is in either: its names, addresses and messages.
"""

from typing import Any

from middlewares.pricing import decimal
from middlewares.stores.jobs.base import Job, State

from .work import joined

Data = dict[str, Any]

_OWN: dict[State, str] = {
    "queued": "queued",
    "submitting": "queued",
    "unknown": "running",
    "running": "running",
    "storing": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "cancelled": "cancelled",
}
_OPENAI = {
    "queued": "queued",
    "running": "in_progress",
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "failed",
}
PATHS = {"video": "/v1/videos/generations", "music": "/v1/music/generations"}
_OBJECTS = {"video": "video.generation", "music": "music.generation"}


def own(job: Job, base: str = "", *, files: bool = True) -> Data:
    """A job in our own shape. base: scheme and host of this gateway, for its URLs. files: whether
    callers reach the endpoint of files; else the results are behind the job itself."""
    poll_url = f"{base}{PATHS[job.kind]}/{job.id}"
    shown: Data = {
        "id": job.id,
        "job_id": job.id,
        "object": _OBJECTS[job.kind],
        "status": _OWN[job.state],
        "model": job.model,
        "created_at": int(job.created_at),
        "progress": 100 if job.state == "succeeded" else job.progress,
        "poll_url": poll_url,
    }
    for name, moment in (
        ("started_at", job.started_at),
        ("finished_at", job.finished_at),
        ("expires_at", job.expires_at),
    ):
        if moment is not None:
            shown[name] = int(moment)
    if job.state == "succeeded":
        shown["output"] = [
            {
                "file_id": result.file,
                "url": f"{base}/v1/files/{result.file}/content"
                if files
                else f"{poll_url}/content?index={n}",
                "mime_type": result.mime,
                "bytes": result.bytes,
                **({"seconds": result.seconds} if result.seconds else {}),
                **({"width": result.width} if result.width else {}),
                **({"height": result.height} if result.height else {}),
            }
            for n, result in enumerate(job.results)
        ]
    if job.error is not None:
        shown["error"] = {
            "code": job.error.code,
            "message": job.error.message,
            "type": job.error.type,
            "param": job.error.param,
        }
    if job.charged is not None:
        seconds = sum(result.seconds for result in job.results)
        shown["usage"] = {
            **({"seconds": seconds} if seconds else {}),
            "cost": decimal(job.charged),
        }
    return shown


def openai_video(job: Job) -> Data:
    """A job as a `Video` of OpenAI. All keys are there; a cancelled job is a failed one."""
    work = joined(job.request, b"")
    error = None
    if job.state == "cancelled":
        error = {"code": "cancelled", "message": "The video was cancelled."}
    elif job.error is not None:
        error = {"code": job.error.code, "message": job.error.message}
    finished = None if job.finished_at is None else int(job.finished_at)
    return {
        "id": job.id,
        "object": "video",
        "model": job.model,
        "status": _OPENAI[_OWN[job.state]],
        "progress": 100 if job.state == "succeeded" else job.progress,
        "created_at": int(job.created_at),
        "completed_at": finished if job.state == "succeeded" else None,
        "expires_at": None if job.expires_at is None else int(job.expires_at),
        "prompt": work.prompt,
        "seconds": f"{work.seconds:g}",
        "size": work.size or "720x1280",
        "remixed_from_video_id": job.source or None,
        "error": error,
    }
