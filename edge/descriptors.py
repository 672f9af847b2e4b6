"""File descriptors of a worker: how many there are, what they are for, how many are left.

Each open request costs two: its client's connection and its upstream's. The limit of a process is
parted at the start, so that neither can take what the program needs for its own files and stores:

    RESERVE            stores, journal, log, name lookups
    room.upstreams     connections to upstreams, also those kept for the next request
    room.connections   connections of clients, more than `room.streams`: those beyond it are
                       answered with 503, and operators' paths are answered always

Granian accepts no more connections than its part; the others wait in the kernel.
"""

import resource
from functools import lru_cache
from pathlib import Path
from time import monotonic

import msgspec

from .settings import Settings

RESERVE = 96
"""For this program's own files and stores. At rest a worker has about 40 open."""
OF_A_CLIENT = 6
"""For each process of a `claude-cli` upstream: its pipes, on both ends while it starts."""
SPARE_SHARE, FEWEST_SPARE, MOST_SPARE = 16, 16, 256
"""Of what is left one in so many is kept for connections that are refused, within these bounds."""
MOST = 200_000
"""Descriptors of one worker that are made use of."""


class Room(msgspec.Struct, frozen=True):
    """How the descriptors of one worker are parted. limit: of the process."""

    limit: int
    streams: int
    connections: int
    upstreams: int

    @classmethod
    def of(cls, limit: int, settings: Settings) -> "Room":
        """Raises OSError for a limit that carries no request."""
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
        upstreams = streams + spare // 4
        return cls(limit, streams, left - upstreams, upstreams)

    def __str__(self) -> str:
        return (
            f"{self.limit} file descriptors carry {self.streams} requests at a time in each worker"
        )


def allowed() -> int:
    """Descriptors that a process of ours may have: its soft limit becomes as high as the hard."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MOST if hard == resource.RLIM_INFINITY else hard


def take_allowed() -> int:
    """Raise the soft limit to the hard one where the system lets us; the limit from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS has a bound of its own below "infinity"
            pass
    return MOST if soft == resource.RLIM_INFINITY else soft


def left() -> int:
    """Descriptors that this process can still open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(0, (MOST if soft == resource.RLIM_INFINITY else soft) - _open())


def _open() -> int:
    """How many are open. Linux says it as the size of the folder since 6.2; elsewhere they have to
    be counted, which is done every few seconds only."""
    if _SAYS_SIZE:
        return _OWN.stat().st_size
    return _counted(int(monotonic() / _EVERY))


@lru_cache(maxsize=1)
def _counted(_period: int) -> int:
    for folder in (_OWN, Path("/dev/fd")):
        try:
            return sum(1 for _ in folder.iterdir())
        except OSError:
            continue
    return 0


_EVERY = 5.0
_OWN = Path("/proc/self/fd")
_SAYS_SIZE = _OWN.is_dir() and _OWN.stat().st_size > 0
