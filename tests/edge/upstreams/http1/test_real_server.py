"""Tests with an independent server: Granian with TLS, over HTTP/1.1 and HTTP/2."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest
import trustme

from edge.upstreams import ConnectFailed, Request, Response, Upstream
from edge.upstreams.http import upstream_for
from tests.waiting import DEADLINE

from .talk import whole

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    kind = b"text/event-stream" if scope["path"] == "/stream" else b"text/plain"
    head = [(b"content-type", kind), (b"x-http", scope["http_version"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    if scope["path"] == "/stream":
        for number in range(50):
            event = b"data: %d\\n\\n" % number
            await send({"type": "http.response.body", "body": event, "more_body": True})
        body = b""
    await send({"type": "http.response.body", "body": body})
"""


@asynccontextmanager
async def granian(authority: trustme.CA, folder: Path) -> AsyncIterator[str]:
    (folder / "tiny.py").write_text(APP)
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(str(folder / "key.pem"))
    leaf.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "granian", "--interface", "asginl", "--no-ws", "tiny:app"),
        *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
        *("--ssl-certificate", "cert.pem", "--ssl-keyfile", "key.pem"),
        cwd=folder,
    )
    try:
        yield f"https://localhost:{port}"
    finally:
        process.terminate()
        await process.wait()


async def patient(upstream: Upstream, request: Request) -> Response:
    """`open`, again while the server is still starting."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await upstream.open(request)
            except ConnectFailed:
                await asyncio.sleep(0.05)


def version(response: Response) -> bytes:
    return dict(response.headers)[b"x-http"]


async def parts() -> AsyncIterator[bytes]:
    for _ in range(100):
        yield b"z" * 1000


async def test_granian(authority: trustme.CA, tmp_path: Path) -> None:
    kinds: list[tuple[Literal["native", "httpx"], bytes]] = [("native", b"1.1"), ("httpx", b"2")]
    async with granian(authority, tmp_path) as url:
        for kind, http in kinds:
            upstream = upstream_for(url, transport=kind, ca=tmp_path / "ca.pem")
            response = await patient(upstream, Request(b"GET", b"/"))
            assert version(response) == http
            assert await whole(response) == b""
            for body in (b"y" * 300_000, parts()):
                response = await upstream.open(Request(b"POST", b"/echo", (), body))
                assert len(await whole(response)) in (300_000, 100_000)
            answers = await asyncio.gather(
                *(upstream.open(Request(b"GET", b"/stream")) for _ in range(20))
            )
            expected = b"".join(b"data: %d\n\n" % number for number in range(50))
            assert await asyncio.gather(*map(whole, answers)) == [expected] * 20
            await upstream.aclose()
        stranger = upstream_for(url)
        with pytest.raises(ConnectFailed, match=r"(?i)certificate"):
            await stranger.open(Request(b"GET", b"/"))
