"""One client connection of the server: answers its requests in order."""

import asyncio
import socket
from collections import deque
from contextlib import suppress
from typing import Protocol

import httptools
import msgspec

from edge.upstreams import Header, Request

from .answer import HELD
from .form import FormReader, SimulatedForm, boundary_of
from .prompt import PromptRejected
from .reported import reported
from .stats import Stats
from .timer_wheel import TimerWheel
from .wire import REASONS, AnswerWire

_PIPELINE = 64
_REMEMBERED = 1 << 20
"""Bytes of a form that are kept as they came."""
_HOP_BY_HOP = (b"connection", b"content-length", b"transfer-encoding", b"host")


class Bounds(msgspec.Struct, frozen=True):
    """Limits of a server: bytes of headers, body and form; cached answers by count and bytes."""

    headers: int = 64 << 10
    body: int = 64 << 20
    form: int = 1 << 30
    answers: int = 1024
    answer_bytes: int = 64 << 20


class ConnectionServer(Protocol):
    """The server as its connections see it."""

    bounds: Bounds
    stats: Stats
    wheel: TimerWheel
    connections: "set[SimulatedConnection]"

    def wire(self, request: Request, body: bytes | SimulatedForm) -> AnswerWire: ...


class SimulatedConnection(asyncio.Protocol):
    """One client connection. One answer is written at a time; further requests are queued."""

    def __init__(self, server: ConnectionServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._loop = loop
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, bytes | SimulatedForm, bool]] = deque()
        self._target = b""
        self._headers: list[Header] = []
        self._header_bytes = 0
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._most = 0
        self._form: FormReader | None = None
        self._paused = False
        self._wire: AnswerWire | None = None
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
            server.stats.add_usage(reported(wire.model, wire.writes[: self._written]))
            self._finish(wire)
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        # The parser does not limit the length of a request line or header line.
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
        """Close the connection without counting a hang-up of the client."""
        if self._wire is not None:
            if self._next_call:
                self._server.wheel.remove(self, self._next_call)
            self._finish(self._wire)
        self._over = True
        self._transport.abort()

    def release(self) -> None:
        """Continue a held answer."""
        wire = self._wire
        at = self._written
        if wire is None or self._over or at == len(wire.times) or wire.times[at] < HELD:
            return
        self._server.wheel.remove(self, self._next_call)
        now = self._loop.time()
        self._started = now - wire.times[at]
        self._schedule(self.due(now))

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
        self._form, self._most = None, self._server.bounds.body
        for name, value in self._headers:
            if name == b"content-type":
                boundary = boundary_of(value.decode("latin-1"))
                if boundary is not None:
                    self._form = FormReader(boundary)
                    self._most = self._server.bounds.form
            if name == b"expect" and value.lower() == b"100-continue" and self._wire is None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._header_bytes = 0
        self._body_bytes += len(body)
        if self._body_bytes > self._most:
            self._refuse(413)
            return
        if self._form is not None:
            self._form.feed(body)
            if self._body_bytes > _REMEMBERED:
                self._body.clear()
                return
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._header_bytes = 0
        if self._over:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body = []
        form: SimulatedForm | None = None
        if self._form is not None:
            # A form with an error stays bytes, and `answer` refuses it in the vendor's words.
            with suppress(PromptRejected):
                form = self._form.close()
        request = Request(
            method=self._parser.get_method(),
            target=self._target,
            headers=tuple(pair for pair in self._headers if pair[0] not in _HOP_BY_HOP),
            body=None if form is not None and self._body_bytes > _REMEMBERED else body,
        )
        keep_alive = self._parser.should_keep_alive()
        if self._wire is not None:
            self._queue.append((request, form or body, keep_alive))
            if len(self._queue) > _PIPELINE:
                self._refuse(400)
            return
        self._answer(request, form or body, keep_alive)

    # Answers

    def _answer(self, request: Request, body: bytes | SimulatedForm, keep_alive: bool) -> None:
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
        """Write what is due; returns the loop time of the next write, 0 if there is none."""
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
        stats = self._server.stats
        stats.finished(wire.used)
        stats.add_usage(wire.used or reported(wire.model, wire.writes))
        self._finish(wire)
        if wire.ending in ("cut", "lost") or not self._keep_alive:
            self._over = True
            self._transport.close()
        elif self._queue:
            self._loop.call_soon(self._next_request)
        return 0.0

    def _next_request(self) -> None:
        if self._queue and self._wire is None and not self._over:
            self._answer(*self._queue.popleft())

    def _finish(self, wire: AnswerWire) -> None:
        self._wire = None
        self._server.stats.running -= 1
        self._server.stats.streams -= wire.streams

    def _refuse(self, status: int) -> None:
        """Send an error status and close; close at once while an answer is being written."""
        if self._over:
            return
        self._over = True
        if self._wire is not None:
            self._finish(self._wire)
        else:
            reason = REASONS[status]
            self._transport.write(
                b"HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
                % (status, reason)
            )
        self._transport.close()
