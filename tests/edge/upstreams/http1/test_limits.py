"""Time limits, back-pressure both ways, and closing early in every phase."""

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from edge.upstreams import Disconnected, Request, TimedOut
from edge.upstreams.http1.transport import PoolLimits, SizedBody, Transport
from tests.edge.upstreams.fake import Fake, Peer, answer, answering

from .talk import GET, Clock, ask, between, connections_of, post, settled, whole

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def half(peer: Peer) -> None:
    await peer.request()
    await peer.send(HEAD + b"some")
    await peer.gone()


async def test_connect_limit_ends_a_handshake_that_hangs() -> None:
    async with Fake(silent) as upstream:  # speaks no TLS
        transport = Transport(
            upstream.url.replace("http://", "https://"), limits=PoolLimits(connect=0.05)
        )
        with pytest.raises(TimedOut) as failure:
            await transport.open(GET)
        assert failure.value.phase == "connect"
        assert not failure.value.sent
        assert transport.connections == 0
        await upstream.until(lambda: upstream.open == 0)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nx: y", b"HTTP/1.1 103 Early\r\n\r\n"])
async def test_first_byte_limit_runs_until_the_head_is_complete(sent: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await peer.gone()

    async with between(script, first_byte=0.05) as (transport, upstream):
        with pytest.raises(TimedOut) as failure:
            await transport.open(post(b"x"))
        assert (failure.value.phase, failure.value.sent) == ("first_byte", True)
        await upstream.until(lambda: upstream.open == 0)


async def test_idle_limit_ends_a_silent_stream_after_what_had_arrived() -> None:
    async with between(half, idle=0.05) as (transport, upstream):
        response = await transport.open(GET)
        await upstream.peers[0].gone()  # before it is read
        assert await response.read() == b"some"
        for _ in range(2):
            with pytest.raises(TimedOut) as failure:
                await response.read()
        assert failure.value.phase == "idle"


async def test_idle_limit_starts_again_with_every_arrival() -> None:
    clock, more = Clock(), asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n")
        for _ in range(20):
            await more.acquire()
            await peer.send(b"x")
        await peer.gone()

    async with between(script, clock=clock, idle=2, first_byte=2) as (transport, _):
        response = await transport.open(GET)
        for _ in range(20):
            clock.passes(1.5, transport)
            more.release()
            assert await response.read() == b"x"
        assert await response.read() == b""


async def test_total_limit_ends_a_stream_that_never_stops() -> None:
    clock = Clock()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.send(b"x")
            await asyncio.sleep(0.001)

    async with between(script, clock=clock, total=10, idle=5) as (transport, _):
        response = await transport.open(GET)
        with pytest.raises(TimedOut) as failure:
            while await response.read():
                clock.passes(1, transport)
        assert (failure.value.phase, clock.now) == ("total", 10)


async def test_total_limit_of_an_earlier_exchange_is_not_the_next_ones() -> None:
    wait = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok"))
        await peer.request()
        await wait.wait()
        await peer.send(answer(b"ok"))
        await peer.gone()

    clock = Clock()
    limits = {"total": 10, "first_byte": 5, "keepalive": 8}
    async with between(script, clock=clock, **limits) as (transport, upstream):
        await ask(transport)
        clock.now = 7.0
        task = asyncio.create_task(ask(transport))
        await upstream.until(lambda: len(upstream.requests) == 2)
        clock.passes(4.0, transport)
        wait.set()
        assert await task == (200, b"ok")


async def test_a_consumer_that_lags_stops_the_upstream_and_is_not_called_silence() -> None:
    size = 8_000_000
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // 20_000):
            await peer.send(b"x" * 20_000)
            sent += 20_000
        await peer.gone()

    clock = Clock()
    async with between(script, clock=clock, idle=1, buffer_bytes=50_000) as (transport, _):
        response = await transport.open(GET)
        other = await transport.open(GET)
        while not all(connection.paused for connection in connections_of(transport)):
            await asyncio.sleep(0)
        stopped = response.received
        assert 50_000 < stopped <= 50_000 + 256 * 1024
        assert (await whole(other)) == b"x" * size  # and no other response is stopped
        clock.passes(1.5, transport)
        await asyncio.sleep(0)
        assert response.received == stopped
        assert len(await whole(response)) == size
        assert transport.idle == 2


async def test_an_upstream_that_takes_no_more_of_a_body_is_silent() -> None:
    async def script(peer: Peer) -> None:
        peer.stop_reading()
        await asyncio.Event().wait()

    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 100_000

    async with Fake(script) as upstream:
        transport = Transport(upstream.url, limits=PoolLimits(idle=0.05))
        with pytest.raises(TimedOut) as failure:
            await transport.open(post(body()))
        assert (failure.value.phase, failure.value.sent) == ("idle", True)
        await settled(transport)


async def test_a_source_that_lags_is_not_called_silence() -> None:
    clock = Clock()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            clock.passes(5, transport)
            yield b"x"

    script = answering(answer(b"ok"))
    async with between(script, clock=clock, idle=2, first_byte=4) as (transport, up):
        assert await ask(transport, post(body())) == (200, b"ok")
        assert up.requests[0].body == b"xxx"


async def test_a_source_is_asked_only_as_fast_as_the_upstream_takes() -> None:
    go = asyncio.Event()
    yielded = 0

    async def script(peer: Peer) -> None:
        peer.stop_reading()
        await go.wait()
        peer.read_again()
        await peer.request()
        await peer.send(answer(b"ok"))
        await peer.gone()

    async def body() -> AsyncIterator[bytes]:
        nonlocal yielded
        for _ in range(200):
            yielded += 1
            yield b"x" * 100_000

    async with between(script) as (transport, upstream):
        task = asyncio.create_task(ask(transport, post(body())))
        before = -1
        while yielded != before or not yielded:
            before = yielded
            await asyncio.sleep(0.05)
        assert yielded < 200
        go.set()
        assert await task == (200, b"ok")
        assert len(upstream.requests[0].body) == 20_000_000


@pytest.mark.parametrize("kind", ["bytes", "stream"])
async def test_expect_waits_for_the_word_to_continue(kind: str) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"payload"

    async def script(peer: Peer) -> None:
        head = await peer.head()
        assert head.header(b"expect") == b"100-continue"
        assert peer.unread == 0
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.body(head) == b"payload"
        await peer.send(answer(b"ok"))
        await peer.gone()

    async with between(script, continue_after=10) as (transport, _):
        content = b"payload" if kind == "bytes" else body()
        assert await ask(transport, post(content, (b"expect", b"100-continue"))) == (200, b"ok")
        assert transport.idle == 1


async def test_expect_waits_a_bounded_time() -> None:
    async with between(answering(answer(b"ok")), continue_after=0.05) as (transport, upstream):
        request = post(b"payload", (b"expect", b"100-continue"))
        assert await ask(transport, request) == (200, b"ok")
        assert upstream.requests[0].body == b"payload"


async def test_a_refusal_in_place_of_continue_spares_the_body() -> None:
    asked = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal asked
        asked = True
        yield b"payload"

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer(b"no", status=b"413 Too Large"))
        await peer.gone()

    async with between(script, continue_after=10) as (transport, upstream):
        request = post(body(), (b"expect", b"100-continue"))
        assert await ask(transport, request) == (413, b"no")
        await upstream.until(lambda: upstream.open == 0)
        assert not asked


