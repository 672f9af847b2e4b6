"""Bring a database's tables to the version this program needs, with Alembic.

A new version is a new file in `versions/`, a change of `tables.py`, and `SCHEMA` in `database.py`.
"""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.engine import Connection

from middlewares.stores.sql.engine import FAILURES, connect, make, unavailable

from .spend_sums import complete_recent_days

_LOCK = 0x70656E73746F636B  # "penstock"; any number that no other program locks


async def migrate(url: str) -> None:
    """Run the migrations that the tables at `url` have not had, and add to sums what processes of
    an older version have written since. Any number may try at once.

    All in one transaction, under a lock that others wait for: it is done whole or not at all.
    Raises StoreUnavailable.
    """
    make(url)
    engine = connect(url, patience=None)
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            await connection.run_sync(_to_newest)
            await connection.run_sync(complete_recent_days)
    except FAILURES as raised:
        raise unavailable(raised) from raised
    finally:
        await engine.dispose()


def upgrade(url: str) -> None:
    """`migrate`, for callers without an event loop."""
    asyncio.run(migrate(url))


def _to_newest(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
