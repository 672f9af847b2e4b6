"""Ledgers of many rows, made in SQL: ten million take minutes, and are kept for the next run."""

import asyncio
import sqlite3
from pathlib import Path

import asyncpg

from middlewares.stores.sql.engine import connect
from middlewares.stores.sql.migrations.spend_sums import fill_day
from tests.middlewares.stores import many_rows
from tests.middlewares.stores.many_rows import DAY, DAYS, FIRST, MODELS, OWNERS, TEAMS

_NUMBERS = {
    "sqlite": "WITH RECURSIVE numbers(n) AS"
    " (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < {rows})",
    "postgresql": "WITH numbers(n) AS (SELECT generate_series(0, {rows} - 1::bigint))",
}
_PADDED = {
    "sqlite": "printf('%0{width}d', {value})",
    "postgresql": "lpad(({value})::text, {width}, '0')",
}
_HEX = {
    "sqlite": "printf('%0{width}x', {value})",
    "postgresql": "lpad(to_hex({value}), {width}, '0')",
}
_WHOLE = "CAST(floor({value}) AS bigint)"


def _statement(dialect: str, keys: int, rows: int) -> str:
    """Rows as those of `many_rows`: some keys and models are busy, most are not."""

    def padded(value: str, width: int) -> str:
        return _PADDED[dialect].format(value=value, width=width)

    def hexed(value: str, width: int) -> str:
        return _HEX[dialect].format(value=value, width=width)

    def skewed(most: int, factor: int, of: int) -> str:
        chance = f"((n * {factor}) % {of} / {of}.0)"
        return _WHOLE.format(value=f"{most} * {chance} * {chance}")

    at = f"({FIRST} + n * {DAYS * DAY / rows})"
    milliseconds = _WHOLE.format(value=f"{at} * 1000")
    no, yes = ("0", "1") if dialect == "sqlite" else ("false", "true")
    values = {
        "id": f"{hexed(milliseconds, 12)} || '-' || {hexed('n', 24)}",
        "account": f"'key_' || {padded('k * 7919 % 1000003', 20)}",
        "at": at,
        "ended_at": f"{at} + 2",
        "owner": "CASE WHEN k % 3 = 0 THEN ''"
        f" ELSE 'user-' || (k % {OWNERS}) || '@example.com' END",
        "plan": "'pro'",
        "endpoint": "CASE n % 4 WHEN 0 THEN 'chat.completions' WHEN 1 THEN 'messages'"
        " WHEN 2 THEN 'responses' ELSE 'embeddings' END",
        "model": "'model-' || m",
        "asked": "'model-' || m",
        "status": "CASE WHEN n % 50 = 7 THEN 500 ELSE 200 END",
        "ended": "CASE WHEN n % 50 = 7 THEN 'failed' ELSE 'completed' END",
        "on_hangup": "'cancel'",
        **dict.fromkeys(("cache_write", "reasoning", "from_credits", "reserved"), "0"),
        **dict.fromkeys(("images", "audio_ms", "jobs", "granted"), "0"),
        "input": "900",
        "output": "300",
        "cache_read": "50",
        "cost": "1500000 + n",
        "first_content_ms": "100",
        "upstream_ms": "900",
        "duration_ms": "950",
        "stream": no,
        "measured": yes,
        "starts": "'{}'",
        "attempts": "'[]'",
        "fallback_from": "''",
        "kind": "'use'",
        "note": "''",
        "team": f"CASE WHEN k % 2 = 1 THEN '' ELSE 'team_' || {padded(f'k / 2 % {TEAMS}', 20)} END",
        "tags": "CASE WHEN n % 10 = 0 THEN 'project:' || (k % 40) || ',stage:test' ELSE '' END",
        "key_name": "'name ' || k",
    }
    source = (
        f"SELECT n, {skewed(keys, 2654435761, 1000003)} AS k, {skewed(MODELS, 40503, 65537)} AS m"
        " FROM numbers"
    )
    return (
        f"{_NUMBERS[dialect].format(rows=rows)} INSERT INTO ledger ({', '.join(values)})"
        if dialect == "postgresql"
        else f"INSERT INTO ledger ({', '.join(values)}) {_NUMBERS[dialect].format(rows=rows)}"
    ) + f" SELECT {', '.join(values.values())} FROM ({source}) AS chosen"


async def fill(url: str, *, keys: int, rows: int) -> None:
    """Make the tables at `url`, with keys, rows of `DAYS` days and their sums."""
    await many_rows.fill(url, keys=keys, rows=0)
    if url.startswith("sqlite"):
        await asyncio.to_thread(_sqlite, Path(url.removeprefix("sqlite:///")), keys, rows)
    else:
        await _postgres(url, keys, rows)
    engine = connect(url, patience=None)
    for day in range(FIRST // DAY, FIRST // DAY + DAYS):
        async with engine.begin() as connection:
            bounds = (float(day * DAY), float((day + 1) * DAY))
            await connection.run_sync(fill_day, day, *bounds)
    await engine.dispose()
    if not url.startswith("sqlite"):
        raw = await asyncpg.connect(url)
        await raw.execute("VACUUM ANALYZE")
        await raw.close()


def _sqlite(file: Path, keys: int, rows: int) -> None:
    raw = sqlite3.connect(file)
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA cache_size = -1000000")
    found = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'ledger'"
    indexes = [each for each in raw.execute(found).fetchall() if each[1]]
    for name, _ in indexes:
        raw.execute(f"DROP INDEX {name}")
    raw.execute(_statement("sqlite", keys, rows))
    for _, statement in indexes:
        raw.execute(statement)
    raw.commit()
    raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    raw.close()


async def _postgres(url: str, keys: int, rows: int) -> None:
    raw = await asyncpg.connect(url)
    await raw.execute("SET maintenance_work_mem = '1GB'")
    found = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'ledger'"
    indexes = [tuple(each) for each in await raw.fetch(found) if each[0] != "ledger_pkey"]
    for name, _ in indexes:
        await raw.execute(f"DROP INDEX {name}")
    await raw.execute(_statement("postgresql", keys, rows))
    for _, statement in indexes:
        await raw.execute(statement)
    await raw.close()
