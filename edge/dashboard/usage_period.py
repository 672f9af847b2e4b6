"""Periods of the usage pages, and the slots for which their charts have a bar.

24 hours are slots of an hour, everything else UTC days, as the ledger adds them up.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

import msgspec

from edge.billing.period import DAY, last_days, moment, read_period

HOUR = 3600.0
Name = Literal["24h", "7d", "30d", "custom"]
NAMES: Mapping[Name, str] = {
    "24h": "24 hours",
    "7d": "7 days",
    "30d": "30 days",
    "custom": "Other dates",
}


class Slot(msgspec.Struct, frozen=True):
    """A UTC day or an hour. label: for the axis of a chart; title: for tables."""

    since: float
    until: float
    label: str
    title: str


class UsagePeriod(msgspec.Struct, frozen=True):
    """A period from `since` to `until`, not included, in Unix seconds. hours: of hours, not days.
    first, last: its days as in a query, "2026-11-21"."""

    name: Name
    since: float
    until: float
    hours: bool = False

    @property
    def first(self) -> str:
        """The day on which it begins."""
        return _day(self.since)

    @property
    def last(self) -> str:
        """The day on which it ends."""
        return _day(self.until - 1)

    def slots(self) -> list[Slot]:
        """All slots, oldest first."""
        step = HOUR if self.hours else DAY
        begin = self.since // step * step
        count = round((self.until - begin) / step)
        return [_slot(begin + step * number, step) for number in range(count)]


def read_usage_period(query: Mapping[str, str], now: float) -> UsagePeriod:
    """The period that `period` names, with the days `start` and `end` of "custom".

    Seven days where it names none. Raises PeriodRefused.
    """
    name: Name = next((one for one in NAMES if one == query.get("period")), "7d")
    if name == "24h":
        end = (now // HOUR + 1) * HOUR
        return UsagePeriod(name, end - DAY, end, hours=True)
    if name == "custom":
        given = {one: [query[one]] for one in ("start", "end") if query.get(one)}
        period = read_period(given, now)
        # Whole days: a time in the address counts with its day.
        first, end = period.since // DAY * DAY, -(-period.until // DAY) * DAY
        return UsagePeriod(name, first, end)
    days = last_days(7 if name == "7d" else 30, now)
    return UsagePeriod(name, days.since, days.until)


def _slot(since: float, step: float) -> Slot:
    at = datetime.fromtimestamp(since, UTC)
    if step == DAY:
        return Slot(since, since + step, f"{at.day} {at:%b}", f"{at:%Y-%m-%d}")
    return Slot(since, since + step, f"{at:%H}:00", f"{at:%Y-%m-%d %H:%M}")


def _day(at: float) -> str:
    return (moment(at) or "")[:10]
