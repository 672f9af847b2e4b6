"""The bytes of a file as an answer, driven by hand."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from edge.media.content import send_file
from middlewares.asgi import Receive, Scope, Send
from middlewares.errors import ErrorsMiddleware
from middlewares.exchange import Exchange
from middlewares.problem import Problem
from middlewares.stores.files.base import FileRecord
from tests.asgi import Call, http_scope, request

RECORD = FileRecord(
    id="file-x", owner="o", key="k", filename="a", size=1000, sha256="ab", created_at=0.0
)


async def test_client_that_disconnects_ends_the_read() -> None:
    read = 0
    closed = asyncio.Event()

    async def endless(record: FileRecord, start: int, end: int) -> AsyncIterator[bytes]:
        nonlocal read
        try:
            while True:
                read += 1
                yield b"x"
                await asyncio.sleep(0)
        finally:
            closed.set()

    exchange = Exchange()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"penstock.exchange": exchange}
        await send_file(RECORD, endless, scope, receive, send)

    async with Call(app, http_scope("GET", "/")) as call:
        await call.started()
        assert await call.chunk() == b"x"
        call.hang_up()
        await call.done()
    assert exchange.outcome == "hung_up"
    assert read < 1000
    await closed.wait()


async def test_store_that_fails_before_the_first_byte_has_its_own_status() -> None:
    async def failing(record: FileRecord, start: int, end: int) -> AsyncIterator[bytes]:
        if start < end:
            raise Problem("store_unavailable")
        yield b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_file(RECORD, failing, scope, receive, send)

    answer = await request(ErrorsMiddleware(app, brand="Test"), "GET", "/")
    assert answer.status == 503


@pytest.mark.parametrize("given", ["bytes=1000-", "bytes=-0"])
async def test_range_beyond_the_end_is_refused_with_the_size(given: str) -> None:
    async def nothing(record: FileRecord, start: int, end: int) -> AsyncIterator[bytes]:
        assert start == end, "it is not read"
        yield b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send_file(RECORD, nothing, scope, receive, send)

    answer = await request(
        ErrorsMiddleware(app, brand="Test"), "GET", "/", headers={"range": given}
    )
    assert (answer.status, answer.header("content-range")) == (416, "bytes */1000")