async def test_a_refusal_during_a_streamed_body_is_returned_at_once() -> None:
    closed = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            await asyncio.Event().wait()
        finally:
            closed.set()

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.chunk()
        await peer.send(answer(b"no", status=b"401 Unauthorized"))
        await peer.gone()

    async with between(script) as (transport, upstream):
        assert await ask(transport, post(body())) == (401, b"no")
        await closed.wait()
        await upstream.until(lambda: upstream.open == 0)


async def test_an_answer_may_begin_before_the_streamed_body_ends() -> None:
    more = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await more.wait()
        yield b"b"

    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.chunk() == b"a"
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nA")
        assert await peer.chunk() == b"b"
        await peer.send(b"B")
        await peer.gone()

    async with between(script) as (transport, _):
        response = await transport.open(post(body()))
        assert await response.read() == b"A"
        more.set()
        assert await whole(response) == b"B"


@pytest.mark.parametrize("early", [False, True])
async def test_what_the_source_raises_comes_back_to_the_caller(early: bool) -> None:
    class Broken(Exception):
        pass

    async def body() -> AsyncIterator[bytes]:
        if not early:
            yield b"x"
        raise Broken

    async with between(silent) as (transport, upstream):
        with pytest.raises(Broken):
            await transport.open(post(body()))
        await upstream.until(lambda: upstream.open == 0)


