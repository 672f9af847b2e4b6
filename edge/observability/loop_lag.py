"""How late the timers of an event loop are."""

import asyncio
from collections import deque

_TICK = 0.1
"""Seconds between two timers. A step that stops the loop for longer is seen but for this much."""
_SPAN = 10.0
"""Seconds that are looked back on."""


class LoopLag:
    """Runs a timer ten times a second and keeps how late it was.

    A step of the loop that takes `n` seconds makes a timer late by up to `n`, and at least by
    `n - 0.1`.
    """

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()
        """Loop time and lag, lags falling: of the last ten seconds those that were not exceeded."""
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin on the running loop. `stop` must follow."""
        self._plan(asyncio.get_running_loop())

    def stop(self) -> None:
        """Run no more timers. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def longest(self) -> float:
        """The longest lag of the last ten seconds, in seconds."""
        if self._timer is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        self._forget(now)
        current = now - self._timer.when()  # a timer that is due and has not run is late, too
        return max(current, self._late[0][1] if self._late else 0.0)

    def _plan(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(_TICK, self._tick, loop, loop.time() + _TICK)

    def _tick(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = loop.time()
        lag = max(0.0, now - due)
        while self._late and self._late[-1][1] <= lag:
            self._late.pop()
        self._late.append((now, lag))
        self._forget(now)
        self._plan(loop)

    def _forget(self, now: float) -> None:
        while self._late and self._late[0][0] < now - _SPAN:
            self._late.popleft()
