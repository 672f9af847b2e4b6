"""Reaching an origin: addresses, TLS, the host header."""

import asyncio
import gc
import socket
import ssl
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from edge.upstreams import ConnectFailed
from edge.upstreams.http1.dial import connect_one, interleave, race
from edge.upstreams.http1.transport import Transport
from edge.upstreams.tls import tls_context
from middlewares.dns import Address
from tests.edge.upstreams.fake import Fake, answer, answering

from .talk import GET, ask, settled

OK = answering(answer(b"ok"))


@pytest.fixture
def ca(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


async def test_tls_is_verified_and_used_again(server_tls: ssl.SSLContext, ca: Path) -> None:
    async with Fake(OK, tls=server_tls) as upstream:
        transport = Transport(upstream.url, ssl=tls_context(ca=ca))
        for _ in range(2):
            assert await ask(transport) == (200, b"ok")
        (peer,) = upstream.peers
        assert peer.cipher is not None
        assert upstream.requests[0].header(b"host") == b"localhost:%d" % upstream.port
        await transport.aclose()
        await upstream.until(lambda: upstream.open == 0)


async def test_large_bodies_cross_tls_both_ways(server_tls: ssl.SSLContext, ca: Path) -> None:
    size = 3_000_000
    async with Fake(answering(answer(b"y" * size)), tls=server_tls) as upstream:
        transport = Transport(upstream.url, ssl=tls_context(ca=ca))
        request = GET.__class__(b"POST", b"/", (), b"x" * size)
        assert await ask(transport, request) == (200, b"y" * size)
        assert upstream.requests[0].body == b"x" * size
        await transport.aclose()
        await upstream.until(lambda: upstream.open == 0)


async def test_an_untrusted_authority_is_refused(server_tls: ssl.SSLContext) -> None:
    async with Fake(OK, tls=server_tls) as upstream:
        transport = Transport(upstream.url)
        with pytest.raises(ConnectFailed, match=r"(?i)certificate") as failure:
            await transport.open(GET)
        assert not failure.value.sent
        assert transport.connections == 0
        assert upstream.requests == []


async def test_a_certificate_for_another_name_is_refused(
    server_tls: ssl.SSLContext, ca: Path
) -> None:
    async with Fake(OK, tls=server_tls) as upstream:
        transport = Transport(f"https://127.0.0.1:{upstream.port}", ssl=tls_context(ca=ca))
        with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
            await transport.open(GET)


async def test_the_name_is_sent_and_http_1_1_asked_for(authority: trustme.CA, ca: Path) -> None:
    seen: list[str | None] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])

    def note(sock: Any, name: str | None, _: Any) -> None:
        seen.append(name)

    context.sni_callback = note
    async with Fake(OK, tls=context) as upstream:
        transport = Transport(upstream.url, ssl=tls_context(ca=ca))
        await ask(transport)
        assert seen == ["localhost"]
        chosen = upstream.peers[0].transport.get_extra_info("ssl_object")
        assert chosen.selected_alpn_protocol() == "http/1.1"
        await transport.aclose()
        await upstream.until(lambda: upstream.open == 0)


async def test_old_tls_is_refused(authority: trustme.CA, ca: Path) -> None:
    assert tls_context().minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls_context(ca=ca).minimum_version == ssl.TLSVersion.TLSv1_2
    for context in (tls_context(), tls_context(ca=ca)):
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED


async def test_a_client_certificate_is_presented(authority: trustme.CA, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca))
    mine = tmp_path / "client.pem"
    authority.issue_cert("client.example").private_key_and_cert_chain_pem.write_to_path(str(mine))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(server)
    server.verify_mode = ssl.CERT_REQUIRED
    async with Fake(OK, tls=server) as upstream:
        transport = Transport(upstream.url, ssl=tls_context(ca=ca, client_cert=mine))
        assert await ask(transport) == (200, b"ok")
        await transport.aclose()
        await upstream.until(lambda: upstream.open == 0)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no PEM")
    for path in (wrong, tmp_path / "absent.pem"):
        with pytest.raises(ValueError, match=path.name):
            tls_context(ca=path)
        with pytest.raises(ValueError, match=path.name):
            tls_context(client_cert=path)
    with pytest.raises(ValueError, match="client_cert"):
        tls_context(client_key=wrong)


async def test_ipv6() -> None:
    async with Fake(OK, host="::1") as upstream:
        transport = Transport(upstream.url)
        assert await ask(transport) == (200, b"ok")
        assert upstream.requests[0].header(b"host") == b"[::1]:%d" % upstream.port
        await transport.aclose()
        await settled(transport)


async def test_a_name_with_a_dead_address_is_reached_at_the_other() -> None:
    async with Fake(OK, host="127.0.0.1") as upstream:  # `localhost` is ::1 as well
        transport = Transport(f"http://localhost:{upstream.port}")
        assert await ask(transport) == (200, b"ok")
        await transport.aclose()
        await settled(transport)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://a.example", b"a.example"),
        ("http://a.example:80/", b"a.example"),
        ("https://a.example:443/v1", b"a.example"),
        ("https://a.example:80", b"a.example:80"),
        ("http://[2001:db8::1]:8000", b"[2001:db8::1]:8000"),
        ("http://b\u00fccher.example", b"xn--bcher-kva.example"),
    ],
)
def test_the_host_header(url: str, host: bytes) -> None:
    assert Transport(url).host_line == b"host: " + host + b"\r\n"


def info(family: int, address: str, port: int = 1) -> Address:
    return (family, socket.SOCK_STREAM, 6, "", (address, port))


def test_families_take_turns() -> None:
    six = [info(socket.AF_INET6, f"::{n}") for n in range(3)]
    four = [info(socket.AF_INET, "127.0.0.1")]
    assert interleave([*six, *four]) == [six[0], four[0], six[1], six[2]]


async def test_a_slow_address_is_overtaken() -> None:
    """A listener whose backlog is full lets a connect hang, as a dropped SYN does."""
    loop = asyncio.get_running_loop()
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    async with Fake(OK) as upstream:
        port = full.getsockname()[1]
        infos = [
            info(socket.AF_INET, "127.0.0.1", port),
            info(socket.AF_INET, "127.0.0.1", upstream.port),
        ]
        sock = await race(loop, infos, partial(connect_one, loop), socket.socket.close)
        assert sock.getpeername()[1] == upstream.port
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for one in (full, *fillers):
        one.close()
    gc.collect()


async def test_when_every_address_fails_the_first_failure_is_reported() -> None:
    loop = asyncio.get_running_loop()
    async with Fake(OK) as one, Fake(OK) as two:
        ports = [one.port, two.port]
    with pytest.raises(ConnectionRefusedError):
        await race(
            loop,
            [info(socket.AF_INET, "127.0.0.1", port) for port in ports],
            partial(connect_one, loop),
            socket.socket.close,
        )
    with pytest.raises(OSError, match="no address"):
        await race(loop, [], partial(connect_one, loop), socket.socket.close)
