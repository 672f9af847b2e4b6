"""One request of a fetch: to one host, at addresses that have been checked."""

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from edge.upstreams import (
    ConnectFailed,
    Disconnected,
    Header,
    Request,
    Response,
    TimedOut,
    UpstreamFailure,
)
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.http1.transport import Transport

from .links import Link, Refused
from .pinned import Pinned
from .rules import FetchLimits

_MOVED = frozenset((301, 302, 303, 307, 308))


class Hop:
    """The answer of one host. moved: where it redirects to, None for the file itself."""

    __slots__ = ("_host", "_response", "moved")

    def __init__(self, host: str, response: Response, moved: str | None) -> None:
        self._host = host
        self._response = response
        self.moved = moved

    async def body(self, limit: int) -> AsyncIterator[bytes]:
        """The body in pieces. Raises Refused when it is longer than `limit` bytes, or breaks."""
        stated = _header(self._response, b"content-length")
        if stated.isdigit() and len(stated) < 20 and int(stated) > limit:
            raise Refused("too_large", f"{self._host}: {int(stated)} bytes")
        size = 0
        try:
            while data := await self._response.read():
                size += len(data)
                if size > limit:
                    raise Refused("too_large", f"{self._host}: more than {limit} bytes")
                yield data
        except UpstreamFailure as failure:
            raise _refused(self._host, failure) from None


@asynccontextmanager
async def hop(
    link: Link,
    pinned: Pinned,
    *,
    user_agent: str,
    limits: FetchLimits,
    context: Callable[[], ssl.SSLContext],
) -> AsyncIterator[Hop]:
    """Request `link`. Raises Refused."""
    headers = ((b"accept", b"*/*"), (b"accept-encoding", b"identity"))
    async with _answer(
        link, pinned, b"GET", headers, None, user_agent=user_agent, limits=limits, context=context
    ) as response:
        yield Hop(link.host, response, _moved(link.host, response))


async def deliver(
    link: Link,
    pinned: Pinned,
    headers: tuple[Header, ...],
    body: bytes,
    *,
    user_agent: str,
    limits: FetchLimits,
    context: Callable[[], ssl.SSLContext],
) -> int:
    """POST `body` to `link`; the status of the answer, whose body is not read. Raises Refused."""
    async with _answer(
        link, pinned, b"POST", headers, body, user_agent=user_agent, limits=limits, context=context
    ) as response:
        return response.status


@asynccontextmanager
async def _answer(
    link: Link,
    pinned: Pinned,
    method: bytes,
    headers: tuple[Header, ...],
    body: bytes | None,
    *,
    user_agent: str,
    limits: FetchLimits,
    context: Callable[[], ssl.SSLContext],
) -> AsyncIterator[Response]:
    """The answer of one host. Host, SNI and the name in the certificate are those of the link. The
    connection is closed at the end.

    Raises Refused.
    """
    transport = Transport(
        link.origin,
        limits=PoolLimits(
            connect=limits.connect,
            first_byte=limits.first_byte,
            idle=limits.first_byte,
            total=limits.total,
            connections=1,
            header_bytes=32 << 10,
        ),
        ssl=context() if link.scheme == "https" else None,
        lookup=pinned,
        repeat=False,
    )
    request = Request(
        method,
        link.target.encode("ascii"),
        (
            (b"user-agent", user_agent.encode("ascii")),
            *headers,
            (b"connection", b"close"),
        ),
        body,
    )
    response: Response | None = None
    try:
        try:
            response = await transport.open(request)
        except UpstreamFailure as failure:
            raise _refused(link.host, failure) from None
        yield response
    finally:
        if response is not None:
            response.close()
        await transport.aclose()


def _moved(host: str, response: Response) -> str | None:
    """Where a redirect leads, None for a file. Raises Refused for any other answer."""
    status = response.status
    if status in _MOVED:
        return _header(response, b"location").decode("utf-8", "replace")
    if status != 200:
        raise Refused("status", f"{host}: status {status}")
    if _header(response, b"content-encoding").strip().lower() not in (b"", b"identity"):
        raise Refused("status", f"{host}: an encoding that was not asked for")
    return None


def _header(response: Response, name: bytes) -> bytes:
    found: list[Header] = [one for one in response.headers if one[0] == name]
    return found[0][1] if len(found) == 1 else b"".join(value for _, value in found[:1])


def _refused(host: str, failure: UpstreamFailure) -> Refused:
    if isinstance(failure, TimedOut):
        return Refused("timeout", f"{host}: {failure.reason}")
    if isinstance(failure, ConnectFailed):
        return Refused("unreachable", f"{host}: {failure.reason}")
    kind = "unreachable" if isinstance(failure, Disconnected) else "status"
    return Refused(kind, f"{host}: {failure.reason}")
