"""Drive an ASGI app by hand and see what it does, and when.

The test is the server. It feeds request messages, reads response chunks one at a time, applies
back-pressure, hangs up or cancels at a moment of its choosing; the driver records everything, and
an app that breaks the protocol fails the test even when it swallows the error it is given.

    async with Call(app, http_scope("POST", "/x"), body=b"{}") as call:
        await call.started()
        assert call.status == 200
        assert await call.chunk() == b"data: 1\\n\\n"
        call.hang_up()
        await call.done()

    answer = await request(app, "POST", "/x", headers={"x-api-key": "k"}, body=b"{}")

    async with lifespan(app) as state:
        answer = await request(app, "GET", "/", state=state)

Behaviour follows Granian where servers differ: `send` after a hang-up silently succeeds, and only
`receive` tells. Every wait has a deadline and fails with what was seen so far.
"""

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from json import dumps, loads
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from middlewares.asgi import ASGIApp, Header, Message, Scope

from .waiting import DEADLINE

Headers = Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]


class ProtocolError(AssertionError):
    """The app broke the ASGI protocol."""


@dataclass(frozen=True)
class Chunk:
    """One body message as it was sent. `at` is in `perf_counter` seconds."""

    body: bytes
    more: bool
    at: float


@dataclass
class Recorded:
    """What one call did. Times are `perf_counter` seconds; 0.0 means that it did not happen."""

    scope: Scope
    messages: list[Message] = field(default_factory=list)
    """Everything sent, as the very objects."""
    chunks: list[Chunk] = field(default_factory=list)
    raised: BaseException | None = None
    began_at: float = 0.0
    started_at: float = 0.0
    ended_at: float = 0.0

    @property
    def start(self) -> Message:
        for message in self.messages:
            if message["type"] == "http.response.start":
                return message
        raise AssertionError(f"the response did not start; raised: {self.raised!r}")

    @property
    def has_started(self) -> bool:
        return self.started_at > 0.0

    @property
    def complete(self) -> bool:
        """Whether the last body message was sent."""
        return bool(self.chunks) and not self.chunks[-1].more

    @property
    def status(self) -> int:
        status = self.start["status"]
        assert isinstance(status, int)
        return status

    @property
    def headers(self) -> list[Header]:
        return [(name, value) for name, value in self.start.get("headers", ())]

    def header(self, name: str) -> str | None:
        """The one value of a response header, None when absent; fails when sent twice."""
        values = [value for key, value in self.headers if key == name.lower().encode()]
        assert len(values) <= 1, f"header {name} was sent {len(values)} times: {values}"
        return values[0].decode("latin-1") if values else None

    @property
    def body(self) -> bytes:
        return b"".join(chunk.body for chunk in self.chunks)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return loads(self.body)


def http_scope(
    method: str = "GET",
    path: str = "/",
    *,
    query: bytes | str = b"",
    headers: Headers = (),
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    state: dict[str, Any] | None = None,
    with_state: bool = True,
    **extra: Any,
) -> Scope:
    """An HTTP scope. A POST has the content type of JSON unless another is given. `state` is
    copied, as servers do; `with_state=False` leaves it out."""
    pairs = header_list(headers)
    if method == "POST" and all(name != b"content-type" for name, _ in pairs):
        pairs.append((b"content-type", b"application/json"))
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode() if isinstance(query, str) else query,
        "root_path": "",
        "headers": pairs,
        "client": client,
        "server": ("127.0.0.1", 8000),
        **extra,
    }
    if with_state:
        scope["state"] = dict(state or {})
    return scope


def header_list(headers: Headers) -> list[Header]:
    """Headers as ASGI has them: lower-case names, latin-1 bytes."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [(_latin(name).lower(), _latin(value)) for name, value in pairs]


def _latin(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


class _Bell:
    """Wakes tasks that wait for something to become true. For one event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.add(waiter)
            try:
                await waiter
            finally:
                self._waiting.discard(waiter)


