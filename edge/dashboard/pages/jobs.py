"""Video and music jobs of a key: list, filter, cancel."""

from typing import Any, cast, get_args

from starlette.responses import Response

from edge.dashboard.page import JOBS, SIGNED_IN, Page
from edge.dashboard.request import DashboardRequest
from edge.media.jobs.service import Jobs
from edge.media.jobs.views import own
from middlewares.problem import Problem
from middlewares.stores.jobs.base import FINAL, Job, Kind, State

_ROWS = 50
STATES: dict[str, tuple[State, ...]] = {
    "queued": ("queued", "submitting"),
    "running": ("unknown", "running", "storing"),
    "succeeded": ("succeeded",),
    "failed": ("failed",),
    "cancelled": ("cancelled",),
}
"""States of the store by what people see."""


async def list_jobs(request: DashboardRequest) -> Response:
    """The jobs of a key, newest first."""
    jobs = _jobs(request)
    key = await request.key_or_none()
    if key is None:
        return request.render("choose_key.html", title="Jobs", what="jobs")
    state, kind = request.query.get("state", ""), request.query.get("kind", "")
    if state not in ("", *STATES) or kind not in ("", *get_args(Kind)):
        raise Problem("invalid_request", message="There is no such filter.")
    start = request.query.get("after", "")
    last = await jobs.store.get(key.id, start[:64]) if start else None
    found = await jobs.store.listed(
        key.id,
        kind=cast(Kind, kind) if kind else None,
        states=STATES.get(state, ()),
        after=None if last is None else (last.created_at, last.id),
        limit=_ROWS + 1,
    )
    return request.render(
        "jobs.html",
        key=key,
        may_work=request.may_work_with(key),
        rows=[_row(job) for job in found[:_ROWS]],
        next=found[_ROWS - 1].id if len(found) > _ROWS else None,
        first=last is None,
        state=state,
        kind=kind,
        states=tuple(STATES),
        kinds=get_args(Kind),
    )


async def cancel(request: DashboardRequest) -> Response:
    """Cancel a job."""
    jobs = _jobs(request)
    key = await request.key_to_work_with()
    job = await jobs.store.get(key.id, request.params["id"])
    if job is not None:
        await request.note_use("job.cancel", key, job=job.id)
        job = await jobs.cancel(key.id, job.id, request.now)
    if job is None:
        raise Problem("not_found", message="There is no such job.")
    query = {"key": key.id} if request.query.get("key") else {}
    note = "job_cancelled" if job.state == "cancelled" else "job_cancelling"
    if job.final and job.state != "cancelled":
        note = "job_ended"
    return request.redirect("/app/jobs", note=note, **query)


def _row(job: Job) -> dict[str, Any]:
    """What the table shows of a job: nothing of its upstream, and no prompt."""
    shown = own(job)
    return {
        "id": job.id,
        "kind": job.kind,
        "model": job.model,
        "state": shown["status"],
        "progress": shown["progress"],
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "charged": job.charged,
        "reserved": None if job.final else job.reservation.cost,
        "files": [result.file for result in job.results] if job.state == "succeeded" else [],
        "error": "" if job.error is None else job.error.message,
        "cancellable": job.state not in FINAL and not job.cancelling,
        "cancelling": job.cancelling and job.state not in FINAL,
    }


def _jobs(request: DashboardRequest) -> Jobs:
    if request.parts.jobs is None:
        raise Problem("not_found")
    return request.parts.jobs


NOTES = {
    "job_cancelled": "The job is cancelled.",
    "job_cancelling": "The job is being cancelled.",
    "job_ended": "The job had ended before.",
}

PAGES = (
    Page("/app/jobs", ("GET",), SIGNED_IN, list_jobs, "Jobs", JOBS),
    Page("/app/jobs/{id}/cancel", ("POST",), SIGNED_IN, cancel),
)
