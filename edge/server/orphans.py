"""Reaps orphans: processes whose parent has died, and that the kernel has given to this process.

The first process of a container is the parent of all orphans in it: of a killed worker's `claude`
clients and media decoders, and of what these have started. When one has ended, it stays a zombie
and keeps its process id until this process waits for it.
"""

import os
import time
from collections.abc import Callable, Collection

_PATIENCE = 1.0
"""Seconds that a child which has ended is left to the code that started it."""


class OrphanReaper:
    """Waits for children that have ended and that no part of the program waits for.

    known: pids of processes whose end somebody waits for. clock: monotonic seconds.
    """

    def __init__(
        self,
        known: Callable[[], Collection[int]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._known = known
        self._clock = clock
        self._seen = 0
        """The child that had ended at the last call, or 0."""
        self._since = 0.0

    def reap(self) -> None:
        """Reap one orphan that has ended a while ago; one system call when there is none."""
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # no children at all
            return
        if ended is None or ended.si_pid in self._known():
            return
        if ended.si_pid != self._seen:
            self._seen, self._since = ended.si_pid, self._clock()
        elif self._clock() - self._since >= _PATIENCE:
            os.waitpid(ended.si_pid, os.WNOHANG)
            self._seen = 0
