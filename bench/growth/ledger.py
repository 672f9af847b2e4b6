"""Cost of writing and reading by the number of rows in the ledger."""

import tempfile
from pathlib import Path

from middlewares.stores.ledger.base import Wanted
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql.database import Database

from .table import Row, Table, least

SIZES = (10_000, 100_000, 1_000_000)
KEYS = 10_000
_FLUSH = 100


async def measure(sizes: tuple[int, ...] = SIZES, folder: Path | None = None) -> Table:
    """folder: where databases are kept, and used again."""
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as name:
        place = folder or Path(name)
        rows = [Row(size, await _costs(place / f"ledger-{size}.db", size)) for size in sizes]
    return Table(
        "Rows of the ledger",
        "rows",
        (
            "write a row, 100 at once, µs",
            "account at its first use, µs",
            "newest 50 of a key, µs",
            "newest 50 that failed, µs",
            "a day by model, µs",
            "30 days by model, ms",
            "30 days by key, a page, ms",
        ),
        rows,
        (
            f"{KEYS:,} keys in teams, with tags, over 30 days; SQLite.",
            "Groups of whole days come from sums, whose number grows with keys, models and days "
            "until each combination has been used.",
        ),
    )


async def _costs(file: Path, size: int) -> list[float]:
    from tests.middlewares.stores.entries import use
    from tests.middlewares.stores.many_rows import DAY, DAYS, FIRST, fill, key_id

    url = f"sqlite:///{file}"
    if not file.exists():
        await fill(url, keys=KEYS, rows=size)
    database = await Database.open(url, patience=60)
    ledger = SqlLedgerStore(database)
    end = FIRST + DAYS * DAY
    made = 0

    async def write(number: int) -> None:
        nonlocal made
        made += 1
        await ledger.append(
            [
                use(id=f"new-{made}-{n}", account=key_id(n * 97 % KEYS), at=float(end - n))
                for n in range(_FLUSH)
            ]
        )

    async def account(number: int) -> None:
        await ledger.spent(key_id(number % KEYS), float(end), ())

    async def newest(number: int) -> None:
        await ledger.search(Wanted(account=key_id(number % 50), kind="use"))

    async def failed(number: int) -> None:
        await ledger.search(Wanted(ended="failed", kind="use"))

    async def day(number: int) -> None:
        await ledger.grouped(("model",), since=end - 2 * DAY, until=end - DAY)

    async def month(number: int) -> None:
        await ledger.grouped(("model",), since=FIRST, until=end)

    async def by_key(number: int) -> None:
        await ledger.grouped(("key",), since=FIRST, until=end)

    costs = [
        await least(write, 3) / _FLUSH,
        await least(account, 50),
        await least(newest, 20),
        await least(failed, 20),
        await least(day, 5),
        await least(month, 1) / 1000,
        await least(by_key, 1) / 1000,
    ]
    await database.aclose()
    return costs
