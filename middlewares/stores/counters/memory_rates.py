"""Rates and slots in this process's memory."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import inf
from time import time

from middlewares.limits import Level, Limits, Rate, tightest
from middlewares.shared import Shared

from .base import LIFETIME, STEP, Check, TeamClaim, Verdict

GRAIN = 1e-6
"""Seconds by which a request may come too early: Unix seconds in a float are no finer."""
IDLE = 0.2
"""Seconds for which an idle principal is kept, so that its next request finds its buckets."""
BUSY_WAIT = 1.0
"""Seconds to wait for a slot; its release cannot be predicted."""


class _Tank:
    """A rate as a leaky bucket, which is GCRA in requests: it decides the same (ITU-T I.371,
    annex A), and stays exact where a time of arrival in Unix seconds would be rounded each time.

    level: what was taken and has not drained yet, as of `at`. speed: what drains in a second.
    depth: what it holds.
    """

    __slots__ = ("at", "depth", "level", "rate", "speed")

    def __init__(self, at: float, rate: Rate) -> None:
        self.at = at
        self.level = 0.0
        self.fit(rate)

    def fit(self, rate: Rate) -> None:
        """It is a tank for this rate from now on."""
        self.rate = rate
        self.speed = rate.count / rate.seconds
        self.depth = rate.count + rate.burst

    def drain(self, now: float) -> None:
        elapsed = now - self.at
        if elapsed > 0:
            level = self.level - elapsed * self.speed
            self.level = level if level > 0 else 0.0
            self.at = now
        elif elapsed < -STEP:
            self.at = now


class _Place:
    """Rates and slots of one principal. at: when it was last asked for, in Unix seconds."""

    __slots__ = ("at", "leases", "tanks")

    def __init__(self, at: float) -> None:
        self.at = at
        self.tanks: dict[str, _Tank] = {}
        self.leases: dict[str, float] = {}

    def tank(self, name: str, rate: Rate, now: float) -> _Tank:
        """That of a rate, drained."""
        tank = self.tanks.get(name)
        if tank is None:
            tank = self.tanks[name] = _Tank(now, rate)
        elif tank.rate is not rate:
            tank.fit(rate)
        tank.drain(now)
        return tank

    def idle(self, now: float) -> bool:
        """Whether it was not asked for in a while, and a new one would be the same."""
        return (
            not self.leases
            and self.at + IDLE <= now
            and all(tank.at + tank.level / tank.speed <= now for tank in self.tanks.values())
        )


class MemoryRates(Shared):
    """`RateCounters` of one process. clock: Unix seconds, where a caller tells none.

    Leases live for `LIFETIME` after they were taken, or after `renew`.
    """

    __slots__ = ("_clock", "_places", "_renewed")

    in_process = True
    """Whether `take` may be called in place of `admit`, and `set_aside` in place of `reserve`, to
    save the coroutine. False in a subclass that overrides those."""

    def __init__(self, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self._places: OrderedDict[str, _Place] = OrderedDict()
        self._renewed = -inf

    def renew(self) -> None:
        """Let all that is held live for another `LIFETIME`."""
        now = self._clock()
        if now < self._renewed - STEP:
            self.set_back(now)
        self._renewed = now

    def set_back(self, now: float) -> None:
        """The clock was set back: what was noted with a later time is taken to be of now."""
        for place in self._places.values():
            place.at = min(place.at, now)
            for lease, at in place.leases.items():
                place.leases[lease] = min(at, now)

    def take(
        self,
        who: str,
        limits: Limits,
        tokens: int,
        lease: str,
        now: float | None,
        report: bool,
    ) -> tuple[Level, ...] | None:
        """`admit` without waiting, for counters of one process, where there is room for all
        of it, as mostly there is; None, and nothing done, where there may not be.

        report: whether to tell levels. lease: "" takes no slot.
        """
        # All that each rate takes is spelled out, as all requests come by, most of them twice.
        if now is None:
            now = self._clock()
        requests, second = limits.requests, limits.tokens
        try:
            place = self._places[who]
            if requests is not None:
                tank = place.tanks["requests"]
                if tank.rate is not requests:
                    tank.fit(requests)
                level = tank.level - (now - tank.at) * tank.speed
                level = level + 1.0 if level > 0.0 else 1.0
                if level > tank.depth or now < tank.at:
                    return None
            if second is not None:
                other = place.tanks["tokens"]
                if other.rate is not second:
                    other.fit(second)
                used = other.level - (now - other.at) * other.speed
                used = used + tokens if used > 0.0 else tokens + 0.0
                if used > other.depth or now < other.at:
                    return None
        except KeyError:
            return None
        if lease:
            leases = place.leases
            if len(leases) >= (limits.concurrency or 0) or lease in leases:
                return None
            leases[lease] = now
        place.at = now
        levels: tuple[Level, ...] = ()
        if requests is not None:
            tank.at, tank.level = now, level
            if report:
                levels = (level_of("requests", requests, level, now),)
        if second is not None:
            other.at, other.level = now, used
            if report:
                levels += (level_of("tokens", second, used, now),)
        return levels

    def take_of_both(
        self,
        who: str,
        limits: Limits,
        team: tuple[str, Limits],
        tokens: int,
        lease: str,
        now: float | None,
        report: bool,
    ) -> tuple[Level, ...] | None:
        """`take` of a principal and of its team: all of both, or nothing."""
        if now is None:
            now = self._clock()
        its_name, its_limits = team
        own = self._room(who, limits, tokens, lease, now)
        if own is None:
            return None
        its = self._room(its_name, its_limits, tokens, lease, now)
        if its is None:
            return None
        for place, tank, level, other, used in (own, its):
            place.at = now
            if tank is not None:
                tank.at, tank.level = now, level
            if other is not None:
                other.at, other.level = now, used
        if limits.concurrency:
            own[0].leases[lease] = now
        if its_limits.concurrency:
            its[0].leases[lease] = now
        if not report:
            return ()
        _, tank, level, other, used = own
        _, its_tank, its_level, its_other, its_used = its
        requests = _tighter("requests", tank, level, its_tank, its_level)
        return requests + _tighter("tokens", other, used, its_other, its_used)

    def _room(
        self, who: str, limits: Limits, tokens: int, lease: str, now: float
    ) -> "_Room | None":
        """The place of `who` with its tanks of requests and of tokens, each with its level after
        this request; None where there may not be room. Takes nothing."""
        requests, second, slots = limits.requests, limits.tokens, limits.concurrency
        tank = other = None
        level = used = 0.0
        try:
            place = self._places[who]
            if requests is not None:
                tank = place.tanks["requests"]
                if tank.rate is not requests:
                    tank.fit(requests)
                level = tank.level - (now - tank.at) * tank.speed
                level = level + 1.0 if level > 0.0 else 1.0
                if level > tank.depth or now < tank.at:
                    return None
            if second is not None:
                other = place.tanks["tokens"]
                if other.rate is not second:
                    other.fit(second)
                used = other.level - (now - other.at) * other.speed
                used = used + tokens if used > 0.0 else tokens + 0.0
                if used > other.depth or now < other.at:
                    return None
        except KeyError:
            return None
        if slots and (len(place.leases) >= slots or lease in place.leases):
            return None
        return place, tank, level, other, used

    async def admit(
        self,
        who: str,
        checks: Sequence[Check],
        *,
        slots: int = 0,
        lease: str = "",
        now: float | None = None,
        team: TeamClaim | None = None,
    ) -> Verdict:
        if now is None:
            now = self._clock()
        own = _Claimed(self._place(who, now), checks, slots, now)
        wait, lacking = self._lacking(own, lease, now)
        if team is None:
            if not lacking:
                own.take(lease, now)
            return Verdict(not lacking, own.levels(), wait, lacking)
        its = _Claimed(self._place(team.who, now), team.checks, team.slots, now)
        its_wait, its_lacking = self._lacking(its, lease, now)
        if not (lacking or its_lacking):
            own.take(lease, now)
            its.take(lease, now)
        levels = tightest(own.levels(), its.levels())
        both = bool(lacking and its_lacking)
        if its_wait > wait:
            return Verdict(False, levels, its_wait, its_lacking, "team", both)
        return Verdict(not lacking, levels, wait, lacking, "key", both)

    def _lacking(self, claimed: "_Claimed", lease: str, now: float) -> tuple[float, str]:
        """For how long what is claimed is not there, and the name of what lacks longest."""
        wait = 0.0
        lacking = ""
        for check, tank in claimed.rates:
            over = tank.level + min(tank.depth, check.cost) - tank.depth
            if over > tank.speed * GRAIN and over / tank.speed > wait:
                wait = over / tank.speed
                lacking = check.name
        place, slots = claimed.place, claimed.slots
        if (
            slots
            and len(place.leases) >= slots
            and wait < BUSY_WAIT
            and lease not in place.leases
            and self._in_use(place, now) >= slots
        ):
            return BUSY_WAIT, "concurrency"
        return wait, lacking

    def release(self, who: str, lease: str) -> None:
        place = self._places.get(who)
        if place is not None:
            place.leases.pop(lease, None)

    def charge(self, who: str, check: Check, now: float | None = None) -> None:
        if now is None:
            now = self._clock()
        tank = self._place(who, now).tank(check.name, check.rate, now)
        tank.level = max(0.0, tank.level + check.cost)

    async def levels(
        self, who: str, checks: Sequence[Check], *, now: float | None = None
    ) -> tuple[tuple[Level, ...], int]:
        if now is None:
            now = self._clock()
        place = self._places.get(who) or _Place(now)
        tanks = [place.tank(check.name, check.rate, now) for check in checks]
        return tuple(map(_level_of_tank, checks, tanks)), self._in_use(place, now)

    def _place(self, who: str, now: float) -> _Place:
        """That of `who`. Each new one looks at the two oldest: so the idle ones never outnumber
        the others."""
        places = self._places
        found = places.get(who)
        if found is not None:
            return found
        for _ in range(min(2, len(places))):
            name, old = places.popitem(last=False)
            self._in_use(old, now)
            if not old.idle(now):
                places[name] = old
        place = places[who] = _Place(now)
        return place

    def _in_use(self, place: _Place, now: float) -> int:
        leases = place.leases
        while leases:
            oldest = next(iter(leases))
            if max(leases[oldest], self._renewed) + LIFETIME > now:
                break
            del leases[oldest]
        return len(leases)


class _Claimed:
    """What a request claims of one place: rates with what each gives, and a slot."""

    __slots__ = ("place", "rates", "slots")

    def __init__(self, place: _Place, checks: Sequence[Check], slots: int, now: float) -> None:
        place.at = now
        self.place = place
        self.rates = [(check, place.tank(check.name, check.rate, now)) for check in checks]
        self.slots = slots

    def take(self, lease: str, now: float) -> None:
        for check, tank in self.rates:
            tank.level += check.cost
        if self.slots:
            self.place.leases[lease] = now

    def levels(self) -> tuple[Level, ...]:
        return tuple(_level_of_tank(check, tank) for check, tank in self.rates)


def _level_of_tank(check: Check, tank: _Tank) -> Level:
    return level_of(check.name, check.rate, tank.level, tank.at)


_Room = tuple[_Place, _Tank | None, float, _Tank | None, float]


def _tighter(
    name: str, tank: _Tank | None, level: float, other: _Tank | None, its_level: float
) -> tuple[Level, ...]:
    """Of two tanks of one rate the level of which less remains; nothing without a tank."""
    if tank is None:
        return () if other is None else (level_of(name, other.rate, its_level, other.at),)
    own = level_of(name, tank.rate, level, tank.at)
    if other is None:
        return (own,)
    its = level_of(name, other.rate, its_level, other.at)
    return (its,) if its.remaining < own.remaining else (own,)


def level_of(name: str, rate: Rate, level: float, at: float) -> Level:
    """Where a rate stands of which `level` was taken and had not drained at `at`."""
    count, seconds = rate.count, rate.seconds
    left = int(count - level + count / seconds * GRAIN)
    if not 0 <= left <= count:
        left = count if left > 0 else 0
    return Level(name, count, left, at + level * seconds / count)
