"""Affinity store: which target answered each conversation last, and the store in memory.

Records make answers cheaper and keep signatures readable; no answer depends on them. So a store
never raises, and a lost record is only unknown.
"""

from collections.abc import Callable
from time import monotonic
from typing import Protocol

import msgspec

from middlewares.bounded_map import ExpiringMap
from middlewares.shared import Shared


class AffinityRecord(msgspec.Struct, frozen=True, array_like=True):
    """Where a conversation was answered last.

    target: "upstream/its-model"; maker: fingerprint of what answers there.
    since: first message from which all signatures are of this maker.
    """

    target: str
    maker: str
    since: int = 0


class AffinityStore(Protocol):
    """Affinity records by conversation key, each with a TTL from its last `keep`."""

    async def start(self) -> None:
        """Connect. Returns in bounded time, connected or not."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent."""
        ...

    async def find(self, key: str) -> AffinityRecord | None:
        """The record, if there is one. Never raises, and returns in bounded time."""
        ...

    def keep(self, key: str, affinity_record: AffinityRecord) -> None:
        """Store a record. Returns at once."""
        ...


class MemoryAffinityStore(Shared):
    """`AffinityStore` of one process, forgotten when it ends.

    max_entries: most conversations; the least recently used are dropped first. ttl: seconds from
    the last answer. clock: seconds.
    """

    __slots__ = ("_recent",)

    def __init__(
        self,
        *,
        max_entries: int = 100_000,
        ttl: float = 3600.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not ttl > 0:
            raise ValueError(f"ttl {ttl}: expected more than 0")
        self._recent: ExpiringMap[str, AffinityRecord] = ExpiringMap(max_entries, ttl, clock)

    def __len__(self) -> int:
        """Number of records, including expired ones."""
        return len(self._recent)

    async def start(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    async def find(self, key: str) -> AffinityRecord | None:
        return self._recent.get(key)

    def keep(self, key: str, affinity_record: AffinityRecord) -> None:
        self._recent.put(key, affinity_record)
