"""Tables of what grows, and what is called flat."""

from pathlib import Path

from sqlalchemy import text

from bench.figures import Row as Figure
from bench.growth.__main__ import figures
from bench.growth.ledger_rows import fill
from bench.growth.places import UNINDEXED, Places
from bench.growth.table import Row, Table, least, verdict
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import ledger


def test_verdict_of_a_cost_that_hardly_grows_is_flat() -> None:
    assert verdict([(10, 4.0), (100, 5.0), (1000, 5.9)]) == "flat"


def test_verdict_of_a_cost_that_grows_names_the_first_size() -> None:
    found = verdict([(10, 4.0), (100, 5.0), (1000, 40.0)])
    assert found == "10.0 times over 100 times the size, from 1,000"


def test_verdict_of_what_was_not_measured_is_empty() -> None:
    assert verdict([(10, None), (100, 5.0)]) == ""


def test_table_has_a_row_for_each_size_and_the_verdicts() -> None:
    text = Table(
        "Keys", "keys", ("a, µs", "b"), [Row(10, (1.0, None)), Row(1000, (1.2, 250))]
    ).text()
    assert "| 1,000 | 1.20 | 250 |" in text
    assert "| | flat |  |" in text


async def test_least_asks_with_numbers_that_no_two_rounds_share() -> None:
    asked: list[int] = []

    async def ask(number: int) -> None:
        asked.append(number)

    assert await least(ask, 4, rounds=3) >= 0
    assert asked == [*range(12)]


def test_figures_say_growth_and_whether_it_meets_the_target() -> None:
    rows = [Row(10, (1.0, 2.0, 0.0)), Row(1000, (1.2, 90.0, 5.0))]
    table = Table("Keys", "keys", ("a, µs", "b", UNINDEXED), rows, linear=("b",))
    assert figures(table) == [
        Figure("Keys: a, µs, 10 → 1,000 keys", "1.00 → 1.20: flat", "flat", True),
        Figure(
            "Keys: b, 10 → 1,000 keys",
            "2.00 → 90.0: 45.0 times over 100 times the size, from 1,000",
        ),
        Figure(f"Keys: {UNINDEXED}", 5.0, 0, False),
    ]


async def test_ledger_made_in_sql_has_sums_and_indexes_and_is_used_again(tmp_path: Path) -> None:
    filled: list[str] = []

    async def once(url: str) -> None:
        filled.append(url)
        await fill(url, keys=10, rows=500)

    for _ in range(2):
        url = await Places(tmp_path).url("SQLite", "ledger_500", once)
    assert filled == [url]
    database = await Database.open(url)
    async with database.read() as connection:
        sums = "SELECT (SELECT count(*) FROM ledger), sum(requests), sum(cost) FROM spend_days"
        cost = sum(1_500_000 + n for n in range(500))
        assert (await connection.execute(text(sums))).one() == (500, 500, cost)
        found = (
            "SELECT name FROM sqlite_master WHERE tbl_name = 'ledger' AND sql LIKE 'CREATE INDEX%'"
        )
        indexes = {*(await connection.execute(text(found))).scalars()}
        assert indexes == {index.name for index in ledger.indexes}
    await database.aclose()
