"""Connections to a SQL database by its URL."""

import asyncio
import os
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import URL, event
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from middlewares.dns import lookup
from middlewares.stores.errors import StoreUnavailable

from .sqlite_file import BUSY, NotUsable, beware

FAILURES = (
    SQLAlchemyError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
    NotUsable,
)
_READING = "penstock_reading"
_POOL = 4
_STATEMENTS = 100
"""Statements that stay compiled, or half as many more. Each is a thousand objects, which every full
garbage collection visits; the pages of usage ask in hundreds of forms."""


def file_of(url: str) -> Path | None:
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
    path = file_of(url)
    if path is not None:
        return _sqlite(path)
    scheme, found, _ = url.partition("://")
    if scheme in ("postgresql", "postgres") and found:

        async def connected() -> Any:
            await looked_up(url, patience)
            return await asyncpg.connect(url, timeout=patience or 60, command_timeout=patience)

        engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connected,
            hide_parameters=True,
            pool_pre_ping=True,
            query_cache_size=_STATEMENTS,
            pool_size=_POOL,
            max_overflow=0,
            pool_timeout=patience or 60,
        )
        event.listen(engine.sync_engine, "before_cursor_execute", _without_nul, retval=True)
        return engine
    named = f" {scheme!r}" if found else ""  # without "://" it may be anything, a password even
    raise ValueError(f"store.sql{named}: expected sqlite:///PATH or postgresql://…")


def _without_nul(
    _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
) -> tuple[str, Any]:
    """PostgreSQL keeps no NUL in a text, and answers one with an error, which would count as a
    database that does not answer. A caller may send one as an id, so it is replaced."""
    if many:
        return statement, [_replaced(each) for each in parameters]
    return statement, _replaced(parameters)


def _replaced(values: Any) -> Any:
    if not isinstance(values, tuple) or not any(
        isinstance(value, str) and "\0" in value for value in values
    ):
        return values
    return tuple(v.replace("\0", "\ufffd") if isinstance(v, str) else v for v in values)


async def looked_up(url: str, patience: float | None) -> None:
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


def make(url: str) -> None:
    """The empty file of a SQLite URL and its folder, unless there is one; nothing for others.

    Raises StoreUnavailable.
    """
    path = file_of(url)
    if path is None:
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():  # its -wal and -shm files take their mode from it
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))
    except OSError as raised:
        raise unavailable(raised) from raised


def is_missing(url: str) -> Path | None:
    """The file of a SQLite URL when it is not there."""
    path = file_of(url)
    return None if path is None or path.exists() else path


def try_sqlite(url: str) -> None:
    """See that the file of a SQLite URL can be opened.

    aiosqlite leaves a thread behind when it cannot, which may outlive its loop.
    """
    path = file_of(url)
    if path is not None:
        sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True).close()
        beware(path)


def _sqlite(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create(
            "sqlite+aiosqlite",
            database=path.absolute().as_uri(),
            query={"mode": "rw", "uri": "true"},  # a file that was removed is not made again
        ),
        connect_args={"timeout": BUSY},
        hide_parameters=True,
        query_cache_size=_STATEMENTS,
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


def unavailable(raised: BaseException) -> StoreUnavailable:
    """What failed, in one line and without the values of any statement."""
    origin = getattr(raised, "orig", None) or raised
    first = str(origin).partition("\n")[0]
    return StoreUnavailable(f"{type(raised).__name__}: {first or 'no answer in time'}")
