"""What a principal may have: rates, slots, and money by the window. Data only."""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

OnExcess = Literal["reject", "throttle"]
OnHangup = Literal["cancel", "drain"]

_MONDAY = 4 * 86400
"""1970-01-05 was a Monday; the epoch was a Thursday."""


class Rate(msgspec.Struct, frozen=True):
    """`count` for each `seconds`, refilled evenly, and `burst` more that may be saved up.

    Up to `count + burst` may come at once after a rest (GCRA, ITU-T I.371).
    """

    count: int
    seconds: float
    burst: int = 0


class Level(msgspec.Struct, frozen=True, gc=False):
    """Where a rate stands. remaining: of `limit`, burst not counted; reset: Unix seconds at which
    it is full again."""

    name: str
    limit: int
    remaining: int
    reset: float


class Limits(msgspec.Struct, frozen=True):
    """Rates of one principal. None does not limit.

    requests, tokens: rates. concurrency: requests in flight at once.
    on_excess: refuse what is too much, or let it wait its turn.
    """

    requests: Rate | None = None
    tokens: Rate | None = None
    concurrency: int | None = None
    on_excess: OnExcess = "reject"


class Window(msgspec.Struct, frozen=True):
    """A spend cap over a length of time.

    name: as configured, "5h" or "calendar month"; names the window in counters and rows.
    seconds: its length; None for the calendar month. cap: nano-credits.
    aligned: begins at calendar boundaries (UTC; weeks on Monday), not at first use.
    """

    name: str
    seconds: float | None
    cap: int
    aligned: bool = False

    def boundary(self, now: float) -> float | None:
        """Unix seconds at which the period of `now` began; None where first use decides."""
        if self.seconds is None:
            return _month(now, 0)
        if not self.aligned:
            return None
        return (now - _MONDAY) // self.seconds * self.seconds + _MONDAY

    def end(self, start: float) -> float:
        """Unix seconds at which the period that began at `start` is over."""
        return _month(start, 1) if self.seconds is None else start + self.seconds


class Budget(msgspec.Struct, frozen=True):
    """The money of one principal.

    windows: caps that all hold. credits: prepaid credits pay where windows do not, or where there
    are none. Without both nothing is refused.
    on_hangup: what becomes of the upstream when the client leaves: `cancel` stops it and charges
    what was produced, `drain` hears it out and charges its count.
    cut_off: whether a running stream ends when its money is gone.
    """

    windows: tuple[Window, ...] = ()
    credits: bool = False
    on_hangup: OnHangup = "cancel"
    cut_off: bool = False

    @property
    def limited(self) -> bool:
        """Whether anything can be refused for want of money."""
        return bool(self.windows) or self.credits


class PlanLimits(msgspec.Struct, frozen=True):
    """All of it."""

    limits: Limits = Limits()
    budget: Budget = Budget()


def _month(moment: float, later: int) -> float:
    """Unix seconds at which the month of `moment`, or so many later, begins (UTC)."""
    return _month_of_day(int(moment // 86400), later)


@lru_cache(256)
def _month_of_day(day: int, later: int) -> float:
    at = datetime.fromtimestamp(day * 86400, UTC)
    month = at.month - 1 + later
    return datetime(at.year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()
