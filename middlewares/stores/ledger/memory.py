"""The ledger in this process's memory: for tests and demos. It grows with every request."""

from bisect import insort
from collections.abc import Sequence
from datetime import UTC, datetime

from middlewares.shared import Shared
from middlewares.stores.counters.base import AHEAD, Spent

from .base import Entry, Kind, Sum, saturated
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
        return found, tuple([id_ for id_ in ids if await self.get(account, id_) is not None])

    async def grants(self, since: int) -> tuple[int, list[str]]:
        return len(self._grants), list(dict.fromkeys(self._grants[since:]))

    async def sums(self, account: str | None, since: float, until: float) -> list[Sum]:
        counts: dict[tuple[str, str], list[int]] = {}
        for at, id_ in self._order:
            entry = self._entries[id_]
            if account not in (None, entry.account) or entry.kind != "use":
                continue
            if not since <= at < until:
                continue
            model = entry.model if account is None else entry.purpose or entry.model
            key = (datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d"), model)
            counts.setdefault(key, [0, 0, 0, 0, 0, 0])
            used = (1, entry.input, entry.output, entry.cache_read, entry.cache_write, entry.cost)
            for place, count in enumerate(used):
                counts[key][place] += count
        return [Sum(*key, *map(saturated, used)) for key, used in sorted(counts.items())]

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
