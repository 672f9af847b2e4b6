"""Limits of a principal: rates, concurrency, spend windows. Data only."""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

OnExcess = Literal["reject", "throttle"]
OnHangup = Literal["cancel", "drain"]

_MONDAY = 4 * 86400
"""1970-01-05 was a Monday; the epoch was a Thursday."""


class Rate(msgspec.Struct, frozen=True):
    """`count` per `seconds`, refilled evenly, plus `burst` that may be saved up.

    After a rest up to `count + burst` may come at once (GCRA, ITU-T I.371).
    """

    count: int
    seconds: float
    burst: int = 0


class Level(msgspec.Struct, frozen=True, gc=False):
    """State of a rate. remaining: of `limit`, without burst; reset: Unix seconds at which it is
    full again."""

    name: str
    limit: int
    remaining: int
    reset: float


def tightest(levels: Iterable[Level], others: Iterable[Level]) -> tuple[Level, ...]:
    """Of each rate the level of which less remains; of two with as much, that in `levels`."""
    by_name = {level.name: level for level in levels}
    for level in others:
        known = by_name.get(level.name)
        if known is None or level.remaining < known.remaining:
            by_name[level.name] = level
    return tuple(by_name.values())


class Limits(msgspec.Struct, frozen=True):
    """Rates and concurrency of one principal. None: no limit.

    requests, tokens: rates. concurrency: requests in flight at once.
    on_excess: refuse a request over the limit, or let it wait.
    """

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrency: int | None = None
    on_excess: OnExcess = "reject"


TeamLimits = tuple[str, Limits]
"""Name of a team in the counters of rates, and its limits."""


class Window(msgspec.Struct, frozen=True):
    """A spend cap over a length of time.

    name: as configured, "5h" or "calendar month"; names the window in counters and rows.
    seconds: its length; None for the calendar month. cap: nano-credits.
    aligned: starts at calendar boundaries (UTC; weeks on Monday), not at first use.
    """

    name: str
    seconds: float | None
    cap: int
    aligned: bool = False

    def boundary(self, now: float) -> float | None:
        """Unix seconds at which the period of `now` began; None if it starts at first use."""
        if self.seconds is None:
            return _month(now, 0)
        if not self.aligned:
            return None
        return (now - _MONDAY) // self.seconds * self.seconds + _MONDAY

    def end(self, start: float) -> float:
        """Unix seconds at which the period that began at `start` ends."""
        return _month(start, 1) if self.seconds is None else start + self.seconds


class Budget(msgspec.Struct, frozen=True):
    """Spend limits of one principal.

    windows: caps that all apply. credits: prepaid credits pay where windows do not, or where there
    are none. Without both nothing is refused.
    on_hangup: after a disconnect, `cancel` stops the upstream and charges what was produced,
    `drain` reads its answer to the end and charges its count.
    cut_off: whether a running stream ends when its money is used up.
    """

    windows: tuple[Window, ...] = ()
    credits: bool = False
    on_hangup: OnHangup = "cancel"
    cut_off: bool = False

    @property
    def limited(self) -> bool:
        """Whether a request can be refused by this budget."""
        return bool(self.windows) or self.credits


class PlanLimits(msgspec.Struct, frozen=True):
    """Rates and budget of one plan. storage: bytes of files; None: the application's default."""

    limits: Limits = Limits()
    budget: Budget = Budget()
    storage: int | None = None


def _month(moment: float, later: int) -> float:
    """Unix seconds at which the month of `moment`, plus `later` months, begins (UTC)."""
    return _month_of_day(int(moment // 86400), later)


@lru_cache(256)
def _month_of_day(day: int, later: int) -> float:
    at = datetime.fromtimestamp(day * 86400, UTC)
    month = at.month - 1 + later
    return datetime(at.year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()
