"""PostgreSQL stops, or hangs, under requests."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from middlewares import AuthMiddleware
from middlewares.asgi import Receive, Scope, Send
from middlewares.stores import KeyDirectory
from middlewares.stores.keys.sql import Database, SqlKeyStore
from tests.asgi import request
from tests.waiting import DEADLINE

from .postgres_server import Postgres
from .samples import new_key

Ask = Callable[[str], Awaitable[int]]


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def gate(
    url: str, *, grace: float = 300.0, patience: float = 2.0
) -> AsyncIterator[tuple[Ask, SqlKeyStore]]:
    """Ask with a secret, get the status; quick to notice, so that the tests are."""
    database = await Database.open(url, patience=patience)
    store = SqlKeyStore(database)
    directory = KeyDirectory(store, period=0.05, grace=grace, patience=patience)
    await directory.start()
    app = AuthMiddleware(inner, keys=directory)

    async def ask(secret: str) -> int:
        return (await request(app, headers={"authorization": f"Bearer {secret}"})).status

    try:
        yield ask, store
    finally:
        await directory.aclose()
        await database.aclose()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not await true():
            await asyncio.sleep(0.02)


async def test_a_stopped_database(
    postgres: Postgres, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with gate(postgres_url) as (ask, store):
        known, known_secret = new_key()
        other, other_secret = new_key()
        await store.insert(known)
        await store.insert(other)
        assert await ask(known_secret) == 200

        async def noticed() -> bool:
            return "does not answer" in caplog.text

        async def back() -> bool:
            return "answers again" in caplog.text

        postgres.stop()
        try:
            await until(noticed)
            caplog.clear()
            for _ in range(20):
                assert await ask(known_secret) == 200
                assert await ask(other_secret) == 503  # a 401 would make its client log out
                assert await ask("unknown key") == 503
            errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert errors == []  # the one line is enough
        finally:
            postgres.start()
        await until(back)
        assert await ask(other_secret) == 200
        assert await ask("unknown key") == 401
        await store.update(known.id, lambda key: msgspec.structs.replace(key, revoked_at=1.0))

        async def refused() -> bool:
            return await ask(known_secret) == 401

        await until(refused)


async def test_after_the_grace_every_key_is_refused(postgres: Postgres, postgres_url: str) -> None:
    async with gate(postgres_url, grace=0.0, patience=0.5) as (ask, store):
        known, secret = new_key()
        await store.insert(known)
        assert await ask(secret) == 200

        async def closed() -> bool:
            return await ask(secret) == 503

        async def reopened() -> bool:
            return await ask(secret) == 200

        postgres.stop()
        try:
            await until(closed)
        finally:
            postgres.start()
        await until(reopened)


async def test_a_database_that_hangs_holds_up_no_known_key(
    postgres: Postgres, postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with gate(postgres_url, patience=0.3) as (ask, store):
        known, known_secret = new_key()
        other, other_secret = new_key()
        await store.insert(known)
        await store.insert(other)
        assert await ask(known_secret) == 200
        postgres.freeze()
        try:
            async with asyncio.timeout(
                DEADLINE
            ):  # nothing ever answers: any wait without bound fails
                assert await asyncio.gather(*(ask(other_secret) for _ in range(100))) == [503] * 100
                while "does not answer" not in caplog.text:
                    await asyncio.sleep(0.02)
                assert await asyncio.gather(*(ask(known_secret) for _ in range(100))) == [200] * 100
        finally:
            postgres.thaw()

        async def served() -> bool:
            return await ask(other_secret) == 200

        await until(served)
