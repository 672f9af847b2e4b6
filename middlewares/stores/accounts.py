"""Accounts: counters and ledger together. Reserve, settle, and restore lost balances.

Theory of operation. A hold is money that a request has set aside. Once the request's row is in the
ledger, its hold is converted: the counters remove it and add the cost to what is spent. Counters
return None for an account that they do not know or that is stale. Then the ledger is read, and
`restore` sets its sums, unless a hold was converted in between: each conversion changes the
version. Requests that wait for the same account share one query.

A key and its team have an account each. `reserve` decides over both; then each has its own hold,
which is resized, dropped, converted and restored by itself. A level without a limit holds nothing.

A hold stays known here until its row is in the ledger (`committed`). A row without a hold here is
of a process that died, or of another outage; a hold that the counters did not find had expired. In
both cases only the ledger is right about the account, so it is marked stale.

Credits are granted by other processes: the command line, the management API elsewhere. A task asks
the ledger for new grants each second.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import time

from msgspec.structs import replace

from middlewares.limits import Budget
from middlewares.shared import Shared
from middlewares.single_flight import FlightRefused, SingleFlight
from middlewares.stores.counters.base import (
    AccountCounters,
    AccountStatus,
    Hold,
    InsufficientFunds,
    TeamAccount,
    Unknown,
)
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.ledger.base import MAX_COST, Entry, LedgerStore

from .errors import CountersUnavailable
from .outage import Outage

_log = logging.getLogger(__name__)

_ATTEMPTS = 5
"""Attempts to restore an account; others mark it stale again faster than that. A request that needs
two accounts has as many for each."""
_BATCH = 256


async def _nothing() -> None:
    return


class Accounts(Shared):
    """Balances of principals: what they have spent and hold.

    period: seconds between two questions for new grants of credit.
    recover: writes the rows of dead processes to the ledger; called before an account is restored.
        Raises StoreUnavailable when they cannot be written.

    Call `start` before the first request, if other processes may grant credit, and `aclose` after
    the last.
    """

    def __init__(
        self,
        counters: AccountCounters,
        ledger: LedgerStore,
        *,
        period: float = 1.0,
        recover: Callable[[], Awaitable[None]] = _nothing,
        clock: Callable[[], float] = time,
    ) -> None:
        if period <= 0:
            raise ValueError(f"period {period}: expected more than 0")
        self._counters = counters
        self._in_process: MemoryCounters | None = None
        if isinstance(counters, MemoryCounters) and counters.in_process:
            self._in_process = counters
        self._ledger = ledger
        self._period = period
        self._recover = recover
        self._clock = clock
        self._holds: dict[str, Hold] = {}
        self._restoring: SingleFlight[str, None] = SingleFlight()
        self._revision = 0
        self._outage = Outage(
            _log,
            "cannot read new credit grants",
            "credit grants are read again",
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def holds(self) -> int:
        """Holds of this process that are not in the ledger yet."""
        return len(self._holds)

    # Requests

    async def reserve(
        self,
        account: str,
        hold_id: str,
        amount: int,
        least: int,
        budget: Budget,
        team: TeamAccount | None = None,
    ) -> Hold | InsufficientFunds:
        """Reserve nano-credits for a request; see `AccountCounters.reserve`.

        team: the account of the key's team, where that is limited; then `Hold.team` is what is held
        there. Raises CountersUnavailable, StoreUnavailable; then nothing is held.
        """
        amount = min(amount, MAX_COST)
        if team is not None and not budget.limited:
            answer = await self._reserve(team.account, hold_id, amount, least, team.budget, None)
            if isinstance(answer, InsufficientFunds):
                return replace(answer, whose="team")
            answer = _beside(account, answer)
        else:
            answer = await self._reserve(account, hold_id, amount, least, budget, team)
        if isinstance(answer, Hold):
            self._holds[hold_id] = answer
        return answer

    async def _reserve(
        self,
        account: str,
        hold_id: str,
        amount: int,
        least: int,
        budget: Budget,
        team: TeamAccount | None,
    ) -> Hold | InsufficientFunds:
        accounts = (account,) if team is None else (account, team.account)
        unknown = account
        try:
            for _ in range(_ATTEMPTS * len(accounts)):
                now = self._clock()
                answer = await self._counters.reserve(
                    account, hold_id, amount, least, budget, now, team
                )
                if not isinstance(answer, Unknown):
                    return answer
                unknown = answer.account
                await self._restore(unknown)
        except BaseException:
            # The counters may have made the hold although no answer came.
            for each in accounts:
                self._counters.drop(Hold(each, hold_id, amount, "windows", now))
            raise
        raise _unsettled(unknown)

    def reserve_now(
        self,
        account: str,
        hold_id: str,
        amount: int,
        budget: Budget,
        team: TeamAccount | None = None,
    ) -> Hold | None:
        """Reserve without waiting, if the counters are in this process and clearly have enough.

        None, and nothing done: call `reserve`.
        """
        counters = self._in_process
        if counters is None:
            return None
        now = self._clock()
        if team is None:
            hold = counters.set_aside(account, hold_id, amount, budget, now)
        elif budget.limited:
            hold = counters.set_aside_in_both(account, hold_id, amount, budget, now, team)
        else:
            hold = counters.set_aside(team.account, hold_id, amount, team.budget, now)
            hold = None if hold is None else _beside(account, hold)
        if hold is not None:
            self._holds[hold_id] = hold
        return hold

    def resize(self, hold: Hold, amount: int) -> None:
        """Set the cost of a finished request, nano-credits; its row is with the ledger writer."""
        amount = min(amount, MAX_COST)
        if hold.team is None:
            self._counters.resize(hold, amount)
        else:
            for part in hold.parts():
                self._counters.resize(part, amount)
                part.amount = amount
        hold.amount = amount

    def drop(self, hold: Hold) -> None:
        """Release the hold of a request that cost nothing."""
        self._holds.pop(hold.id, None)
        if hold.team is None:
            self._counters.drop(hold)
        else:
            for part in hold.parts():
                self._counters.drop(part)

    async def status(self, account: str, budget: Budget) -> AccountStatus:
        """Status of an account. Raises CountersUnavailable, StoreUnavailable."""
        for _ in range(_ATTEMPTS):
            answer = await self._counters.status(account, budget, self._clock())
            if answer is not None:
                return answer
            await self._restore(account)
        raise _unsettled(account)

    # The ledger

    async def committed(self, entries: Sequence[Entry]) -> None:
        """Convert the holds of rows that are in the ledger now. For `LedgerWriter`.

        Raises CountersUnavailable; then it must be called again with all of them.
        """
        known = self._holds
        holds: list[Hold] = []
        teams: list[Hold] = []
        stale: dict[str, None] = {}
        for entry in entries:
            hold = known.get(entry.id)
            if hold is not None:
                if hold.team is None:
                    holds.append(hold)
                else:
                    # Counters convert those of one account in a row at once.
                    for part in hold.parts():
                        (teams if part is hold.team else holds).append(part)
            else:
                stale |= dict.fromkeys(charged(entry))
        if holds or teams:
            lost = await self._counters.convert([*holds, *teams])
            for hold in lost:
                stale[hold.account] = None
            # Before the holds are dropped: a repeated call would not find them.
            await self._invalidate(stale)
            for hold in (*holds, *teams):
                known.pop(hold.id, None)
        else:
            await self._invalidate(stale)

    async def changed(self, entry: Entry) -> None:
        """Have the accounts of `entry` restored: the ledger says something else of it now.

        Raises CountersUnavailable; then it must be called again.
        """
        await self._invalidate(dict.fromkeys(charged(entry)))

    async def _invalidate(self, accounts: dict[str, None]) -> None:
        """Mark accounts stale, in batches: shared counters take many in one round trip."""
        some = [*accounts]
        while some:
            await asyncio.gather(*map(self._counters.invalidate, some[:_BATCH]))
            del some[:_BATCH]

    async def _restore(self, account: str) -> None:
        """Raises CountersUnavailable, StoreUnavailable."""
        try:
            await self._restoring.do(account, lambda: self._restore_once(account))
        except FlightRefused as refused:
            raise CountersUnavailable(str(refused)) from None

    async def _restore_once(self, account: str) -> None:
        for _ in range(_ATTEMPTS):
            seen, ids = await self._counters.version(account)
            await self._recover()
            spent, settled = await self._ledger.spent(account, self._clock(), ids)
            if await self._counters.restore(account, spent, settled, seen):
                return
        raise _unsettled(account)

    # Grants of credit

    async def start(self) -> None:
        """Start asking for new grants of credit. Does not fail while the ledger is away."""
        if self._task is not None:
            raise RuntimeError("Accounts.start was called twice")
        await self._log_outage(self.refresh())
        self._task = asyncio.create_task(self._refresh_forever(), name="credit-grants")

    async def aclose(self) -> None:
        """Stop. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._restoring.aclose()

    async def refresh(self) -> None:
        """Mark accounts stale that were granted credit since the last call.

        Raises CountersUnavailable, StoreUnavailable.
        """
        revision, accounts = await self._ledger.grants(self._revision)
        await self._invalidate(dict.fromkeys(accounts))
        self._revision = revision

    async def _refresh_forever(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            await self._log_outage(self.refresh())

    async def _log_outage(self, refresh: Awaitable[None]) -> None:
        try:
            await refresh
        except Exception as raised:  # also unexpected rows and driver errors
            self._outage.failed(raised)
        else:
            self._outage.worked()


def charged(entry: Entry) -> list[str]:
    """The accounts whose windows or credits a row changes, its cost or its grant."""
    accounts = []
    if entry.granted or (entry.cost and (entry.starts or entry.from_credits)):
        accounts.append(entry.account)
    if entry.cost and (entry.team_starts or entry.from_team_credits):
        accounts.append(entry.team)
    return accounts


def _beside(account: str, team: Hold) -> Hold:
    """The hold of a key without limits, beside that of its team."""
    return Hold(account, team.id, team.amount, "other", team.at, team=team)


def _unsettled(account: str) -> CountersUnavailable:
    return CountersUnavailable(f"account {account!r} changes faster than it can be restored")
