"""Versions of tables: those of a database, and whether they and this program work together.

Theory of operation. Each migration has a number. Beside it, it says the oldest program that still
works with the tables after it (`oldest_program`, the number of the newest migration which that
program knows). The database keeps the highest of these. So a program that finds tables newer than
it serves them when it is not older than what they ask for: during a roll-out, where some processes
are of the version before, and after `helm rollback`.
"""

import asyncio
from typing import Literal

import msgspec
from sqlalchemy import inspect, select, text
from sqlalchemy.engine import Connection

from .engine import FAILURES, connect, is_missing, reading, try_sqlite, unavailable
from .tables import compatibility

State = Literal["old", "current", "newer"]

SCHEMA = "0016"
"""The newest migration, which this code needs."""


class SchemaMismatch(Exception):
    """The tables and this program do not work together."""


class TablesVersion(msgspec.Struct, frozen=True):
    """The version of a database's tables.

    version: the newest migration that they have had; None before the first.
    oldest_program: the oldest version of a program that works with them; None where newer tables do
        not say.
    """

    version: str | None
    oldest_program: str | None = None

    @property
    def state(self) -> State:
        """`state_for` this program."""
        return self.state_for(SCHEMA)

    def state_for(self, program: str) -> State:
        """Whether they are missing or older than a program needs, of its version, or newer.

        Raises SchemaMismatch when they are newer and the program does not work with them.
        """
        if self.version is None or self.version < program:
            return "old"
        if self.version == program:
            return "current"
        if self.oldest_program is None or self.oldest_program > program:
            needed = "" if self.oldest_program is None else f", and need {self.oldest_program}"
            raise SchemaMismatch(
                f"The tables are of version {self.version}, newer than this program "
                f"({program}){needed}. Run the version of the program that migrated them, or one "
                "after it."
            )
        return "newer"

    def __str__(self) -> str:
        if self.version == SCHEMA:
            return f"the tables are of version {SCHEMA}, as this program"
        return (
            f"the tables are of version {self.version}, newer than this program ({SCHEMA}), which "
            "works with them"
        )


def version_of(connection: Connection) -> TablesVersion:
    """The version of the tables that a connection leads to."""
    tables = inspect(connection)
    if not tables.has_table("alembic_version"):
        return TablesVersion(None)
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    if version is None or not tables.has_table(compatibility.name):
        return TablesVersion(version)
    oldest = connection.execute(select(compatibility.c.oldest_program)).scalar_one_or_none()
    return TablesVersion(version, oldest)


async def read_version(url: str, *, patience: float = 10) -> TablesVersion:
    """The version of the tables at `url`; makes no file. Raises StoreUnavailable."""
    if is_missing(url):
        return TablesVersion(None)
    engine = connect(url, patience=patience)
    try:
        await asyncio.to_thread(try_sqlite, url)
        async with reading(engine).connect() as connection:
            return await connection.run_sync(version_of)
    except FAILURES as raised:
        raise unavailable(raised) from raised
    finally:
        await engine.dispose()


async def needs_migration(url: str) -> bool:
    """Whether the tables at `url` are missing or older than this program; makes no file.

    Raises SchemaMismatch when they are newer and this program does not work with them,
    StoreUnavailable.
    """
    return (await read_version(url)).state == "old"
