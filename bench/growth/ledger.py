"""Cost of writing and reading by the number of rows in the ledger."""

import time
from functools import partial

from middlewares.stores.ledger.base import Wanted
from middlewares.stores.ledger.sql import SqlLedgerStore

from .ledger_rows import fill
from .places import KINDS, UNINDEXED, Places, opened, unindexed
from .table import Row, Table, least, least_wall

SIZES = (10_000, 100_000, 1_000_000)
KEYS = 10_000
_FLUSH = 100


async def measure(sizes: tuple[int, ...], places: Places) -> list[Table]:
    """One table for each kind of database."""
    tables = []
    for kind in KINDS:
        rows = []
        for size in sizes:
            url = await places.url(kind, f"ledger_{size}", partial(fill, keys=KEYS, rows=size))
            rows.append(Row(size, await _costs(url)))
        tables.append(_table(kind, rows))
    return tables


def _table(kind: str, rows: list[Row]) -> Table:
    return Table(
        f"Rows of the ledger, {kind}",
        "rows",
        (
            "write a row, 100 at once, µs",
            "account at its first use, µs",
            "newest 50 of a key, µs",
            "newest 50 that failed, µs",
            "a day by model, µs",
            "30 days by model, ms",
            "30 days by key, a page, ms",
            UNINDEXED,
        ),
        rows,
        (
            f"{KEYS:,} keys in teams, with tags, over 30 days. By the clock in PostgreSQL, "
            "processor time in SQLite.",
            "Groups of whole days come from sums, whose number grows with keys, models and days "
            "until each combination has been used.",
        ),
        ("30 days by model, ms", "30 days by key, a page, ms"),
    )


async def _costs(url: str) -> list[float | None]:
    from tests.middlewares.stores.entries import use
    from tests.middlewares.stores.many_rows import DAY, DAYS, FIRST, key_id

    scanned = await unindexed(url, "ledger")
    database = await opened(url)
    ledger = SqlLedgerStore(database)
    end = FIRST + DAYS * DAY
    cost = least if url.startswith("sqlite") else least_wall

    async def write(number: int) -> None:
        made = time.time_ns()
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

    costs: list[float | None] = [
        await cost(write, 3) / _FLUSH,
        await cost(account, 50),
        await cost(newest, 20),
        await cost(failed, 20),
        await cost(day, 5),
        await cost(month, 1) / 1000,
        await cost(by_key, 1) / 1000,
    ]
    await database.aclose()
    if scanned is not None:
        costs.append((await unindexed(url, "ledger") or 0.0) - scanned)
    else:
        costs.append(None)
    return costs
