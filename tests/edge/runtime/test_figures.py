"""Figures of workers, and what they add up to."""

from edge.runtime.figures import (
    MOST_ERRORS,
    FailedAttempt,
    UpstreamFigures,
    WorkerFigures,
    summed,
)

AT = 1_800_000_000.0


def error(at: float) -> FailedAttempt:
    return FailedAttempt(at, "up", "m", 503, "upstream_error", f"req_{at:.0f}")


def test_summed_no_worker_has_tried_anything() -> None:
    assert summed([WorkerFigures()]) == {
        "streams": 0,
        "queued": 0,
        "ledger": {"rows": 0, "oldest_seconds": 0.0},
        "upstreams": [],
        "errors": [],
    }


def test_summed_over_workers() -> None:
    one = WorkerFigures(
        streams=2,
        queued=1,
        ledger_rows=3,
        ledger_age=4.5,
        upstreams=(
            UpstreamFigures("a", "open", broken=2, until=AT + 9, in_flight=1, failures=5),
            UpstreamFigures("b"),
        ),
        errors=(error(AT + 3), error(AT)),
    )
    other = WorkerFigures(
        streams=5,
        ledger_rows=1,
        ledger_age=1.0,
        upstreams=(
            UpstreamFigures("a", "half_open", broken=1, until=AT + 5, in_flight=2, failures=1),
            UpstreamFigures("b", in_flight=4),
        ),
        errors=(error(AT + 2),),
    )
    found = summed([one, other])
    assert (found["streams"], found["queued"]) == (7, 1)
    assert found["ledger"] == {"rows": 4, "oldest_seconds": 4.5}
    assert found["upstreams"] == [
        {
            "name": "a",
            "state": "open",
            "broken_targets": 2,
            "retry_at": "2027-01-15T08:00:05+00:00",
            "in_flight": 3,
            "failures": 6,
        },
        {
            "name": "b",
            "state": "closed",
            "broken_targets": 0,
            "retry_at": None,
            "in_flight": 4,
            "failures": 0,
        },
    ]
    assert [one["at"][-8:-6] for one in found["errors"]] == ["03", "02", "00"]


def test_summed_has_the_newest_errors_only() -> None:
    many = WorkerFigures(errors=tuple(error(AT - n) for n in range(MOST_ERRORS)))
    more = WorkerFigures(errors=tuple(error(AT + n) for n in range(3)))
    found = summed([many, more])["errors"]
    assert len(found) == MOST_ERRORS
    assert found[0]["request_id"] == f"req_{AT + 2:.0f}"
