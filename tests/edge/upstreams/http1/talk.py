"""What the tests of the transport say to it."""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from edge.upstreams import Header, Request, RequestBody, Response
from edge.upstreams.http1.connection import Connection
from edge.upstreams.http1.transport import PoolLimits, Transport
from tests.edge.upstreams.fake import Fake, Script
from tests.waiting import until

GET = Request(b"GET", b"/")


def post(body: RequestBody, *headers: Header) -> Request:
    return Request(b"POST", b"/v1/x", headers, body)


async def whole(response: Response) -> bytes:
    body = b""
    while data := await response.read():
        body += data
    return body


async def ask(transport: Transport, request: Request = GET) -> tuple[int, bytes]:
    response = await transport.open(request)
    return response.status, await whole(response)


def connections_of(transport: Transport) -> list[Connection]:
    """All connections of a transport, which itself only says how many there are."""
    return list(transport._connections)


class Clock:
    """Seconds that pass only when the test lets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float, transport: Transport) -> None:
        """Each connection looks at its limits afterwards, as it does when its timer is due."""
        self.now += seconds
        for connection in connections_of(transport):
            connection._on_timer()


@asynccontextmanager
async def between(
    script: Script, *, clock: Callable[[], float] = time.monotonic, **limits: float
) -> AsyncIterator[tuple[Transport, Fake]]:
    """A transport with these limits and its scripted upstream; nothing may be left open."""
    async with Fake(script) as upstream:
        patient = {"connect": 60.0, "first_byte": 60.0, **limits}
        transport = Transport(upstream.url, limits=PoolLimits(**patient), clock=clock)  # type: ignore[arg-type]
        yield transport, upstream
        await transport.aclose()
        await upstream.until(lambda: upstream.open == 0)
        await settled(transport)


async def settled(transport: Transport) -> None:
    """Every connection of the transport is gone and no request waits."""
    await until(lambda: not transport.connections and not transport.waiting)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data` cut at these offsets."""
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        if data[start:cut]:
            yield data[start:cut]
        start = max(start, cut)
