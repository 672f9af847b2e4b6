"""A database of the version before the roll-ups, with any number of keys and rows, migrated."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, insert

from middlewares.stores.sql import migrations, tables
from middlewares.stores.sql.engine import connect, make
from middlewares.stores.sql.migrations import migrate

DAY = 86400
FIRST = 20_500 * DAY
DAYS = 30
OWNERS = 9000
TEAMS = 60
MODELS = 12
BEFORE = "0012"
_CHUNK = 10_000


def key_id(number: int) -> str:
    return f"key_{number * 7919 % 1_000_003:020d}"


def owner(number: int) -> str:
    """Every third key has no owner."""
    return "" if number % 3 == 0 else f"user-{number % OWNERS}@example.com"


def team(number: int) -> str:
    """Half of the keys belong to a team."""
    return "" if number % 2 else f"team_{number // 2 % TEAMS:020d}"


def _keys(count: int, first: int) -> Iterator[tuple[Any, ...]]:
    for n in range(count):
        yield (
            *(key_id(n), n.to_bytes(32, "big"), f"sk-penstock-live-{n:04x}", first - count + n),
            *(f"laptop {n}" if n % 4 else f"Server {n}", owner(n), team(n) or None),
            *(n % 50 == 0, first - 5.0 if n % 20 == 0 else None, n + 1),
        )


_KEY = ("id", "digest", "prefix", "created_at", "name", "owner", "team", "disabled", "revoked_at")


def _rows(count: int, keys: int, first: int) -> Iterator[tuple[Any, ...]]:
    chance = random.Random(1)
    for n in range(count):
        key = int(keys * chance.random() ** 2)  # some are busy, most are not
        at = first + n * (DAYS * DAY / count)
        failed = chance.random() < 0.02
        model = int(MODELS * chance.random() ** 2)
        yield (
            *(f"{int(at * 1000):012x}-{n:024x}", key_id(key), at, at + 2.0, owner(key), "pro"),
            *(("chat.completions", "messages", "responses", "embeddings")[n % 4],),
            *(f"model-{model}", f"model-{model}", 500 if failed else 200),
            *("failed" if failed else "completed", "cancel", 900, 300, 50, 0, 0, 1_500_000 + n),
            *(0, 0, 100.0, 900.0, 950.0, False, True, "{}", "[]", "", 0, 0, 0, "use", 0, ""),
            *(team(key), f"project:{key % 40},stage:test" if n % 10 == 0 else "", f"name {key}"),
        )


_ROW = (
    *("id", "account", "at", "ended_at", "owner", "plan", "endpoint", "model", "asked", "status"),
    *("ended", "on_hangup", "input", "output", "cache_read", "cache_write", "reasoning", "cost"),
    *("from_credits", "reserved", "first_content_ms", "upstream_ms", "duration_ms", "stream"),
    *("measured", "starts", "attempts", "fallback_from", "images", "audio_ms", "jobs", "kind"),
    *("granted", "note", "team", "tags", "key_name"),
)


async def fill(url: str, *, keys: int, rows: int, first: int = FIRST) -> None:
    """Make the tables at `url`, with keys and rows, of `DAYS` days from `first` on."""
    make(url)
    engine = connect(url, patience=None)
    async with engine.begin() as connection:
        await connection.run_sync(_old)
        if engine.dialect.name == "sqlite":
            for table, columns, values in _contents(keys, rows, first):
                while chunk := list(islice(values, _CHUNK)):
                    named = [dict(zip(columns, each, strict=True)) for each in chunk]
                    await connection.execute(insert(table), named)
    await engine.dispose()
    if engine.dialect.name == "postgresql":
        raw = await asyncpg.connect(url)
        for table, columns, values in _contents(keys, rows, first):
            await raw.copy_records_to_table(table.name, columns=columns, records=values)
        await raw.execute("ANALYZE")
        await raw.close()
    await migrate(url)


def _contents(keys: int, rows: int, first: int) -> list[tuple[Any, tuple[str, ...], Iterator[Any]]]:
    return [
        (tables.api_keys, (*_KEY, "revision"), _keys(keys, first)),
        (tables.ledger, _ROW, _rows(rows, keys, first)),
    ]


def _old(connection: Connection) -> None:
    config = Config()
    folder = str(Path(migrations.__path__[0])).replace("%", "%%")
    config.set_main_option("script_location", folder)
    config.attributes["connection"] = connection
    command.upgrade(config, BEFORE)
