"""What an owner has, as triggers keep it: what counting all of its responses would find."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.stores.responses.base import Kept, Load
from middlewares.stores.responses.sql import SqlResponseStore
from middlewares.stores.sql import migrations
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.engine import connect, make
from middlewares.stores.sql.migrations import migrate
from middlewares.stores.sql.tables import responses
from tests.middlewares.stores.postgres_server import Postgres

OWNERS = ("ann", "bob", "cy")


def row(owner: str, number: int, **fields: Any) -> dict[str, Any]:
    made = {"owner": owner, "id": f"r{number}", "previous": None, "model": "m", "created_at": 1.0}
    parts = {"input": b"i" * number, "output": b"\x00o", "answer": b"a" * (number % 7)}
    return {**made, "expires_at": 1000.0 + number, **parts, **fields}


async def counted(connection: AsyncConnection) -> dict[str, Load]:
    c = responses.c
    loads: dict[str, Load] = {}
    for owner, *texts in await connection.execute(select(c.owner, c.input, c.output, c.answer)):
        load = loads.get(owner, Load(0, 0))
        size = sum(len(text or b"") for text in texts)
        loads[owner] = Load(load.responses + 1, load.size + size)
    return loads


async def assert_exact(database: Database) -> dict[str, Load]:
    store = SqlResponseStore(database)
    async with database.read() as connection:
        found = await counted(connection)
    assert {owner: await store.load(owner) for owner in OWNERS} == {
        owner: found.get(owner, Load(0, 0)) for owner in OWNERS
    }
    return found


async def work(store: SqlResponseStore, worker: int) -> None:
    """Save, continue, delete, purge and forget, in an order of the worker's own."""
    chance = random.Random(worker)
    saved: list[tuple[str, str]] = []
    for step in range(40):
        owner, what = chance.choice(OWNERS), chance.random()
        own = [id_ for whose, id_ in saved if whose == owner]
        if what < 0.6:
            fields = row(owner, step, id=f"w{worker}-{step}", input=b"x" * chance.randrange(2000))
            previous = chance.choice([None, *own[-3:]])
            try:
                await store.save(Kept(**{**fields, "previous": previous}))
            except ValueError:  # what it continues is gone
                continue
            saved.append((owner, fields["id"]))
        elif what < 0.8 and own:
            await store.delete(owner, chance.choice(own), float(step))
        elif what < 0.9:
            await store.forget(owner, responses=3, size=500)
        else:
            await store.redate(2000.0 - step, 10.0)
            with suppress(ValueError):  # one is continued just now; the next purge takes it
                await store.purge(chance.choice((500.0, 1030.0)))


async def test_load_many_writers_at_once_is_what_counting_finds(sql_url: str) -> None:
    databases = [await Database.open(sql_url, patience=60) for _ in range(3)]
    await asyncio.gather(*(work(SqlResponseStore(each), n) for n, each in enumerate(databases)))
    assert await assert_exact(databases[0])
    await SqlResponseStore(databases[0]).purge(9e9)
    assert await assert_exact(databases[0]) == {}
    for database in databases:
        await database.aclose()


def _before(connection: Connection) -> None:
    config = Config()
    folder = str(Path(migrations.__path__[0])).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    command.upgrade(config, "0015")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_load_rows_of_an_older_program_before_and_after_the_migration_are_counted(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path}/old.db"
    if kind == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = await server.new_database()
    make(url)
    engine = connect(url, patience=60)
    async with engine.begin() as connection:
        await connection.run_sync(_before)
        first = [row(owner, n) for owner in OWNERS[:2] for n in range(20)]
        await connection.execute(insert(responses), [*first, row("ann", 20, answer=None)])
    late = await engine.connect()
    await late.execute(insert(responses), row("cy", 1))  # not committed yet
    if kind == "postgres":
        migration = asyncio.create_task(migrate(url))
        await asyncio.sleep(0.2)
        assert not migration.done()
        await late.commit()
        await migration
    else:
        await late.commit()
        await migrate(url)
    await late.execute(insert(responses), [row("cy", n) for n in range(2, 9)])
    await late.commit()
    await late.close()
    await engine.dispose()
    database = await Database.open(url)
    found = await assert_exact(database)
    assert {owner: load.responses for owner, load in found.items()} == {
        "ann": 21,
        "bob": 20,
        "cy": 8,
    }
    await database.aclose()
