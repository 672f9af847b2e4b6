"""One request and its response: framing both ways, interim responses, what is refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge.upstreams import Disconnected, Malformed, Request
from edge.upstreams.http1.transport import SizedBody
from tests.edge.upstreams.fake import Peer, answer, answering, chunked

from .talk import GET, ask, between, connections_of, post, whole


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_a_small_answer_is_complete_when_open_returns() -> None:
    async with between(answering(answer(b"hello", headers=b"X-Kind: A\r\n"))) as (transport, _):
        response = await transport.open(GET)
        assert response.status == 200
        assert response.headers == [(b"content-length", b"5"), (b"x-kind", b"A")]
        assert response.complete
        states = [response.at_end]
        assert response.take() == b"hello"
        states.append(response.at_end)
        assert states == [False, True]
        assert await response.read() == b""
        assert transport.idle == 1


async def test_a_small_answer_costs_one_future() -> None:
    loop = asyncio.get_running_loop()
    made = 0

    class Counting:
        def create_future(self) -> asyncio.Future[None]:
            nonlocal made
            made += 1
            return loop.create_future()

    async with between(answering(answer(b"hello"))) as (transport, _):
        assert await ask(transport) == (200, b"hello")
        (connection,) = connections_of(transport)
        connection.loop = Counting()  # type: ignore[assignment]
        assert await ask(transport) == (200, b"hello")
        connection.loop = loop
        assert made == 1


async def test_what_is_sent() -> None:
    async with between(answering(answer())) as (transport, upstream):
        await ask(transport, Request(b"GET", b"/a?b=c", ((b"accept", b"*/*"),)))
        await ask(transport, post(b"12345", (b"x-a", b"1"), (b"x-a", b"2")))
        await ask(transport, post(None))
        await ask(transport, post(parts(b"ab", b"", b"c" * 100_000)))
        await ask(transport, post(SizedBody(parts(b"ab", b"cde"), 5)))
        await ask(transport, post(b"x" * 1_000_000))
        got, snapshot, empty, streamed, sized, large = upstream.requests
        host = (b"host", b"127.0.0.1:%d" % upstream.port)
        assert got.target == b"/a?b=c"
        assert got.headers == (host, (b"accept", b"*/*"))
        assert snapshot.headers == (host, (b"x-a", b"1"), (b"x-a", b"2"), (b"content-length", b"5"))
        assert snapshot.body == b"12345"
        assert empty.header(b"content-length") == b"0"
        assert streamed.header(b"transfer-encoding") == b"chunked"
        assert streamed.body == b"ab" + b"c" * 100_000
        assert sized.header(b"content-length") == b"5"
        assert sized.body == b"abcde"
        assert large.body == b"x" * 1_000_000
        assert len(upstream.peers) == 1


async def test_chunks_arrive_as_the_upstream_sends_them() -> None:
    step = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in (b"one", b"two"):
            await step.wait()
            step.clear()
            await peer.send(b"%x\r\n%b\r\n" % (len(part), part))
        await step.wait()
        await peer.send(b"0\r\nx-trailer: ignored\r\n\r\n")
        await peer.gone()

    async with between(script) as (transport, _):
        response = await transport.open(GET)
        assert response.take() is None
        for part in (b"one", b"two"):
            step.set()
            assert await response.read() == part
            assert not response.complete
        step.set()
        assert await response.read() == b""
        assert (b"x-trailer", b"ignored") not in response.headers
        assert transport.idle == 1


async def test_reads_between_arrivals_are_joined_or_handed_on_as_they_are() -> None:
    async with between(answering(chunked(b"a", b"b", b"c"))) as (transport, _):
        response = await transport.open(GET)
        assert response.complete
        assert response._chunks == [b"a", b"b", b"c"]
        assert await response.read() == b"abc"
    async with between(answering(answer(b"only"))) as (transport, _):
        response = await transport.open(GET)
        only = response._chunks[0]
        assert await response.read() is only


@pytest.mark.parametrize(
    "head", [b"204 No Content", b"304 Not Modified"], ids=lambda head: head[:3].decode()
)
async def test_statuses_without_a_body(head: bytes) -> None:
    data = b"HTTP/1.1 %b\r\ncontent-length: 5\r\n\r\n" % head
    async with between(answering(data)) as (transport, upstream):
        for _ in range(2):
            assert await ask(transport) == (int(head[:3]), b"")
        assert len(upstream.peers) == 1


async def test_head_has_no_body_whatever_its_headers_say() -> None:
    async with between(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")) as (
        transport,
        upstream,
    ):
        for _ in range(2):
            assert await ask(transport, Request(b"HEAD", b"/")) == (200, b"")
        assert len(upstream.peers) == 1


async def test_a_body_after_head_is_never_taken_for_the_next_answer() -> None:
    async with between(answering(answer(b"HTTP/1.1 500 no\r\n\r\n"))) as (transport, upstream):
        assert await ask(transport, Request(b"HEAD", b"/")) == (200, b"")
        assert transport.idle == 0
        assert (await ask(transport))[0] == 200
        assert len(upstream.peers) == 2


async def test_interim_responses_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
    async with between(answering(interim + answer(b"ok"))) as (transport, upstream):
        for _ in range(2):
            response = await transport.open(GET)
            assert response.headers == [(b"content-length", b"2")]
            assert await whole(response) == b"ok"
        assert len(upstream.peers) == 1


async def test_without_a_length_the_end_of_the_connection_ends_the_body() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall there is")

    async with between(script) as (transport, _):
        assert await ask(transport) == (200, b"all there is")
        assert transport.idle == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhal",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhal\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhal\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_an_end_in_the_middle_is_a_disconnect(data: bytes, end: str) -> None:
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(data)
        if b"\r\n\r\nhal" in data or b"\r\nhal" in data:
            await arrived.wait()  # a reset may overtake bytes not yet read
        getattr(peer, end)()

    async with between(script) as (transport, upstream):
        got = b""
        with pytest.raises(Disconnected) as failure:
            response = await transport.open(GET)
            while True:
                piece = await response.read()
                assert piece
                got += piece
                arrived.set()
        assert failure.value.sent
        assert got == (b"hal" if b"hal" in data else b"")
        assert len(upstream.peers) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 999 Beyond\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 99 Below\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na: b\r\n folded\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_what_is_not_http_is_malformed(data: bytes) -> None:
    async with between(answering(data)) as (transport, upstream):
        with pytest.raises(Malformed) as failure:
            await transport.open(GET)
        assert failure.value.sent
        await upstream.until(lambda: upstream.open == 0)


async def test_a_broken_chunk_ends_a_stream_as_malformed_after_what_was_good() -> None:
    data = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\nzz\r\n"
    async with between(answering(data)) as (transport, upstream):
        with pytest.raises(Malformed):
            response = await transport.open(GET)
            assert await response.read() == b"ok"
            await response.read()
        await upstream.until(lambda: upstream.open == 0)


async def test_an_offer_to_upgrade_is_only_a_header() -> None:
    data = answer(b"ok", headers=b"upgrade: h2,h2c\r\nconnection: upgrade, keep-alive\r\n")
    async with between(answering(data)) as (transport, _):
        assert await ask(transport) == (200, b"ok")


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 3000 + b"\r\ncontent-length: 0\r\n\r\n", "header"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 3000, "header"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 500, "header"),
        (b"HTTP/1.1 103 Early\r\n\r\n" * 200, "header"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 500,
            "header",
        ),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 3000, "header"),
        (answer(b"x" * 3000), "body"),
        (chunked(b"x" * 1000, b"x" * 1000, b"x" * 1000), "body"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 3000, "body"),
    ],
)
async def test_a_response_over_a_bound_is_malformed(data: bytes, limit: str) -> None:
    async with between(answering(data), header_bytes=2000, body_bytes=2000) as (
        transport,
        upstream,
    ):
        with pytest.raises(Malformed, match=f"{'head' if limit == 'header' else 'body'} over 2000"):
            response = await transport.open(GET)
            await whole(response)
        await upstream.until(lambda: upstream.open == 0)


async def test_bounds_let_pass_what_they_allow() -> None:
    data = answer(b"x" * 2000, headers=b"y: " + b"z" * 1900 + b"\r\n")
    async with between(answering(data), header_bytes=2000, body_bytes=2000) as (transport, _):
        assert await ask(transport) == (200, b"x" * 2000)


@pytest.mark.parametrize(
    "request_",
    [
        Request(b"GET", b"/", ((b"x", b"a\r\nhost: evil"),)),
        Request(b"GET", b"/", ((b"x", b"a\nb"),)),
        Request(b"GET", b"/", ((b"x", b"a\rb"),)),
        Request(b"GET", b"/", ((b"x", b"a\0b"),)),
        Request(b"GET", b"/", ((b"x\r\ny", b"a"),)),
        Request(b"GET", b"/", ((b"x: y", b"a"),)),
        Request(b"GET", b"/", ((b"", b"a"),)),
        Request(b"GET", b"/", ((b"X-Upper", b"a"),)),
        Request(b"GET", b"/ HTTP/1.1\r\nx: y\r\n\r\nGET /"),
        Request(b"GET", b"/a b"),
        Request(b"GET", b"a"),
        Request(b"GET", b""),
        Request(b"GET\r\n", b"/"),
        Request(b"GET /x", b"/"),
        Request(b"CONNECT", b"/"),
        Request(b"GET", b"/", ((b"host", b"evil"),)),
        Request(b"GET", b"/", ((b"content-length", b"1"),)),
        Request(b"GET", b"/", ((b"transfer-encoding", b"chunked"),)),
    ],
)
async def test_a_request_that_could_smuggle_is_refused_before_anything_is_sent(
    request_: Request,
) -> None:
    async with between(answering(answer())) as (transport, upstream):
        for _ in range(2):  # the second time names are remembered
            with pytest.raises(ValueError):
                await transport.open(request_)
        assert upstream.peers == []
