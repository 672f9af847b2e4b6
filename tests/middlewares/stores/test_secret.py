"""Secrets that all processes on one store share."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from middlewares.stores import MemorySecretStore, SecretStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database

from .conftest import database_url


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[SecretStore]:
    if request.param == "memory":
        yield MemorySecretStore()
        return
    database = await Database.open(await database_url(request.param, request))
    yield SqlSecretStore(database)
    await database.aclose()


async def test_a_secret_stays_the_same(store: SecretStore) -> None:
    first = await store.secret("seal")
    assert len(first) == 32
    assert await store.secret("seal") == first
    assert await store.secret("other") != first


async def test_racing_processes_get_one_secret(sql_url: str) -> None:
    databases = [await Database.open(sql_url, patience=20) for _ in range(4)]
    found = await asyncio.gather(
        *(SqlSecretStore(database).secret("seal") for database in databases * 3)
    )
    assert len(set(found)) == 1
    for database in databases:
        await database.aclose()
