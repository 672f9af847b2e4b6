"""The file descriptor budget of a worker.

Each open request needs two: the connection of its client and that of its upstream; over HTTP/2 a
hundred requests share that of their client. The limit of a process is divided at the start, so that
neither takes what the program needs for files and stores:

    RESERVE            stores, journal, log, name lookups
    room.upstreams     connections to upstreams, also those kept for the next request
    room.connections   connections of clients, more than `room.streams`: requests beyond those are
                       refused with 503, but operators' paths are always served

Granian accepts no more connections than this; others wait in the kernel. The division is fixed
because Granian counts on its descriptors: an `accept` that gets none fails.
`server.max_connections` moves it.
"""

import resource
from functools import lru_cache
from pathlib import Path
from time import monotonic

import msgspec

from edge.config.load import Settings

RESERVE = 96
"""For the program's own files and stores. An idle worker has about 40 open."""
OF_A_CLIENT = 6
"""For each process of a `claude-cli` upstream: both ends of its pipes, while it starts."""
SPARE_SHARE, FEWEST_SPARE, MOST_SPARE = 16, 16, 256
"""One in so many of the rest is kept for refused connections, within these bounds."""
MOST = 200_000
"""The largest number of descriptors that one worker uses."""


class DescriptorBudget(msgspec.Struct, frozen=True):
    """The division of one worker's descriptors. limit: of the process."""

    limit: int
    streams: int
    connections: int
    upstreams: int

    @classmethod
    def of(cls, limit: int, settings: Settings) -> "DescriptorBudget":
        """Divide `limit`. Raises OSError when it is too low for a single request."""
        clients = sum(
            one.max_processes for one in settings.upstreams if one.dialect == "claude-cli"
        )
        reserve = RESERVE + OF_A_CLIENT * clients
        left = min(limit, MOST) - reserve
        spare = min(MOST_SPARE, max(FEWEST_SPARE, left // SPARE_SHARE))
        streams = (left - spare) // 2
        if streams < 1:
            raise OSError(
                f"{limit} file descriptors are too few: at least {reserve + FEWEST_SPARE + 2} are "
                "needed (ulimit -n, LimitNOFILE)"
            )
        idle = spare // 4  # connections to upstreams beyond those of all requests
        connections = left - streams - idle
        most = settings.server.max_connections
        if most is not None and most < connections:
            connections = most
            streams = left - most - idle if settings.server.http2 else min(streams, most)
        return cls(limit, streams, connections, left - connections)

    def __str__(self) -> str:
        return (
            f"{self.limit} file descriptors are enough for {self.streams} open requests per worker"
            f", on {self.connections} connections of clients"
        )


def allowed() -> int:
    """The descriptor limit of a worker, whose soft limit is raised to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MOST if hard == resource.RLIM_INFINITY else hard


def take_allowed() -> int:
    """Raise the soft limit to the hard one, where possible. Returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS has a lower bound than "infinity"
            pass
    return MOST if soft == resource.RLIM_INFINITY else soft


def left() -> int:
    """The number of descriptors that this process can still open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(0, (MOST if soft == resource.RLIM_INFINITY else soft) - _open())


def _open() -> int:
    """The number of open descriptors. Since Linux 6.2 it is the size of the folder; elsewhere they
    are counted every few seconds."""
    if SAYS_SIZE:
        return _OWN.stat().st_size
    return counted(int(monotonic() / _EVERY))


@lru_cache(maxsize=1)
def counted(_period: int) -> int:
    for folder in (_OWN, Path("/dev/fd")):
        try:
            return sum(1 for _ in folder.iterdir())
        except OSError:
            continue
    return 0


_EVERY = 5.0
_OWN = Path("/proc/self/fd")
SAYS_SIZE = _OWN.is_dir() and _OWN.stat().st_size > 0
