"""The connections that all upstreams of a process have together, and their bound."""

from typing import Protocol
from weakref import WeakSet


class OriginPool(Protocol):
    """Connections to one origin."""

    @property
    def connections(self) -> int:
        """How many are open or being opened."""
        ...

    @property
    def idle(self) -> int:
        """How many of them carry nothing."""
        ...

    def drop_idle(self) -> None:
        """Close the one that was idle for longest."""
        ...


class Pools:
    """Connections kept for the next request give way to those of requests under way, also to other
    upstreams. most: of all pools together; requests themselves are bounded elsewhere."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._pools: WeakSet[OriginPool] = WeakSet()

    def add(self, pool: OriginPool) -> None:
        """Count this one too, as long as it lives."""
        self._pools.add(pool)

    def make_room(self) -> None:
        """One more connection is to be opened: close idle ones until it fits."""
        excess = sum(pool.connections for pool in self._pools) + 1 - self.most
        if excess <= 0:
            return
        for pool in self._pools:
            while excess > 0 and pool.idle:
                pool.drop_idle()
                excess -= 1
