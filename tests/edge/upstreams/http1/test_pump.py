"""`pump` hands pieces on in the callback they arrive in, in order, as fast as they are taken."""

import asyncio
from collections.abc import Awaitable

import pytest

from edge.upstreams import Disconnected
from tests.edge.upstreams.fake import Peer, answering, chunked

from .talk import GET, between


async def stream(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for number in range(10):
        await asyncio.sleep(0.001)
        await peer.send(b"1\r\n%d\r\n" % number)
    await peer.send(b"0\r\n\r\n")
    await peer.gone()


@pytest.mark.parametrize("at_once", [False, True])
async def test_every_piece_once_and_in_order(at_once: bool) -> None:
    script = answering(chunked(b"01234", b"56789")) if at_once else stream
    got: list[bytes] = []
    async with between(script) as (transport, _):
        response = await transport.open(GET)
        await response.pump(lambda data: got.append(data))
        assert b"".join(got) == b"0123456789"
        assert response.at_end
        assert transport.idle == 1


async def test_a_sink_that_waits_is_waited_for() -> None:
    got: list[bytes] = []
    busy = False

    async def slowly(data: bytes) -> None:
        nonlocal busy
        assert not busy
        busy = True
        await asyncio.sleep(0.002)
        got.append(data)
        busy = False

    def sink(data: bytes) -> Awaitable[None] | None:
        if len(got) % 2:
            return slowly(data)
        got.append(data)
        return None

    async with between(stream) as (transport, _):
        response = await transport.open(GET)
        await response.pump(sink)
        assert b"".join(got) == b"0123456789"


async def test_what_a_sink_raises_ends_the_pump() -> None:
    class Enough(Exception):
        pass

    def sink(data: bytes) -> None:
        if b"5" in data:
            raise Enough

    async with between(stream) as (transport, upstream):
        response = await transport.open(GET)
        with pytest.raises(Enough):
            await response.pump(sink)
        response.close()
        await upstream.until(lambda: upstream.open == 0)


async def test_a_failure_comes_after_the_last_piece() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await asyncio.sleep(0.001)
        await peer.send(b"half")

    got: list[bytes] = []
    async with between(script) as (transport, _):
        response = await transport.open(GET)
        with pytest.raises(Disconnected):
            await response.pump(lambda data: got.append(data))
        assert got == [b"half"]


async def test_cancelling_a_pump_closes_the_connection() -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.sleep(0.001)
        await peer.send(b"x")
        await peer.gone()

    async with between(script) as (transport, upstream):
        response = await transport.open(GET)
        task = asyncio.create_task(response.pump(lambda _: arrived.set()))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.until(lambda: upstream.open == 0)


async def test_a_sink_whose_wait_was_never_begun_leaves_no_trace() -> None:
    """Cancelled in the very iteration in which the sink asked to be waited for."""

    waiting = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await waiting.wait()
        await peer.send(b"x")
        await peer.gone()

    async def never() -> None:
        raise AssertionError

    async with between(script) as (transport, upstream):
        response = await transport.open(GET)

        def sink(data: bytes) -> Awaitable[None]:
            task.cancel()
            return never()

        task = asyncio.create_task(response.pump(sink))
        await asyncio.sleep(0)  # it waits now, so that the piece comes from the loop's callback
        waiting.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.until(lambda: upstream.open == 0)
