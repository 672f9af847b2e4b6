"""Connection limit for all upstreams of a process together."""

from typing import Protocol
from weakref import WeakSet


class OriginPool(Protocol):
    """Connections to one origin."""

    @property
    def connections(self) -> int:
        """Open connections and those being opened."""
        ...

    @property
    def idle(self) -> int:
        """Connections without a request."""
        ...

    def drop_idle(self) -> None:
        """Close the connection that was idle longest."""
        ...


class Pools:
    """Close idle connections of any upstream to make room for running requests.

    most: connections of all pools together. The number of requests is limited elsewhere.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._pools: WeakSet[OriginPool] = WeakSet()

    def add(self, pool: OriginPool) -> None:
        """Count the connections of `pool` as long as it exists."""
        self._pools.add(pool)

    def make_room(self) -> None:
        """Close idle connections until one more fits."""
        excess = sum(pool.connections for pool in self._pools) + 1 - self.most
        if excess <= 0:
            return
        for pool in self._pools:
            while excess > 0 and pool.idle:
                pool.drop_idle()
                excess -= 1
