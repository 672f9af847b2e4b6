"""Cost of kept answers by their number: of idempotency keys, and of /v1/responses."""

import time
from functools import partial
from typing import Any

from sqlalchemy import text

from bench import teams
from middlewares.stores.replays.base import KeptAnswer, ReplayStore, RunMark
from middlewares.stores.replays.memory import MemoryReplays
from middlewares.stores.replays.redis import RedisReplays
from middlewares.stores.responses.base import Kept
from middlewares.stores.responses.sql import SqlResponseStore
from middlewares.stores.sql.engine import connect
from middlewares.stores.sql.migrations import migrate

from .places import KINDS, UNINDEXED, Places, opened, unindexed
from .table import Row, Table, least, least_wall

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_OWNERS = 10
_PURGED = 200
_ANSWER = KeptAnswer(200, ((b"content-type", b"application/json"),), (b'{"a": 1}',))
_TEXT = b'{"text": "' + b"x" * 300 + b'"}'
_COLUMNS = "owner, id, model, created_at, expires_at, input, output, answer"
_FILL = {
    "sqlite": f"""INSERT INTO responses ({_COLUMNS})
        WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < :last)
        SELECT 'key_' || (n % {_OWNERS}), printf('resp_%020d', n), 'm', n, 1e9 + n,
        :text, :text, :text FROM numbers""",
    "postgresql": f"""INSERT INTO responses ({_COLUMNS})
        SELECT 'key_' || (n % {_OWNERS}), 'resp_' || lpad(CAST(n AS text), 20, '0'), 'm', n,
        1e9 + n, CAST(:text AS bytea), CAST(:text AS bytea), CAST(:text AS bytea)
        FROM generate_series(0, CAST(:last AS bigint)) AS numbers(n)""",
}


async def measure(sizes: tuple[int, ...], places: Places) -> list[Table]:
    """Idempotency keys in memory and in Redis; responses in SQLite and PostgreSQL."""
    tables = [await _replays("memory", sizes), await _replays("Redis", sizes)]
    for kind in KINDS:
        rows = []
        for size in sizes:
            name = f"responses_{size}_{time.time_ns()}"  # the bench takes rows away
            url = await places.url(kind, name, partial(_fill, size=size))
            rows.append(Row(size, await _responses(url, size)))
        tables.append(
            Table(
                f"Stored responses, {kind}",
                "responses",
                (
                    "save, µs",
                    "read, µs",
                    "what an owner has, µs",
                    "delete an expired one, µs",
                    "make room, for each that goes, µs",
                    UNINDEXED,
                ),
                rows,
                (
                    f"Of {_OWNERS} owners. By the clock in PostgreSQL, processor time in SQLite.",
                    "Room is made a tenth of an owner's at once, 5,000 at most.",
                ),
            )
        )
    return tables


async def _replays(kind: str, sizes: tuple[int, ...]) -> Table:
    rows = []
    for size in sizes:
        if kind == "memory":
            rows.append(
                Row(size, await _costs(MemoryReplays(most=size + 100_000, size=1 << 40), size))
            )
            continue
        with teams.redis() as url:
            await _fill_redis(url, size)
            store = RedisReplays(url, patience=60, quick=60)
            await store.start()
            rows.append(Row(size, await _costs(store, size, filled=True)))
            await store.aclose()
    notes = {
        "memory": "Without the bound of 10,000 answers and 64 MiB that a worker has.",
        "Redis": "By the clock, Redis with it: the least of single calls.",
    }
    columns = ("claim, µs", "keep, µs", "replay, µs")
    return Table(f"Idempotency keys, {kind}", "keys", columns, rows, (notes[kind],))


async def _fill_redis(url: str, size: int) -> None:
    """Copies of one kept answer, as the store writes it, with the TTL of each."""
    from redis.asyncio import Redis

    store = RedisReplays(url, patience=60, quick=60)
    await store.start()
    first = _mark(0)
    await store.claim(first)
    await store.keep(first, _ANSWER, 3600.0)
    await store.aclose()
    client: Any = Redis.from_url(url)
    (name,) = await client.keys("*key-0*")
    script = """local value = redis.call('GET', KEYS[1])
        for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do
        redis.call('SET', ARGV[3] .. n, value, 'PX', 3600000) end"""
    prefix = name.decode().removesuffix("0")
    for start in range(1, size, 10_000):
        await client.eval(script, 1, name, start, min(size, start + 10_000) - 1, prefix)
    assert await client.dbsize() >= size
    await client.aclose()


def _mark(number: int) -> RunMark:
    return RunMark(f"key-{number}", b"f" * 32, "o" * 32)


async def _costs(store: ReplayStore, size: int, *, filled: bool = False) -> list[float]:
    if not filled:
        for n in range(size):
            await store.claim(_mark(n))
            await store.keep(_mark(n), _ANSWER, 3600.0)
    cost, count = (least_wall, 200) if filled else (least, 5000)

    async def claim(number: int) -> None:
        await store.claim(_mark(size + number))

    async def keep(number: int) -> None:
        await store.keep(_mark(size + number), _ANSWER, 3600.0)

    async def replay(number: int) -> None:
        if await store.find(f"key-{number * 7919 % size}") is None:
            raise RuntimeError("a kept answer is not there")

    return [await cost(claim, count), await cost(keep, count), await cost(replay, count)]


async def _fill(url: str, *, size: int) -> None:
    await migrate(url)
    engine = connect(url, patience=None)
    async with engine.begin() as connection:
        statement = text(_FILL[engine.dialect.name])
        await connection.execute(statement, {"last": size - 1, "text": _TEXT})
    await engine.dispose()
    if not url.startswith("sqlite"):
        import asyncpg

        raw = await asyncpg.connect(url)
        await raw.execute("VACUUM ANALYZE")
        await raw.close()


async def _responses(url: str, size: int) -> list[float | None]:
    scanned = await unindexed(url, "responses")
    database = await opened(url)
    store = SqlResponseStore(database)
    cost = least if url.startswith("sqlite") else least_wall

    async def save(number: int) -> None:
        await store.save(
            Kept(
                owner=f"key_{number % _OWNERS}",
                id=f"new_{number}",
                previous=None,
                model="m",
                created_at=1e9,
                expires_at=2e9,
                input=_TEXT,
                output=_TEXT,
                answer=_TEXT,
            )
        )

    async def read(number: int) -> None:
        n = number * 7919 % size
        if await store.get(f"key_{n % _OWNERS}", f"resp_{n:020d}", 1.0) is None:
            raise RuntimeError("a stored response is not there")

    async def load(number: int) -> None:
        if (await store.load("key_1")).responses < size // _OWNERS:
            raise RuntimeError("the total is too small")

    gone = min(_PURGED, size // 20)

    async def purge(number: int) -> None:
        await store.purge(1e9 + gone * (number + 1) - 0.5)

    room = min(5000, size // _OWNERS // 10)

    async def forget(number: int) -> None:
        await store.forget("key_2", responses=room, size=0)

    costs: list[float | None] = [
        await cost(save, 50),
        await cost(read, 100),
        await cost(load, 100),
        await cost(purge, 1, 3) / gone,
        await cost(forget, 1, 3) / room,
    ]
    await database.aclose()
    costs.append(None if scanned is None else (await unindexed(url, "responses") or 0) - scanned)
    return costs
