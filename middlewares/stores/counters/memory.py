"""Counters in this process's memory: for one process, and while the shared ones are away."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from math import inf
from time import time

import msgspec

from middlewares.limits import Budget

from .balance import Balance, short_of_both
from .base import (
    AHEAD,
    LIFETIME,
    RENEWAL,
    AccountStatus,
    Hold,
    InsufficientFunds,
    Spent,
    TeamAccount,
    Unknown,
)
from .decision import Share, decide
from .memory_rates import MemoryRates


class _Account(Balance):
    """Money of one principal.

    known: whether it is restored. settled: holds that a restoration has settled, and since when.
    next_end: Unix seconds before which none of either ends.

    budget: the one that was measured last; None once it has to be measured again. left: what its
    windows have left, but for what is held. starts: of their periods, and begun: whether
    all have begun. since, until: when that is so. simple: until when only `left` has to be checked.
    """

    __slots__ = (
        "begun",
        "budget",
        "holds",
        "known",
        "left",
        "next_end",
        "settled",
        "simple",
        "since",
        "starts",
        "until",
        "version",
    )

    def __init__(self) -> None:
        super().__init__()
        self.known = False
        self.version = 0
        self.holds: dict[str, Hold] = {}
        self.settled: dict[str, float] = {}
        self.next_end = -inf
        self.budget: Budget | None = None
        self.left: float = 0
        self.starts: dict[str, float] = {}
        self.begun = False
        self.since = self.until = 0.0
        self.simple = -inf

    def measure(self, budget: Budget, now: float) -> None:
        """Check the windows of `budget`: those that are over start again."""
        left: float = -inf if budget.credits and not budget.windows else inf
        until = inf
        starts = {}
        for window in budget.windows:
            start, spent = self.current(window, now)
            if start is None:
                start = now
            starts[window.name] = start
            left = min(left, window.cap - spent)
            begins = window.boundary(now)
            until = min(until, window.end(start if begins is None else begins))
        self.budget, self.left, self.starts = budget, left, starts
        self.begun = False
        self.simple = -inf
        self.since, self.until = now, until

    def spend(self, starts: dict[str, float], amount: int) -> None:
        """Of the windows, in their periods of `starts`."""
        for name, start in starts.items():
            window = self.windows.get(name)
            # Not begun here: restored while the hold had lapsed, and no row named it.
            if window is None or window[0] < start:
                self.windows[name] = (start, amount)
            elif window[0] == start:
                self.windows[name] = (start, window[1] + amount)
        self.budget = None

    def begin(self) -> None:
        """The periods of `starts` have begun."""
        for name, start in self.starts.items():
            window = self.windows.get(name)
            if window is None or window[0] < start:
                self.windows[name] = (start, 0)
        self.begun = True

    def take(self, account: str, hold_id: str, amount: int, share: Share, now: float) -> Hold:
        """Set a share in `amount` aside; the windows were measured."""
        source = share.source
        starts = self.starts if source == "windows" else {}
        asked = Hold(account, hold_id, share.amount, source, now, starts, share.amount < amount)
        if source == "windows":
            if not self.begun:
                self.begin()
            self.simple = min(self.until, self.next_end)
        else:
            self.budget = None  # its windows have yet to begin
        if source != "other":
            self.add(msgspec.structs.replace(asked))  # who asked may change what it is given
        return asked

    def add(self, hold: Hold) -> None:
        self.holds[hold.id] = hold
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


def _reserve_in_both(
    account: str,
    mine: _Account,
    budget: Budget,
    team: TeamAccount,
    theirs: _Account,
    hold: str,
    amount: int,
    least: int,
    now: float,
) -> Hold | InsufficientFunds:
    same, same_of_team = mine.holds.get(hold), theirs.holds.get(hold)
    if same is not None and same_of_team is not None:
        return msgspec.structs.replace(same, team=msgspec.structs.replace(same_of_team))
    mine.remove(hold)  # of an earlier call, after which the other account was lost
    theirs.remove(hold)
    shares = decide(
        amount,
        mine.room(amount, least, budget, now),
        theirs.room(amount, least, team.budget, now),
    )
    if shares is None:
        mine.budget = theirs.budget = None
        return short_of_both(amount, least, mine, budget, theirs, team.budget, now)
    answer = mine.take(account, hold, amount, shares[0], now)
    answer.team = theirs.take(team.account, hold, amount, shares[1], now)
    return answer


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

    def set_back(self, now: float) -> None:
        super().set_back(now)
        for kept in self._accounts.values():
            kept.next_end = -inf
            kept.budget = None
            for held in kept.holds.values():
                held.at = min(held.at, now)
            for hold_id, at in kept.settled.items():
                kept.settled[hold_id] = min(at, now)

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
        if amount <= 0:
            return Hold(account, hold, 0, "windows", now)
        mine = self._measured(account, budget, now)
        if mine is None:
            return Unknown(account)
        if team is not None:
            theirs = self._measured(team.account, team.budget, now)
            if theirs is None:
                return Unknown(team.account)
            return _reserve_in_both(account, mine, budget, team, theirs, hold, amount, least, now)
        same = mine.holds.get(hold)
        if same is not None:
            return msgspec.structs.replace(same)
        shares = decide(amount, mine.room(amount, least, budget, now))
        if shares is None:
            mine.budget = None
            return mine.short(amount, least, budget, now)
        return mine.take(account, hold, amount, shares[0], now)

    def _measured(self, account: str, budget: Budget, now: float) -> _Account | None:
        """The account with the windows of `now`; None where it must be restored first."""
        kept = self._accounts.get(account)
        if kept is None:
            return None
        self._accounts.move_to_end(account)
        if now >= kept.next_end:
            self._expire(kept, now)
        if not kept.known:
            return None
        if kept.budget is not budget or not kept.since <= now < kept.until:
            if kept.ahead(budget, now):
                self._make_stale(kept)
                return None
            kept.measure(budget, now)
        return kept

    def set_aside(
        self, account: str, hold: str, amount: int, budget: Budget, now: float
    ) -> Hold | None:
        """`reserve` without waiting, for counters of one process, where the windows have
        room for all of it, as mostly they have; None, and nothing done, where they may not.

        The hold is kept as it is: only `resize` and `drop` may change it.
        """
        kept = self._accounts.get(account)
        if (
            kept is None
            or kept.budget is not budget
            or not kept.since <= now < kept.simple
            or not 0 < amount <= kept.left - kept.held["windows"]
            or hold in kept.holds
        ):
            return None
        self._accounts.move_to_end(account)
        kept.held["windows"] += amount
        answer = kept.holds[hold] = Hold(account, hold, amount, "windows", now, kept.starts)
        return answer

    def set_aside_in_both(
        self, account: str, hold: str, amount: int, budget: Budget, now: float, team: TeamAccount
    ) -> Hold | None:
        """`set_aside` in the account of a key and in that of its team, or in neither."""
        mine = self.set_aside(account, hold, amount, budget, now)
        if mine is None:
            return None
        theirs = self.set_aside(team.account, hold, amount, team.budget, now)
        if theirs is None:
            self._accounts[account].remove(hold)
            return None
        mine.team = theirs
        return mine

    def resize(self, hold: Hold, amount: int) -> None:
        amount = max(0, amount)
        kept = self._accounts.get(hold.account)
        if kept is None:
            kept = self._new_account(hold.account)
        held = kept.holds.get(hold.id)
        if held is None:
            hold.amount = amount
            if amount:
                kept.version = next(self._versions)
                kept.add(msgspec.structs.replace(hold, at=self._clock(), tight=False))
            return
        kept.held[held.source] += amount - held.amount
        held.amount = hold.amount = amount  # it may be the same one
        if held.tight:
            held.tight = False
            kept.tight = ""

    def drop(self, hold: Hold) -> None:
        kept = self._accounts.get(hold.account)
        if kept is not None:
            kept.remove(hold.id)
        hold.amount = 0

    async def convert(self, holds: Sequence[Hold]) -> list[Hold]:
        missing = []
        account = ""
        kept: _Account | None = None
        changed = False
        starts: dict[str, float] = {}
        spent = 0
        for hold in holds:
            if kept is None or hold.account != account:
                if kept is not None and starts:
                    kept.spend(starts, spent)
                account, changed, starts, spent = hold.account, False, {}, 0
                kept = self._accounts.get(account)
                if kept is None:
                    kept = self._new_account(account)
            if kept.settled and kept.settled.pop(hold.id, None) is not None:
                continue
            if not changed:
                kept.version = next(self._versions)
                changed = True
            if not kept.remove(hold.id):
                if hold.amount:
                    missing.append(hold)
            elif hold.source == "credits":
                kept.credits -= hold.amount
            else:
                if hold.starts is not starts:
                    if starts:
                        kept.spend(starts, spent)
                    starts, spent = hold.starts, 0
                spent += hold.amount
        if kept is not None and starts:
            kept.spend(starts, spent)
        return missing

    async def status(self, account: str, budget: Budget, now: float) -> AccountStatus | None:
        kept = self._accounts.get(account)
        if kept is None:
            return None
        self._expire(kept, now)
        if not kept.known:
            return None
        if kept.ahead(budget, now):
            self._make_stale(kept)
            return None
        return kept.status(budget, now, kept.holds)

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
        latest = self._clock() + AHEAD
        for hold in kept.holds.values():
            for name, start in hold.starts.items():
                if start <= latest and (name not in windows or windows[name][0] < start):
                    windows[name] = (start, 0)
        for hold_id in settled:
            if kept.remove(hold_id):
                kept.settled[hold_id] = self._clock()
        kept.windows = windows
        kept.budget = None
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
            self._make_stale(kept)

    def _make_stale(self, kept: _Account) -> None:
        kept.known = False
        kept.budget = None
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
        kept.next_end = now + LIFETIME  # for what is held from now on
        while kept.holds:
            oldest = next(iter(kept.holds.values()))
            ends = max(oldest.at, self._renewed) + LIFETIME
            if ends > now:
                kept.next_end = min(kept.next_end, ends)
                break
            kept.remove(oldest.id)
            self._make_stale(kept)
        while kept.settled:
            hold_id, at = next(iter(kept.settled.items()))
            ends = max(at, self._renewed) + LIFETIME
            if ends > now:
                kept.next_end = min(kept.next_end, ends)
                break
            del kept.settled[hold_id]
