"""The simulator as an HTTP/1.1 server: asyncio.Protocol and httptools, no task per anything.

Theory of operation. A connection parses requests and answers them one after the other. An answer
is turned into wire bytes once (`Wire`) and kept for identical requests. An answer without delays
is written at once; any other is put on the server's one `Wheel`, which calls it back when its next
step is due. A step is one write and one chunk. A client that does not read pauses its answer only.
"""

import asyncio
import socket
from collections import deque
from typing import Any

import httptools
import msgspec

from edge.upstreams import Header, Request

from .answer import Answer
from .behaviour import answer
from .controls import Controls
from .stats import Stats
from .wheel import Wheel

_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    529: b"Site Overloaded",
}
_PIPELINE = 64
_HOP_BY_HOP = (b"connection", b"content-length", b"transfer-encoding", b"host")


class Bounds(msgspec.Struct, frozen=True):
    """Bytes a request may have in headers and body; answers kept, by count and by bytes."""

    headers: int = 64 << 10
    body: int = 32 << 20
    answers: int = 1024
    answer_bytes: int = 64 << 20


class Wire(msgspec.Struct, frozen=True):
    """An answer as bytes on the wire: `writes[n]` at `times[n]` seconds after the request.

    The first write starts with the head; `steps` of the writes carry body.
    """

    times: tuple[float, ...]
    writes: tuple[bytes, ...]
    streams: bool
    ending: str
    head_alone: bool

    @property
    def size(self) -> int:
        return sum(map(len, self.writes))


def wire_of(found: Answer, *, head_only: bool = False) -> Wire:
    """Head and steps of an answer, framed; `head_only` for HEAD (RFC 9110, section 9.3.2)."""
    lines = [b"HTTP/1.1 %d %s" % (found.status, _REASONS.get(found.status, b"Unknown"))]
    lines += [b"%s: %s" % pair for pair in found.headers]
    chunked = found.length is None
    lines.append(
        b"transfer-encoding: chunked" if chunked else b"content-length: %d" % (found.length or 0)
    )
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    steps = () if head_only else found.steps
    times = [at for at, _ in steps]
    writes = [b"%x\r\n%s\r\n" % (len(d), d) if chunked else d for _, d in steps]
    # The head goes with the first step when both are due: one write less.
    head_alone = not writes or times[0] > found.head_at
    if head_alone:
        times.insert(0, found.head_at)
        writes.insert(0, head)
    else:
        writes[0] = head + writes[0]
    if chunked and found.ending == "whole" and not head_only:
        writes[-1] += b"0\r\n\r\n"
    return Wire(tuple(times), tuple(writes), chunked, found.ending, head_alone)


