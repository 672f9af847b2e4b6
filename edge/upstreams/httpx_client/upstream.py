"""Upstream over httpx, for HTTP/2 and proxies, which the native client does not support."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from time import monotonic
from types import TracebackType
from typing import Any, Literal, TypeVar

import httpx

from edge.upstreams import (
    ConnectFailed,
    Disconnected,
    Header,
    Malformed,
    Phase,
    RepeatableBody,
    Request,
    RequestBody,
    TimedOut,
    UpstreamFailure,
    is_repeatable,
)
from edge.upstreams.http1.limits import STALE_WITHIN, PoolLimits
from edge.upstreams.http1.wire import SizedBody, encode_head, netloc_of

from .network import Network, RequestProgress, current_request

T = TypeVar("T")


class HttpxUpstream:
    """An `Upstream` over an httpx transport, with `PoolLimits` and `UpstreamFailure`.

    network: the backend on which `transport` opens connections. With it, a request that fails on a
        reused connection is sent once more on a new one, as by `Transport`.
    repeat: see `Transport`.

    `PoolLimits.buffer_bytes`, `header_bytes` and `continue_after` do not apply: httpx reads on
    demand, has its own limit for heads (100 KiB, 256 KiB with interim responses) and does not
    support `100-continue`.
    """

    def __init__(
        self,
        base_url: str,
        transport: httpx.AsyncBaseTransport,
        *,
        limits: PoolLimits,
        network: Network | None = None,
        repeat: bool = True,
    ) -> None:
        url = httpx.URL(base_url)
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"base_url must be http://host or https://host, got {base_url!r}")
        self._origin = url.copy_with(raw_path=b"/")
        self._netloc = netloc_of(url)
        self._host_line = b"host: " + self._netloc + b"\r\n"
        self._network = network
        self._repeat = repeat
        self._transport = transport
        self.limits = limits
        self._closing: set[asyncio.Task[Any]] = set()
        self._dropped: set[Any] = set()  # idle connections that are being closed
        self._closed = False

    @property
    def connections(self) -> int:
        """Open connections, and those being opened."""
        return len(self._pooled)

    @property
    def idle(self) -> int:
        """Connections without a request."""
        return sum(each.is_idle() for each in self._pooled)

    @property
    def waiting(self) -> int:
        """Requests in the queue for a connection."""
        pool = getattr(self._transport, "_pool", None)
        return 0 if pool is None else sum(each.is_queued() for each in pool._requests)

    def drop_idle(self) -> None:
        """Close one idle connection, if any."""
        for each in self._pooled:
            if each.is_idle():
                self._dropped.add(each)
                task = asyncio.get_running_loop().create_task(each.aclose())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                return

    @property
    def _pooled(self) -> list[Any]:
        pool = getattr(self._transport, "_pool", None)  # httpx has no public access to it
        if pool is None:
            return []
        self._dropped &= set(pool.connections)
        return [one for one in pool.connections if one not in self._dropped]

    async def open(self, request: Request) -> "HttpxResponse":
        """See `Upstream.open`."""
        encode_head(request, self._host_line)  # only for its checks; httpx lacks some of them
        if self._closed:
            raise ConnectFailed("the transport is closed")
        end = asyncio.get_running_loop().time() + self.limits.total
        progress = RequestProgress()
        body = _RequestStream(request.body)
        try:
            return await self._send(request, body, end, progress)
        except Disconnected:
            if self._network is None or not self._may_resend(progress, body):
                raise
        self._network.retire()
        return await self._send(request, body, end, RequestProgress())

    def _may_resend(self, progress: RequestProgress, body: "_RequestStream") -> bool:
        """Whether a request may be sent once more after a disconnect. See `Transport`."""
        if progress.fresh or progress.answered or not body.resendable:
            return False
        written = progress.written
        return not written or (self._repeat and monotonic() - written < STALE_WITHIN)

    async def _send(
        self, request: Request, body: "_RequestStream", end: float, progress: RequestProgress
    ) -> "HttpxResponse":
        limits = self.limits
        token = current_request.set(progress)
        try:
            async with _TimeLimit(
                limits, end, progress if self._network is not None else None
            ) as limit:
                body.limit = limit
                if self._network is not None:
                    limit.expect("connect")
                    progress.on_write = limit.connected
                httpx_request = httpx.Request(
                    request.method.decode("ascii"),
                    self._origin.copy_with(raw_path=request.target),
                    headers=[(b"host", self._netloc), *request.headers, *_framing(request)],
                    stream=body,
                    extensions={
                        "timeout": {
                            "connect": limits.connect,
                            "pool": limits.connect,
                            "write": limits.idle,
                            "read": None,  # the limit's own timer
                        }
                    },
                )
                response = await self.in_own_task(
                    self._transport.handle_async_request(httpx_request)
                )
        finally:
            current_request.reset(token)
        return HttpxResponse(self, response, end)

    async def aclose(self) -> None:
        """See `Upstream.aclose`. Also aborts responses that are being read: httpx closes a pool in
        no other way."""
        self._closed = True
        while self._closing:
            await asyncio.wait(set(self._closing))
        await self._transport.aclose()

    async def in_own_task(self, step: Coroutine[Any, Any, T]) -> T:
        """Await `step` in its own task, which is cancelled at most once.

        On cancellation httpcore awaits the closing of its connection. A second cancellation, by
        another time limit or a disconnect, would leave the connection open.
        """
        task = asyncio.get_running_loop().create_task(step)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            task.cancel()
            self._closing.add(task)
            task.add_done_callback(self._abandoned)
            raise
        return task.result()

    def _abandoned(self, task: asyncio.Task[Any]) -> None:
        self._closing.discard(task)
        if task.cancelled() or task.exception() is not None:
            return
        response = task.result()  # it arrived during the cancellation
        if isinstance(response, httpx.Response):
            assert isinstance(response.stream, httpx.AsyncByteStream)
            self.close_soon(response.stream)

    def close_soon(self, stream: httpx.AsyncByteStream) -> None:
        """Close `stream` in a task: httpx closes with an await, `Response.close` has none."""
        task = asyncio.get_running_loop().create_task(_close(stream))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class HttpxResponse:
    """A `Response` of httpx. Closing an HTTP/2 response resets only its stream."""

    def __init__(self, upstream: HttpxUpstream, response: httpx.Response, end: float) -> None:
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        self.status = response.status_code
        self.headers: list[Header] = [(n.lower(), v) for n, v in response.headers.raw]
        self._upstream = upstream
        self._stream: httpx.AsyncByteStream | None = stream
        self._chunks = aiter(stream)
        self._end = end
        self._received = 0

    @property
    def at_end(self) -> bool:
        """Whether all is read, which httpx shows only after an empty read."""
        return self._stream is None

    async def read(self) -> bytes:
        """See `Response.read`."""
        if self._stream is None:
            return b""
        limits = self._upstream.limits
        try:
            data = b""
            async with _TimeLimit(limits, self._end) as limit:
                limit.expect("idle")
                while not data:
                    chunk = await self._upstream.in_own_task(self._next())
                    if chunk is None:
                        # Makes the connection reusable.
                        await self._upstream.in_own_task(self._stream.aclose())
                        self._stream = None
                        return b""
                    data = chunk
            self._received += len(data)
            if limits.body_bytes and self._received > limits.body_bytes:
                raise Malformed(f"body over {limits.body_bytes} bytes", sent=True)
        except BaseException:
            self.close()
            raise
        return data

    async def _next(self) -> bytes | None:
        return await anext(self._chunks, None)

    def close(self) -> None:
        """See `Response.close`."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._upstream.close_soon(stream)


