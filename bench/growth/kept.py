"""Cost of kept answers by their number: of idempotency keys, and of /v1/responses."""

import tempfile
from pathlib import Path

from sqlalchemy import insert

from middlewares.stores.replays.base import KeptAnswer, RunMark
from middlewares.stores.replays.memory import MemoryReplays
from middlewares.stores.responses.base import Kept
from middlewares.stores.responses.sql import SqlResponseStore
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import responses

from .table import Row, Table, least

SIZES = (1_000, 10_000, 100_000, 1_000_000)
_CHUNK = 10_000
_OWNERS = 10
_PURGED = 2000


async def measure(sizes: tuple[int, ...] = SIZES) -> Table:
    """Both kinds, in memory and in SQLite; a tenth of the responses is of each owner."""
    rows = []
    for size in sizes:
        replays = await _replays(size)
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as folder:
            rows.append(Row(size, [*replays, *await _responses(Path(folder), size)]))
    return Table(
        "Kept answers",
        "answers",
        (
            "idempotency key: claim, µs",
            "keep, µs",
            "replay, µs",
            "response: save, µs",
            "read, µs",
            "delete an expired one, µs",
            "count of an owner, ms",
        ),
        rows,
        (
            "Idempotency keys in memory, without the bound of 10,000 that a worker has; in Redis "
            "each is one key with a TTL.",
            "What an owner has is counted some seventy times until the owner's quota is reached.",
        ),
    )


async def _replays(size: int) -> list[float]:
    store = MemoryReplays(most=size + 100_000, size=1 << 40)
    answer = KeptAnswer(200, ((b"content-type", b"application/json"),), (b'{"a": 1}',))
    marks = [RunMark(f"key-{n}", b"f" * 32, "o" * 32) for n in range(size + 40_000)]
    for mark in marks[:size]:
        await store.claim(mark)
        await store.keep(mark, answer, 3600.0)
    new = marks[size:]

    async def claim(number: int) -> None:
        await store.claim(new[number])

    async def keep(number: int) -> None:
        await store.keep(new[number], answer, 3600.0)

    async def replay(number: int) -> None:
        await store.find(marks[number * 7919 % size].key)

    return [await least(claim, 5000), await least(keep, 5000), await least(replay, 5000)]


async def _responses(folder: Path, size: int) -> list[float]:
    database = await Database.open(f"sqlite:///{folder / 'answers.db'}", patience=60)
    store = SqlResponseStore(database)
    text = b'{"text": "' + b"x" * 300 + b'"}'

    def id_of(number: int) -> str:
        return f"resp_{number:020d}"

    for start in range(0, size, _CHUNK):
        made = [
            {
                "owner": f"key_{n % _OWNERS}",
                "id": id_of(n),
                "previous": None,
                "model": "m",
                "created_at": float(n),
                "expires_at": 1e9 + n,
                "input": text,
                "output": text,
                "answer": text,
            }
            for n in range(start, min(start + _CHUNK, size))
        ]
        async with database.write() as connection:
            await connection.execute(insert(responses), made)

    async def save(number: int) -> None:
        await store.save(
            Kept(
                owner=f"key_{number % _OWNERS}",
                id=f"new_{number}",
                previous=None,
                model="m",
                created_at=1e9,
                expires_at=2e9,
                input=text,
                output=text,
                answer=text,
            )
        )

    async def read(number: int) -> None:
        n = number * 7919 % size
        await store.get(f"key_{n % _OWNERS}", id_of(n), 1.0)

    async def count(number: int) -> None:
        await store.load("key_1")

    gone = min(_PURGED, size // 10)

    async def purge(number: int) -> None:
        await store.purge(1e9 + gone * (number + 1) - 0.5)

    costs = [
        await least(save, 50),
        await least(read, 100),
        await least(purge, 1, 3) / gone,
        await least(count, 1) / 1000,
    ]
    await database.aclose()
    return costs
