"""Alerts about budgets: the protocol of their store.

A row says that a share of a window was reached, once for each period, by its primary key: of any
number of processes that find it out, one adds the row. The rows are also the outbox: one that is
`due` has yet to be sent, by the process that takes it.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

import msgspec


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert. All times are Unix seconds.

    account: id of the key or team. name: of the window, "" for credits. start: when its period
    began; of credits, the revision of the newest grant. share: percent of the cap; 0 for credits.
    id: of the message. body: what is sent. ends_at: when the period ends, None: never.
    due: when it is to be sent; None when it was, or never will be. tries: that failed.
    """

    account: str
    name: str
    start: float
    share: int
    id: str
    body: bytes
    created_at: float
    ends_at: float | None
    due: float | None
    tries: int = 0


class SpentPeriod(msgspec.Struct, frozen=True):
    """What an account has spent in the newest period of a window, in nano-credits. start: Unix
    seconds."""

    account: str
    name: str
    start: float
    amount: int


class LowBalance(msgspec.Struct, frozen=True):
    """The credits of an account, in nano-credits. grant: revision of its newest grant."""

    account: str
    amount: int
    grant: int


class AlertStore(Protocol):
    """Alerts, kept. Every method may raise StoreUnavailable."""

    async def add(self, alerts: Sequence[Alert]) -> set[str]:
        """Keep alerts that are not there yet. Returns the ids of those."""
        ...

    async def take(self, now: float, until: float, most: int) -> list[Alert]:
        """Up to `most` alerts that are due, the longest first. They are due again at `until`,
        unless `later` or `end` is called before."""
        ...

    async def later(self, alert_id: str, due: float, tries: int) -> None:
        """Have an alert sent again at `due`."""
        ...

    async def end(self, alert_id: str, tries: int) -> None:
        """Have an alert not sent again."""
        ...

    async def forget(self, before: float) -> None:
        """Remove the alerts of periods that ended before, and that are not due."""
        ...

    async def spent(self, windows: Sequence[tuple[str, str]], now: float) -> list[SpentPeriod]:
        """The newest periods of pairs of account and window, where there are any. Periods that
        begin more than `counters.base.AHEAD` after `now` are passed over, as in counters."""
        ...

    async def low(self, accounts: Collection[str], below: int) -> list[LowBalance]:
        """The accounts that were ever granted credits and have less than `below` nano-credits."""
        ...

    async def recent(self, since: float, most: int) -> list[str]:
        """Keys and teams of the newest rows of the ledger, `most` rows at most, back to `since`."""
        ...