class SimulatorServer:
    """The provider on a TCP port.

    controls: defaults for every request. `stats` counts; `recent` holds the newest requests whose
    body is no larger than 1 MiB. Also an async context manager, started on a free loopback port.
    """

    def __init__(
        self,
        controls: Controls = Controls(),  # noqa: B008 - it is frozen
        *,
        bounds: Bounds = Bounds(),  # noqa: B008 - it is frozen
    ) -> None:
        self.controls = controls
        self.bounds = bounds
        self.stats = Stats()
        self.recent: deque[Request] = deque(maxlen=16)
        self.connections: set[Connection] = set()
        self.wheel: Wheel
        self._server: asyncio.Server | None = None
        self._wires: dict[tuple[object, ...], Wire] = {}
        self._wire_bytes = 0
        self._stats_target = b"/stats"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen. Raises OSError when the address cannot be had."""
        loop = asyncio.get_running_loop()
        self.wheel = Wheel(loop)
        self._server = await loop.create_server(
            lambda: Connection(self, loop), host, port, backlog=2048
        )

    @property
    def port(self) -> int:
        """The port listened on."""
        if self._server is None:
            raise RuntimeError("the simulator has not been started")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Scheme, address and port, no slash at the end."""
        host = self._server.sockets[0].getsockname()[0] if self._server else ""
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def aclose(self) -> None:
        """Stop listening and break every connection."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self.connections):
            connection.abort()
        self.wheel.close()
        await self._server.wait_closed()
        self._server = None

    async def __aenter__(self) -> "SimulatorServer":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def wire(self, request: Request, body: bytes) -> Wire:
        """The answer to a request, built once for all identical ones."""
        if request.target == self._stats_target:
            json = (b"content-type", b"application/json")
            report = self.stats.report()
            return wire_of(Answer(200, (json,), len(report), 0.0, ((0.0, report),)))
        self.stats.requests += 1
        if len(body) <= 1 << 20:
            self.recent.append(request)
        steering = tuple(
            pair for pair in request.headers if pair[0] in (b"x-sim", b"anthropic-version")
        )
        key = (request.method, request.target, steering, body)
        wire = self._wires.get(key)
        if wire is None:
            found = answer(request.method, request.target, steering, body, self.controls)
            wire = wire_of(found, head_only=request.method == b"HEAD")
            self._keep(key, wire, len(body))
        return wire

    def _keep(self, key: tuple[object, ...], wire: Wire, body_size: int) -> None:
        size = wire.size + body_size
        if size > self.bounds.answer_bytes // 4:
            return
        if (
            len(self._wires) >= self.bounds.answers
            or self._wire_bytes + size > self.bounds.answer_bytes
        ):
            self._wires.clear()
            self._wire_bytes = 0
        self._wires[key] = wire
        self._wire_bytes += size


class Connection(asyncio.Protocol):
    """One client. At most one answer is under way; further requests wait their turn."""

    def __init__(self, server: SimulatorServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, bytes, bool]] = deque()
        self._target = b""
        self._headers: list[Header] = []
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._paused = False
        self._wire: Wire | None = None
        self._answering = b""
        self._keep_alive = True
        self._started = 0.0
        self._written = 0
        self._next_call = 0.0
        self._over = False

    # Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connections.add(self)
        self._server.stats.connections += 1
        self._server.stats.accepted += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._over = True
        server = self._server
        server.connections.discard(self)
        server.stats.connections -= 1
        if self._paused:
            server.stats.paused -= 1
            self._paused = False
        wire = self._wire
        if wire is not None:
            if self._next_call:
                server.wheel.remove(self, self._next_call)
            steps = max(0, self._written - wire.head_alone)
            server.stats.hung_up(self._answering, "body" if self._written else "head", steps)
            self._finish(wire)
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        # The parser holds no bound on a request line or header line that never ends.
        self._header_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._refuse(400)
        else:
            if self._header_bytes > self._server.bounds.headers:
                self._refuse(431)

    def pause_writing(self) -> None:
        self._paused = True
        self._server.stats.paused += 1

    def resume_writing(self) -> None:
        if not self._paused:
            return
        self._paused = False
        self._server.stats.paused -= 1
        if self._wire is not None and not self._next_call:
            self._schedule(self.due(self._loop.time()))

    def abort(self) -> None:
        """Break the connection; not a hang-up of the client's."""
        if self._wire is not None:
            if self._next_call:
                self._server.wheel.remove(self, self._next_call)
            self._finish(self._wire)
        self._over = True
        self._transport.abort()

    # Parser

    def on_message_begin(self) -> None:
        self._target = b""
        self._headers = []
        self._body = []
        self._body_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._header_bytes = 0
        for name, value in self._headers:
            if name == b"expect" and value.lower() == b"100-continue" and self._wire is None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._header_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._server.bounds.body:
            self._refuse(413)
        else:
            self._body.append(body)

    def on_message_complete(self) -> None:
        self._header_bytes = 0
        if self._over:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        request = Request(
            method=self._parser.get_method(),
            target=self._target,
            headers=tuple(pair for pair in self._headers if pair[0] not in _HOP_BY_HOP),
            body=body,
        )
        keep_alive = self._parser.should_keep_alive()
        if self._wire is not None:
            self._queue.append((request, body, keep_alive))
            if len(self._queue) > _PIPELINE:
                self._refuse(400)
            return
        self._answer(request, body, keep_alive)

    # Answers

    def _answer(self, request: Request, body: bytes, keep_alive: bool) -> None:
        server = self._server
        self._wire = wire = server.wire(request, body)
        self._answering = request.target
        self._keep_alive = keep_alive
        self._written = 0
        self._started = now = self._loop.time()
        server.stats.running += 1
        server.stats.streams += wire.streams
        self._schedule(self.due(now))

    def _schedule(self, when: float) -> None:
        if when:
            self._server.wheel.add(self, when)

    def due(self, now: float) -> float:
        """Write what is due; the loop time of the next write, 0 when there is none to wait for."""
        self._next_call = 0.0
        wire = self._wire
        if wire is None or self._over:
            return 0.0
        times = wire.times
        count = len(times)
        at = self._written
        elapsed = now - self._started
        write = self._transport.write
        while at < count and times[at] <= elapsed:
            if self._paused:
                self._written = at
                return 0.0
            self._written = at + 1  # before the write, which may fail and end the connection
            write(wire.writes[at])
            at += 1
        if at < count:
            self._next_call = self._started + times[at]
            return self._next_call
        if wire.ending == "silent":
            return 0.0
        self._finish(wire)
        if wire.ending == "cut" or not self._keep_alive:
            self._over = True
            self._transport.close()
        elif self._queue:
            self._loop.call_soon(self._next_request)
        return 0.0

    def _next_request(self) -> None:
        if self._queue and self._wire is None and not self._over:
            self._answer(*self._queue.popleft())

    def _finish(self, wire: Wire) -> None:
        self._wire = None
        self._server.stats.running -= 1
        self._server.stats.streams -= wire.streams

    def _refuse(self, status: int) -> None:
        """Say why and close; a client whose answer is under way is just closed."""
        if self._over:
            return
        self._over = True
        if self._wire is not None:
            self._finish(self._wire)
        else:
            reason = _REASONS[status]
            self._transport.write(
                b"HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                % (status, reason)
            )
        self._transport.close()


async def serve(host: str = "127.0.0.1", port: int = 0, **defaults: Any) -> SimulatorServer:
    """A listening simulator; `defaults` are controls by name, e.g. `rate=50`.

    Raises ValueError for a control that is unknown or has an impossible value, OSError when the
    address cannot be had.
    """
    server = SimulatorServer(Controls().with_values(defaults))
    await server.start(host, port)
    return server
