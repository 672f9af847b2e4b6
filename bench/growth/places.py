"""Databases and a Redis of the bench's own; databases may be kept for the next run."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg

from middlewares.stores.sql.database import Database

Fill = Callable[[str], Awaitable[None]]
KINDS = ("SQLite", "PostgreSQL")
UNINDEXED = "rows read without an index"


class Places:
    """SQLite files and databases of one PostgreSQL server, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None

    async def url(self, kind: str, name: str, fill: Fill) -> str:
        """Of a database that `fill` has filled, now or in an earlier run."""
        done = self._folder / f"{name}-{kind}.filled"
        url = f"sqlite:///{self._folder / name}.db" if kind == "SQLite" else self._postgres(name)
        if done.exists():
            return url
        if kind == "SQLite":
            for left in self._folder.glob(f"{name}.db*"):
                left.unlink()
        else:
            raw = await asyncpg.connect(self._postgres("postgres"))
            await raw.execute(f"DROP DATABASE IF EXISTS {name}")
            await raw.execute(f"CREATE DATABASE {name}")
            await raw.close()
        await fill(url)
        done.touch()
        return url

    def _postgres(self, name: str) -> str:
        from tests.middlewares.stores.postgres_server import Postgres

        if self._server is None:
            self._server = Postgres(self._folder / "pg", cleanup="stop")
        return str(self._server.url(name))

    def close(self) -> None:
        """Stop the server."""
        if self._server is not None:
            self._server.close()


@asynccontextmanager
async def places(folder: Path | None) -> AsyncIterator[Places]:
    """Of a folder that is kept, or of one that is not."""
    made = folder or Path(tempfile.mkdtemp(prefix="growth-"))
    made.mkdir(exist_ok=True)
    found = Places(made.resolve())
    try:
        yield found
    finally:
        found.close()
        if folder is None:
            shutil.rmtree(made, ignore_errors=True)


async def unindexed(url: str, *tables: str) -> float | None:
    """Rows of `tables` that PostgreSQL has read without an index, ever; None: of SQLite."""
    if url.startswith("sqlite"):
        return None
    raw = await asyncpg.connect(url)
    read = "SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = ANY($1)"
    found = await raw.fetchval(read, list(tables))
    await raw.close()
    return float(found)


async def opened(url: str) -> Database:
    """A database that waits for what takes long."""
    return await Database.open(url, patience=120)
