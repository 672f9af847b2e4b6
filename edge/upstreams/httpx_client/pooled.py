"""httpx transport over the native HTTP/1.1 pools, for everything outside the hot path."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from edge.upstreams import ConnectFailed, Header, Malformed, Request, TimedOut, UpstreamFailure
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.http1.transport import HTTPResponse, Transport
from edge.upstreams.http1.wire import SizedBody
from edge.upstreams.tls import tls_context

_KEEP_ALIVE = (b"connection", b"keep-alive")
_OURS = frozenset((b"host", b"transfer-encoding", b"keep-alive"))


class PooledHTTPTransport(httpx.AsyncBaseTransport):
    """An httpx transport that creates one `Transport` per origin.

    limits: of every origin. httpx's `read` timeout also applies, to the head and to each read; its
        other timeouts are replaced by `PoolLimits.connect` and `PoolLimits.idle`.
    origins: most that are kept; beyond it one without open connections is removed.
    """

    def __init__(
        self,
        *,
        limits: PoolLimits | None = None,
        ca: str | Path | None = None,
        origins: int = 256,
    ) -> None:
        self._limits = limits or PoolLimits()
        self._context = tls_context(ca=ca)
        self._origins = origins
        self.transports: dict[str, Transport] = {}

    def _transport_for(self, url: httpx.URL) -> Transport:
        origin = f"{url.scheme}://{url.netloc.decode()}"
        transport = self.transports.get(origin)
        if transport is None:
            if len(self.transports) >= self._origins:
                for name, old in self.transports.items():
                    if not old.connections:
                        del self.transports[name]
                        break
            transport = Transport(origin, limits=self._limits, ssl=self._context)
            self.transports[origin] = transport
        return transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request. Raises httpx's own exceptions."""
        read = request.extensions.get("timeout", {}).get("read")
        whole = None if read is None else read + self._limits.connect
        try:
            transport = self._transport_for(request.url)
            async with asyncio.timeout(whole):
                response = await transport.open(_request_of(request))
        except UpstreamFailure as failure:
            raise _httpx_error(failure, request) from failure
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no answer in {whole:g} s", request=request) from error
        except ValueError as error:
            raise httpx.LocalProtocolError(str(error), request=request) from error
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_ResponseStream(response, request, read),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def aclose(self) -> None:
        """Close every pool; responses still being read may finish."""
        for transport in self.transports.values():
            await transport.aclose()


class _ResponseStream(httpx.AsyncByteStream):
    def __init__(self, response: HTTPResponse, request: httpx.Request, read: float | None) -> None:
        self._response = response
        self._request = request
        self._read = read

    async def __aiter__(self) -> AsyncIterator[bytes]:
        response = self._response
        try:
            while True:
                data = response.take()
                if data is None:
                    async with asyncio.timeout(self._read):
                        data = await response.read()
                if not data:
                    return
                yield data
        except UpstreamFailure as failure:
            raise _httpx_error(failure, self._request) from failure
        except TimeoutError as error:
            raise httpx.ReadTimeout(f"no data for {self._read} s", request=self._request) from error

    async def aclose(self) -> None:
        self._response.close()


def _request_of(request: httpx.Request) -> Request:
    headers: list[Header] = []
    length: int | None = None
    for raw_name, value in request.headers.raw:
        name = raw_name.lower()
        if name == b"content-length":
            length = int(value)
        elif name not in _OURS and (name, value) != _KEEP_ALIVE:
            headers.append((name, value))
    body: bytes | AsyncIterator[bytes] | None
    try:
        body = request.content or None
    except httpx.RequestNotRead:
        if not isinstance(request.stream, httpx.AsyncByteStream):
            raise ValueError("a synchronous body cannot be sent by an async client") from None
        source = _chunks(request.stream)
        body = source if length is None else SizedBody(source, length)
    target = request.url.raw_path
    return Request(request.method.encode("ascii"), target, tuple(headers), body)


async def _chunks(stream: httpx.AsyncByteStream) -> AsyncIterator[bytes]:
    async for chunk in stream:
        yield chunk


def _httpx_error(failure: UpstreamFailure, request: httpx.Request) -> httpx.TransportError:
    if isinstance(failure, TimedOut):
        kind: type[httpx.TransportError] = (
            httpx.ConnectTimeout if failure.phase == "connect" else httpx.ReadTimeout
        )
    elif isinstance(failure, ConnectFailed):
        kind = httpx.ConnectError
    elif isinstance(failure, Malformed):
        kind = httpx.RemoteProtocolError
    else:
        kind = httpx.ReadError
    return kind(failure.reason, request=request)
