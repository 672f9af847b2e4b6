"""Where the periods of a window begin and end."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.limits import Budget, Window

HOUR = 3600.0
DAY = 24 * HOUR
MOMENTS = st.floats(0, 4e9).map(lambda at: round(at, 3))
"""1970 to 2096, to the millisecond."""


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


MONTH = Window("calendar month", None, 1)


@pytest.mark.parametrize(
    ("window", "now", "began", "over"),
    [
        (Window("1d", DAY, 1, True), "2026-08-08T23:59:59", "2026-08-08", "2026-08-09"),
        (Window("1d", DAY, 1, True), "2026-08-09T00:00:00", "2026-08-09", "2026-08-10"),
        (Window("7d", 7 * DAY, 1, True), "2026-11-22T12:00:00", "2026-11-16", "2026-11-23"),
        (Window("7d", 7 * DAY, 1, True), "2026-11-23T00:00:00", "2026-11-23", "2026-11-30"),
        (
            Window("1h", HOUR, 1, True),
            "2026-11-22T12:59:59",
            "2026-11-22T12:00",
            "2026-11-22T13:00",
        ),
        (MONTH, "2026-02-28T23:59:59", "2026-02-01", "2026-03-01"),
        (MONTH, "2028-02-29T12:00:00", "2028-02-01", "2028-03-01"),
        (MONTH, "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        (MONTH, "2026-01-01T00:00:00", "2026-01-01", "2026-02-01"),
    ],
)
def test_aligned_periods(window: Window, now: str, began: str, over: str) -> None:
    start = window.boundary(at(now))
    assert start == at(began)
    assert window.end(start) == at(over)


@given(MOMENTS, st.sampled_from([None, HOUR, 5 * HOUR, DAY, 7 * DAY]))
def test_every_moment_is_in_one_period(moment: float, seconds: float | None) -> None:
    window = Window("w", seconds, 1, aligned=True)
    start = window.boundary(moment)
    assert start is not None
    end = window.end(start)
    assert start <= moment < end
    assert window.boundary(start) == start
    assert window.boundary(end) == end  # no gap before the next


def test_a_window_that_is_not_aligned_begins_at_first_use() -> None:
    window = Window("5h", 5 * HOUR, 1)
    assert window.boundary(at("2026-08-08T12:00")) is None
    assert window.end(1000.5) == 1000.5 + 5 * HOUR


def test_what_limits() -> None:
    assert not Budget().limited
    assert Budget(windows=(MONTH,)).limited
    assert Budget(credits=True).limited
