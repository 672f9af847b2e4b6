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

    def keep(self, key: str, bond: AffinityRecord) -> None:
        """The conversation was answered there. Waits for nobody."""
        ...


class MemoryAffinityStore(Shared):
    """`AffinityStore` of one process, forgotten when it ends.

    most: conversations, at most; those longest unheard of go first. keep: seconds after the last
    answer. clock: seconds.
    """

    __slots__ = ("_recent",)

    def __init__(
        self, *, most: int = 100_000, keep: float = 3600.0, clock: Callable[[], float] = monotonic
    ) -> None:
        if not keep > 0:
            raise ValueError(f"keep {keep}: expected more than 0")
        self._recent: ExpiringMap[str, AffinityRecord] = ExpiringMap(most, keep, clock)

    def __len__(self) -> int:
        """How many conversations are known, those included whose time is over."""
        return len(self._recent)

    async def start(self) -> None:
        """Nothing to do."""

    async def aclose(self) -> None:
        """Nothing to do."""

    async def find(self, key: str) -> AffinityRecord | None:
        return self._recent.get(key)

    def keep(self, key: str, bond: AffinityRecord) -> None:
        self._recent.put(key, bond)
