"""The thread that looks at the configuration file, beside the supervisor's loop.

What a look waits for, such as a network file system that hangs, keeps no worker from being
replaced and no SIGTERM from being followed.
"""

import _thread
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .guard import Guard
from .reload import Reloader

_LOOK_SECONDS = 0.5
"""Between two looks; what has changed is taken over at the second look that finds it so."""
_REST_SECONDS = 0.25
"""After each look, so that a storm of signals asks for four reloads a second at most."""
_BEGIN_SECONDS = 5.0
"""In which a thread has begun, or ended before it could."""
_FORK_SECONDS = 5.0
"""How long a fork waits for a look to end."""


class Looker:
    """Looks in a thread of its own."""

    def __init__(self, reloader: Reloader) -> None:
        self._reloader = reloader
        self._asked = threading.Event()
        self._guard = Guard()
        self._looking = threading.Lock()
        self._runs = False
        self._begun = -_BEGIN_SECONDS

    def ask(self) -> None:
        """Reload now, also what stands there already. Not for handlers of signals."""
        self._asked.set()

    def keep(self) -> None:
        """Start the thread, again when it has ended. Raises RuntimeError when none can be had."""
        now = time.monotonic()
        if not self._runs and now - self._begun >= _BEGIN_SECONDS:
            self._begun = now
            # `Thread.start` waits, for ever when there is no memory for the thread to begin.
            _thread.start_new_thread(self._run, ())

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Between two looks, for a fork: the child must not inherit what a look has half done. One
        that hangs is not waited for for ever."""
        held = self._looking.acquire(timeout=_FORK_SECONDS)
        try:
            yield
        finally:
            if held:
                self._looking.release()

    def _run(self) -> None:
        self._runs = True
        try:
            while True:
                self._turn()
        finally:
            self._runs = False

    def _turn(self) -> None:
        asked = self._asked.wait(_LOOK_SECONDS)
        self._asked.clear()
        with self._looking:
            self._guard.run("checking the configuration", self._reload if asked else self._look)
        if asked:
            time.sleep(_REST_SECONDS)

    def _reload(self) -> None:
        self._reloader.reload()

    def _look(self) -> None:
        if self._reloader.due():
            self._reloader.reload()
