"""Which places are broken, by what came of the tries there: `Health` in the memory of a process.

Theory of operation. Every place has a breaker:

    closed     tried as ever. Of what was tried within `window`, at least `min_failures`
               failed, and at least `failure_rate` percent: open
    open       left alone for `open_for` seconds, give or take a tenth; then the next try is a probe
    half_open  the probe is under way, and nobody else is admitted. Good, or its answer begins:
               closed, and the past is forgotten. Bad: open, for twice as long as before, at most
               `max_open_for`. Nothing can be said: the next try is the probe

Only a probe closes a breaker or opens it again. Tries are made at a broken place where no other is
left, or began there before it was known to be broken, and may end at any time; what comes of them
changes nothing. They are told apart by their mark: the moment at which each began, of which no two
at one place are the same.

A good try counts when its answer began, not when it ended: a long answer that began before the
trouble says nothing about now.

Beside that a place may ask to be left alone for some time (`retry_after`). It is then not admitted
until that is over, or a try that began after it asked gets an answer.
"""

from collections.abc import Callable, Mapping
from math import inf, nextafter
from random import random
from time import time
from typing import Literal

import msgspec

from middlewares.backoff import doubled
from middlewares.exchange import Target
from middlewares.shared import Shared
from middlewares.stores.counters.base import STEP

from .base import Condition, State, Verdict
from .breaker import SLOTS, Breaker, BreakerPolicy

__all__ = ["BreakerPolicy", "Breakers", "News", "SharedBreakerState"]

_WEIGHT = 0.2
"""Of the newest in the average of latencies."""

News = Literal["opened", "closed", "told", "wanted"]
"""What other processes may want to know of a place. wanted: it is time for a probe, and there is
a request that could be it."""


