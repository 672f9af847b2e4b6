"""The ledger in this process's memory: for tests and demos. It grows with every request."""

from bisect import insort
from collections.abc import Iterator, Sequence

from middlewares.shared import Shared
from middlewares.stores.counters.base import AHEAD, Spent

from . import memory_spend
from .base import Entry, Found, Kind, Place, Sum, Wanted, daily_sum, saturated
from .spend import DAY, EVERYTHING, GROUPS, Cursor, Dimension, Filters, Group, Grouped
from .totals import CREDITS, Total, totals


class MemoryLedgerStore(Shared):
    """A `LedgerStore` that forgets when the process ends and is seen by no other process."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._order: list[tuple[float, str]] = []
        self._totals: dict[str, dict[tuple[str, float], Total]] = {}
        self._grants: list[str] = []

    async def append(self, entries: Sequence[Entry]) -> None:
        new: list[Entry] = []
        for entry in entries:
            if entry.id not in self._entries:
                self._entries[entry.id] = entry
                insort(self._order, (entry.at, entry.id))
                new.append(entry)
        for (account, name, start), (at, amount) in totals(new).items():
            mine = self._totals.setdefault(account, {})
            before_at, before = mine.get((name, start), (at, 0))
            mine[name, start] = (max(before_at, at), saturated(before + amount))
        self._grants += [entry.account for entry in new if entry.kind == "credit"]

    async def get(self, account: str | None, entry_id: str) -> Entry | None:
        entry = self._entries.get(entry_id)
        return entry if entry is not None and account in (None, entry.account) else None

    async def children(self, account: str, entry_id: str) -> list[Entry]:
        rows = [self._entries[id_] for _, id_ in self._order]
        return [row for row in rows if row.account == account and row.parent == entry_id][:1000]

    async def spent(
        self, account: str, now: float, ids: Sequence[str]
    ) -> tuple[Spent, tuple[str, ...]]:
        newest: dict[str, tuple[float, float, int]] = {}
        for (name, start), (at, amount) in self._totals.get(account, {}).items():
            if start > now + AHEAD:
                continue
            newest[name] = max(newest.get(name, (at, start, amount)), (at, start, amount))
        _, _, credits_left = newest.pop(CREDITS, (0.0, 0.0, 0))
        found = Spent(
            {name: start for name, (_, start, _) in newest.items()},
            {name: amount for name, (_, _, amount) in newest.items()},
            credits_left,
        )
        rows = [self._entries[id_] for id_ in ids if id_ in self._entries]
        return found, tuple([row.id for row in rows if account in (row.account, row.team)])

    async def grants(self, since: int) -> tuple[int, list[str]]:
        return len(self._grants), list(dict.fromkeys(self._grants[since:]))

    async def sums(self, account: str | None, since: float, until: float) -> list[Sum]:
        found = memory_spend.grouped(
            self._rows(), ("day", "model"), Filters(key=account), since, until, account is not None
        )
        return [daily_sum(one) for one in found]

    async def grouped(
        self,
        by: Sequence[Dimension],
        filters: Filters = EVERYTHING,
        *,
        since: float,
        until: float,
        after: Cursor | None = None,
        limit: int = GROUPS,
        purposes: bool = False,
    ) -> Grouped:
        return memory_spend.page(
            self._rows(), by, filters, since, until, after, limit, purposes=purposes
        )

    async def top_keys(self, at: float, limit: int = 10) -> list[Group]:
        since = at // DAY * DAY
        found = memory_spend.grouped(self._rows(), ("key",), EVERYTHING, since, since + DAY, False)
        return sorted(found, key=lambda one: (-one.spend.cost, one.key or ""))[:limit]

    def _rows(self) -> Iterator[Entry]:
        return (self._entries[id_] for _, id_ in self._order)

    async def page(
        self,
        *,
        account: str | None = None,
        kind: Kind | None = None,
        since: float | None = None,
        until: float | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        found: list[Entry] = []
        for at, id_ in reversed(self._order):
            entry = self._entries[id_]
            if (
                (account is None or entry.account == account)
                and (kind is None or entry.kind == kind)
                and (since is None or at >= since)
                and (until is None or at < until)
                and (before is None or (at, id_) < before)
            ):
                found.append(entry)
                if len(found) == limit:
                    break
        return found

    async def search(
        self, wanted: Wanted, *, before: Place | None = None, limit: int = 50
    ) -> Found:
        found: list[Entry] = []
        for place in reversed(self._order):
            entry = self._entries[place[1]]
            if (before is None or place < before) and wanted.matches(entry):
                if len(found) == limit:
                    return Found(found, (found[-1].at, found[-1].id))
                found.append(entry)
        return Found(found, None)

    async def last_used(self, accounts: Sequence[str]) -> dict[str, float]:
        uses = [row for row in self._rows() if row.kind == "use" and row.account in accounts]
        return {row.account: row.at for row in uses}
