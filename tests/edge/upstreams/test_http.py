"""httpx over our transport, and the seam over httpx."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from edge.upstreams import (
    ConnectFailed,
    Disconnected,
    Malformed,
    Request,
    TimedOut,
    UpstreamFailure,
)
from edge.upstreams.http import HttpxUpstream, PooledHTTPTransport, upstream_for
from edge.upstreams.http1.transport import PoolLimits, SizedBody, Transport
from tests.edge.upstreams.http1.talk import GET, post, settled, whole

from .fake import Fake, Peer, answer, answering, chunked


async def parts() -> AsyncIterator[bytes]:
    yield b"one "
    yield b"two"


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


async def half(peer: Peer) -> None:
    await peer.request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nsome")
    await peer.gone()


# --- httpx over our transport -------------------------------------------------------------------


async def test_a_plain_client_works_over_our_pools() -> None:
    async with (
        Fake(answering(answer(b'{"a":1}', headers=b"content-type: application/json\r\n"))) as up,
        httpx.AsyncClient(transport=PooledHTTPTransport()) as client,
    ):
        first = await client.get(up.url + "/p?q=1", headers={"X-Mixed": "Case"})
        assert first.json() == {"a": 1}
        assert first.http_version == "HTTP/1.1"
        await client.post(up.url, json={"b": 2})
        await client.post(up.url, content=parts())
        await client.post(up.url, files={"file": b"content"})
        got, snapshot, streamed, multipart = up.requests
        assert got.target == b"/p?q=1"
        assert got.header(b"x-mixed") == b"Case"
        assert got.header(b"connection") is None
        assert snapshot.body == b'{"b":2}'
        assert streamed.header(b"transfer-encoding") == b"chunked"
        assert streamed.body == b"one two"
        assert multipart.header(b"content-length") == b"%d" % len(multipart.body)
        assert b"content" in multipart.body
        assert len(up.peers) == 1


async def test_a_stream_left_early_closes_its_connection() -> None:
    async with (
        Fake(half) as upstream,
        httpx.AsyncClient(transport=PooledHTTPTransport()) as client,
    ):
        async with client.stream("GET", upstream.url) as response:
            async for chunk in response.aiter_raw():
                assert chunk == b"some"
                break
        await upstream.until(lambda: upstream.open == 0)


async def test_httpx_timeouts_and_ours_become_its_exceptions() -> None:
    async with Fake(silent) as upstream, Fake(half) as halved:
        short = httpx.Timeout(None, read=0.05)
        for url, limits, timeout in (
            (
                upstream.url,
                PoolLimits(connect=1),
                short,
            ),  # is waited for as well: the limit is for all
            (upstream.url, PoolLimits(first_byte=0.05), None),
            (halved.url, PoolLimits(connect=60), short),
            (halved.url, PoolLimits(idle=0.05), None),
        ):
            transport = PooledHTTPTransport(limits=limits)
            async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
                with pytest.raises(httpx.ReadTimeout):
                    await client.get(url)
        await upstream.until(lambda: upstream.open == 0)
        await halved.until(lambda: halved.open == 0)


async def test_failures_become_httpx_exceptions() -> None:
    async def leaves(peer: Peer) -> None:
        await peer.request()

    async with (
        Fake(leaves) as left,
        Fake(answering(b"junk\r\n\r\n")) as junk,
        httpx.AsyncClient(transport=PooledHTTPTransport()) as client,
    ):
        with pytest.raises(httpx.ReadError) as failure:
            await client.get(left.url)
        assert failure.value.request.url == left.url
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(junk.url)
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(junk.url, headers={"x": "a\r\nb: c"})
        with pytest.raises(httpx.LocalProtocolError):
            await client.get("ftp://localhost/")
    async with httpx.AsyncClient(transport=PooledHTTPTransport()) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(left.url)


async def test_origins_are_bounded() -> None:
    async with (
        Fake(answering(answer(b"ok", headers=b"connection: close\r\n"))) as one,
        Fake(answering(answer(b"ok"))) as two,
        Fake(answering(answer(b"ok"))) as three,
    ):
        transport = PooledHTTPTransport(origins=2)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get(one.url)
            await client.get(two.url)
            await one.until(lambda: one.open == 0)
            await settled(transport.transports[one.url])
            await client.get(three.url)
            assert set(transport.transports) == {two.url, three.url}
        await two.until(lambda: two.open == 0)
        await three.until(lambda: three.open == 0)


# --- the seam over httpx ------------------------------------------------------------------------


def over_httpx(url: str, **limits: float) -> HttpxUpstream:
    upstream = upstream_for(url, transport="httpx", limits=PoolLimits(**limits))  # type: ignore[arg-type]
    assert isinstance(upstream, HttpxUpstream)
    return upstream


async def test_the_seam_is_the_same_over_httpx() -> None:
    async with Fake(answering(chunked(b"a", b"b"))) as upstream:
        client = over_httpx(upstream.url)
        for request in (
            GET,
            post(b"whole", (b"x-a", b"1")),
            post(parts()),
            post(SizedBody(parts(), 7)),
            post(None),
            Request(b"GET", b"/a%20b?c=d%2f"),
        ):
            response = await client.open(request)
            assert response.status == 200
            assert response.headers == [(b"transfer-encoding", b"chunked")]
            assert await whole(response) == b"ab"
            assert response.at_end
            response.close()
        got, snapshot, streamed, sized, empty, target = upstream.requests
        assert got.headers == ((b"host", b"127.0.0.1:%d" % upstream.port),)
        assert (snapshot.body, snapshot.header(b"x-a")) == (b"whole", b"1")
        assert streamed.header(b"transfer-encoding") == b"chunked"
        assert streamed.body == sized.body == b"one two"
        assert sized.header(b"content-length") == b"7"
        assert empty.header(b"content-length") == b"0"
        assert target.target == b"/a%20b?c=d%2f"
        assert len(upstream.peers) == 1
        with pytest.raises(ValueError):
            await client.open(Request(b"GET", b"/", ((b"x", b"a\r\nb: c"),)))
        await client.aclose()
        with pytest.raises(ConnectFailed):
            await client.open(GET)
        await upstream.until(lambda: upstream.open == 0)


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (b"", Disconnected),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal", Disconnected),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhal", Disconnected),
        (b"junk\r\n\r\n", Malformed),
    ],
)
async def test_failures_of_httpx_are_distinguished(
    sent: bytes, failure: type[UpstreamFailure]
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)

    async with Fake(script) as upstream:
        client = over_httpx(upstream.url)
        with pytest.raises(failure) as caught:
            await whole(await client.open(GET))
        assert caught.value.sent
        await client.aclose()
    client = over_httpx(upstream.url)
    with pytest.raises(ConnectFailed) as refused:
        await client.open(GET)
    assert not refused.value.sent
    await client.aclose()


async def test_limits_hold_over_httpx() -> None:
    async with Fake(silent) as upstream, Fake(half) as halved:
        for url, limits, phase in (
            (upstream.url, {"first_byte": 0.05}, "first_byte"),
            (upstream.url, {"total": 0.05}, "total"),
            (halved.url, {"idle": 0.05}, "idle"),
            (halved.url, {"total": 0.1}, "total"),
        ):
            client = over_httpx(url, **limits)
            with pytest.raises(TimedOut) as failure:
                await whole(await client.open(post(b"x")))
            assert (failure.value.phase, failure.value.sent) == (phase, True)
            await client.aclose()
        client = over_httpx(halved.url, body_bytes=3)
        with pytest.raises(Malformed):
            await whole(await client.open(GET))
        await client.aclose()
        await upstream.until(lambda: upstream.open == 0)
        await halved.until(lambda: halved.open == 0)


@pytest.mark.parametrize("again", [None, *range(6)])
@pytest.mark.parametrize("phase", ["head", "body"])
async def test_cancelling_closes_over_httpx(phase: str, again: int | None) -> None:
    """Also twice, by two limits at once, or one and a hang-up: the second comes so many turns of
    the loop later, while httpcore is closing."""
    async with Fake(silent if phase == "head" else half) as upstream:
        client = over_httpx(upstream.url)
        read = asyncio.Event()

        async def run() -> None:
            response = await client.open(GET)
            await response.read()
            read.set()
            await response.read()

        task = asyncio.create_task(run())
        await upstream.until(lambda: upstream.requests)
        if phase == "body":
            await read.wait()
        task.cancel()
        if again is not None:
            for _ in range(again):
                await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.until(lambda: upstream.open == 0)
        await client.aclose()


async def test_close_over_httpx_lets_go_without_waiting() -> None:
    async with Fake(half) as upstream:
        client = over_httpx(upstream.url)
        response = await client.open(GET)
        response.close()
        response.close()
        assert await response.read() == b""
        await upstream.until(lambda: upstream.open == 0)
        await client.aclose()


async def test_a_proxy_is_asked_in_place_of_the_origin() -> None:
    async with Fake(answering(answer(b"via"))) as proxy:
        client = upstream_for("http://a.example", transport="httpx", proxy=proxy.url)
        assert await whole(await client.open(GET)) == b"via"
        assert proxy.requests[0].target == b"http://a.example/"
        await client.aclose()
        await proxy.until(lambda: proxy.open == 0)


def test_what_cannot_be_combined_is_refused() -> None:
    assert isinstance(upstream_for("http://a.example"), Transport)
    with pytest.raises(ValueError, match="proxy"):
        upstream_for("http://a.example", proxy="http://b.example")
    with pytest.raises(ValueError, match="native"):
        upstream_for("http://a.example", transport="curl")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="base_url"):
        upstream_for("a.example", transport="httpx")
