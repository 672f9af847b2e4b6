"""What a job costs, and the row of the ledger that it ends with."""

from math import ceil

from msgspec.structs import replace

from middlewares.exchange import Usage
from middlewares.pricing import NANO
from middlewares.stores.jobs.base import Job, State
from middlewares.stores.ledger.base import MAX_COST, AttemptRecord, Ended, Entry

from .work import JobTerms

_ENDED: dict[State, Ended] = {
    "succeeded": "completed",
    "failed": "failed",
    "cancelled": "hung_up",
}


def units(seconds: float) -> Usage:
    """One job of so many seconds."""
    return Usage(jobs=1, video_ms=ceil(seconds * 1000))


def most_cost(terms: JobTerms) -> int:
    """What is reserved for a job, in nano-credits."""
    return min(terms.price.cost(units(terms.seconds)), MAX_COST)


def cost_of_result(
    terms: JobTerms, reserved: int, *, seconds: float | None, cost: float | None
) -> int:
    """What a result costs: never more than what was reserved for it.

    seconds, cost: as the upstream reported, None where it did not.
    """
    if terms.factor and cost is not None:
        amount = ceil(cost * NANO) * terms.factor
        return min(-(-amount // NANO), reserved)
    paid = terms.seconds if seconds is None else min(seconds, terms.seconds)
    return min(terms.price.cost(units(paid)), reserved)


def closed(
    job: Job,
    state: State,
    *,
    cost: int,
    now: float,
    status: int,
    problem: str = "",
    reason: str = "",
    seconds: float = 0.0,
    measured: bool = True,
) -> Entry:
    """The ledger row of a job that ends in `state`."""
    opened = job.reservation
    attempts = []
    if job.upstream:
        upstream, _, model = job.upstream.partition("/")
        ms = 1000 * (now - (job.started_at or job.since))
        attempts.append(AttemptRecord(upstream, model, status, job.model, problem, ms, reason))
    return replace(
        opened,
        ended_at=now,
        status=status,
        ended=_ENDED[state],
        cost=cost,
        from_credits=cost if opened.from_credits else 0,
        from_team_credits=cost if opened.from_team_credits else 0,
        jobs=int(bool(job.upstream_id) or cost > 0),
        video_ms=round(seconds * 1000),
        measured=measured,
        duration_ms=1000 * (now - job.created_at),
        attempts=attempts,
    )