class _TimeLimit:
    """Apply `PoolLimits` to steps of httpx and map its errors to `UpstreamFailure`.

    progress: of the request, if known.
    """

    def __init__(
        self, limits: PoolLimits, end: float, progress: RequestProgress | None = None
    ) -> None:
        self._limits = limits
        self._progress = progress
        self._end = end
        self._phase: Phase = "total"
        self._timeout = asyncio.timeout_at(end)

    async def __aenter__(self) -> "_TimeLimit":
        await self._timeout.__aenter__()
        return self

    def connected(self) -> None:
        """Apply only the total limit while the request is written."""
        self._phase = "total"
        self._timeout.reschedule(self._end)

    def expect(self, phase: Literal["connect", "first_byte", "idle"]) -> None:
        """Apply the limit of `phase` from now on, within the total."""
        deadline = asyncio.get_running_loop().time() + self._seconds(phase)
        if deadline < self._end:
            self._phase = phase
            self._timeout.reschedule(deadline)

    def _seconds(self, phase: Phase) -> float:
        return float(getattr(self._limits, phase))

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise self._timed_out() from None
        if isinstance(error, httpx.LocalProtocolError):
            raise ValueError(str(error)) from error
        if isinstance(error, httpx.HTTPError):
            raise self._failure(error) from error

    def _timed_out(self) -> UpstreamFailure:
        seconds, progress = self._seconds(self._phase), self._progress
        if self._phase != "connect" or progress is None:
            return TimedOut(self._phase, seconds, sent=self._sent)
        if not progress.fresh:
            return ConnectFailed(f"no connection free within {seconds:g} s")
        return TimedOut("connect", seconds, step=progress.step)

    @property
    def _sent(self) -> bool:
        return self._progress is None or self._progress.written > 0

    def _failure(self, error: httpx.HTTPError) -> UpstreamFailure:
        what = str(error) or type(error).__name__
        if isinstance(error, httpx.PoolTimeout):
            return ConnectFailed(f"no connection free within {self._limits.connect:g} s")
        if isinstance(error, httpx.ConnectTimeout):
            return TimedOut("connect", self._limits.connect, step=str(error))
        if isinstance(error, httpx.WriteTimeout):
            return TimedOut("idle", self._limits.idle, sent=True)
        if isinstance(error, httpx.ConnectError | httpx.ProxyError):
            return ConnectFailed(what)
        if isinstance(error, httpx.NetworkError):
            return Disconnected(what, sent=self._sent)
        # httpx raises one exception for a disconnect and for invalid HTTP.
        if "disconnected" in what or "peer closed" in what or "ConnectionTerminated" in what:
            return Disconnected(what, sent=self._sent)
        return Malformed(what, sent=True)


class _RequestStream(httpx.AsyncByteStream):
    """A request body; the `first_byte` limit starts at its end.

    limit: of the current send. resendable: whether it can be sent from its beginning.
    """

    def __init__(self, body: RequestBody) -> None:
        self._body = body
        self.limit: _TimeLimit | None = None
        self.resendable = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = self._body
        if isinstance(body, bytes):
            yield body
        elif body is not None:
            self.resendable = is_repeatable(body)
            async for chunk in body:
                if chunk:
                    yield chunk
        if self.limit is not None:
            self.limit.expect("first_byte")


def _framing(request: Request) -> tuple[Header, ...]:
    body = request.body
    if body is None:
        length = 0 if request.method in (b"POST", b"PUT", b"PATCH") else None
    elif isinstance(body, bytes):
        length = len(body)
    elif isinstance(body, (SizedBody, RepeatableBody)):
        length = body.length
    else:
        return ((b"transfer-encoding", b"chunked"),)
    return () if length is None else ((b"content-length", b"%d" % length),)


async def _close(stream: httpx.AsyncByteStream) -> None:
    with contextlib.suppress(httpx.HTTPError, OSError):
        await stream.aclose()
