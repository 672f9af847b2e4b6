"""Requests on used connections that end: which are sent once more, over both transports."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest
import trustme

from edge.upstreams import ConnectFailed, Disconnected, Malformed, TimedOut, Upstream
from edge.upstreams.http import upstream_for
from edge.upstreams.http1 import transport
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.httpx_client import upstream as over_httpx
from middlewares.dns import Address, Lookup, literal
from tests.edge.upstreams.fake import Fake, Gone, Peer, Script, answer, answering

from .talk import GET, post, whole

OK = answer(b"ok")
How = Literal["native", "httpx"]
BOTH = pytest.mark.parametrize("how", ["native", "httpx"])


def client(url: str, how: How, *, limits: dict[str, float] | None = None, **more: Any) -> Upstream:
    patient: dict[str, Any] = {"connect": 60.0, "first_byte": 60.0, **(limits or {})}
    return upstream_for(url, transport=how, limits=PoolLimits(**patient), **more)


async def ask(upstream: Upstream, request: Any = GET) -> tuple[int, bytes]:
    response = await upstream.open(request)
    return response.status, await whole(response)


def dies(end: str, said: bytes = b"") -> Script:
    """The first connection ends while it has its second request; later ones answer."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        while True:
            await peer.request()
            if peer.number == 0:
                if said:
                    await peer.send(said)
                getattr(peer, end)()
                return
            await peer.send(OK)

    return script


@BOTH
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_repeat_used_connection_that_ends_sends_again(how: How, end: str) -> None:
    async with Fake(dies(end)) as upstream:
        asked = client(upstream.url, how)
        assert await ask(asked) == (200, b"ok")
        assert await ask(asked, post(b"again")) == (200, b"ok")
        assert [request.body for request in upstream.requests] == [b"", b"again", b"again"]
        assert len(upstream.peers) == 2
        await asked.aclose()


@BOTH
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_repeat_forbidden_what_may_have_been_read_is_not_sent_again(
    how: How, end: str
) -> None:
    async with Fake(dies(end)) as upstream:
        asked = client(upstream.url, how, repeat=False)
        await ask(asked)
        with pytest.raises(Disconnected) as failure:
            await ask(asked, post(b"once"))
        assert failure.value.sent
        assert [request.body for request in upstream.requests] == [b"", b"once"]
        assert await ask(asked) == (200, b"ok")
        await asked.aclose()


@BOTH
@pytest.mark.parametrize("repeat", [True, False])
async def test_repeat_connection_closed_before_writing_is_replaced(how: How, repeat: bool) -> None:
    """The end has come, and the event loop has not read it yet."""
    async with Fake(answering(OK)) as upstream:
        asked = client(upstream.url, how, repeat=repeat)
        await ask(asked)
        number = upstream.peers[0].transport.get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(number)) as theirs:
            theirs.shutdown(socket.SHUT_WR)
        assert await ask(asked, post(b"once")) == (200, b"ok")
        sent = [request.body for request in upstream.requests]
        assert sent[-1] == b"once"
        assert repeat or sent.count(b"once") == 1
        assert len(upstream.peers) == 2
        await asked.aclose()


@BOTH
async def test_repeat_after_a_byte_of_an_answer_is_none(how: How) -> None:
    async with Fake(dies("close", b"HTTP/1.1 200")) as upstream:
        asked = client(upstream.url, how)
        await ask(asked)
        with pytest.raises(Disconnected):
            await ask(asked)
        assert len(upstream.requests) == 2
        await asked.aclose()


@BOTH
async def test_repeat_a_fresh_connection_that_ends_is_no_reason(how: How) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with Fake(script) as upstream:
        asked = client(upstream.url, how)
        with pytest.raises(Disconnected) as failure:
            await ask(asked)
        assert failure.value.sent
        assert len(upstream.requests) == 1
        await asked.aclose()


@BOTH
async def test_repeat_is_made_once(how: How) -> None:
    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.request()
            await peer.send(OK)
        await peer.request()

    async with Fake(script) as upstream:
        asked = client(upstream.url, how)
        await ask(asked)
        with pytest.raises(Disconnected):
            await ask(asked)
        assert len(upstream.requests) == 3
        await asked.aclose()


@BOTH
async def test_repeat_goes_to_a_fresh_connection_though_others_are_idle(how: How) -> None:
    """They are as old as the one that has ended."""
    together = asyncio.Barrier(3)

    async def script(peer: Peer) -> None:
        await peer.request()
        if peer.number < 3:
            await together.wait()
        await peer.send(OK)
        await peer.request()

    async with Fake(script) as upstream:
        asked = client(upstream.url, how)
        await asyncio.gather(*[ask(asked) for _ in range(3)])
        assert await ask(asked) == (200, b"ok")
        assert len(upstream.peers) == 4
        await asked.aclose()


