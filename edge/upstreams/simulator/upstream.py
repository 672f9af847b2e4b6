"""The simulator as an upstream in this process, with the same bytes as its server."""

import asyncio
from collections import deque
from contextlib import suppress

from edge.upstreams import ConnectFailed, Disconnected, Header, Malformed, Request

from .account import Account
from .answer import SimulatedAnswer
from .behaviour import answer
from .controls import Controls
from .form import FormReader, SimulatedForm, boundary_of
from .prompt import PromptRejected
from .stats import Stats

_LARGEST_BODY = 64 << 20


class SimulatorUpstream:
    """An `Upstream` that simulates the answers.

    controls: defaults for every request. `stats` counts, `recent` holds the newest requests, with
    their bodies as bytes, without those of forms that were streamed. `account`: files and jobs.
    """

    def __init__(self, controls: Controls = Controls()) -> None:  # noqa: B008 - it is frozen
        self.stats = Stats()
        self.account = Account()
        self.recent: deque[Request] = deque(maxlen=16)
        self._controls = controls
        self._closed = False

    async def open(self, request: Request) -> "SimulatedResponse":
        """Raises ConnectFailed after `aclose`. Cancelling is a hang-up."""
        if self._closed:
            raise ConnectFailed("the simulator is closed")
        body = await _whole(request)
        kept = body if isinstance(body, bytes) else None
        self.recent.append(Request(request.method, request.target, request.headers, kept))
        self.stats.requests += 1
        found = answer(
            request.method, request.target, request.headers, body, self._controls, self.account
        )
        self.stats.add(found.counts)
        started = asyncio.get_running_loop().time()
        self.stats.running += 1
        try:
            await asyncio.sleep(found.head_at)
        except asyncio.CancelledError:
            self.stats.running -= 1
            self.stats.hung_up(request.target, "head", 0)
            raise
        if found.ending == "lost":
            self.stats.running -= 1
            raise Disconnected("the simulator broke the connection", sent=True)
        return SimulatedResponse(found, request.target, self.stats, started)

    async def aclose(self) -> None:
        """Refuse new requests."""
        self._closed = True


async def _whole(request: Request) -> bytes | SimulatedForm:
    """The body; a form that comes in pieces is read as it comes."""
    body = request.body
    if body is None or isinstance(body, bytes):
        return body or b""
    boundary = boundary_of(dict(request.headers).get(b"content-type", b"").decode("latin-1"))
    if boundary is not None:
        reader = FormReader(boundary)
        async for part in body:
            reader.feed(part)
        try:
            return reader.close()
        except PromptRejected:
            return b"--"  # `answer` refuses it in the vendor's words
    parts = bytearray()
    async for part in body:
        parts += part
        if len(parts) > _LARGEST_BODY:
            raise Malformed(f"the request body is larger than {_LARGEST_BODY} bytes", sent=True)
    return bytes(parts)


class SimulatedResponse:
    """A `Response` whose reads give one step each, when it is due."""

    def __init__(self, found: SimulatedAnswer, target: bytes, stats: Stats, started: float) -> None:
        self.status = found.status
        self.headers: list[Header] = list(found.headers)
        if found.length is not None:
            self.headers.append((b"content-length", b"%d" % found.length))
        self._answer = found
        self._target = target
        self._stats = stats
        self._started = started
        self._next = 0
        self._over = False
        self._closed = False
        self._waiting: asyncio.Future[None] | None = None
        stats.streams += found.length is None

    async def read(self) -> bytes:
        """The next step. Raises Disconnected at a cut, and after `close`."""
        found = self._answer
        if self._closed:
            raise Disconnected("the response is closed", sent=True)
        if self._next < len(found.steps):
            due, data = found.steps[self._next]
            await self._until(self._started + due)
            self._next += 1
            return data
        if not self._over:
            if found.ending == "silent":
                await self._until(None)
            self._stats.finished(found.used)
            self._end()
        if found.ending == "cut":
            raise Disconnected("the simulator broke the connection", sent=True)
        return b""

    async def _until(self, when: float | None) -> None:
        """Wait until loop time `when`; None: until the response is closed."""
        loop = asyncio.get_running_loop()
        if when is not None and when <= loop.time():
            return
        self._waiting = waiting = loop.create_future()
        timer = loop.call_at(when, _finish, waiting) if when is not None else None
        try:
            await waiting
        finally:
            self._waiting = None
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Close the response; before the end of its body this counts as a hang-up."""
        if self._over:
            return
        self._closed = True
        done = self._next == len(self._answer.steps) and self._answer.ending == "whole"
        if done:
            self._stats.finished(self._answer.used)
        else:
            self._stats.hung_up(self._target, "body", self._next)
        self._end()
        if self._waiting is not None:
            with suppress(asyncio.InvalidStateError):
                self._waiting.set_exception(Disconnected("the response is closed", sent=True))

    def _end(self) -> None:
        self._over = True
        self._stats.running -= 1
        self._stats.streams -= self._answer.length is None


def _finish(waiting: "asyncio.Future[None]") -> None:
    if not waiting.done():
        waiting.set_result(None)
