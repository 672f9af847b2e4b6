"""What one request takes of the limits of its principal and of its team."""

from collections.abc import Awaitable, Callable, Sequence
from math import ceil

from middlewares.limits import Level, Limits, Rate, TeamLimits
from middlewares.problem import Problem
from middlewares.stores.counters.base import Check, RateCounters, TeamClaim, Verdict

from .throttle_queue import QueueFull, ThrottleQueue

_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


class Claim:
    """What one request takes of its limits. before: levels that an outer limiter wrote."""

    __slots__ = (
        "_clock",
        "_counters",
        "_limits",
        "_queue",
        "_slots",
        "_team",
        "before",
        "checks",
        "lease",
        "subject",
        "team",
    )

    def __init__(
        self,
        counters: RateCounters,
        queue: ThrottleQueue,
        clock: Callable[[], float] | None,
        subject: str,
        limits: Limits,
        team: TeamLimits | None,
        tokens: int,
        lease: str,
        before: tuple[Level, ...],
    ) -> None:
        self._counters = counters
        self._queue = queue
        self._clock = clock
        self._limits = limits
        self._slots = limits.concurrency or 0
        self.before = before
        self.subject = subject
        self.lease = lease
        self.checks = _checks(limits, tokens)
        self._team = team
        self.team: TeamClaim | None = None
        if team is not None:
            name, its = team
            self.team = TeamClaim(name, _checks(its, tokens), its.concurrency or 0)

    @property
    def empty(self) -> bool:
        """Whether it takes nothing."""
        return not (self.checks or self.lease or (self.team and self.team.checks))

    @property
    def waits(self) -> bool:
        """Whether the request may wait at all."""
        return waits(self._limits) or (self._team is not None and waits(self._team[1]))

    @property
    def others_wait(self) -> bool:
        """See the function."""
        return others_wait(self._queue, self.subject, self._limits, self._team)

    def ask(self) -> Awaitable[Verdict]:
        """Ask the counters for all of it. Raises CountersUnavailable, when it is awaited."""
        asked = self._counters.admit(
            self.subject,
            self.checks,
            slots=self._slots,
            lease=self.lease,
            now=None if self._clock is None else self._clock(),
            team=self.team,
        )
        if self._slots or (self.team is not None and self.team.slots):
            return self._or_release(asked)
        return asked  # without a frame of its own: most are asked so

    async def _or_release(self, asked: Awaitable[Verdict]) -> Verdict:
        try:
            return await asked
        except BaseException:
            self.release()  # the slot may have been taken although no answer came
            raise

    async def ask_in_turn(self) -> Verdict:
        """As `ask`. Raises QueueFull if what lacks is nothing to wait for."""
        verdict = await self.ask()
        if not (verdict.admitted or self.may_wait(verdict)):
            raise QueueFull(verdict.wait, verdict)
        return verdict

    def may_wait(self, verdict: Verdict) -> bool:
        """Whether all limits that lack let requests wait."""
        own = verdict.whose == "key" or verdict.both
        its = verdict.whose == "team" or verdict.both
        if own and not waits(self._limits):
            return False
        return not its or (self._team is not None and waits(self._team[1]))

    def refund(self) -> None:
        """Give back all that was taken."""
        self.release()
        self._give_back(self.subject, self.checks)
        if self.team is not None:
            self._give_back(self.team.who, self.team.checks)

    def _give_back(self, who: str, checks: Sequence[Check]) -> None:
        for check in checks:
            if check.cost:
                self._counters.charge(who, Check(check.name, check.rate, -check.cost), self._now())

    def release(self) -> None:
        """Release the slots; harmless if they were not taken."""
        if self._slots:
            self._counters.release(self.subject, self.lease)
            self._queue.slot_released(self.subject)
        if self.team is not None and self.team.slots:
            self._counters.release(self.team.who, self.lease)
            self._queue.slot_released(self.team.who)

    def refusal(self, verdict: Verdict | None, wait: float) -> Problem:
        """The answer to a request that is not admitted. wait: seconds until it may be."""
        subject, limits, whose = self.subject, self._limits, ""
        if self._team is not None and verdict and verdict.whose == "team":
            (subject, limits), whose = self._team, " of your team"
        lacking = "requests" if verdict is None else verdict.lacking
        seconds = max(1, ceil(wait))
        rate = limits.tokens if lacking == "tokens" else limits.requests
        if lacking == "concurrency" or rate is None:
            what = f"concurrent requests{whose}: limit {limits.concurrency} at once"
        else:
            what = f"{lacking}{whose}: limit {rate.count} per {_period(rate)}"
        return Problem(
            "rate_limited",
            message=f"Rate limit reached for {what}. Please try again in {seconds}s.",
            reason=f"no {lacking} of {subject} left for {wait:.3f} s",
            retry_after=seconds,
        )

    def _now(self) -> float | None:
        return None if self._clock is None else self._clock()


def others_wait(
    queue: ThrottleQueue, subject: str, limits: Limits, team: TeamLimits | None
) -> bool:
    """Whether requests in the queue come before one with these limits."""
    if team is not None and waits(team[1]):
        return queue.has_waiting(subject, team[0])
    return waits(limits) and queue.has_waiting(subject)


def waits(limits: Limits) -> bool:
    """Whether requests wait for these limits."""
    return limits.on_excess == "throttle"


def _checks(limits: Limits, tokens: int) -> list[Check]:
    checks = [] if limits.requests is None else [Check("requests", limits.requests)]
    if limits.tokens is not None:
        checks.append(Check("tokens", limits.tokens, tokens))
    return checks


def _period(rate: Rate) -> str:
    seconds = rate.seconds
    if seconds in _PERIODS:
        return _PERIODS[int(seconds)]
    for length in (86400, 3600, 60):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {_PERIODS[length]}s"
    return f"{seconds:g} seconds"
