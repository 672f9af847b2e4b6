"""Cost of authentication, memory and reload by the number of keys."""

import gc
import tempfile
from pathlib import Path

from sqlalchemy import insert

from middlewares.stores.keys.base import digest
from middlewares.stores.keys.directory import KeyDirectory
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import api_keys

from .table import Row, Table, least, resident

SIZES = (100, 1_000, 10_000, 100_000)
_CHUNK = 10_000


def secret(number: int) -> str:
    """That of the key with this number."""
    return f"sk-penstock-live-{number:040d}"


async def fill(database: Database, keys: int) -> None:
    """Add so many keys, in bulk."""
    for start in range(0, keys, _CHUNK):
        rows = [
            {
                "id": f"key_{n:020d}",
                "digest": digest(secret(n)),
                "prefix": secret(n)[:22],
                "created_at": float(n),
                "name": f"laptop {n}",
                "owner": f"user-{n}@example.com",
                "disabled": False,
                "revision": n + 1,
            }
            for n in range(start, min(start + _CHUNK, keys))
        ]
        async with database.write() as connection:
            await connection.execute(insert(api_keys), rows)
    async with database.write() as connection:
        await connection.exec_driver_sql(f"UPDATE revisions SET value = {keys} WHERE name = 'keys'")


async def measure(sizes: tuple[int, ...] = SIZES, url: str = "") -> Table:
    """url: of an empty PostgreSQL database for each size, with {size}; "": SQLite files."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
            place = url.format(size=size) if url else f"sqlite:///{Path(folder) / 'keys.db'}"
            database = await Database.open(place, patience=60)
            await fill(database, size)
            rows.append(Row(size, await _costs(database, size)))
            await database.aclose()
    return Table(
        "Keys",
        "keys",
        (
            "known key, µs",
            "first use, µs",
            "poll for changes, µs",
            "reload of 500 changed, ms",
            "memory of a known key, bytes",
            "full collection, ms",
        ),
        rows,
        (
            "All keys are used once, then again in turn: with more keys than a worker remembers "
            "(`auth.known_keys`), a request is mostly a first use.",
            "A change is fetched by its revision, whatever the number of keys.",
        ),
        ("full collection, ms",),
    )


async def _costs(database: Database, size: int) -> list[float | None]:
    store = SqlKeyStore(database)
    directory = KeyDirectory(store, period=3600.0, size=size)
    await directory.start()
    digests = [digest(secret(n)) for n in range(size)]

    async def first(number: int) -> None:
        await directory.find(digests[number * 7919 % size])

    gc.collect()
    before = resident()
    cold = await least(first, max(1, size // 7), 7) if size >= 7000 else None
    for each in digests:
        await directory.find(each)
    gc.collect()
    memory = (resident() - before) / size if size >= 10_000 else None
    if cold is None:
        fresh = KeyDirectory(store, period=3600.0, size=10_000)
        await fresh.start()

        async def first_of_few(number: int) -> None:
            fresh._known.clear()
            await fresh.find(digests[number % size])

        cold = await least(first_of_few, 200)
        await fresh.aclose()

    async def known(number: int) -> None:
        directory.peek(digests[number * 7919 % size])

    async def poll(number: int) -> None:
        await store.revision()

    async def changes(number: int) -> None:
        await store.changes(max(0, size - 500), 500)

    async def collect(number: int) -> None:
        gc.collect()

    costs = [
        await least(known, 20_000),
        cold,
        await least(poll, 200),
        await least(changes, 1) / 1000 if size >= 500 else None,
        memory,
        await least(collect, 1) / 1000,
    ]
    await directory.aclose()
    return costs
