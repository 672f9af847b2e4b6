"""One SQL database: its address, its connections, and whether its tables are of this version."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import URL, event, inspect, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from middlewares._lookup import lookup
from middlewares._shared import Shared

from .keys import StoreUnavailable

SCHEMA = "0004"
"""The newest migration, which this code needs."""

FAILURES = (
    SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)
_READING = "penstock_reading"
BUSY = 5.0
"""Seconds to wait for whoever writes to a SQLite file."""
_POOL = 4


class SchemaMismatch(Exception):
    """The tables are not of the version that this program needs."""


def _file_of(url: str) -> Path | None:
    """The file of a SQLite URL; None for a URL of another kind."""
    scheme, found, rest = url.partition("://")
    if scheme != "sqlite" or not found:
        return None
    path = rest.removeprefix("/")
    if not rest.startswith("/") or not path or path.startswith(":") or "?" in path:
        raise ValueError("store.sql: expected sqlite:///PATH, the path of a file")
    return Path(path)


def connect(url: str, *, patience: float | None) -> AsyncEngine:
    """An engine for `sqlite:///PATH` or `postgresql://…`; connects when first used.

    A PostgreSQL URL means what it means to psql, parameters such as `sslmode` included.
    patience: seconds to connect, and to wait for a connection or an answer; None waits for ever.
    """
    path = _file_of(url)
    if path is not None:
        return _sqlite(path)
    scheme, found, _ = url.partition("://")
    if scheme in ("postgresql", "postgres") and found:

        async def connected() -> Any:
            await _looked_up(url, patience)
            return await asyncpg.connect(url, timeout=patience or 60, command_timeout=patience)

        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connected,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=_POOL,
            max_overflow=0,
            pool_timeout=patience or 60,
        )
    named = f" {scheme!r}" if found else ""  # without "://" it may be anything, a password even
    raise ValueError(f"store.sql{named}: expected sqlite:///PATH or postgresql://…")


async def _looked_up(url: str, patience: float | None) -> None:
    """Have the name of a server answered once before asyncpg asks for it again in the event loop's
    own threads, of which there are four: a name that is not answered would block one for long.
    Raises OSError."""
    parts = urlsplit(url)
    host = parts.hostname
    if host and "," not in parts.netloc and "%" not in host:  # several; the path of a socket
        try:
            async with asyncio.timeout(patience):
                await lookup(host, 0)
        except TimeoutError:
            raise TimeoutError(f"name lookup of {host} timed out") from None


def _sqlite(path: Path) -> AsyncEngine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():  # its -wal and -shm files take their mode from it
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
        # aiosqlite leaves a thread behind when it cannot open a file, which may outlive its loop.
        sqlite3.connect(path).close()
    except (OSError, sqlite3.Error) as raised:
        raise unavailable(raised) from raised
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        connect_args={"timeout": BUSY},
        hide_parameters=True,
        pool_size=_POOL,
        max_overflow=0,
        pool_timeout=BUSY,
    )

    def prepare(connection: Any, _record: Any) -> None:
        # The driver would open a transaction late, at the first write, when it may find that its
        # snapshot is outdated; so `start` does it.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA journal_mode")
        if cursor.fetchone()[0] != "wal":
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()

    def start(connection: Connection) -> None:
        if not connection.get_execution_options().get(_READING):
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine.sync_engine, "connect", prepare)
    event.listen(engine.sync_engine, "begin", start)
    return engine


def reading(engine: AsyncEngine) -> AsyncEngine:
    """`engine` for single reads: no transaction, so no lock and no round trips for its sake."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(**{_READING: True})
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _version(connection: Connection) -> str | None:
    """The newest migration these tables have had; None before the first."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    return found


async def needs_migration(url: str) -> bool:
    """Whether the tables at `url` are missing or older than this program; makes no file.

    Raises SchemaMismatch when they are newer, StoreUnavailable.
    """
    path = _file_of(url)
    if path is not None and not path.exists():
        return True
    engine = connect(url, patience=10)
    try:
        return await _state(engine) == "old"
    finally:
        await engine.dispose()


async def _state(engine: AsyncEngine) -> Literal["old", "current"]:
    with_version = await _read_version(engine)
    if with_version is None or with_version < SCHEMA:
        return "old"
    if with_version > SCHEMA:
        raise SchemaMismatch(
            f"The tables are of version {with_version}, newer than this program ({SCHEMA}). "
            "Run the version of the program that migrated them, or a later one."
        )
    return "current"


async def _read_version(engine: AsyncEngine) -> str | None:
    try:
        async with reading(engine).connect() as connection:
            return await connection.run_sync(_version)
    except FAILURES as raised:
        raise unavailable(raised) from raised


def unavailable(raised: BaseException) -> StoreUnavailable:
    """What failed, in one line and without the values of any statement."""
    origin = getattr(raised, "orig", None) or raised
    first = str(origin).partition("\n")[0]
    return StoreUnavailable(f"{type(raised).__name__}: {first or 'no answer in time'}")


class Database(Shared):
    """An open database whose tables are of this version. Shared by the stores of one process."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reading = reading(engine)
        self._closing: list[Callable[[], None]] = []

    @classmethod
    async def open(cls, url: str, *, patience: float = 2.0) -> "Database":
        """Connect to `sqlite:///PATH`, whose tables are made or migrated here, or `postgresql://…`.

        patience: seconds that one statement, or the wait for a connection, may take.
        Raises ValueError for another URL, SchemaMismatch, StoreUnavailable.
        """
        engine = connect(url, patience=patience)
        try:
            if await _state(engine) == "old":
                if engine.dialect.name != "sqlite":
                    raise SchemaMismatch(
                        "The tables are missing or older than this program needs. "
                        "Run `penstock migrate`."
                    )
                # Alembic takes longer to load than all the rest; most starts need none of it.
                await import_module(f"{__package__}.migrations").migrate(url)
        except BaseException:
            await engine.dispose()
            raise
        return cls(engine)

    @classmethod
    def at(cls, url: str, *, patience: float = 2.0) -> "Database":
        """`open` without a look: for a process whose parent has just opened it.

        Raises ValueError for another URL, and StoreUnavailable for a file that cannot be opened.
        """
        return cls(connect(url, patience=patience))

    async def aclose(self) -> None:
        """Close all connections."""
        for close in self._closing:
            await asyncio.to_thread(close)
        await self._engine.dispose()

    @property
    def sqlite_file(self) -> Path | None:
        """The file of a SQLite database."""
        path = self._engine.url.database
        return Path(path) if self._engine.dialect.name == "sqlite" and path else None

    def closing(self, close: Callable[[], None]) -> None:
        """Have `close` called, in a thread, when the database is closed."""
        self._closing.append(close)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for one SELECT. Raises StoreUnavailable."""
        try:
            async with self._reading.connect() as connection:
                yield connection
        except FAILURES as raised:
            raise unavailable(raised) from raised

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A connection in a transaction, committed when the block ends without an exception.

        Raises StoreUnavailable, and ValueError when a row breaks a constraint.
        """
        try:
            async with self._engine.begin() as connection:
                yield connection
        except IntegrityError as raised:
            raise ValueError(str(raised.orig).partition("\n")[0]) from raised
        except FAILURES as raised:
            raise unavailable(raised) from raised
