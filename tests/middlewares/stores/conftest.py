"""Real databases: a SQLite file per test, and one PostgreSQL server with a database per test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from middlewares.stores import KeyStore, MemoryKeyStore
from middlewares.stores.keys.sql import Database, SqlKeyStore
from middlewares.stores.ledger.base import LedgerStore
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.teams.base import TeamStore
from middlewares.stores.teams.sql import SqlTeamStore

from .redis_server import RedisServer
from .sqlite_files import new_sqlite


async def database_url(kind: str, request: pytest.FixtureRequest) -> str:
    """A database of this test alone, with all migrations. The server starts when first asked."""
    if kind == "sqlite":
        return new_sqlite(request.getfixturevalue("tmp_path") / "var/keys.db")
    url: str = await request.getfixturevalue("postgres").migrated_database()
    return url


@pytest.fixture
async def postgres_url(request: pytest.FixtureRequest) -> str:
    return await database_url("postgres", request)


@pytest.fixture
async def sqlite_url(request: pytest.FixtureRequest) -> str:
    return await database_url("sqlite", request)


@pytest.fixture(params=["sqlite", "postgres"])
async def sql_url(request: pytest.FixtureRequest) -> str:
    return await database_url(request.param, request)


@pytest.fixture
async def sql_store(sql_url: str) -> AsyncIterator[SqlKeyStore]:
    database = await Database.open(sql_url)
    yield SqlKeyStore(database)
    await database.aclose()


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def key_and_team_stores(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[KeyStore, TeamStore]]:
    """Of one database."""
    if request.param == "memory":
        keys = MemoryKeyStore()
        yield keys, keys.teams
        return
    database = await Database.open(await database_url(request.param, request))
    yield SqlKeyStore(database), SqlTeamStore(database)
    await database.aclose()


@pytest.fixture
def store(key_and_team_stores: tuple[KeyStore, TeamStore]) -> KeyStore:
    return key_and_team_stores[0]


@pytest.fixture
def team_store(key_and_team_stores: tuple[KeyStore, TeamStore]) -> TeamStore:
    """The teams in the database of `store`."""
    return key_and_team_stores[1]


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def ledger_store(request: pytest.FixtureRequest) -> AsyncIterator[LedgerStore]:
    if request.param == "memory":
        yield MemoryLedgerStore()
        return
    database = await Database.open(await database_url(request.param, request))
    yield SqlLedgerStore(database)
    await database.aclose()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A server of this run's own; it starts when first asked for."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short: a socket's path has 107 bytes at most
    server = RedisServer(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """A database in which nothing is."""
    redis_server.flush()
    return redis_server.url()


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of one test's own, to be stopped and frozen."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short: a socket's path has 107 bytes at most
    server = RedisServer(folder)
    yield server
    server.thaw()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster() -> Iterator[RedisServer]:
    """A cluster of one node, which refuses scripts over keys in several slots."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    server = RedisServer(folder, cluster=True)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)
