"""What a worker has under way: the figures that `penstock status` adds up over all workers."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

BreakerState = Literal["closed", "half_open", "open"]
_WORST: tuple[BreakerState, ...] = ("open", "half_open", "closed")
MOST_ERRORS = 10
"""Errors that the status has."""


class UpstreamFigures(msgspec.Struct, frozen=True):
    """One upstream.

    state: of the worst circuit breaker of its targets. broken: targets whose breaker is not closed.
    until: Unix seconds at which the first of them may be tried, 0.0 if now. in_flight: attempts
    under way. failures: failed attempts since the worker started.
    """

    name: str
    state: BreakerState = "closed"
    broken: int = 0
    until: float = 0.0
    in_flight: int = 0
    failures: int = 0


class FailedAttempt(msgspec.Struct, frozen=True):
    """One failed attempt, without any text of the upstream. status: of its answer, 0 for none."""

    at: float
    upstream: str
    model: str
    status: int
    problem: str
    request_id: str


class WorkerFigures(msgspec.Struct, frozen=True):
    """The figures of one worker.

    streams: streamed answers that have begun. queued: throttled requests that wait. ledger_rows:
    that are not in SQL yet; ledger_age: seconds since the request of the oldest of them ended.
    errors: newest first.
    """

    streams: int = 0
    queued: int = 0
    ledger_rows: int = 0
    ledger_age: float = 0.0
    upstreams: tuple[UpstreamFigures, ...] = ()
    errors: tuple[FailedAttempt, ...] = ()


def summed(workers: Sequence[WorkerFigures]) -> dict[str, Any]:
    """The members of the status that are sums over all workers."""
    errors = sorted((error for one in workers for error in one.errors), key=lambda one: -one.at)
    names = dict.fromkeys(upstream.name for one in workers for upstream in one.upstreams)
    return {
        "streams": sum(one.streams for one in workers),
        "queued": sum(one.queued for one in workers),
        "ledger": {
            "rows": sum(one.ledger_rows for one in workers),
            "oldest_seconds": max((one.ledger_age for one in workers), default=0.0),
        },
        "upstreams": [
            _upstream([found for one in workers for found in one.upstreams if found.name == name])
            for name in names
        ],
        "errors": [
            {**msgspec.structs.asdict(error), "at": when(error.at)}
            for error in errors[:MOST_ERRORS]
        ],
    }


def _upstream(found: Sequence[UpstreamFigures]) -> dict[str, Any]:
    """One upstream over all workers. Each worker counts broken targets for itself: the most of one
    worker are shown."""
    until = _first(one.until for one in found)
    return {
        "name": found[0].name,
        "state": next(state for state in _WORST if any(one.state == state for one in found)),
        "broken_targets": max(one.broken for one in found),
        "retry_at": when(until) if until else None,
        "in_flight": sum(one.in_flight for one in found),
        "failures": sum(one.failures for one in found),
    }


def _first(times: Iterable[float]) -> float:
    return min(filter(None, times), default=0.0)


def when(seconds: float) -> str:
    """Unix seconds as in the status: "2026-11-21T17:52:53+00:00"."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
