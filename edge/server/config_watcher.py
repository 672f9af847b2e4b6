"""The thread that watches the configuration file, beside the supervisor's loop.

A check may block, on a network file system that hangs. In its own thread it delays neither the
replacement of a worker nor the reaction to SIGTERM.
"""

import _thread
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from edge.runtime.loop_guard import LoopGuard

from .reload import Reloader

_CHECK_SECONDS = 0.5
"""Between two checks. A changed file is applied when two checks in a row find the same content."""
_REST_SECONDS = 0.25
"""After each requested reload, so that a storm of signals causes at most four reloads a second."""
_START_SECONDS = 5.0
"""In which a thread has started, or failed to."""
FORK_SECONDS = 5.0
"""How long a fork waits for the end of a check."""


class ConfigWatcher:
    """Reloads the configuration when its file changes, in its own thread.

    during: makes a context for each reload.
    """

    def __init__(
        self,
        reloader: Reloader,
        *,
        during: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._reloader = reloader
        self._during = during
        self._requested = threading.Event()
        self._guard = LoopGuard()
        self._checking = threading.Lock()
        self._runs = False
        self._started = -_START_SECONDS

    def request_reload(self) -> None:
        """Reload now, whether or not the file has changed. Not for signal handlers."""
        self._requested.set()

    def ensure_running(self) -> None:
        """Start the thread unless it runs. Raises RuntimeError when no thread can be started."""
        now = time.monotonic()
        if not self._runs and now - self._started >= _START_SECONDS:
            self._started = now
            # `Thread.start` waits for the thread, for ever when it has no memory to start.
            _thread.start_new_thread(self._run, ())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No check runs inside, so that a forked child does not inherit a half-done one. A check
        that hangs is waited for `FORK_SECONDS` only."""
        held = self._checking.acquire(timeout=FORK_SECONDS)
        try:
            yield
        finally:
            if held:
                self._checking.release()

    def _run(self) -> None:
        self._runs = True
        try:
            while True:
                self._turn()
        finally:
            self._runs = False

    def _turn(self) -> None:
        requested = self._requested.wait(_CHECK_SECONDS)
        self._requested.clear()
        with self._checking:
            step = self._reload if requested else self._reload_if_changed
            self._guard.run("checking the configuration", step)
        if requested:
            time.sleep(_REST_SECONDS)

    def _reload(self) -> None:
        with self._during():
            self._reloader.reload()

    def _reload_if_changed(self) -> None:
        if self._reloader.due():
            self._reload()