class Call:
    """One request to `app`, running in a task for as long as the `async with` block lasts.

    scope: as from `http_scope`; a GET of / when left out.
    body: the request body: bytes for one message, a list of bytes for one message each, or None
        when the test feeds it by hand with `feed`.
    window: so many unread chunks may be under way; the next `send` waits until the test has read
        one with `chunk`. None for no limit.
    timeout: seconds any single wait may take.

    Leaving the block cancels an app that still runs, raises what the app raised unless the test
    has seen it (`done`, `ended`), and raises any breach of the protocol.
    """

    def __init__(
        self,
        app: ASGIApp,
        scope: Scope | None = None,
        *,
        body: bytes | Iterable[bytes] | None = b"",
        window: int | None = None,
        timeout: float = DEADLINE,
    ) -> None:
        self.app = app
        self.scope = http_scope() if scope is None else scope
        self.record = Recorded(self.scope)
        self.received: list[Message] = []
        """Messages handed to the app, as the very objects."""
        self.blocked = 0
        """How many `send` calls wait for the test to read."""
        self._timeout = timeout
        self._window = window
        self._inbox: list[Message] = []
        self._left = False
        self._read = 0
        self._looked = False
        self._breaches: list[ProtocolError] = []
        self._snapshot: Message | None = None
        self._bell = _Bell()
        self._task: asyncio.Task[None] | None = None
        if body is not None:
            parts = [body] if isinstance(body, bytes) else list(body)
            for part in parts[:-1]:
                self.feed(part, more=True)
            self.feed(parts[-1] if parts else b"", more=False)

    # What the response is so far

    @property
    def status(self) -> int:
        return self.record.status

    @property
    def headers(self) -> list[Header]:
        return self.record.headers

    def header(self, name: str) -> str | None:
        return self.record.header(name)

    @property
    def chunks(self) -> list[Chunk]:
        return self.record.chunks

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done()

    # What the client does

    def feed(self, body: bytes, *, more: bool = False) -> Message:
        """Give the app a body message; returns the object it will receive."""
        message: Message = {"type": "http.request", "body": body, "more_body": more}
        self.give(message)
        return message

    def give(self, message: Message) -> None:
        """Give the app any message."""
        self._inbox.append(message)
        self._bell.ring()

    def hang_up(self) -> None:
        """Leave. What was fed before is still received first; sends succeed into nothing."""
        self._left = True
        self._bell.ring()

    async def cancel(self) -> None:
        """Cancel the app, as a server does that stops without grace, and wait for its end."""
        assert self._task is not None
        self._task.cancel()
        await self.ended()

    # What the test waits for

    async def started(self) -> None:
        """Until the response has started; raises what the app raised instead."""
        await self._until(lambda: self.record.has_started, "a response start")

    async def chunk(self) -> bytes:
        """The next body bytes that are not empty; b"" at the end of the response."""
        while True:
            await self._until(
                lambda: self._read < len(self.chunks) or self.record.complete, "a chunk"
            )
            if self._read == len(self.chunks):
                return b""
            chunk = self.chunks[self._read]
            self._read += 1
            self._bell.ring()
            if chunk.body:
                return chunk.body

    async def rest(self) -> bytes:
        """Everything from here to the end of the response."""
        parts = []
        while part := await self.chunk():
            parts.append(part)
        return b"".join(parts)

    async def stalled(self) -> None:
        """Until a `send` waits because the window is full."""
        await self._until(lambda: self.blocked > 0, "a send that waits")

    async def received_all(self) -> None:
        """Until the app has taken every message fed so far."""
        await self._until(lambda: not self._inbox, "the app to receive")

    async def done(self) -> Recorded:
        """Until the app has returned; raises what it raised."""
        raised = await self.ended()
        if raised is not None:
            raise raised
        return self.record

    async def ended(self) -> BaseException | None:
        """Until the app has returned or raised; gives what it raised."""
        assert self._task is not None
        self._looked = True
        await asyncio.wait([self._task], timeout=self._timeout)
        if not self._task.done():
            raise AssertionError(f"the app did not end within {self._timeout:g} s; {self._seen()}")
        return self.record.raised

    async def _until(self, true: Callable[[], bool], what: str) -> None:
        assert self._task is not None, "use `async with`"
        try:
            async with asyncio.timeout(self._timeout):
                await self._bell.until(lambda: true() or self.record.ended_at > 0.0)
        except TimeoutError:
            raise AssertionError(f"waited {self._timeout:g} s for {what}; {self._seen()}") from None
        if true():
            return
        self._looked = True
        if self.record.raised is not None:
            raise self.record.raised
        raise AssertionError(f"the app ended without {what}; {self._seen()}")

    def _seen(self) -> str:
        kinds = [message["type"] for message in self.record.messages]
        return f"sent: {kinds}, received: {len(self.received)}, raised: {self.record.raised!r}"

    # The server side

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="asgi-call")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        assert self._task is not None
        if not self._task.done():
            self._task.cancel()
            self._looked = True
            await asyncio.wait([self._task], timeout=self._timeout)
            assert self._task.done(), f"the app does not end when cancelled; {self._seen()}"
        if raised is not None:
            return
        if self._breaches:
            raise self._breaches[0]
        if self._snapshot is not None and self.record.start != self._snapshot:
            raise ProtocolError("the start message was changed after it had been sent")
        if self.record.raised is not None and not self._looked:
            raise self.record.raised

    async def _run(self) -> None:
        self.record.began_at = perf_counter()
        try:
            await self.app(self.scope, self._receive, self.send)
        except BaseException as raised:  # recorded for the test, which decides what it means
            self.record.raised = raised
        finally:
            self.record.ended_at = perf_counter()
            self._bell.ring()

    async def _receive(self) -> Message:
        await self._bell.until(lambda: bool(self._inbox) or self._left or self.record.complete)
        message: Message = self._inbox.pop(0) if self._inbox else {"type": "http.disconnect"}
        self.received.append(message)
        self._bell.ring()
        return message

    async def send(self, message: Message) -> None:
        try:
            self._check(message)
        except ProtocolError as breach:
            self._breaches.append(breach)
            raise
        now = perf_counter()
        self.record.messages.append(message)
        if message["type"] == "http.response.start":
            self._snapshot = copy.deepcopy(message)
            self.record.started_at = now
        elif message["type"] == "http.response.body":
            chunk = Chunk(message.get("body", b""), message.get("more_body", False), now)
            self.chunks.append(chunk)
        self._bell.ring()
        await self._room()

    async def _room(self) -> None:
        """Wait while more chunks are unread than the window allows; a left client takes all."""
        window = self._window
        if window is None or len(self.chunks) - self._read <= window or self._left:
            return
        self.blocked += 1
        self._bell.ring()
        try:
            await self._bell.until(lambda: len(self.chunks) - self._read <= window or self._left)
        finally:
            self.blocked -= 1

    def _check(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.start":
            if self._snapshot is not None:
                raise ProtocolError("the response was started twice")
            status = message["status"]
            if not isinstance(status, int) or not 200 <= status <= 599:
                raise ProtocolError(f"status {status!r}")
            for name, value in message.get("headers", ()):
                if type(name) is not bytes or type(value) is not bytes or name != name.lower():
                    raise ProtocolError(f"header {name!r}: {value!r}; expected lower-case bytes")
                if b"\r" in value or b"\n" in value:
                    raise ProtocolError(f"header {name!r} has a line end in its value")
        elif kind == "http.response.body":
            if self._snapshot is None:
                raise ProtocolError("a body message before the start")
            if self.record.complete:
                raise ProtocolError("a body message after the last one")
            if type(message.get("body", b"")) is not bytes:
                raise ProtocolError(f"a body of type {type(message['body']).__name__}")
        elif self.scope["type"] == "http":
            raise ProtocolError(f"message {kind!r} on an HTTP scope")


async def request(
    app: ASGIApp,
    method: str = "GET",
    path: str = "/",
    *,
    headers: Headers = (),
    body: bytes = b"",
    json: Any = None,
    state: dict[str, Any] | None = None,
    timeout: float = DEADLINE,
    **scope: Any,
) -> Recorded:
    """One whole request; raises what the app raised. `json` is sent as the body.

    A `content-length` is added to a body that has none. `scope` goes to `http_scope`.
    """
    pairs = header_list(headers)
    names = {name for name, _ in pairs}
    if json is not None:
        body = dumps(json).encode()
    if body and not names & {b"content-length", b"transfer-encoding"}:
        pairs.append((b"content-length", str(len(body)).encode()))
    full = http_scope(method, path, headers=pairs, state=state, **scope)
    async with Call(app, full, body=body, timeout=timeout) as call:
        return await call.done()


@asynccontextmanager
async def lifespan(app: ASGIApp, *, timeout: float = 10.0) -> AsyncIterator[dict[str, Any]]:
    """Run the app's lifespan around the block; yields the state that requests are given.

    Raises AssertionError when startup or shutdown fails, or what the app raised.
    """
    state: dict[str, Any] = {}
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    outbox: asyncio.Queue[Message] = asyncio.Queue()
    scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}
    running = asyncio.ensure_future(app(scope, inbox.get, outbox.put))

    async def phase(name: str) -> None:
        inbox.put_nowait({"type": f"lifespan.{name}"})
        answer = asyncio.ensure_future(outbox.get())
        try:
            await asyncio.wait(
                {answer, running}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            if not answer.done():
                if running.done():
                    await running
                raise AssertionError(f"no answer to lifespan.{name}")
            message = answer.result()
            assert message["type"] == f"lifespan.{name}.complete", message
        finally:
            answer.cancel()

    try:
        await phase("startup")
        yield state
        await phase("shutdown")
        async with asyncio.timeout(timeout):
            await running
    finally:
        running.cancel()
        await asyncio.wait({running})