@pytest.mark.parametrize("length", [1, 3])
async def test_a_sized_body_that_misses_its_length_is_the_callers_mistake(length: int) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"xx"

    async with between(silent) as (transport, upstream):
        with pytest.raises(ValueError, match="than its length"):
            await transport.open(post(SizedBody(body(), length)))
        await upstream.until(lambda: upstream.open == 0)


# --- closing early ------------------------------------------------------------------------------


async def at_the_upstream(transport: Transport, upstream: Fake) -> None:
    await upstream.until(lambda: upstream.requests)


async def writing(transport: Transport, upstream: Fake) -> None:
    await upstream.until(lambda: upstream.peers)
    while not any(c._writable for c in connections_of(transport)):
        await asyncio.sleep(0)


async def streaming(transport: Transport, upstream: Fake) -> None:
    while not any(c.exchange and c.exchange.received for c in connections_of(transport)):
        await asyncio.sleep(0)


async def deaf(peer: Peer) -> None:
    peer.stop_reading()
    await asyncio.Event().wait()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 100_000


async def stuck() -> AsyncIterator[bytes]:
    yield b"x"
    await asyncio.Event().wait()


async def started(transport: Transport, upstream: Fake) -> None:
    while not any(c.exchange and c.exchange.started for c in connections_of(transport)):
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("script", "request_", "phase"),
    [
        (silent, lambda: GET, at_the_upstream),
        (half, lambda: GET, streaming),
        (deaf, lambda: post(endless()), writing),
        (silent, lambda: post(stuck()), started),
        (silent, lambda: post(b"x", (b"expect", b"100-continue")), at_the_upstream),
    ],
    ids=["head", "body", "writing", "source", "expecting"],
)
async def test_cancelling_closes_the_connection_and_leaks_nothing(
    script: Callable[[Peer], Awaitable[None]],
    request_: Callable[[], Request],
    phase: Callable[[Transport, Fake], Awaitable[None]],
) -> None:
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    async with Fake(script) as upstream:
        limits = PoolLimits(continue_after=0.01)
        transport = Transport(upstream.url, limits=limits)
        task = asyncio.create_task(ask(transport, request_()))
        await phase(transport, upstream)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await settled(transport)
        if script is not deaf:
            await upstream.until(lambda: upstream.open == 0)
        assert transport.idle == 0
    del task
    gc.collect()
    await asyncio.sleep(0)
    assert complaints == []


async def test_cancelling_a_connect_frees_its_slot() -> None:
    async with Fake(silent) as upstream:  # speaks no TLS: the handshake hangs
        transport = Transport(upstream.url.replace("http://", "https://"))
        task = asyncio.create_task(transport.open(GET))
        await upstream.until(lambda: upstream.peers and upstream.peers[0].unread)
        assert transport.in_use == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.connections == 0
        await upstream.until(lambda: upstream.open == 0)


async def test_a_storm_of_cancels_leaves_nothing() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(HEAD[:20])
            await asyncio.sleep(0)
            await peer.send(HEAD[20:] + b"canary %d" % peer.number)

    async with between(script, connections=5) as (transport, _):
        tasks = [asyncio.create_task(ask(transport)) for _ in range(60)]
        for number, task in enumerate(tasks):
            for _ in range(number % 7):
                await asyncio.sleep(0)
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        await settled(transport)


async def test_close_is_immediate_and_idempotent() -> None:
    async with between(half) as (transport, upstream):
        response = await transport.open(GET)
        assert await response.read() == b"some"
        reader = asyncio.create_task(response.read())
        await asyncio.sleep(0)  # it waits
        response.close()
        response.close()
        with pytest.raises(Disconnected, match="closed by us"):
            await reader
        await upstream.until(lambda: upstream.open == 0)


async def test_close_after_the_end_keeps_the_connection() -> None:
    async with between(answering(answer(b"ok"))) as (transport, upstream):
        for _ in range(2):
            response = await transport.open(GET)
            await whole(response)
            response.close()
        assert transport.idle == 1
        assert len(upstream.peers) == 1


async def test_two_readers_are_refused() -> None:
    async with between(half) as (transport, _):
        response = await transport.open(GET)
        assert await response.read() == b"some"
        first = asyncio.create_task(response.read())
        await asyncio.sleep(0)  # it waits
        with pytest.raises(RuntimeError, match="already reading"):
            await response.read()
        response.close()
        with pytest.raises(Disconnected):
            await first
