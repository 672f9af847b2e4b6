"""What the tests of the transport say to it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

from edge.upstreams import Header, Request, Response
from edge.upstreams.transport import Limits, Transport
from tests.edge.upstreams.fake import Fake, Script

GET = Request(b"GET", b"/")


def post(body: bytes | AsyncIterator[bytes] | None, *headers: Header) -> Request:
    return Request(b"POST", b"/v1/x", headers, body)


async def whole(response: Response) -> bytes:
    body = b""
    while data := await response.read():
        body += data
    return body


async def ask(transport: Transport, request: Request = GET) -> tuple[int, bytes]:
    response = await transport.open(request)
    return response.status, await whole(response)


@asynccontextmanager
async def between(script: Script, **limits: float) -> AsyncIterator[tuple[Transport, Fake]]:
    """A transport with these limits and its scripted upstream; nothing may be left open."""
    async with Fake(script) as upstream:
        transport = Transport(upstream.url, limits=Limits(**{"first_byte": 10.0, **limits}))  # type: ignore[arg-type]
        yield transport, upstream
        await transport.aclose()
        await upstream.until(lambda: upstream.open == 0)
        await settled(transport)


async def settled(transport: Transport) -> None:
    """Every connection of the transport is gone and nobody waits."""
    async with asyncio.timeout(10):
        while transport.connections or transport.waiting:
            await asyncio.sleep(0.001)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """`data` cut at these offsets."""
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        if data[start:cut]:
            yield data[start:cut]
        start = max(start, cut)
