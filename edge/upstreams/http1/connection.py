"""One HTTP/1.1 connection, which carries one exchange after another.

Theory of operation. A `Connection` lives as long as its socket and carries one `HTTPResponse` at a
time; `exchange` is that response, or None while the connection is idle. The parser appends bytes to
the response's list, and the reader is woken once per read of the socket, by one future. When a
message is complete the connection returns to its pool at once, because the response owns its bytes.

    idle ──start──▶ sending ──▶ waiting for the head ──▶ body ──▶ complete ──▶ idle, or closed
                       └──────────────┴──────────────────┴──▶ failed, and closed

Failure, `HTTPResponse.close` and cancellation close the socket. So do unexpected bytes, which could
be taken for the answer to the next request. Only `connection_lost` removes a connection from its
pool.

Timeouts. Each connection has one loop timer, which is set again only when it fires or when a
deadline comes before it. Events change `_deadline` and not the timer.

Chunks. A read of the socket is nearly always one chunk of the body, and a sink waits for it.
Between two chunks the parser has no state that one more whole chunk would change, so such a read
is given to the sink without the parser. Everything else is parsed.
"""

import asyncio
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from math import inf
from typing import Any, Protocol

import httptools

from edge.upstreams import (
    FRAMING,
    Disconnected,
    Malformed,
    Phase,
    RepeatableBody,
    RequestBody,
    TimedOut,
    is_repeatable,
)

from .limits import PoolLimits
from .response import HTTPResponse
from .wire import RequestHead, SizedBody

_LARGEST_READ = 1024
"""Bytes of the largest read that may reach a sink without the parser."""
_SPECIAL_HEADERS = frozenset((b"keep-alive", b"transfer-encoding"))


_ALONE = Context()
"""Of the timers of all connections: a copy of a request's context for each would only be kept."""


def _chunk_heads() -> tuple[bytes, ...]:
    heads = [bytes(_LARGEST_READ + 1)] * (_LARGEST_READ + 1)  # longer than the read
    for size in range(1, _LARGEST_READ):
        head = b"%x\r\n" % size
        read = len(head) + size + 2
        if read <= _LARGEST_READ:
            heads[read] = head
    return tuple(heads)


_CHUNK_HEADS = _chunk_heads()
"""How a read begins that is one chunk, by the bytes of the read."""


