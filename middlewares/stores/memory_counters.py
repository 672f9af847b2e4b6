"""Counters in this process's memory: for one process, and while the shared ones are away."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from math import inf
from time import time

import msgspec

from middlewares.terms import Budget

from .balance import Balance
from .counters import LIFETIME, RENEWAL, Hold, Short, Spent, Standing
from .memory_rates import MemoryRates


class _Account(Balance):
    """Money of one principal.

    known: whether it is restored. settled: holds that a restoration has settled, and since when.
    """

    __slots__ = ("holds", "known", "settled", "version")

    def __init__(self) -> None:
        super().__init__()
        self.known = False
        self.version = 0
        self.holds: dict[str, Hold] = {}
        self.settled: dict[str, float] = {}

    def add(self, hold: Hold) -> None:
        self.holds[hold.id] = msgspec.structs.replace(hold)
        self.held[hold.source] += hold.amount
        if hold.tight:
            self.tight = hold.id

    def remove(self, hold_id: str) -> bool:
        hold = self.holds.pop(hold_id, None)
        if hold is None:
            return False
        self.held[hold.source] -= hold.amount
        if self.tight == hold_id:
            self.tight = ""
        return True


class MemoryCounters(MemoryRates):
    """`Counters` that forget when the process ends and are seen by no other process.

    clock: Unix seconds, where a caller tells none. most: accounts kept; beyond it those that were
    used least recently and have no open holds are forgotten, and restored at their next use.
    """

    __slots__ = ("_accounts", "_most", "_renewing", "_versions")

    def __init__(self, *, clock: Callable[[], float] = time, most: int = 100_000) -> None:
        super().__init__(clock)
        self._most = most
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._renewing: asyncio.Task[None] | None = None
        self._versions = count(1)

    async def start(self) -> None:
        if self._renewing is None:
            self.renew()
            self._renewing = asyncio.create_task(self._renew())

    async def aclose(self) -> None:
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
            with suppress(asyncio.CancelledError):
                await renewing

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEWAL)
            self.renew()

    async def reserve(
        self, account: str, hold: str, amount: int, least: int, budget: Budget, now: float
    ) -> Hold | Short | None:
        if amount <= 0:
            return Hold(account, hold, 0, "windows", now)
        kept = self._accounts.get(account)
        if kept is None:
            return None
        self._accounts.move_to_end(account)
        self._expire(kept, now)
        if not kept.known:
            return None
        same = kept.holds.get(hold)
        if same is not None:
            return msgspec.structs.replace(same)
        answer = self._decide(kept, Hold(account, hold, amount, "windows", now), least, budget)
        if isinstance(answer, Hold):
            for name, start in answer.starts.items():
                window = kept.windows.get(name)
                if window is None or window[0] < start:
                    kept.windows[name] = (start, 0)
            kept.add(answer)
        return answer

    def _decide(self, kept: _Account, hold: Hold, least: int, budget: Budget) -> Hold | Short:
        amount, now = hold.amount, hold.at
        left: float = -inf if budget.credits and not budget.windows else inf
        starts = {}
        for window in budget.windows:
            start, spent = kept.current(window, now)
            starts[window.name] = now if start is None else start
            left = min(left, window.cap - spent - kept.held["windows"])
        prepaid = kept.credits - kept.held["credits"] if budget.credits else -inf
        needed = kept.needed(amount, least)
        if left >= amount or (prepaid < amount and left >= needed):
            hold.starts = starts
        elif prepaid >= needed:
            hold.source = "credits"
            left = prepaid
        else:
            return kept.short(amount, least, budget, now)
        if left < amount:
            hold.amount, hold.tight = int(left), True
        return hold

    def resize(self, hold: Hold, amount: int) -> None:
        hold.amount = amount = max(0, amount)
        kept = self._accounts.get(hold.account)
        if kept is None:
            kept = self._new_account(hold.account)
        held = kept.holds.get(hold.id)
        if held is None:
            if amount:
                kept.version = next(self._versions)
                kept.add(msgspec.structs.replace(hold, at=self._clock(), tight=False))
            return
        kept.held[held.source] += amount - held.amount
        held.amount = amount
        if held.tight:
            held.tight = False
            kept.tight = ""

    def drop(self, hold: Hold) -> None:
        hold.amount = 0
        kept = self._accounts.get(hold.account)
        if kept is not None:
            kept.remove(hold.id)

    async def convert(self, holds: Sequence[Hold]) -> list[Hold]:
        missing = []
        for hold in holds:
            kept = self._accounts.get(hold.account)
            if kept is None:
                kept = self._new_account(hold.account)
            if kept.settled and kept.settled.pop(hold.id, None) is not None:
                continue
            kept.version = next(self._versions)
            if not kept.remove(hold.id):
                if hold.amount:
                    missing.append(hold)
            elif hold.source == "credits":
                kept.credits -= hold.amount
            else:
                for name, start in hold.starts.items():
                    window = kept.windows.get(name)
                    # Not begun here: restored while the hold had lapsed, and no row named it.
                    if window is None or window[0] < start:
                        kept.windows[name] = (start, hold.amount)
                    elif window[0] == start:
                        kept.windows[name] = (start, window[1] + hold.amount)
        return missing

    async def standing(self, account: str, budget: Budget, now: float) -> Standing | None:
        kept = self._accounts.get(account)
        if kept is None:
            return None
        self._expire(kept, now)
        if not kept.known:
            return None
        return kept.standing(budget, now, kept.holds)

    async def restore(self, account: str, spent: Spent, settled: Sequence[str], seen: int) -> bool:
        kept = self._accounts.get(account)
        if kept is None:
            if seen:
                return False
            kept = self._new_account(account)
        elif kept.version != seen:
            return False
        windows = {name: (start, spent.spent.get(name, 0)) for name, start in spent.starts.items()}
        # Periods of open holds may be newer than those of any row; they stay begun.
        for hold in kept.holds.values():
            for name, start in hold.starts.items():
                if name not in windows or windows[name][0] < start:
                    windows[name] = (start, 0)
        for hold_id in settled:
            if kept.remove(hold_id):
                kept.settled[hold_id] = self._clock()
        kept.windows = windows
        kept.credits = spent.credits
        kept.known = True
        kept.version = next(self._versions)
        return True

    async def version(self, account: str) -> tuple[int, tuple[str, ...]]:
        kept = self._accounts.get(account)
        if kept is None:
            kept = self._new_account(account)
        if not kept.version:
            kept.version = next(self._versions)
        return kept.version, tuple(kept.holds)

    async def invalidate(self, account: str) -> None:
        kept = self._accounts.get(account)
        if kept is not None:
            kept.known = False
            kept.version = next(self._versions)

    def forget_accounts(self) -> None:
        """As if no account had ever been used, and no hold been taken."""
        self._accounts.clear()

    def _new_account(self, account: str) -> _Account:
        accounts = self._accounts
        for _ in range(2 if len(accounts) >= self._most else 0):
            name, old = accounts.popitem(last=False)
            if old.holds:
                accounts[name] = old
        kept = accounts[account] = _Account()
        return kept

    def _expire(self, kept: _Account, now: float) -> None:
        """End holds whose time is over. Only the ledger knows what became of their requests."""
        while kept.holds:
            oldest = next(iter(kept.holds.values()))
            if max(oldest.at, self._renewed) + LIFETIME > now:
                break
            kept.remove(oldest.id)
            kept.known = False
            kept.version = next(self._versions)
        while kept.settled:
            hold_id, at = next(iter(kept.settled.items()))
            if max(at, self._renewed) + LIFETIME > now:
                break
            del kept.settled[hold_id]
