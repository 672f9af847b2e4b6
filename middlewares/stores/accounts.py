"""Counters and ledger as one: money set aside, settled, and made anew where it was lost.

Theory of operation. Counters answer None for an account that they do not know, or that was marked
stale. Then the ledger is asked, and `restore` sets what it says, unless something was converted in
between: a number that grows with each conversion tells. Any number of requests that wait for the
same account ask the ledger once.

A hold stays known here until its row is in the ledger (`committed`). A row without one here is of
a process that died, or of another outage; a hold that the counters did not find had ended by
itself. Either way only the ledger is right about the account now, so it is marked stale.

Credits are granted by other processes: the command line, the admin interface elsewhere. A task
asks the ledger each second whose they are.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import time

from middlewares.limits import Budget
from middlewares.shared import Shared
from middlewares.single_flight import FlightRefused, SingleFlight
from middlewares.stores.counters.base import AccountCounters, AccountStatus, Hold, InsufficientFunds
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.ledger.base import MAX_COST, Entry, LedgerStore

from .errors import CountersUnavailable
from .outage import Outage

_log = logging.getLogger(__name__)

_TRIES = 5
"""An account that is marked stale faster than it can be made anew is not worth more of them."""
_TOGETHER = 256


async def _nothing() -> None:
    return


class Accounts(Shared):
    """What principals have spent and hold.

    period: seconds between two questions for new grants of credit.
    recover: brings rows that dead processes have left to the ledger; asked before an account is
        made anew from it. Raises StoreUnavailable when they are not there.

    `start` before the first request, where others may grant credit; `aclose` after the last.
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
        self._set_aside = None
        if isinstance(counters, MemoryCounters) and (
            type(counters).reserve is MemoryCounters.reserve
        ):
            self._set_aside = counters.set_aside
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
        """How many holds of this process are not in the ledger yet."""
        return len(self._holds)

    # Requests

    async def reserve(
        self, account: str, hold_id: str, amount: int, least: int, budget: Budget
    ) -> Hold | InsufficientFunds:
        """Set nano-credits aside for a request; see `AccountCounters.reserve`.

        Raises CountersUnavailable, StoreUnavailable; then nothing is held.
        """
        amount = min(amount, MAX_COST)
        try:
            for _ in range(_TRIES):
                now = self._clock()
                answer = await self._counters.reserve(account, hold_id, amount, least, budget, now)
                if answer is not None:
                    if type(answer) is Hold:
                        self._holds[hold_id] = answer
                    return answer
                await self._restore(account)
        except BaseException:
            # Whether it was carried out nobody knows: the answer did not come, or we left first.
            self._counters.drop(Hold(account, hold_id, amount, "windows", now))
            raise
        raise _restless(account)

    def reserve_now(self, account: str, hold_id: str, amount: int, budget: Budget) -> Hold | None:
        """The same at once, where the counters are in this process and it is plain that there is
        enough; None, and nothing done: `reserve` has to be asked."""
        if self._set_aside is None:
            return None
        hold = self._set_aside(account, hold_id, amount, budget, self._clock())
        if hold is not None:
            self._holds[hold_id] = hold
        return hold

    def resize(self, hold: Hold, amount: int) -> None:
        """The request has ended and costs `amount` nano-credits; its row is with the book."""
        amount = min(amount, MAX_COST)
        self._counters.resize(hold, amount)
        hold.amount = amount

    def drop(self, hold: Hold) -> None:
        """The request has cost nothing."""
        self._holds.pop(hold.id, None)
        self._counters.drop(hold)

    async def standing(self, account: str, budget: Budget) -> AccountStatus:
        """Where an account stands. Raises CountersUnavailable, StoreUnavailable."""
        for _ in range(_TRIES):
            answer = await self._counters.standing(account, budget, self._clock())
            if answer is not None:
                return answer
            await self._restore(account)
        raise _restless(account)

    # The ledger

    async def committed(self, entries: Sequence[Entry]) -> None:
        """These rows are in the ledger now. For `LedgerWriter`.

        Raises CountersUnavailable: then all of it may be told again, and has to be.
        """
        known = self._holds
        holds: list[Hold] = []
        stale: dict[str, None] = {}
        for entry in entries:
            hold = known.get(entry.id)
            if hold is not None:
                holds.append(hold)
            elif entry.granted or (entry.cost and (entry.starts or entry.from_credits)):
                stale[entry.account] = None
        if holds:
            lost = await self._counters.convert(holds)
            for hold in lost:
                stale[hold.account] = None
            # Marked before they are forgotten: told again, they would not be found, and marked.
            await self._invalidate(stale)
            for hold in holds:
                known.pop(hold.id, None)
        else:
            await self._invalidate(stale)

    async def _invalidate(self, accounts: dict[str, None]) -> None:
        """Some at a time: counters elsewhere answer many in one round trip."""
        some = [*accounts]
        while some:
            await asyncio.gather(*map(self._counters.invalidate, some[:_TOGETHER]))
            del some[:_TOGETHER]

    async def _restore(self, account: str) -> None:
        """Raises CountersUnavailable, StoreUnavailable."""
        try:
            await self._restoring.do(account, lambda: self._restore_once(account))
        except FlightRefused as refused:
            raise CountersUnavailable(str(refused)) from None

    async def _restore_once(self, account: str) -> None:
        for _ in range(_TRIES):
            seen, ids = await self._counters.version(account)
            await self._recover()
            spent, settled = await self._ledger.spent(account, self._clock(), ids)
            if await self._counters.restore(account, spent, settled, seen):
                return
        raise _restless(account)

    # Grants of credit

    async def start(self) -> None:
        """Ask for grants of credit from now on. Does not fail when nobody answers."""
        if self._task is not None:
            raise RuntimeError("Accounts.start was called twice")
        await self._told(self.refresh())
        self._task = asyncio.create_task(self._keep_asking(), name="credit-grants")

    async def aclose(self) -> None:
        """Stop asking. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._restoring.aclose()

    async def refresh(self) -> None:
        """Mark the accounts stale that were granted credit since the last time.

        Raises CountersUnavailable, StoreUnavailable.
        """
        revision, accounts = await self._ledger.grants(self._revision)
        await self._invalidate(dict.fromkeys(accounts))
        self._revision = revision

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            await self._told(self.refresh())

    async def _told(self, refresh: Awaitable[None]) -> None:
        try:
            await refresh
        except Exception as raised:  # also a row or a driver we did not foresee
            self._outage.failed(raised)
        else:
            self._outage.worked()


def _restless(account: str) -> CountersUnavailable:
    return CountersUnavailable(f"account {account!r} changes faster than it can be restored")
