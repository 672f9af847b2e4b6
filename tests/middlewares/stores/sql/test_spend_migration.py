"""Roll-ups that a migration fills from rows, against those that the store keeps."""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, insert, select

from middlewares.stores.keys.sql import Database
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.rollups import TABLES
from middlewares.stores.ledger.spend import DAY
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql import migrations, tables
from middlewares.stores.sql.engine import connect, make
from middlewares.stores.sql.migrations import migrate
from tests.middlewares.stores.entries import credit, use

HUGE = 2**63 - 1


def entries() -> list[Entry]:
    found = [
        use(
            at=20_000.0 * DAY + n * 7919.25,
            account=f"key_{n % 5}",
            owner=["", "ann"][n % 2],
            team=["", "", "team_a"][n % 3],
            model="mno"[n % 3],
            endpoint=["chat", "describe"][n % 2],
            purpose=["", "describe"][n % 2],
            tags=["", "", "a", "a,b", '"'][n % 5],
            ended=["completed", "failed", "cut", "lost"][n % 4],
            **dict.fromkeys(("input", "output", "cache_read", "reasoning", "images"), n * 3),
            **dict.fromkeys(("cache_write", "audio_ms", "characters", "video_ms", "jobs"), n),
            cost=n * 10**12,
        )
        for n in range(200)
    ]
    odd = [use(at=0.0), use(at=-5.0, cost=-7), use(at=1e17), credit(5, at=20_000.0 * DAY)]
    huge = [use(at=20_001.0 * DAY, model="huge", cost=HUGE, input=-HUGE) for _ in range(3)]
    return [*found, *odd, *huge]


def _row(entry: Entry) -> dict[str, Any]:
    row = msgspec.structs.asdict(entry)
    for name in ("starts", "team_starts", "attempts"):
        row[name] = msgspec.json.encode(row[name]).decode()
    return {**row, "revision": 1 if entry.kind == "credit" else None}


def _old(connection: Connection) -> None:
    """The tables of the version before, with rows."""
    config = Config()
    folder = str(Path(migrations.__path__[0])).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    command.upgrade(config, "0012")
    rows = [_row(entry) for entry in entries_of_test]
    connection.execute(insert(tables.ledger), rows)


entries_of_test = entries()


async def contents(url: str) -> dict[str, list[Any]]:
    database = await Database.open(url)
    found = {}
    async with database.read() as connection:
        for name in TABLES:
            rows = await connection.execute(select(getattr(tables, name)))
            found[name] = sorted([tuple(row) for row in rows])
    await database.aclose()
    return found


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_database_of_the_version_before_gets_the_sums_of_its_rows(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str
) -> None:
    empty_url = f"sqlite:///{tmp_path}/old/keys.db"
    if kind == "postgres":
        empty_url = await request.getfixturevalue("postgres").new_database()
    database = await Database.open(sqlite_url)
    await SqlLedgerStore(database).append(entries_of_test)
    await database.aclose()
    make(empty_url)
    engine = connect(empty_url, patience=None)
    async with engine.begin() as connection:
        await connection.run_sync(_old)
    await engine.dispose()
    await migrate(empty_url)
    filled, kept = await contents(empty_url), await contents(sqlite_url)
    assert all(filled.values())
    for name in TABLES:
        assert filled[name] == kept[name], name


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_rows_that_an_older_version_wrote_after_the_migration_are_in_the_sums_of_the_next(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, sqlite_url: str
) -> None:
    url = f"sqlite:///{tmp_path}/old/keys.db"
    if kind == "postgres":
        url = await request.getfixturevalue("postgres").new_database()
    await migrate(url)
    now = time.time()
    rows = [
        use(at=now - n * 7200, account=f"key_{n % 3}", tags=["", "a,b"][n % 2], cost=n)
        for n in range(60)
    ]
    store = await Database.open(sqlite_url)
    await SqlLedgerStore(store).append(rows)
    await store.aclose()
    database = await Database.open(url)
    await SqlLedgerStore(database).append(rows[::2])
    async with database.write() as connection:  # as a version that does not know the sums
        await connection.execute(insert(tables.ledger), [_row(entry) for entry in rows[1::2]])
    await database.aclose()
    assert await contents(url) != await contents(sqlite_url)
    for _ in range(2):
        await migrate(url)
        assert await contents(url) == await contents(sqlite_url)