@asynccontextmanager
async def _closing(source: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Close `source` at the end, if it can be closed."""
    try:
        yield source
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


class ConnectionPool(Protocol):
    """The pool as its connections see it."""

    limits: PoolLimits
    clock: Callable[[], float]

    def release(self, connection: "Connection") -> None:
        """Take back an idle connection."""

    def lost(self, connection: "Connection") -> None:
        """Remove a lost connection."""


class Connection(asyncio.Protocol):
    """The protocol of one connection. reused: whether it has carried a response before."""

    __slots__ = (
        "_between_chunks",
        "_bytes_since_body",
        "_deadline",
        "_expected",
        "_head_only",
        "_interim",
        "_keep",
        "_parser",
        "_pool",
        "_pump",
        "_server_keepalive",
        "_timer",
        "_timer_at",
        "_transport",
        "_unexpected",
        "_writable",
        "closed",
        "counted",
        "exchange",
        "expires",
        "loop",
        "paused",
        "reused",
    )

    def __init__(self, pool: ConnectionPool, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self.loop = loop
        self.exchange: HTTPResponse | None = None
        self.closed = False
        self.counted = False  # whether the pool counts it; set by the pool
        self.reused = False
        self.paused = False
        self.expires = inf  # while idle: when to close
        self._transport: asyncio.Transport | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = inf
        self._deadline = inf
        self._server_keepalive = inf
        self._pump: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._expected: asyncio.Future[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._between_chunks = False  # the parser expects the size of a chunk
        self._bytes_since_body = 0  # since the last byte of a body, or since the request
        self._interim = False
        self._unexpected = False
        self._keep = True
        self._head_only = False

    # --- the request -------------------------------------------------------------------------

    def start(self, exchange: HTTPResponse, head: RequestHead, body: RequestBody) -> None:
        """Write a request; the outcome is set on `exchange`. Never raises, never waits."""
        transport = self._transport
        self.exchange = exchange
        exchange._connection = self
        self._reset()
        if transport is None or self.closed:
            self.fail(Disconnected("the connection was closed before the request was written"))
            return
        self._head_only = head.bodiless_response
        self._keep = not head.close
        exchange.sent = True
        if (body is None or isinstance(body, bytes)) and not head.expect:
            if not body:
                transport.write(head.block)
            elif len(body) < 65536:
                transport.write(head.block + body)
            else:
                transport.writelines((head.block, body))
            deadline = self._pool.clock() + self._pool.limits.first_byte
        else:
            transport.write(head.block)
            deadline = inf
            self._pump = self.loop.create_task(self._send_body(exchange, body, head.expect))
        self._deadline = deadline
        if deadline < self._timer_at or exchange.total_deadline < self._timer_at:
            self._arm()

    async def _send_body(self, exchange: HTTPResponse, body: RequestBody, expect: bool) -> None:
        """Write a body in pieces, in one task per request."""
        try:
            if expect:
                await self._await_continue()
            if exchange.status:  # the answer came instead of `100 Continue`
                self._keep = False
                return
            if isinstance(body, bytes):
                await self._write(body)
            elif body is not None:
                exchange.started = not is_repeatable(body)
                await self._write_stream(body)
            if exchange is self.exchange and not exchange.status:
                self._set_deadline(self._pool.clock() + self._pool.limits.first_byte)
        except Exception as error:
            # The source of the body failed; the caller gets its error.
            if exchange is self.exchange:
                self.fail(error)
        finally:
            if exchange is self.exchange:
                self._pump = None
            close = getattr(body, "aclose", None) if exchange.started else None
            if close is not None:
                await close()

    async def _await_continue(self) -> None:
        self._expected = self.loop.create_future()
        try:
            async with asyncio.timeout(self._pool.limits.continue_after):
                await self._expected
        except TimeoutError:
            pass  # RFC 9110 section 10.1.1: do not wait for an indefinite time
        finally:
            self._expected = None

    async def _write_stream(self, body: RepeatableBody | AsyncIterator[bytes]) -> None:
        if isinstance(body, (SizedBody, RepeatableBody)):
            left = body.length
            async with _closing(aiter(body)) as source:
                async for chunk in source:
                    left -= len(chunk)
                    if left < 0:
                        break
                    await self._write(chunk)
            if left:
                size = "more" if left < 0 else "fewer"
                raise ValueError(f"the body has {size} bytes than its length of {body.length}")
            return
        async for chunk in body:
            if chunk:
                await self._write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        await self._write(b"0\r\n\r\n")

    async def _write(self, data: bytes) -> None:
        """Write and wait until the upstream takes it; only this wait counts as idle time."""
        transport = self._transport
        if transport is None or self.closed:
            raise Disconnected("the connection was closed during the request body", sent=True)
        transport.write(data)
        if self._writable is not None:
            exchange = self.exchange
            if exchange is not None and not exchange.status:
                self._set_deadline(self._pool.clock() + self._pool.limits.idle)
            await self._writable
            if exchange is not None and not exchange.status:
                self._deadline = inf

    def pause_writing(self) -> None:
        self._writable = self.loop.create_future()

    def resume_writing(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None

    def abort_if_ended(self) -> None:
        """Close an idle connection that the server has closed, if its end is not read yet.

        A request written to it could be lost without a trace.
        """
        transport = self._transport
        number = -1 if transport is None else transport.get_extra_info("socket").fileno()
        if number < 0:
            self.closed = True
            return
        poller = select.poll()
        poller.register(number, select.POLLIN)
        if poller.poll(0):
            self.abort()

    # --- the response ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.abort()  # no request is running
            return
        sink = exchange._pushed_to
        if sink is not None and self._between_chunks and len(data) <= _LARGEST_READ:
            head = _CHUNK_HEADS[len(data)]
            given = data[: len(head)]
            if (given == head or given.lower() == head) and data[-2:] == b"\r\n":
                self._deadline = self._pool.clock() + self._pool.limits.idle
                try:
                    rest = sink(data[len(head) : -2])
                except Exception as raised:
                    exchange.end_push(None, raised)
                else:
                    if rest is not None:
                        exchange.end_push(rest)
                return
        exchange.unanswered = False
        before = exchange.received
        try:
            self._parser.feed_data(data)
            if self._between_chunks and not data.endswith(b"\r\n"):
                self._between_chunks = False  # a part of the next size
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not exchange.complete:
                if self.exchange is exchange:
                    self.fail(Malformed(f"not an HTTP/1.1 response: {error}", sent=True))
                return
            self._unexpected = True
        if self.exchange is not exchange:
            return  # a callback has failed it
        if exchange.complete:
            self._finish(exchange)
            exchange.wake()
            return
        limits = self._pool.limits
        received = exchange.received
        if received != before:
            self._bytes_since_body = 0
            if limits.body_bytes and received > limits.body_bytes:
                self.fail(Malformed(f"body over {limits.body_bytes} bytes", sent=True))
                return
        else:
            self._bytes_since_body += len(data)
            if self._bytes_since_body > limits.header_bytes:
                self.fail(Malformed(f"head over {limits.header_bytes} bytes", sent=True))
                return
        if not exchange.status:
            return
        self._deadline = deadline = self._pool.clock() + limits.idle
        if deadline < self._timer_at:
            self._arm()
        if received - exchange._taken > limits.buffer_bytes and not self.paused:
            self._pause()
        if exchange._chunks or exchange._awaiting_head:
            exchange.wake()

    def on_message_begin(self) -> None:
        exchange = self.exchange
        if exchange is None or exchange.complete:
            self._unexpected = True

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self.exchange
        if exchange is None or exchange.status:
            return  # a trailer, or no request is running
        name = name.lower()
        if name in _SPECIAL_HEADERS:
            self._on_special_header(name, value)
        exchange.headers.append((name, value))

    def _on_special_header(self, name: bytes, value: bytes) -> None:
        if name == b"transfer-encoding":
            # A transfer coding that was not requested (no `te` is sent) and cannot be decoded.
            if value.strip().lower() != b"chunked":
                self.fail(Malformed("a transfer coding other than chunked", sent=True))
            return
        for parameter in value.lower().split(b","):
            key, _, seconds = parameter.strip().partition(b"=")
            if key == b"timeout" and seconds.isdigit() and len(seconds) < 9:
                self._server_keepalive = float(seconds)

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is None or exchange.complete:
            return
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101 or status < 100:
                self.fail(Malformed(f"status {status} to a plain request", sent=True))
                return
            exchange.headers.clear()
            self._interim = True
            if status == 100:
                self._send_expected_body()
            return
        limits = self._pool.limits
        size = 0
        for name, value in exchange.headers:
            size += len(name) + len(value) + 4
        if size > limits.header_bytes or status > 599:
            reason = (
                f"head over {limits.header_bytes} bytes" if status < 600 else f"status {status}"
            )
            self.fail(Malformed(reason, sent=True))
            return
        exchange.status = status
        if not self._parser.should_keep_alive():
            self._keep = False
        if self._head_only:
            exchange.complete = True
        if self._pump is not None:
            self._send_expected_body()
            self._keep = False  # the answer came before the request was complete
            if status >= 300:
                self._pump.cancel()

    def _send_expected_body(self) -> None:
        if self._expected is not None and not self._expected.done():
            self._expected.set_result(None)

    def on_body(self, body: bytes) -> None:
        exchange = self.exchange
        if exchange is None or exchange.complete:
            self._unexpected = True
            return
        exchange._chunks.append(body)
        exchange.received += len(body)

    def on_chunk_header(self) -> None:
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        # A limit of the body needs every chunk counted.
        self._between_chunks = not self._pool.limits.body_bytes

    def on_message_complete(self) -> None:
        exchange = self.exchange
        if exchange is None:
            return
        if self._interim:
            self._interim = False
            return
        exchange.complete = True

    def _finish(self, exchange: HTTPResponse) -> None:
        """Return the connection to the pool after a complete message, or close it."""
        limits = self._pool.limits
        if limits.body_bytes and exchange.received > limits.body_bytes:
            exchange.complete = False
            self.fail(Malformed(f"body over {limits.body_bytes} bytes", sent=True))
            return
        self.exchange = None
        exchange._connection = None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        if not self._keep or self._unexpected or self._writable is not None or self.closed:
            self.abort()
            return
        if self.paused:
            self.resume()
        if self._head_only:
            # The parser still expects the body that the headers describe.
            self._parser = httptools.HttpResponseParser(self)
        self.reused = True
        keepalive = min(limits.keepalive, self._server_keepalive)
        self.expires = self._deadline = self._pool.clock() + keepalive
        if self.expires < self._timer_at:
            self._arm()
        self._pool.release(self)

    # --- flow control, timeouts, closing -----------------------------------------------------

    def _pause(self) -> None:
        self.paused = True
        self._deadline = inf
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        """Resume reading the socket."""
        self.paused = False
        if self._transport is not None and not self.closed:
            self._transport.resume_reading()
            self._set_deadline(self._pool.clock() + self._pool.limits.idle)

    def _set_deadline(self, deadline: float) -> None:
        self._deadline = deadline
        if deadline < self._timer_at:
            self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._deadline
        if self.exchange is not None:
            deadline = min(deadline, self.exchange.total_deadline)
        self._timer_at = deadline
        if deadline == inf:
            self._timer = None
            return
        delay = max(deadline - self._pool.clock(), 0.001)
        self._timer = self.loop.call_later(delay, self._on_timer, context=_ALONE)

    def _on_timer(self) -> None:
        self._timer = None
        self._timer_at = inf
        now = self._pool.clock()
        exchange = self.exchange
        if exchange is None:
            if now >= self.expires:
                self.abort()
                return
        elif now >= exchange.total_deadline:
            return self._time_out(exchange, "total", self._pool.limits.total)
        elif now >= self._deadline:
            if exchange.status or self._pump is not None:
                return self._time_out(exchange, "idle", self._pool.limits.idle)
            return self._time_out(exchange, "first_byte", self._pool.limits.first_byte)
        self._arm()

    def _time_out(self, exchange: HTTPResponse, phase: Phase, seconds: float) -> None:
        self.fail(TimedOut(phase, seconds, sent=exchange.sent))

    def eof_received(self) -> None:
        """The upstream closed its side, which ends a body without length (RFC 9112 section 6.3)."""
        self.closed = True  # the loop closes the socket after this call
        exchange = self.exchange
        if exchange is None or not exchange.status or exchange.complete:
            return
        if not any(name in FRAMING for name, _ in exchange.headers):
            exchange.complete = True
            self._finish(exchange)
            exchange.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        exchange = self.exchange
        if exchange is not None:
            what = "reset" if exc is not None else "closed"
            when = "during the body" if exchange.status else "before a complete response head"
            reason = f"the upstream {what} the connection {when}"
            self.fail(Disconnected(f"{reason}: {exc}" if exc else reason, sent=exchange.sent))
        self.resume_writing()
        self._parser = None  # break the reference cycle
        if self.counted:
            self.counted = False
            self._pool.lost(self)

    def fail(self, error: Exception) -> None:
        """End the exchange with `error` and close the socket. No effect without an exchange."""
        exchange = self.exchange
        if exchange is None:
            return
        self.exchange = None
        exchange._connection = None
        exchange._error = error
        pump, self._pump = self._pump, None
        if pump is not None and pump is not asyncio.current_task(self.loop):
            pump.cancel()
        self.abort()
        exchange.wake()

    def abort(self) -> None:
        """Close the socket now and drop unwritten bytes."""
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