@BOTH
async def test_repeat_of_a_body_that_was_begun_is_none(how: How) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.head()
        await peer.chunk()

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.Event().wait()

    async with Fake(script) as upstream:
        # Reading begins after writing, with httpx: what it writes has to fail.
        limits = {"idle": 60.0, "total": 1.0 if how == "httpx" else 60.0}
        asked = client(upstream.url, how, limits=limits)
        await ask(asked)
        with pytest.raises((Disconnected, TimedOut)):
            await ask(asked, post(body()))
        assert len(upstream.peers) == 1
        await asked.aclose()


@BOTH
async def test_repeat_of_what_was_worked_on_is_none(
    how: How, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (transport, over_httpx):
        monkeypatch.setattr(module, "STALE_WITHIN", 0.0)
    async with Fake(dies("close")) as upstream:
        asked = client(upstream.url, how)
        await ask(asked)
        with pytest.raises(Disconnected):
            await ask(asked)
        assert len(upstream.requests) == 2
        await asked.aclose()


# Names and addresses, which both look up alike


def known(*hosts: str) -> Lookup:
    """A lookup that finds these addresses for every name."""
    found: list[Address] = []
    for host in hosts:
        found += literal(host) or ()
    return Lookup(lambda _: found)


@BOTH
async def test_name_is_looked_up_apart_and_goes_into_the_host_header(how: How) -> None:
    async with Fake(answering(OK)) as upstream:
        url = f"http://somewhere.example:{upstream.port}"
        asked = client(url, how, lookup=known("127.0.0.1"))
        assert await ask(asked) == (200, b"ok")
        named = b"somewhere.example:%d" % upstream.port
        assert upstream.requests[0].header(b"host") == named
        await asked.aclose()


@BOTH
async def test_name_over_tls_is_the_one_that_is_checked(
    how: How, authority: trustme.CA, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("somewhere.example").configure_cert(server)
    async with Fake(answering(OK), tls=server) as upstream:
        for name, right in (("somewhere.example", True), ("elsewhere.example", False)):
            url = f"https://{name}:{upstream.port}"
            asked = client(url, how, ca=ca, lookup=known("127.0.0.1"))
            if right:
                assert await ask(asked) == (200, b"ok")
            else:
                with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
                    await ask(asked)
            await asked.aclose()


@BOTH
async def test_name_with_a_dead_address_is_reached_at_the_next(how: How) -> None:
    """No server listens there; for an address that drops packets see `test_dial`."""
    async with Fake(answering(OK)) as upstream:
        url = f"http://somewhere.example:{upstream.port}"
        asked = client(url, how, lookup=known("::1", "127.0.0.9", "127.0.0.1"))
        assert await ask(asked) == (200, b"ok")
        await asked.aclose()


@BOTH
async def test_address_with_a_zone_is_reached_and_the_zone_stays_here(how: How) -> None:
    async with Fake(answering(OK), host="::1") as upstream:
        asked = client(f"http://[::1%251]:{upstream.port}", how)
        assert await ask(asked) == (200, b"ok")
        assert upstream.requests[0].header(b"host") == b"[::1]:%d" % upstream.port
        await asked.aclose()


@BOTH
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://nowhere.example", "name lookup of nowhere.example: "),
        ("http://127.0.0.1:1", "Connect(ion refused| call failed)"),
    ],
)
async def test_connection_that_fails_says_why(how: How, url: str, reason: str) -> None:
    def none(host: str) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    asked = client(url, how, lookup=Lookup(none))
    with pytest.raises(ConnectFailed, match=reason) as failure:
        await ask(asked)
    assert not failure.value.sent
    await asked.aclose()


@BOTH
@pytest.mark.parametrize("step", ["name lookup", "TCP connection", "TLS handshake"])
async def test_connection_that_takes_too_long_names_the_step(how: How, step: str) -> None:
    """Each is ended by the limit of the whole connection, and is no request that was sent."""

    async def hangs(peer: Peer) -> None:
        await peer.gone()

    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def lookup(host: str) -> list[Address]:
        if step == "name lookup":
            asyncio.run_coroutine_threadsafe(over.wait(), loop).result()
        return literal("127.0.0.1") or []

    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
    async with Fake(hangs) as upstream:
        port = full.getsockname()[1] if step == "TCP connection" else upstream.port
        scheme = "https" if step == "TLS handshake" else "http"
        url = f"{scheme}://slow.example:{port}"
        asked = client(url, how, limits={"connect": 0.3}, lookup=Lookup(lookup))
        with pytest.raises(TimedOut, match=step) as failure:
            await ask(asked)
        assert failure.value.phase == "connect"
        assert not failure.value.sent
        await asked.aclose()
        over.set()
        await asyncio.sleep(0)
        await upstream.until(lambda: upstream.open == 0)
    for one in (full, *fillers):
        one.close()


