"""Rates and slots in this process's memory."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import floor, inf
from time import time

from middlewares.terms import Level, Rate

from .counters import LIFETIME, Check, Verdict

GRAIN = 1e-6
"""Seconds by which a request may come too early: Unix seconds in a float are no finer."""
STEP = 60.0
"""Seconds by which time may go back before the clock is believed to have been set."""
BUSY_WAIT = 1.0
"""Seconds to wait for a slot; nobody knows when one is given back."""


class _Tank:
    """A rate as a leaky bucket, which is GCRA told in requests: it decides the same (ITU-T I.371,
    annex A), and stays exact where a time of arrival in Unix seconds would be rounded each time.

    level: what was taken and has not drained yet, as of `at`.
    """

    __slots__ = ("at", "level")

    def __init__(self, at: float) -> None:
        self.at = at
        self.level = 0.0

    def drain(self, now: float, speed: float) -> None:
        elapsed = now - self.at
        if elapsed > 0:
            level = self.level - elapsed * speed
            self.level = level if level > 0 else 0.0
            self.at = now
        elif elapsed < -STEP:
            self.at = now


class _Place:
    """Rates and slots of one principal. until: Unix seconds when nothing of it is left."""

    __slots__ = ("leases", "tanks", "until")

    def __init__(self) -> None:
        self.tanks: dict[str, _Tank] = {}
        self.leases: dict[str, float] = {}
        self.until = 0.0


class MemoryRates:
    """`RateCounters` of one process. clock: Unix seconds, where a caller tells none.

    Leases live for `LIFETIME` after they were taken, or after `renew`.
    """

    __slots__ = ("_clock", "_places", "_renewed")

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._renewed = -inf

    def renew(self) -> None:
        """Let all that is held live for another `LIFETIME`."""
        self._renewed = self._clock()

    async def admit(
        self,
        who: str,
        checks: Sequence[Check],
        *,
        slots: int = 0,
        lease: str = "",
        now: float | None = None,
    ) -> Verdict:
        return self.decide(who, checks, slots, lease, now)

    def decide(
        self,
        who: str,
        checks: Sequence[Check],
        slots: int = 0,
        lease: str = "",
        now: float | None = None,
        report: bool = True,
    ) -> Verdict:
        """`admit`, for whoever knows that nobody else has to be asked. report: whether levels are
        wanted of what is admitted."""
        if now is None:
            now = self._clock()
        place = self._places.get(who)
        if place is None:
            place = self._new_place(who, now)
        tanks = place.tanks
        until = place.until
        levels: list[Level] = []
        before: list[float] = []
        wait = 0.0
        lacking = ""
        # All that each check does is spelled out here, as most requests come by twice. It takes at
        # once what there is room for; where another then lacks, that is put back.
        for check in checks:
            name, rate = check.name, check.rate
            count = rate.count
            speed = count / rate.seconds
            tank = tanks.get(name)
            if tank is None:
                tank = tanks[name] = _Tank(now)
            at, level = tank.at, tank.level
            if now > at:
                level -= (now - at) * speed
                if level < 0:
                    level = 0.0
                tank.at = at = now
            elif now < at - STEP:
                tank.at = at = now
            before.append(level)
            after = level + check.cost
            depth = count + rate.burst
            if after > depth:
                over = level + min(depth, check.cost) - depth
                if over > speed * GRAIN and over / speed > wait:
                    wait = over / speed
                    lacking = name
            tank.level = after
            reset = at + after / speed
            if reset > until:
                until = reset
            if report:
                left = int(count - after + speed * GRAIN)
                if left < 0:
                    left = 0
                elif left > count:
                    left = count
                levels.append(Level(name, count, left, reset))
        if slots:
            leases = place.leases
            if (
                len(leases) >= slots
                and wait < BUSY_WAIT
                and lease not in leases
                and self._in_use(place, now) >= slots
            ):
                wait = BUSY_WAIT
                lacking = "concurrency"
            elif not lacking:
                leases[lease] = now
                if until < now + LIFETIME:
                    until = now + LIFETIME
        if lacking:
            for check, level in zip(checks, before, strict=True):
                tanks[check.name].level = level
            return Verdict(False, self._levels(place, checks), wait, lacking)
        place.until = until
        return Verdict(True, tuple(levels))

    def release(self, who: str, lease: str) -> None:
        place = self._places.get(who)
        if place is not None:
            place.leases.pop(lease, None)

    def charge(self, who: str, check: Check, now: float | None = None) -> None:
        if now is None:
            now = self._clock()
        place = self._places.get(who) or self._new_place(who, now)
        rate = check.rate
        speed = rate.count / rate.seconds
        tank = place.tanks.get(check.name)
        if tank is None:
            tank = place.tanks[check.name] = _Tank(now)
        tank.drain(now, speed)
        level = tank.level + check.cost
        tank.level = level = level if level > 0 else 0.0
        full = tank.at + level / speed
        if full > place.until:
            place.until = full

    async def levels(
        self, who: str, checks: Sequence[Check], *, now: float | None = None
    ) -> tuple[tuple[Level, ...], int]:
        if now is None:
            now = self._clock()
        place = self._places.get(who) or _Place()
        for check in checks:
            tank = place.tanks.get(check.name)
            if tank is None:
                tank = place.tanks[check.name] = _Tank(now)
            tank.drain(now, check.rate.count / check.rate.seconds)
        return self._levels(place, checks), self._in_use(place, now)

    def _new_place(self, who: str, now: float) -> _Place:
        """Each new one looks at the two oldest: so the idle ones never outnumber the others."""
        places = self._places
        for _ in range(min(2, len(places))):
            name, old = places.popitem(last=False)
            if old.until > now or (old.leases and self._in_use(old, now)):
                places[name] = old
        place = places[who] = _Place()
        return place

    def _levels(self, place: _Place, checks: Sequence[Check]) -> tuple[Level, ...]:
        tanks = place.tanks
        levels = []
        for check in checks:
            tank = tanks[check.name]
            levels.append(level_of(check.name, check.rate, tank.level, tank.at))
        return tuple(levels)

    def _in_use(self, place: _Place, now: float) -> int:
        leases = place.leases
        while leases:
            oldest = next(iter(leases))
            if max(leases[oldest], self._renewed) + LIFETIME > now:
                break
            del leases[oldest]
        return len(leases)


def level_of(name: str, rate: Rate, level: float, at: float) -> Level:
    """Where a rate stands of which `level` was taken and had not drained at `at`."""
    count, seconds = rate.count, rate.seconds
    left = floor(count - level + count / seconds * GRAIN)
    remaining = max(0, min(count, left))
    return Level(name, count, remaining, at + level * seconds / count)
