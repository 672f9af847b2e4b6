"""Connections lent, kept, replaced and refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge.upstreams import ConnectFailed, Disconnected
from edge.upstreams.http1.transport import PoolLimits, Transport
from tests.edge.upstreams.fake import Fake, Peer, answer, answering

from .talk import GET, ask, between, post, settled, whole

OK = answer(b"ok")


async def test_a_connection_is_used_again_and_the_last_one_first() -> None:
    async with between(answering(OK)) as (transport, upstream):
        await asyncio.gather(*(ask(transport) for _ in range(3)))
        assert (transport.connections, transport.idle, transport.in_use) == (3, 3, 0)
        last = transport._idle[-1]
        await ask(transport)
        assert transport._idle[-1] is last
        assert len(upstream.peers) == 3


@pytest.mark.parametrize(
    "data",
    [
        answer(b"ok", headers=b"connection: close\r\n"),
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_a_server_that_wants_to_close_is_heeded(data: bytes) -> None:
    async with between(answering(data)) as (transport, upstream):
        assert await ask(transport) == (200, b"ok")
        await upstream.until(lambda: upstream.open == 0)
        assert await ask(transport) == (200, b"ok")
        assert len(upstream.peers) == 2


async def test_a_request_that_wants_to_close_is_heeded() -> None:
    async with between(answering(OK)) as (transport, upstream):
        await ask(transport, post(b"x", (b"connection", b"close")))
        await upstream.until(lambda: upstream.open == 0)
        assert transport.idle == 0


@pytest.mark.parametrize("rest", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"H", b"\0"])
@pytest.mark.parametrize("separate", [False, True])
async def test_bytes_after_an_answer_never_reach_the_next_request(
    rest: bytes, separate: bool
) -> None:
    released = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if separate:
            await peer.send(OK)
            await released.wait()
            await peer.send(rest)
        else:
            await peer.send(OK + rest)
        await peer.gone()

    async with between(script) as (transport, upstream):
        assert await ask(transport) == (200, b"ok")
        released.set()
        await upstream.peers[0].gone()
        assert await ask(transport) == (200, b"ok")
        assert len(upstream.peers) == 2


async def test_an_idle_connection_expires() -> None:
    now = 0.0
    async with Fake(answering(OK)) as upstream:
        transport = Transport(upstream.url, limits=PoolLimits(keepalive=30), clock=lambda: now)
        await ask(transport)
        now = 29.9
        await ask(transport)
        assert len(upstream.peers) == 1
        now = 60.0
        await ask(transport)
        assert len(upstream.peers) == 2
        await transport.aclose()


async def test_an_idle_connection_is_closed_without_being_asked_for() -> None:
    async with between(answering(OK), keepalive=0.05) as (transport, upstream):
        await ask(transport)
        await upstream.until(lambda: upstream.open == 0)
        await settled(transport)
        assert transport.idle == 0


@pytest.mark.parametrize("value", [b"timeout=5", b"max=100, Timeout=5", b"timeout=5, max=1"])
async def test_the_servers_shorter_keep_alive_wins(value: bytes) -> None:
    now = 0.0
    data = answer(b"ok", headers=b"keep-alive: %b\r\n" % value)
    async with Fake(answering(data)) as upstream:
        transport = Transport(upstream.url, limits=PoolLimits(keepalive=30), clock=lambda: now)
        await ask(transport)
        now = 4.9
        await ask(transport)
        assert len(upstream.peers) == 1
        now = 10.0
        await ask(transport)
        assert len(upstream.peers) == 2
        await transport.aclose()


async def test_a_connection_the_server_closed_while_idle_is_not_used() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)

    async with between(script) as (transport, upstream):
        for count in (1, 2):
            assert await ask(transport) == (200, b"ok")
            await settled(transport)
            assert len(upstream.peers) == count


@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("kind", ["none", "bytes", "unstarted"])
async def test_a_reused_connection_that_dies_before_any_byte_is_replaced_once(
    end: str, kind: str
) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.request()
            await peer.send(OK)
            await peer.head()
            getattr(peer, end)()
            return
        while True:
            await peer.request()
            await peer.send(OK)

    async def body() -> AsyncIterator[bytes]:
        yield b"streamed"

    async with between(script, continue_after=0.2) as (transport, upstream):
        await ask(transport)
        if kind == "none":
            request = GET
        elif kind == "bytes":
            request = post(b"again")
        else:
            # The source is asked only after `100 Continue`, which the dead connection never sent.
            request = post(body(), (b"expect", b"100-continue"))
        assert await ask(transport, request) == (200, b"ok")
        assert len(upstream.peers) == 2
        if kind == "bytes":
            assert upstream.requests[-1].body == b"again"
        if kind == "unstarted":
            assert upstream.requests[-1].body == b"streamed"


async def test_it_is_replaced_only_once() -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.request()
            await peer.send(OK)
        await peer.request()

    async with between(script) as (transport, upstream):
        await ask(transport)
        with pytest.raises(Disconnected) as failure:
            await ask(transport)
        assert failure.value.sent
        assert len(upstream.peers) == 2
        assert len(upstream.requests) == 3


async def test_a_fresh_connection_that_dies_is_not_replaced() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with between(script) as (transport, upstream):
        with pytest.raises(Disconnected):
            await ask(transport)
        assert len(upstream.peers) == 1


async def test_a_request_that_was_worked_on_is_not_sent_again() -> None:
    now = 0.0

    async def script(peer: Peer) -> None:
        nonlocal now
        await peer.request()
        await peer.send(OK)
        await peer.request()
        now += 1.5  # it thinks, and dies

    async with Fake(script) as upstream:
        transport = Transport(upstream.url, clock=lambda: now)
        await ask(transport)
        with pytest.raises(Disconnected) as failure:
            await ask(transport, post(b"bill me once"))
        assert failure.value.sent
        assert len(upstream.requests) == 2
        await transport.aclose()


async def test_a_started_body_is_not_sent_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.head()
        await peer.chunk()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async with between(script) as (transport, upstream):
        await ask(transport)
        with pytest.raises(Disconnected) as failure:
            await ask(transport, post(body()))
        assert failure.value.sent
        assert len(upstream.peers) == 1


async def test_a_byte_of_an_answer_forbids_the_replacement() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        await peer.send(b"H")

    async with between(script) as (transport, upstream):
        await ask(transport)
        with pytest.raises(Disconnected):
            await ask(transport)
        assert len(upstream.peers) == 1


async def test_the_replacement_finds_room_in_a_full_pool() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        if peer.number:
            await peer.send(OK)

    async with between(script, connections=1) as (transport, upstream):
        await ask(transport)
        results = await asyncio.gather(ask(transport), ask(transport))
        assert list(results) == [(200, b"ok")] * 2
        # The place of the dead one went to the second request, whose connection then gave its
        # own place to the replacement.
        assert len(upstream.peers) == 3


async def test_requests_beyond_the_bound_wait_in_order() -> None:
    go = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go.acquire()
            await peer.send(OK)

    async with between(script, connections=2) as (transport, upstream):
        tasks = [asyncio.create_task(ask(transport, post(b"%d" % number))) for number in range(6)]
        await upstream.until(lambda: len(upstream.requests) == 2)
        assert (transport.in_use, transport.waiting) == (2, 4)
        for _ in tasks:
            go.release()
        assert await asyncio.gather(*tasks) == [(200, b"ok")] * 6
        assert len(upstream.peers) == 2
        assert [request.body for request in upstream.requests[2:]] == [b"2", b"3", b"4", b"5"]


async def test_a_slot_freed_by_a_lost_connection_goes_to_the_first_in_line() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"ok", headers=b"connection: close\r\n"))

    async with between(script, connections=1) as (transport, upstream):
        results = await asyncio.gather(*(ask(transport) for _ in range(4)))
        assert results == [(200, b"ok")] * 4
        assert len(upstream.peers) == 4


async def test_waiting_in_line_ends_after_the_connect_limit() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with between(script, connections=1) as (transport, upstream):
        first = asyncio.create_task(ask(transport))
        await upstream.until(lambda: upstream.requests)
        transport.limits = PoolLimits(connections=1, connect=0.05)
        with pytest.raises(ConnectFailed, match="in use") as failure:
            await ask(transport)
        assert not failure.value.sent
        assert transport.waiting == 0
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


async def test_a_full_line_is_not_joined() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    async with between(script, connections=1, waiting=2) as (transport, _):
        tasks = [asyncio.create_task(ask(transport)) for _ in range(3)]
        while transport.waiting < 2:
            await asyncio.sleep(0)
        with pytest.raises(ConnectFailed, match="2 requests already wait") as failure:
            await ask(transport)
        assert not failure.value.sent
        assert transport.waiting == 2
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_waiter_that_is_cancelled_leaves_the_line() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await go.wait()
            await peer.send(OK)

    async with between(script, connections=1) as (transport, upstream):
        first = asyncio.create_task(ask(transport))
        await upstream.until(lambda: upstream.requests)
        second = asyncio.create_task(ask(transport))
        third = asyncio.create_task(ask(transport))
        while transport.waiting < 2:
            await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert transport.waiting == 1
        go.set()
        assert await first == await third == (200, b"ok")
        assert len(upstream.requests) == 2


async def test_a_connection_handed_to_a_waiter_that_is_cancelled_comes_back() -> None:
    async with between(answering(OK), connections=1) as (transport, upstream):
        response = await transport.open(GET)
        held = transport._idle.pop()  # as if it were still in use
        waiter = asyncio.create_task(ask(transport))
        while not transport.waiting:
            await asyncio.sleep(0)
        transport.release(held)
        waiter.cancel()  # between the hand-over and its arrival
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert transport.idle == 1
        assert await ask(transport) == (200, b"ok")
        assert await whole(response) == b"ok"
        assert len(upstream.peers) == 1


async def test_no_listener_is_a_failed_connection() -> None:
    async with Fake(answering(OK)) as upstream:
        url = upstream.url
    transport = Transport(url)
    for _ in range(2):
        with pytest.raises(ConnectFailed) as failure:
            await transport.open(GET)
        assert not failure.value.sent
    assert transport.connections == 0


async def test_an_unknown_host_is_a_failed_connection() -> None:
    for host in ("nowhere.invalid", "x" * 64 + ".invalid"):
        transport = Transport(f"http://{host}")
        with pytest.raises(ConnectFailed):
            await transport.open(GET)
        assert transport.connections == 0


async def test_aclose_lets_running_exchanges_finish() -> None:
    go = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.send(OK)
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nha")
            await go.wait()
            await peer.send(b"lf")
        await peer.gone()

    async with Fake(script) as upstream:
        transport = Transport(upstream.url, limits=PoolLimits(connections=2))
        idle = await transport.open(GET)
        held = transport._idle.pop()
        running = await transport.open(GET)
        waiter = asyncio.create_task(ask(transport))
        while not transport.waiting:
            await asyncio.sleep(0)
        transport._idle.append(held)
        await transport.aclose()
        with pytest.raises(ConnectFailed):
            await waiter
        with pytest.raises(ConnectFailed):
            await transport.open(GET)
        assert await whole(idle) == b"ok"
        assert transport.connections == 1
        go.set()
        assert await whole(running) == b"half"
        await upstream.until(lambda: upstream.open == 0)
        await settled(transport)
        await transport.aclose()


async def test_a_hundred_exchanges_at_once_share_nothing() -> None:
    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            data = answer(request.body * 100)
            await peer.send(data[:60])
            await asyncio.sleep(0)
            await peer.send(data[60:])

    async with between(script, connections=10) as (transport, upstream):
        results = await asyncio.gather(*(ask(transport, post(b"<%d>" % n)) for n in range(100)))
        assert results == [(200, b"<%d>" % n * 100) for n in range(100)]
        assert len(upstream.peers) == 10


@pytest.mark.parametrize(
    "url",
    ["ftp://a", "a", "http://", "http://user:pw@a", "http://a?x=1", "http://a#x", "http://[::1"],
)
def test_a_url_that_is_no_origin_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Transport(url)


@pytest.mark.parametrize(
    "limits",
    [
        {"connect": 0},
        {"first_byte": -1},
        {"idle": 0},
        {"total": 0},
        {"connections": 0},
        {"header_bytes": 0},
        {"buffer_bytes": 0},
        {"body_bytes": -1},
        {"keepalive": -1},
        {"continue_after": 0},
    ],
)
def test_limits_that_cannot_be_meant_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        PoolLimits(**limits)  # type: ignore[arg-type]
