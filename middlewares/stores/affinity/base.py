"""Where conversations were answered last: what a store of that must do, and the one in memory.

What is kept makes answers cheaper and keeps signatures readable; no answer depends on it. So no
store of it ever raises, and what one has lost is only not known any more.
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
    since: the message from which on everything that only one maker can read is this one's.
    """

    target: str
    maker: str
    since: int = 0


class AffinityStore(Protocol):
    """Bonds by the key of a conversation, each for a while after it was last kept."""

    async def start(self) -> None:
        """Connect. Returns in bounded time, whether there is a connection or not."""
        ...

    async def aclose(self) -> None:
        """Let go. Idempotent."""
        ...

    async def find(self, key: str) -> AffinityRecord | None:
        """What is known. Never raises, and returns in bounded time."""
        ...

    def keep(self, key: str, affinity_record: AffinityRecord) -> None:
        """The conversation was answered there. Waits for nobody."""
        ...


class MemoryAffinityStore(Shared):
    """`AffinityStore` of one process, forgotten when it ends.

    max_entries: most conversations; those not used longest are dropped first. ttl: seconds from the
    last answer. clock: seconds.
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
        """How many conversations are known, those included whose time is over."""
        return len(self._recent)

    async def start(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    async def find(self, key: str) -> AffinityRecord | None:
        return self._recent.get(key)

    def keep(self, key: str, affinity_record: AffinityRecord) -> None:
        self._recent.put(key, affinity_record)
