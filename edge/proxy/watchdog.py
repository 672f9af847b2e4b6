"""Disconnects, first-token timeouts and keep-alive pings during an upstream request.

Theory of operation. The application task waits for the upstream. Meanwhile:

    the client disconnects      -> the task is cancelled, so that the upstream closes; or, with
                                   `drain`, it goes on for so long
    no first content in time    -> the task is cancelled with the limit as the cause
    silence                     -> a ping is sent, so that idle hops keep the stream open

One timer serves all three and is set again only when it fires, so an event costs a clock reading
and no timer. A quick answer costs one timer: the watch that owns `receive` starts with the first
tick, 0.1 s after the start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType

from middlewares.asgi import Receive
from middlewares.disconnects import ClientDisconnected, DisconnectWatch

_FIRST_TICK = 0.1
_NEVER = float("inf")


class FirstTokenTimeout(Exception):
    """No content came within `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no content within {seconds:g} s")
        self.seconds = seconds


def _nothing() -> None: ...


class Watchdog:
    """Async context manager around all waits for one upstream.

    receive: the ASGI receive; nothing else may await it inside the context.
    ping: sends a keep-alive; never called while the last call runs.
    hold: seconds from here until the first ping; silence: seconds without `beat` until a later one,
        infinity for no pings at all.
    first_content: seconds until `content_started()` must have been called; None: no limit.
    drain: seconds the wait may go on after the client has disconnected; 0: it ends at once.
    on_disconnect: called when the client disconnects and `drain` is not 0.

    last_beat: loop time of the last `beat`; the hot path sets it without a call.

    Raises ClientDisconnected and FirstTokenTimeout from the context.
    """

    __slots__ = (
        "_cause",
        "_client_watcher",
        "_content_by",
        "_done",
        "_drain",
        "_drain_timer",
        "_draining",
        "_first_content",
        "_loop",
        "_on_disconnect",
        "_ping",
        "_ping_task",
        "_receive",
        "_silence",
        "_task",
        "_timer",
        "last_beat",
    )

    def __init__(
        self,
        receive: Receive,
        *,
        ping: Callable[[], Awaitable[None]] | None = None,
        hold: float = 10.0,
        silence: float = 12.0,
        first_content: float | None = None,
        drain: float = 0.0,
        on_disconnect: Callable[[], None] = _nothing,
    ) -> None:
        self._receive = receive
        self._drain = drain
        self._draining = False
        self._on_disconnect = on_disconnect if drain else _nothing
        self._ping = ping
        self._silence = silence if ping is not None else _NEVER
        self._loop = loop = asyncio.get_running_loop()
        now = loop.time()
        self.last_beat = now
        if self._silence != _NEVER:
            self.last_beat = now + hold - silence  # the first ping is due when the hold ends
        self._first_content = first_content or 0.0
        self._content_by = now + first_content if first_content is not None else _NEVER
        self._cause: Exception | None = None
        self._done = False
        self._ping_task: asyncio.Task[None] | None = None
        self._client_watcher: DisconnectWatch | None = None
        self._drain_timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Watchdog":
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a Watchdog needs a running task")
        self._task = task
        self._timer = self._loop.call_later(_FIRST_TICK, self._tick)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done = True
        self._timer.cancel()
        if self._client_watcher is not None:
            self._client_watcher.stop()
            self._client_watcher = None  # breaks a reference cycle
        if self._drain_timer is not None:
            self._drain_timer.cancel()
            self._drain_timer = None
        if self._ping_task is not None:
            self._ping_task.cancel()
            await asyncio.wait((self._ping_task,))
        self._on_disconnect = _nothing
        self._ping = None  # breaks a reference cycle
        cause, self._cause = self._cause, None  # breaks a reference cycle
        if (
            cause is not None
            and self._task.uncancel() == 0
            and isinstance(raised, asyncio.CancelledError)
        ):
            raise cause from None
        if self._draining and isinstance(raised, Exception):
            raise ClientDisconnected from raised  # no client is there to answer

    def beat(self) -> None:
        """Note that something was sent to the client."""
        self.last_beat = self._loop.time()

    def content_started(self) -> None:
        """End the limit for the first content."""
        self._content_by = _NEVER
        self.last_beat = self._loop.time()

    def _stop(self, cause: Exception) -> None:
        if self._cause is None and not self._done:
            self._cause = cause
            self._task.cancel()

    def _client_left(self) -> None:
        if not self._drain:
            return self._stop(ClientDisconnected())
        self._ping = None
        self._draining = True
        self._on_disconnect()
        self._drain_timer = self._loop.call_later(self._drain, self._drained)

    def _drained(self) -> None:
        self._stop(ClientDisconnected())

    def _tick(self) -> None:
        if self._done or self._cause is not None:
            return
        if self._client_watcher is None:
            self._client_watcher = DisconnectWatch(self._receive, self._client_left)
        now = self._loop.time()
        if now >= self._content_by:
            return self._stop(FirstTokenTimeout(self._first_content))
        if self._ping is not None and now >= self.last_beat + self._silence:
            self.last_beat = now
            if self._ping_task is None:
                self._ping_task = self._loop.create_task(self._send_ping(self._ping))
        due = min(self.last_beat + self._silence, self._content_by)
        if due != _NEVER:
            self._timer = self._loop.call_at(due, self._tick)

    async def _send_ping(self, ping: Callable[[], Awaitable[None]]) -> None:
        try:
            await ping()
        finally:
            self._ping_task = None