# Upstreams that never come to the point


async def test_proxy_that_never_opens_its_tunnel_is_a_connection_that_takes_too_long() -> None:
    async def takes(peer: Peer) -> None:
        await peer.until(b"\r\n\r\n")
        await peer.gone()

    async with Fake(takes) as proxy:
        url = "https://upstream.example"
        asked = client(url, "httpx", limits={"connect": 0.3}, proxy=proxy.url)
        with pytest.raises(TimedOut, match=r"tunnel through 127\.0\.0\.1") as failure:
            await ask(asked)
        assert failure.value.phase == "connect"
        assert not failure.value.sent
        await asked.aclose()
        await proxy.until(lambda: proxy.open == 0)


@BOTH
async def test_interim_answers_without_end_are_malformed(how: How) -> None:
    async def interim(peer: Peer) -> None:
        await peer.request()
        with contextlib.suppress(Gone):
            while True:
                await peer.send(b"HTTP/1.1 102 Processing\r\nx-pad: %b\r\n\r\n" % (b"y" * 1000))

    async with Fake(interim) as upstream:
        asked = client(upstream.url, how)
        with pytest.raises(Malformed, match="head over") as failure:
            await ask(asked)
        assert failure.value.sent
        await asked.aclose()
        await upstream.until(lambda: upstream.open == 0)


async def test_answer_before_the_request_is_whole_is_heard() -> None:
    """The upstream closes with most of the body unread, which resets the connection. Over httpx,
    which reads only when it has written, such an answer may be lost."""

    async def refuses(peer: Peer) -> None:
        await peer.head()
        peer.stop_reading()
        await peer.send(answer(b"too large", status=b"413 Content Too Large"))
        await asyncio.sleep(0.2)

    async with Fake(refuses) as upstream:
        for _ in range(5):
            asked = client(upstream.url, "native")
            assert await ask(asked, post(b"x" * 20_000_000)) == (413, b"too large")
            await asked.aclose()


@BOTH
async def test_connection_asks_whether_the_other_machine_is_there(how: How) -> None:
    seen: list[int] = []

    async with Fake(answering(OK)) as upstream:
        asked = client(upstream.url, how)
        await ask(asked)
        for found in psutil.Process().net_connections("tcp"):
            if found.raddr and found.raddr.port == upstream.port and found.fd > 0:
                with socket.socket(fileno=os.dup(found.fd)) as ours:
                    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_USER_TIMEOUT"):
                        number = getattr(socket, option)
                        seen.append(ours.getsockopt(socket.IPPROTO_TCP, number))
                    assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert seen == [30, 15, 60_000]
        await asked.aclose()


class Twice:
    """A body that can be sent again. begun: iterations; open: those that have not ended."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self.length = sum(map(len, pieces))
        self.begun = self.open = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun += 1
        self.open += 1
        try:
            for piece in self._pieces:
                yield piece
        finally:
            self.open -= 1


@BOTH
async def test_repeatable_body_is_sent_with_its_length_and_whole_each_time(how: How) -> None:
    body = Twice(b"a" * 70_000, b"", b"b" * 70_000)
    async with Fake(answering(OK)) as upstream:
        asked = client(upstream.url, how)
        for _ in range(2):
            assert await ask(asked, post(body)) == (200, b"ok")
        await asked.aclose()
    assert [len(one.body) for one in upstream.requests] == [140_000, 140_000]
    assert upstream.requests[0].body == b"a" * 70_000 + b"b" * 70_000
    assert (body.begun, body.open) == (2, 0)
    for one in upstream.requests:
        assert one.header(b"content-length") == b"140000"
        assert one.header(b"transfer-encoding") is None


@BOTH
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_repeatable_body_on_a_used_connection_that_ends_is_sent_again(
    how: How, end: str
) -> None:
    """Also after all of it was read: a form is in a file, and is not empty the second time."""
    body = Twice(b"x" * 300, b"y" * 300)
    async with Fake(dies(end)) as upstream:
        asked = client(upstream.url, how)
        assert await ask(asked) == (200, b"ok")
        assert await ask(asked, post(body)) == (200, b"ok")
        assert [len(one.body) for one in upstream.requests] == [0, 600, 600]
        await asked.aclose()
    assert (body.begun, body.open) == (2, 0)
