"""How many connections to an upstream there are, and what waits for one."""

from typing import NamedTuple

from .claude_cli import ClaudeCLIUpstream
from .http import HttpxUpstream
from .http1.transport import Transport
from .provider import Provider


class PoolFigures(NamedTuple):
    """busy, idle: connections with and without a request; of a command-line client, processes.
    waiting: requests that wait for one."""

    busy: int = 0
    idle: int = 0
    waiting: int = 0

    def plus(self, other: "PoolFigures") -> "PoolFigures":
        return PoolFigures(
            self.busy + other.busy, self.idle + other.idle, self.waiting + other.waiting
        )


def pool_figures(provider: Provider) -> PoolFigures:
    """The figures of a provider now; zeros for one that has no connections."""
    upstream = provider.upstream
    if isinstance(upstream, Transport | HttpxUpstream):
        idle = upstream.idle
        return PoolFigures(upstream.connections - idle, idle, upstream.waiting)
    if isinstance(upstream, ClaudeCLIUpstream):
        return PoolFigures(upstream.pool.busy, upstream.pool.spare, upstream.pool.waiting)
    return PoolFigures()
