"""Counters that go on while the shared ones are away.

A circuit breaker: the first call that gets no answer opens it. While it is open nothing waits for
Redis; each second one background call asks whether it is back. A connection that broke
and was made again at once is no outage.

    rates     "local": counted by each process for itself; "allow"; "refuse"
    budgets   "refuse"; "local": each process for itself, restored from the ledger

Holds in flight are handed to the counters that take over, both ways, so that `spent + held` is
never less than what this process used. Slots are given back where they were taken. What "local"
budgets risk: each process knows of the others only what is in the ledger, not what they have in
flight; and should a process be killed meanwhile, the primary hears of what it served when the
account is next restored.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import time
from typing import Literal

import msgspec

from middlewares.limits import Budget, Level, Rate, tightest
from middlewares.shared import Shared
from middlewares.stores.errors import AnswerLost, CountersRefused, CountersUnavailable
from middlewares.stores.outage import Outage

from .base import (
    AccountStatus,
    Check,
    Counters,
    Hold,
    InsufficientFunds,
    Spent,
    TeamAccount,
    TeamClaim,
    Unknown,
    Verdict,
)
from .memory import MemoryCounters

logger = logging.getLogger(__name__)

Rates = Literal["local", "allow", "refuse"]
Budgets = Literal["refuse", "local"]

_PROBE = "penstock probe"
_PROBED = (Check("requests", Rate(1000, 1.0)),)
"""Taking something tells more than looking: a Redis without memory can still be read."""


class Failover(Shared):
    """`Counters` of `primary`, and while it is away what `rates` and `budgets` say.

    period: seconds between two probes. changed: called with False when the primary is lost, with
    True when it is back. clock: Unix seconds. Starts and closes `primary` and `local`.
    """

    __slots__ = (
        "_budgets",
        "_changed",
        "_clock",
        "_holds",
        "_leases",
        "_local",
        "_outage",
        "_period",
        "_primary",
        "_probing",
        "_rates",
        "_stale",
    )

    def __init__(
        self,
        primary: Counters,
        *,
        rates: Rates,
        budgets: Budgets,
        local: MemoryCounters,
        changed: Callable[[bool], None] = lambda up: None,
        clock: Callable[[], float] = time,
        period: float = 1.0,
    ) -> None:
        self._primary = primary
        self._rates = rates
        self._budgets = budgets
        self._local = local
        self._changed = changed
        self._clock = clock
        self._period = period
        self._outage = Outage(
            logger,
            f"the shared counters do not answer; rates: {rates}, budgets: {budgets}",
            "the shared counters answer again",
            level=logging.WARNING,
        )
        self._probing: asyncio.Task[None] | None = None
        self._holds: dict[tuple[str, str], Hold] = {}
        self._leases: set[tuple[str, str]] = set()
        self._stale: set[str] = set()

    @property
    def away(self) -> bool:
        """Whether the primary is away."""
        return self._outage.on

    @property
    def losses(self) -> int:
        """How often the primary has lost what it counted."""
        return getattr(self._primary, "losses", 0)

    async def start(self) -> None:
        await self._primary.start()
        await self._local.start()
        await self._probe()

    async def aclose(self) -> None:
        probing, self._probing = self._probing, None
        if probing is not None:
            probing.cancel()
            with suppress(asyncio.CancelledError):
                await probing
        await self._local.aclose()
        await self._primary.aclose()

    # The breaker

    def _open(self, error: CountersUnavailable) -> None:
        if self._outage.on:
            return
        self._outage.failed(error)
        if self._budgets == "local":
            for hold in self._holds.values():
                self._local.resize(_copy(hold), hold.amount)
        self._changed(False)
        self._probing = asyncio.create_task(self._wait())

    async def _wait(self) -> None:
        while self._outage.on:
            await asyncio.sleep(self._period)
            await self._probe()

    async def _probe(self) -> None:
        try:
            await self._primary.admit(_PROBE, _PROBED)
            if self._outage.on:
                await self._hand_back()
        except CountersUnavailable as error:
            self._open(error)

    async def _hand_back(self) -> None:
        """Tell the primary what it has missed; then it is the one that counts.

        Changes during that are sent too: nothing is awaited between the last check of what is left
        and the switch.
        """
        while self._stale:
            account = self._stale.pop()
            try:
                await self._primary.invalidate(account)
            except BaseException:
                self._stale.add(account)
                raise
        for hold in self._holds.values():
            self._primary.resize(_copy(hold), hold.amount)
        self._local.forget_accounts()
        self._probing = None
        self._outage.worked()
        self._changed(True)

    # Rates and slots

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
        if not self._outage.on:
            try:
                return await self._primary.admit(
                    who, checks, slots=slots, lease=lease, now=now, team=team
                )
            except AnswerLost:
                pass  # it may be counted there already: this one is counted here
            except CountersRefused as refused:
                logger.error("counting the rates of %s in this process: %s", who, refused)
            except CountersUnavailable as error:
                self._open(error)
        if self._rates == "local":
            verdict = await self._local.admit(
                who, checks, slots=slots, lease=lease, now=now, team=team
            )
            if verdict.admitted and slots:
                self._leases.add((who, lease))
            if verdict.admitted and team is not None and team.slots:
                self._leases.add((team.who, lease))
            return verdict
        levels = self._untouched(checks, now)
        if team is not None:
            levels = tightest(levels, self._untouched(team.checks, now))
        return Verdict(True, levels)

    def release(self, who: str, lease: str) -> None:
        if (who, lease) in self._leases:
            self._leases.discard((who, lease))
            self._local.release(who, lease)
        else:
            self._primary.release(who, lease)

    def charge(self, who: str, check: Check, now: float | None = None) -> None:
        if not self._outage.on:
            self._primary.charge(who, check, now)
        elif self._rates == "local":
            self._local.charge(who, check, now)

    async def levels(
        self, who: str, checks: Sequence[Check], *, now: float | None = None
    ) -> tuple[tuple[Level, ...], int]:
        if not self._outage.on:
            try:
                return await self._primary.levels(who, checks, now=now)
            except CountersRefused as refused:
                logger.error("counting the rates of %s in this process: %s", who, refused)
            except CountersUnavailable as error:
                self._open(error)
        if self._rates == "local":
            return await self._local.levels(who, checks, now=now)
        return self._untouched(checks, now), 0

    def _untouched(self, checks: Sequence[Check], now: float | None) -> tuple[Level, ...]:
        """Levels without counting. Raises CountersUnavailable if the policy is "refuse"."""
        if self._rates == "refuse":
            raise CountersUnavailable("the shared counters do not answer")
        moment = self._clock() if now is None else now
        return tuple(
            Level(check.name, check.rate.count, check.rate.count, moment) for check in checks
        )

    # Money

    def _stand_in(self) -> MemoryCounters:
        """The local counters. Raises CountersUnavailable if the policy is "refuse"."""
        if self._budgets == "refuse":
            raise CountersUnavailable("the shared counters do not answer")
        return self._local

    async def reserve(
        self,
        account: str,
        hold: str,
        amount: int,
        least: int,
        budget: Budget,
        now: float,
        team: TeamAccount | None = None,
    ) -> Hold | InsufficientFunds | Unknown:
        asked = (account, hold, amount, least, budget, now, team)
        try:
            if self._outage.on:
                answer = await self._stand_in().reserve(*asked)
            else:
                answer = await self._primary.reserve(*asked)
                self._adopt(answer)
        except CountersRefused:
            raise
        except CountersUnavailable as error:
            if self._outage.on and self._budgets == "refuse":
                raise
            self._open(error)
            answer = await self._stand_in().reserve(*asked)
        if isinstance(answer, Hold) and answer.amount:
            for part in answer.parts():
                self._holds[part.account, part.id] = part
        return answer

    def _adopt(self, answer: Hold | InsufficientFunds | Unknown) -> None:
        """A hold of the primary's that comes when the breaker has opened in the meantime."""
        if self._outage.on and self._budgets == "local" and isinstance(answer, Hold):
            for part in answer.parts():
                self._local.resize(_copy(part), part.amount)

    def resize(self, hold: Hold, amount: int) -> None:
        if self._outage.on:
            hold.amount, hold.tight = max(0, amount), False
            if self._budgets == "local":
                self._local.resize(_copy(hold), amount)
        else:
            self._primary.resize(hold, amount)
        key = hold.account, hold.id
        if amount > 0 or key in self._holds:
            self._holds[key] = hold

    def drop(self, hold: Hold) -> None:
        self._holds.pop((hold.account, hold.id), None)
        self._local.drop(_copy(hold))
        self._primary.drop(hold)

    async def convert(self, holds: Sequence[Hold]) -> list[Hold]:
        """Does not fail while the primary is away: afterwards it drops these holds and restores
        their accounts."""
        if not self._outage.on:
            try:
                missing = await self._primary.convert(holds)
            except CountersRefused:
                raise
            except CountersUnavailable as error:
                self._open(error)
            else:
                for hold in holds:
                    self._holds.pop((hold.account, hold.id), None)
                return missing
        missing = await self._local.convert(holds) if self._budgets == "local" else []
        for hold in holds:
            self._holds.pop((hold.account, hold.id), None)
            self._primary.drop(_copy(hold))
            self._stale.add(hold.account)
        return missing

    async def status(self, account: str, budget: Budget, now: float) -> AccountStatus | None:
        if not self._outage.on:
            try:
                return await self._primary.status(account, budget, now)
            except CountersRefused:
                raise
            except CountersUnavailable as error:
                self._open(error)
        return await self._stand_in().status(account, budget, now)

    async def restore(self, account: str, spent: Spent, settled: Sequence[str], seen: int) -> bool:
        if not self._outage.on:
            try:
                return await self._primary.restore(account, spent, settled, seen)
            except CountersRefused:
                raise
            except CountersUnavailable as error:
                self._open(error)
        return await self._stand_in().restore(account, spent, settled, seen)

    async def version(self, account: str) -> tuple[int, tuple[str, ...]]:
        if not self._outage.on:
            try:
                return await self._primary.version(account)
            except CountersRefused:
                raise
            except CountersUnavailable as error:
                self._open(error)
        return await self._stand_in().version(account)

    async def invalidate(self, account: str) -> None:
        """Does not fail while the primary is away: it is sent afterwards."""
        if not self._outage.on:
            try:
                return await self._primary.invalidate(account)
            except CountersRefused:
                raise
            except CountersUnavailable as error:
                self._open(error)
        self._stale.add(account)
        if self._budgets == "local":
            await self._local.invalidate(account)


def _copy(hold: Hold) -> Hold:
    """Each of the counters changes what it is given."""
    return msgspec.structs.replace(hold)