class Breakers(Shared):
    """`Health`, by breakers.

    most: places that are remembered. Beyond, a quarter is forgotten: those unused for longest,
        and broken ones last.
    changed: called with each change of a breaker, and the reason for it.
    clock: Unix seconds.
    """

    def __init__(
        self,
        terms: BreakerPolicy | None = None,
        *,
        most: int = 10_000,
        changed: Callable[[Target, State, str], None] = lambda place, state, reason: None,
        clock: Callable[[], float] = time,
        random: Callable[[], float] = random,
    ) -> None:
        if most < 1:
            raise ValueError(f"most={most}: expected 1 or more")
        self._terms = terms = terms or BreakerPolicy()
        self._most = most
        self._changed = changed
        self._clock = clock
        self._random = random
        self._rate = SLOTS / terms.window
        self._places: dict[Target, Breaker] = {}
        self._told: Callable[[Target, News], None] | None = None
        self.alone = True

    # On the request path

    def admits(self, place: Target) -> bool:
        known = self._places.get(place)
        if known is None or known.calm:
            return True
        now = self._clock()
        if self._left(known.told, now):
            return False
        if known.state == "closed":
            known.told, known.calm = 0.0, True
            return True
        if known.probe or self._left(known.until, now):
            return False
        if self.alone or known.mine:
            return True
        self._tell(place, "wanted")
        return False

    def wait(self, place: Target) -> float:
        """A place that is being probed is taken to fail, until it is known."""
        known = self._places.get(place)
        if known is None or known.calm:
            return 0.0
        now = self._clock()
        told = self._left(known.told, now)
        if known.state == "closed":
            return told
        return max(told, self._pause(known) if known.probe else self._left(known.until, now))

    def flying(self, place: Target) -> int:
        known = self._places.get(place)
        return 0 if known is None else known.flying

    def latency(self, place: Target) -> float:
        known = self._places.get(place)
        return 0.0 if known is None else known.latency

    def began(self, place: Target) -> float:
        known = self._places.get(place)
        if known is None:
            known = self._remember(place)
        mark = now = self._clock()
        if mark < known.last - STEP:
            known.set_back()
        elif mark <= known.last:
            mark = nextafter(known.last, inf)
        known.last = mark
        known.flying += 1
        if known.state != "closed" and not known.probe and not self._left(known.until, now):
            known.probe = mark
            if known.state == "open":
                known.state = "half_open"
                self._changed(place, "half_open", "one request tries it")
            self._tell(place, "wanted")
        return mark

    def answered(self, place: Target, mark: float, *, seconds: float = 0.0) -> None:
        known = self._places[place]  # what is under way is not forgotten
        if seconds > 0.0:
            latency = known.latency
            known.latency = latency + _WEIGHT * (seconds - latency) if latency else seconds
        if known.state == "closed" and mark > known.since:
            known.counted_good(int((mark + seconds) * self._rate))
        if not known.calm:
            self._answered(place, known, mark)

    def ended(
        self, place: Target, verdict: Verdict, mark: float, *, retry_after: int | None = None
    ) -> None:
        known = self._places[place]
        known.flying -= 1
        if verdict == "bad":
            self._failed(place, known, mark, retry_after)
        elif mark == known.probe:
            known.probe = 0.0

    # What a try changes

    def _answered(self, place: Target, known: Breaker, mark: float) -> None:
        if known.told and mark > known.asked:
            known.told = 0.0
            self._tell(place, "told")
        if mark == known.probe:
            self._close(place, known, "it has answered")
            self._tell(place, "closed")
        known.calm = known.state == "closed" and not known.told

    def _failed(self, place: Target, known: Breaker, mark: float, retry_after: int | None) -> None:
        terms, now = self._terms, self._clock()
        if retry_after:
            known.told = max(known.told, now + min(retry_after, terms.max_open_for))
            known.asked = known.last
            known.calm = False
            self._tell(place, "told")
        if mark == known.probe:
            self._open(place, known, now + self._pause(known), "it still fails")
            self._tell(place, "opened")
        elif known.state == "closed" and mark > known.since:
            known.counted_bad(int(now * self._rate))
            bad = sum(known.bad)
            tries = bad + sum(known.good)
            if bad >= terms.min_failures and bad * 100 >= terms.failure_rate * tries:
                reason = f"{bad} of {tries} requests failed within {terms.window:g} s"
                self._open(place, known, now + self._pause(known), reason)
                self._tell(place, "opened")

    def _open(
        self, place: Target, known: Breaker, until: float, reason: str, level: int = 0
    ) -> None:
        known.state = "open"
        known.calm = known.mine = False
        known.probe = 0.0
        known.level = level or known.level + 1
        known.until = until
        self._changed(place, "open", reason)

    def _close(self, place: Target, known: Breaker, reason: str) -> None:
        known.state = "closed"
        known.mine = False
        known.level = 0
        known.until = known.probe = 0.0
        known.calm = not known.told
        known.forget()
        self._changed(place, "closed", reason)

    def _pause(self, known: Breaker) -> float:
        """Seconds, should it be opened now."""
        terms = self._terms
        pause = doubled(terms.open_for, terms.max_open_for, known.level)
        return min(pause * (0.9 + 0.2 * self._random()), terms.max_open_for)

    def _left(self, until: float, now: float) -> float:
        """Seconds; none of more than any wait can be, as then the clock was set back."""
        left = until - now
        return left if 0.0 < left <= self._terms.max_open_for * 1.01 else 0.0

    def _remember(self, place: Target) -> Breaker:
        if len(self._places) >= self._most:
            idle = [place for place, known in self._places.items() if not known.flying]
            idle.sort(key=self._worth)
            for forgotten in idle[: self._most // 4 + 1]:
                del self._places[forgotten]
        known = self._places[place] = Breaker()
        return known

    def _worth(self, place: Target) -> tuple[bool, float]:
        """What is to be forgotten first is the least."""
        known = self._places[place]
        return not known.calm, known.last

    # For operators

    def conditions(self) -> Mapping[Target, Condition]:
        now = self._clock()
        conditions = {}
        for place, known in self._places.items():
            told = known.told if self._left(known.told, now) else 0.0
            until = max(told, known.until if known.state == "open" else 0.0)
            conditions[place] = Condition(known.state, until, known.flying, known.latency)
        return conditions

    # For whoever tells other processes, and hears from them

    def share(self, tell: Callable[[Target, News], None]) -> None:
        """Have `tell` called with what others may want to know.

        While `alone` is False, a probe is made by whoever was given leave to (`let`); a process
        that is alone gives itself leave.
        """
        self._told = tell

    def _tell(self, place: Target, news: News) -> None:
        if self._told is not None:
            self._told(place, news)

    def standing(self, place: Target) -> "SharedBreakerState":
        known, now = self._places.get(place) or Breaker(), self._clock()
        return SharedBreakerState(
            known.level,
            self._left(known.until, now),
            self._left(known.told, now),
            probing=known.probe > 0.0,
        )

    def broken(self) -> list[Target]:
        """The places that are broken, and those that asked to be left alone."""
        return [place for place, known in self._places.items() if not known.calm]

    def hear_open(self, place: Target, level: int, seconds: float) -> None:
        """Another process has found it broken. A probe that is under way here will tell."""
        known = self._places.get(place) or self._remember(place)
        if known.probe:
            return
        now = self._clock()
        until = now + min(max(0.0, seconds), self._terms.max_open_for)
        if known.state == "closed":
            self._open(place, known, until, "another process found it broken", max(1, level))
        else:
            known.level, known.until = max(known.level, level), max(known.until, until)

    def hear_closed(self, place: Target) -> None:
        """Another process had an answer from it."""
        known = self._places.get(place)
        if known is not None and known.state != "closed":
            self._close(place, known, "another process had an answer from it")

    def hear_told(self, place: Target, seconds: float) -> None:
        """It has asked another process to be left alone for so long, or, with 0, no longer."""
        known = self._places.get(place) or (self._remember(place) if seconds > 0 else None)
        if known is None:
            return
        known.told = 0.0
        if seconds > 0.0:
            known.told = self._clock() + min(seconds, self._terms.max_open_for)
            known.asked = known.last
        known.calm = known.state == "closed" and not known.told

    def let(self, place: Target, mine: bool) -> None:
        """Whether the next probe is to be made here."""
        known = self._places.get(place)
        if known is not None and known.state != "closed":
            known.mine = mine


class SharedBreakerState(msgspec.Struct, frozen=True):
    """What one process tells others of a place. pause, told: seconds that are left. probing: a
    probe is under way here."""

    level: int
    pause: float
    told: float
    probing: bool
