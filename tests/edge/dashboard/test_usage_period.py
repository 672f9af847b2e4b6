"""Periods of the usage pages: whole UTC days and hours, whatever the zone of the machine."""

import os
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest

from edge.billing.period import DAY, PeriodRefused, read_moment
from edge.dashboard.usage_period import HOUR, read_usage_period

NOW = read_moment("now", "2026-11-30T23:40:00Z")


@pytest.fixture(params=["UTC", "Asia/Kolkata", "America/Los_Angeles"], autouse=True)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    os.environ.pop("TZ")
    time.tzset()


def test_period_without_a_name_is_seven_days_with_today() -> None:
    period = read_usage_period({}, NOW)
    slots = period.slots()
    assert [slot.title for slot in slots] == [f"2026-11-{day}" for day in range(24, 31)]
    assert slots[-1].label == "30 Nov"
    assert (period.first, period.last) == ("2026-11-24", "2026-11-30")
    assert all(one.until == next_.since for one, next_ in pairwise(slots))


def test_period_24h_is_24_hours_with_the_current_one() -> None:
    period = read_usage_period({"period": "24h"}, NOW)
    slots = period.slots()
    assert len(slots) == 24
    assert (slots[0].title, slots[-1].title) == ("2026-11-30 00:00", "2026-11-30 23:00")
    assert slots[-1].since <= NOW < slots[-1].until
    assert all(slot.until - slot.since == HOUR for slot in slots)


def test_period_custom_includes_its_last_day() -> None:
    query = {"period": "custom", "start": "2026-02-27", "end": "2026-03-01"}
    titles = [slot.title for slot in read_usage_period(query, NOW).slots()]
    assert titles == ["2026-02-27", "2026-02-28", "2026-03-01"]


def test_period_custom_of_times_counts_whole_days() -> None:
    query = {"period": "custom", "start": "2026-03-01T22:00:00Z", "end": "2026-03-02T01:00:00Z"}
    period = read_usage_period(query, NOW)
    assert (period.first, period.last) == ("2026-03-01", "2026-03-02")
    assert period.until - period.since == 2 * DAY


@pytest.mark.parametrize(
    "query",
    [
        {"start": "2026-13-01"},
        {"start": "2026-03-02", "end": "2026-03-01"},
        {"start": "2020-01-01", "end": "2026-03-01"},
    ],
)
def test_period_custom_that_cannot_be_is_refused(query: dict[str, str]) -> None:
    with pytest.raises(PeriodRefused):
        read_usage_period({"period": "custom", **query}, NOW)


def test_period_of_an_unknown_name_is_seven_days() -> None:
    assert read_usage_period({"period": "<script>"}, NOW).name == "7d"
