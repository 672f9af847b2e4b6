"""When a worker looks for unreachable cycles of objects (module `gc`).

Theory of operation. No request makes a cycle: reference counts free all that it holds
(`tests/edge/proxy/test_forwarder_leftovers.py`). A collection of all objects visits about a hundred
of each open stream and stops the event loop meanwhile, for a third of a second with 20,000. So:

    young objects     are visited by the interpreter, at most 9,000 at a time
    all objects       never by the interpreter, but here: while no request is open, or when the
                      process has grown by more than its open requests explain
    the start-up's    never: they stay
"""

import gc
import resource
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from .collector import freeze

YOUNG, MIDDLE = 3_000, 1
"""Objects after which the youngest are visited, and how many such visits until those that outlived
one are visited once more: at most YOUNG * (MIDDLE + 2), about two milliseconds."""
_NEVER = (1 << 31) - 1
_OF_A_REQUEST = 96 << 10
"""Bytes by which an open request may make the process larger, rather too many."""
_GROWN = 192 << 20
"""Bytes of unexplained growth after which all objects are visited beside open requests."""
_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0
"""Seconds until that may happen again; twice as long after each time that found little."""
_LITTLE = 20_000
"""Objects."""
_IDLE_CHECKS = 2
"""Checks without a request in succession before all objects are visited."""


def keep_start_objects() -> None:
    """Set up the collector of this process, once it has started: visit none of its present objects
    again, and later ones only while they are young."""
    freeze()
    gc.set_threshold(YOUNG, MIDDLE, _NEVER)


class FullCollections:
    """Visits all objects when that disturbs least, or is needed.

    memory: resident bytes of the process. collect: visits them; how many were unreachable.
    aged: how often those that outlived a visit were visited since the process started.
    clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        memory: Callable[[], int],
        collect: Callable[[], int] = gc.collect,
        aged: Callable[[], int] = lambda: int(gc.get_stats()[1]["collections"]),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._memory = memory
        self._collect = collect
        self._aged = aged
        self._clock = clock
        self._idle = 0
        self._pause = _PAUSE
        self._again = 0.0
        self._seen = aged()
        self._size = memory()
        self._open = 0

    def check(self, requests: int) -> None:
        """Collect if it is time. Call it every second. requests: open ones."""
        aged = self._aged()
        if requests == 0:
            self._idle += 1
            if self._idle >= _IDLE_CHECKS and aged > self._seen:
                self._visit(0)
            return
        self._idle = 0
        if aged == self._seen or self._clock() < self._again:
            return
        more = max(0, requests - self._open)
        if self._memory() - self._size > _GROWN + more * _OF_A_REQUEST:
            found = self._visit(requests)
            self._pause = _PAUSE if found > _LITTLE else min(_LONGEST_PAUSE, 2 * self._pause)
            self._again = self._clock() + self._pause

    def _visit(self, requests: int) -> int:
        found = self._collect()
        self._seen = self._aged()
        self._size = self._memory()
        self._open = requests
        return found


def resident_bytes() -> int:
    """Resident memory of this process; where the system does not say it, the most it has been."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()
