"""Finds the budgets of which a share is used, and adds the alerts about them to the store.

Nothing here is on the way of a request: rows that are in the ledger name their accounts, and these
are checked a few seconds later, all together. What a process that died had yet to check is found at
the next start of one, by the newest rows of the ledger.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from secrets import token_hex
from typing import Any

import msgspec

from edge.billing.period import moment, reset_moment
from middlewares.limits import Window
from middlewares.pricing import decimal
from middlewares.stores.alerts.base import Alert, AlertStore, LowBalance, SpentPeriod
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.totals import CREDITS
from middlewares.stores.periodic_sweep import PeriodicSweep
from middlewares.webhooks import event

from .account import Account, Budgets, KeysById, TeamsById, accounts_of

MAX_TOUCHED = 100_000
"""Accounts that wait for their check; of more than that, the first ones do."""
_MAX_KNOWN = 100_000
_AT_ONCE = 200
"""Accounts that one question to the store is about."""
_RECENT_SECONDS = 3600.0
_RECENT_ROWS = 20_000
_KEPT = 86400.0
"""Seconds after the end of a period for which its alerts are kept."""

_Passed = tuple[str, str, float, int]
"""Account, window, start of the period, share: what an alert is about."""


class Thresholds(msgspec.Struct, frozen=True):
    """When alerts are raised. shares: percents of a cap, ascending. credits_below: nano-credits, or
    None. budgets: of keys and teams."""

    shares: tuple[int, ...]
    credits_below: int | None
    budgets: Budgets


class BudgetWatch(PeriodicSweep):
    """Raises alerts. One for each process; the store decides which of them raises one.

    thresholds: None raises nothing, and can be changed at any time.
    raised: called with the number of alerts that this process has raised.
    """

    def __init__(
        self,
        store: AlertStore,
        keys: KeysById,
        teams: TeamsById,
        *,
        raised: Callable[[int], object] = lambda count: None,
        period: float = 2.0,
        clock: Callable[[], float] = time.time,
        **timing: Any,
    ) -> None:
        super().__init__("check budgets", "budgets are checked again", period=period, **timing)
        self._store = store
        self._keys = keys
        self._teams = teams
        self._raised = raised
        self._clock = clock
        self._touched: dict[str, None] = {}
        self._known: set[_Passed] = set()
        self._looked_back = False
        self._forgotten_at = 0.0
        self.thresholds: Thresholds | None = None

    @property
    def waiting(self) -> int:
        """Accounts that wait for their check."""
        return len(self._touched)

    def note(self, entries: Iterable[Entry]) -> None:
        """Have the accounts of rows checked."""
        if self.thresholds is not None:
            for entry in entries:
                self.note_account(entry.account)
                if entry.team:
                    self.note_account(entry.team)

    def note_account(self, account: str) -> None:
        """Have an account checked."""
        if self.thresholds is not None and len(self._touched) < MAX_TOUCHED:
            self._touched[account] = None

    async def sweep(self) -> None:
        """Check all accounts that were noted. After a failure of any kind it is done again."""
        thresholds = self.thresholds
        if thresholds is None:
            self._touched.clear()
            return
        now = self._clock()
        if not self._looked_back:
            for account in await self._store.recent(now - _RECENT_SECONDS, _RECENT_ROWS):
                self.note_account(account)
            self._looked_back = True
        while batch := [*islice(self._touched, _AT_ONCE)]:
            for account in batch:  # so that what is noted from here on is checked again
                del self._touched[account]
            try:
                await self._check(batch, thresholds, now)
            except Exception:  # whatever it is, no alert may be lost
                for account in batch:
                    self.note_account(account)
                raise
        if not self._forgotten_at <= now < self._forgotten_at + _KEPT / 24:
            await self._store.forget(now - _KEPT)
            self._forgotten_at = now

    async def _check(self, ids: Sequence[str], thresholds: Thresholds, now: float) -> None:
        accounts = await accounts_of(ids, self._keys, self._teams, thresholds.budgets)
        windows = {(one.id, window.name): (one, window) for one, window in _windows(accounts)}
        alerts: list[Alert] = []
        if windows and thresholds.shares:
            for spent in await self._store.spent([*windows], now):
                account, window = windows[spent.account, spent.name]
                alerts += self._passed(account, window, spent, thresholds.shares, now)
        below = thresholds.credits_below
        paying = {one.id: one for one in accounts if one.budget.credits}
        if paying and below is not None:
            for low in await self._store.low([*paying], below):
                alerts += self._ran_low(paying[low.account], low, below, now)
        if alerts:
            new = await self._store.add(alerts)
            self._remember(alerts)
            self._raised(sum(1 for one in alerts if one.id in new and one.due is not None))

    def _passed(
        self,
        account: Account,
        window: Window,
        spent: SpentPeriod,
        shares: Sequence[int],
        now: float,
    ) -> Iterator[Alert]:
        """The alerts about one window. Of several shares that it passed at once only the highest is
        sent, and the others are taken for sent."""
        end = window.end(spent.start)
        passed = [share for share in shares if 0 < spent.amount * 100 >= share * window.cap]
        highest = passed[-1:]
        for share in passed if now < end else ():
            if (account.id, window.name, spent.start, share) in self._known:
                continue
            message = _message_id()
            data = {
                **_whose(account),
                "window": window.name,
                "share": share,
                "used": decimal(spent.amount),
                "cap": decimal(window.cap),
                "remaining": decimal(max(0, window.cap - spent.amount)),
                "starts_at": moment(spent.start),
                "resets_at": reset_moment(end),
            }
            yield Alert(
                account=account.id,
                name=window.name,
                start=spent.start,
                share=share,
                id=message,
                body=event(message, "budget.threshold", int(now), data),
                created_at=now,
                ends_at=end,
                due=now if [share] == highest else None,
            )

    def _ran_low(
        self, account: Account, balance: LowBalance, below: int, now: float
    ) -> Iterator[Alert]:
        grant = float(balance.grant)
        if (account.id, CREDITS, grant, 0) in self._known:
            return
        message = _message_id()
        data = {
            **_whose(account),
            "below": decimal(below),
            "balance": decimal(balance.amount),
        }
        yield Alert(
            account=account.id,
            name=CREDITS,
            start=grant,
            share=0,
            id=message,
            body=event(message, "credits.low", int(now), data),
            created_at=now,
            ends_at=None,
            due=now,
        )

    def _remember(self, alerts: Iterable[Alert]) -> None:
        """Alerts in the store need not be added again, whichever process added them."""
        if len(self._known) > _MAX_KNOWN:
            self._known.clear()
        self._known.update((one.account, one.name, one.start, one.share) for one in alerts)


def _windows(accounts: Iterable[Account]) -> Iterator[tuple[Account, Window]]:
    for account in accounts:
        for window in account.budget.windows:
            yield account, window


def _whose(account: Account) -> dict[str, Any]:
    return {
        "whose": account.whose,
        "id": account.id,
        "name": account.name,
        "owner": account.owner,
        "plan": account.plan,
    }


def _message_id() -> str:
    return f"evt_{token_hex(12)}"
