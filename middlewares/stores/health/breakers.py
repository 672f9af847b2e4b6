"""Circuit breakers of targets: `Health` in the memory of a process.

Theory of operation. Every target has a breaker:

    closed     tried. Opens when at least `min_failures` attempts, and at least `failure_rate`
               percent, failed within `window`
    open       skipped for `open_for` seconds, give or take a tenth; the next attempt is a probe
    half_open  the probe is under way, and no other attempt is admitted. Its answer begins: closed,
               and results are forgotten. It fails: open, for twice as long, at most
               `max_open_for`. No verdict: the next attempt is the probe

Only a probe closes a breaker or opens it again. Other attempts reach a broken target when no other
is left, or began before it was broken; their results change nothing. They differ from the probe
by their mark: the moment each began, unique per target.

A good attempt counts when its answer began, not when it ended: a long answer that began before the
trouble says nothing about now.

A target may also ask to wait (`retry_after`). It is not admitted until that time is over, or until
an attempt that began later gets an answer.
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

from .base import Condition, State, UpstreamHealth, Verdict
from .breaker import SLOTS, Breaker, BreakerPolicy

__all__ = ["BreakerPolicy", "Breakers", "News", "SharedBreakerState"]

_WEIGHT = 0.2
"""Weight of the newest latency in the average."""

News = Literal["opened", "closed", "deferred", "wanted"]
"""Changes shared with other processes. wanted: a probe is due, and a request could be it."""


class Breakers(Shared):
    """`Health` by circuit breakers.

    most: targets kept. Beyond, a quarter is dropped: least recently used first, broken ones last.
    changed: called with each change of a breaker and its reason.
    clock: Unix seconds.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        most: int = 10_000,
        changed: Callable[[Target, State, str], None] = lambda target, state, reason: None,
        clock: Callable[[], float] = time,
        random: Callable[[], float] = random,
    ) -> None:
        if most < 1:
            raise ValueError(f"most={most}: expected 1 or more")
        self._policy = policy = policy or BreakerPolicy()
        self._most = most
        self._changed = changed
        self._clock = clock
        self._random = random
        self._rate = SLOTS / policy.window
        self._targets: dict[Target, Breaker] = {}
        self._publish_to: Callable[[Target, News], None] | None = None
        self.alone = True

    # On the request path

    def admits(self, target: Target) -> bool:
        known = self._targets.get(target)
        if known is None or known.calm:
            return True
        now = self._clock()
        if self._left(known.deferred_until, now):
            return False
        if known.state == "closed":
            known.deferred_until, known.calm = 0.0, True
            return True
        if known.probe or self._left(known.until, now):
            return False
        if self.alone or known.mine:
            return True
        self._publish(target, "wanted")
        return False

    def wait(self, target: Target) -> float:
        """A target that is being probed counts as failing until the probe ends."""
        known = self._targets.get(target)
        if known is None or known.calm:
            return 0.0
        now = self._clock()
        deferred = self._left(known.deferred_until, now)
        if known.state == "closed":
            return deferred
        return max(deferred, self._pause(known) if known.probe else self._left(known.until, now))

    def in_flight(self, target: Target) -> int:
        known = self._targets.get(target)
        return 0 if known is None else known.in_flight

    def latency(self, target: Target) -> float:
        known = self._targets.get(target)
        return 0.0 if known is None else known.latency

    def began(self, target: Target) -> float:
        known = self._targets.get(target)
        if known is None:
            known = self._remember(target)
        mark = now = self._clock()
        if mark < known.last - STEP:
            known.set_back()
        elif mark <= known.last:
            mark = nextafter(known.last, inf)
        known.last = mark
        known.in_flight += 1
        if known.state != "closed" and not known.probe and not self._left(known.until, now):
            known.probe = mark
            if known.state == "open":
                known.state = "half_open"
                self._changed(target, "half_open", "one request tries it")
            self._publish(target, "wanted")
        return mark

    def answered(self, target: Target, mark: float, *, seconds: float = 0.0) -> None:
        known = self._targets[target]  # targets with attempts under way are kept
        if seconds > 0.0:
            latency = known.latency
            known.latency = latency + _WEIGHT * (seconds - latency) if latency else seconds
        if known.state == "closed" and mark > known.since:
            known.counted_good(int((mark + seconds) * self._rate))
        if not known.calm:
            self._answered(target, known, mark)

    def ended(
        self, target: Target, verdict: Verdict, mark: float, *, retry_after: int | None = None
    ) -> None:
        known = self._targets[target]
        known.in_flight -= 1
        if verdict == "bad":
            self._failed(target, known, mark, retry_after)
        elif mark == known.probe:
            known.probe = 0.0

    # Results of attempts

    def _answered(self, target: Target, known: Breaker, mark: float) -> None:
        if known.deferred_until and mark > known.deferred_mark:
            known.deferred_until = 0.0
            self._publish(target, "deferred")
        if mark == known.probe:
            self._close(target, known, "it has answered")
            self._publish(target, "closed")
        known.calm = known.state == "closed" and not known.deferred_until

    def _failed(self, target: Target, known: Breaker, mark: float, retry_after: int | None) -> None:
        policy, now = self._policy, self._clock()
        if retry_after:
            known.deferred_until = max(
                known.deferred_until, now + min(retry_after, policy.max_open_for)
            )
            known.deferred_mark = known.last
            known.calm = False
            self._publish(target, "deferred")
        if mark == known.probe:
            self._open(target, known, now + self._pause(known), "it still fails")
            self._publish(target, "opened")
        elif known.state == "closed" and mark > known.since:
            known.counted_bad(int(now * self._rate))
            bad = sum(known.bad)
            attempts = bad + sum(known.good)
            if bad >= policy.min_failures and bad * 100 >= policy.failure_rate * attempts:
                reason = f"{bad} of {attempts} requests failed within {policy.window:g} s"
                self._open(target, known, now + self._pause(known), reason)
                self._publish(target, "opened")

    def _open(
        self, target: Target, known: Breaker, until: float, reason: str, level: int = 0
    ) -> None:
        known.state = "open"
        known.calm = known.mine = False
        known.probe = 0.0
        known.level = level or known.level + 1
        known.until = until
        self._changed(target, "open", reason)

    def _close(self, target: Target, known: Breaker, reason: str) -> None:
        known.state = "closed"
        known.mine = False
        known.level = 0
        known.until = known.probe = 0.0
        known.calm = not known.deferred_until
        known.forget()
        self._changed(target, "closed", reason)

    def _pause(self, known: Breaker) -> float:
        """Seconds for which it would stay open."""
        policy = self._policy
        pause = doubled(policy.open_for, policy.max_open_for, known.level)
        return min(pause * (0.9 + 0.2 * self._random()), policy.max_open_for)

    def _left(self, until: float, now: float) -> float:
        """Seconds left; 0 if implausibly many, after the clock was set back."""
        left = until - now
        return left if 0.0 < left <= self._policy.max_open_for * 1.01 else 0.0

    def _remember(self, target: Target) -> Breaker:
        if len(self._targets) >= self._most:
            idle = [target for target, known in self._targets.items() if not known.in_flight]
            idle.sort(key=self._worth)
            for forgotten in idle[: self._most // 4 + 1]:
                del self._targets[forgotten]
        known = self._targets[target] = Breaker()
        return known

    def _worth(self, target: Target) -> tuple[bool, float]:
        """Sort key: the least is dropped first."""
        known = self._targets[target]
        return not known.calm, known.last

    # For operators

    def conditions(self) -> Mapping[Target, Condition]:
        now = self._clock()
        conditions = {}
        for target, known in self._targets.items():
            deferred = known.deferred_until if self._left(known.deferred_until, now) else 0.0
            until = max(deferred, known.until if known.state == "open" else 0.0)
            conditions[target] = Condition(known.state, until, known.in_flight, known.latency)
        return conditions

    def by_upstream(self) -> Mapping[str, UpstreamHealth]:
        now = self._clock()
        found: dict[str, UpstreamHealth] = {}
        for target, known in self._targets.items():
            if known.calm and not known.in_flight:
                continue
            until = known.until if known.state == "open" and self._left(known.until, now) else 0.0
            one = UpstreamHealth(known.state, int(known.state != "closed"), until, known.in_flight)
            before = found.get(target.upstream)
            found[target.upstream] = one if before is None else before.plus(one)
        return found

    # For sharing with other processes

    def share(self, publish: Callable[[Target, News], None]) -> None:
        """Call `publish` with each change that other processes should know.

        While `alone` is False, only the process with leave (`grant_probe`) makes a probe.
        """
        self._publish_to = publish

    def _publish(self, target: Target, news: News) -> None:
        if self._publish_to is not None:
            self._publish_to(target, news)

    def shared_state(self, target: Target) -> "SharedBreakerState":
        known, now = self._targets.get(target) or Breaker(), self._clock()
        return SharedBreakerState(
            known.level,
            self._left(known.until, now),
            self._left(known.deferred_until, now),
            probing=known.probe > 0.0,
        )

    def broken(self) -> list[Target]:
        """Targets that are broken or have asked to wait."""
        return [target for target, known in self._targets.items() if not known.calm]

    def adopt_open(self, target: Target, level: int, seconds: float) -> None:
        """Open: another process found it broken. A probe under way here decides by itself."""
        known = self._targets.get(target) or self._remember(target)
        if known.probe:
            return
        now = self._clock()
        until = now + min(max(0.0, seconds), self._policy.max_open_for)
        if known.state == "closed":
            self._open(target, known, until, "another process found it broken", max(1, level))
        else:
            known.level, known.until = max(known.level, level), max(known.until, until)

    def adopt_closed(self, target: Target) -> None:
        """Close: another process had an answer from it."""
        known = self._targets.get(target)
        if known is not None and known.state != "closed":
            self._close(target, known, "another process had an answer from it")

    def adopt_deferral(self, target: Target, seconds: float) -> None:
        """Take over the `retry-after` that another process received; 0 ends it."""
        known = self._targets.get(target) or (self._remember(target) if seconds > 0 else None)
        if known is None:
            return
        known.deferred_until = 0.0
        if seconds > 0.0:
            known.deferred_until = self._clock() + min(seconds, self._policy.max_open_for)
            known.deferred_mark = known.last
        known.calm = known.state == "closed" and not known.deferred_until

    def grant_probe(self, target: Target, mine: bool) -> None:
        """Set whether this process may make the next probe."""
        known = self._targets.get(target)
        if known is not None and known.state != "closed":
            known.mine = mine


class SharedBreakerState(msgspec.Struct, frozen=True):
    """State of a target that one process shares. pause, deferred: seconds left. probing: a probe is
    under way here."""

    level: int
    pause: float
    deferred: float
    probing: bool
