"""Parse and format times and periods: RFC 3339 times or dates, in UTC."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from math import ceil

import msgspec

DAY = 86400.0
USUAL_DAYS = 30
MOST_DAYS = 366

_FIRST, _LAST = 0.0, 253402300799.0
"""Unix seconds of 1970 and of the end of 9999."""
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_EXPECTED = 'a date such as "2026-11-21" or an RFC 3339 time such as "2026-11-21T10:00:00Z"'


class Period(msgspec.Struct, frozen=True):
    """From `since`, included, to `until`, not included; Unix seconds."""

    since: float
    until: float


class UsageRefused(ValueError):
    """An invalid question about usage. field: the one at fault. expected: what it must be."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field = field
        self.expected = expected


class PeriodRefused(UsageRefused):
    """An invalid period."""


def moment(seconds: float | None) -> str | None:
    """Unix seconds as RFC 3339 in UTC, to the millisecond: "2026-11-21T10:00:00.000Z".

    A time after the year 9999 is formatted as the last second of it.
    """
    if seconds is None:
        return None
    seconds = min(seconds, _LAST)
    text = datetime.fromtimestamp(round(seconds, 3), UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def reset_moment(seconds: float | None) -> str | None:
    """The end of a window as `moment`, rounded up to the second as in refusals: by then it has
    reset."""
    return None if seconds is None else moment(ceil(seconds))


def read_moment(field: str, text: str, *, end: bool = False) -> float:
    """Unix seconds of a date or an RFC 3339 time. Raises PeriodRefused.

    A date means its midnight; as an `end` the midnight after it, so the period includes the day.
    """
    read = -1.0
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=1 if end else 0)
            read = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        # An unescaped `+` of a query is decoded as a space.
        text = re.sub(r" (\d{2}:\d{2})$", r"+\1", text)
        if _MOMENT.fullmatch(text):
            read = datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        pass
    if _FIRST <= read <= _LAST:
        return read
    raise PeriodRefused(field, _EXPECTED)


def last_days(days: int, now: float) -> Period:
    """The last `days` days (UTC), including the current one."""
    return Period((now // DAY - days + 1) * DAY, (now // DAY + 1) * DAY)


def read_period(query: Mapping[str, Sequence[str]], now: float) -> Period:
    """The period given by `start`, `end` and `days`; by default the last 30 days.

    Raises PeriodRefused, also for more than 366 days.
    """
    given = {name: query[name][-1] for name in ("start", "end", "days") if name in query}
    days = USUAL_DAYS
    if "days" in given:
        if "start" in given:
            raise PeriodRefused("days", "either `days` or `start`")
        text = given["days"]
        if not re.fullmatch("[0-9]{1,3}", text) or not 1 <= int(text) <= MOST_DAYS:
            raise PeriodRefused("days", f"a number from 1 to {MOST_DAYS}")
        days = int(text)
    until = last_days(1, now).until
    if "end" in given:
        until = read_moment("end", given["end"], end=True)
    since = until - days * DAY
    if "start" in given:
        since = read_moment("start", given["start"])
        if since >= until:
            raise PeriodRefused("start", "a time before the end of the period")
        if until - since > MOST_DAYS * DAY:
            raise PeriodRefused("start", f"a time at most {MOST_DAYS} days before the end")
    return Period(since, until)
