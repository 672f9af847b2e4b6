"""Redis and PostgreSQL by name: looked up apart from the event loop, and named when that hangs."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from middlewares.dns import Address, Lookup, literal
from middlewares.stores import redis_client
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.redis_client import RedisLink
from middlewares.stores.sql import engine
from tests.waiting import until


@pytest.fixture
def silent_lookup() -> Iterator[Lookup]:
    """No name is answered until the test is over."""
    over = threading.Event()

    def wait(host: str) -> list[Address]:
        over.wait()
        return literal("127.0.0.1") or []

    yield Lookup(wait)
    over.set()


async def test_redis_by_name_goes_on_to_the_next_address(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [*(literal("::1") or ()), *(literal("127.0.0.1") or ())]
    monkeypatch.setattr(redis_client, "lookup", Lookup(lambda _: found))
    came = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        link = RedisLink(f"redis://somewhere.example:{port}", timeout=1.0, connect_timeout=60.0)
        starting = asyncio.create_task(link.start())
        await came.wait()
        starting.cancel()
        await link.aclose()


async def test_redis_whose_name_hangs_says_so(
    silent_lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_client, "lookup", silent_lookup)
    link = RedisLink("redis://silent.example", timeout=1.0, connect_timeout=0.1)
    try:
        await link.start()
        await until(lambda: "name lookup of silent.example timed out" in link.reason)
        with pytest.raises(CountersUnavailable, match=r"name lookup of silent\.example"):
            await link.call(b"PING")
    finally:
        await link.aclose()


async def test_postgres_whose_name_hangs_says_so(
    silent_lookup: Lookup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never asks in the event loop's own threads."""
    monkeypatch.setattr(engine, "lookup", silent_lookup)
    made = engine.connect("postgresql://somebody@silent.example/penstock", patience=0.1)
    try:
        with pytest.raises(TimeoutError, match=r"name lookup of silent\.example timed out"):
            async with made.connect():
                pass
    finally:
        await made.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///penstock?host=/tmp/socket",
        "postgresql://somebody@%2Ftmp%2Fsocket/penstock",
        "postgresql://somebody@one.example:5432,two.example:5432/penstock",
    ],
)
async def test_postgres_without_one_name_is_not_looked_up(
    silent_lookup: Lookup, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr(engine, "lookup", silent_lookup)
    await engine.looked_up(url, 60.0)
