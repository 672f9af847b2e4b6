"""Bring a database's tables to the version this program needs, with Alembic.

A new version is a new file in `versions/`, a change of `tables.py`, and `SCHEMA` in
`tables_version.py`. The file says `oldest_program`, see there.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import delete, insert, select, text
from sqlalchemy.engine import Connection

from middlewares.stores.sql.engine import FAILURES, connect, make, unavailable
from middlewares.stores.sql.tables import compatibility
from middlewares.stores.sql.tables_version import TablesVersion, version_of

from .spend_sums import complete_recent_days

_LOCK = 0x70656E73746F636B  # "penstock"; any number that no other program locks
VERSIONS = Path(__file__).parent / "versions"


async def migrate(url: str, *, versions: Sequence[Path] = (VERSIONS,)) -> TablesVersion:
    """Run the migrations that the tables at `url` have not had, and add to sums what processes of
    an older version have written since. Any number may try at once.

    All in one transaction, under a lock that others wait for: it is done whole or not at all.
    Newer tables stay as they are. versions: folders of migrations.
    Raises StoreUnavailable, and SchemaMismatch for newer tables with which this program does not
    work.
    """
    config = _config(versions)
    script = ScriptDirectory.from_config(config)
    make(url)
    engine = connect(url, patience=None)
    try:
        async with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            found = await connection.run_sync(version_of)
            if found.state_for(script.get_current_head() or "") == "newer":
                return found
            await connection.run_sync(_to_newest, config, script)
            await connection.run_sync(complete_recent_days)
            return await connection.run_sync(version_of)
    except FAILURES as raised:
        raise unavailable(raised) from raised
    finally:
        await engine.dispose()


def upgrade(url: str) -> TablesVersion:
    """`migrate`, for callers without an event loop."""
    return asyncio.run(migrate(url))


def _config(versions: Sequence[Path]) -> Config:
    config = Config()
    folder = str(Path(__file__).parent)
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(map(str, versions)).replace("%", "%%"))
    return config


def _to_newest(connection: Connection, config: Config, script: ScriptDirectory) -> None:
    """The tables ask for the newest program of those that their migrations ask for."""
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    modules = [one.module for one in script.walk_revisions()]
    oldest = max(getattr(module, "oldest_program", "") for module in modules)
    if connection.execute(select(compatibility.c.oldest_program)).scalar() != oldest:
        connection.execute(delete(compatibility))
        connection.execute(insert(compatibility), {"oldest_program": oldest})
