"""Search in the ledger, against all rows."""

import random
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, event

from middlewares.stores.keys.sql import Database
from middlewares.stores.ledger import sql_search
from middlewares.stores.ledger.base import Ended, Entry, LedgerStore, Place, Wanted
from middlewares.stores.ledger.sql import SqlLedgerStore
from tests.middlewares.stores.entries import credit, use

DAY = 86400.0
START = 20_000 * DAY


def rows(count: int, seed: int) -> list[Entry]:
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        ended = chance.choice(["completed"] * 6 + list(get_args(Ended)))
        found.append(
            use(
                at=START + chance.randrange(int(9 * DAY)) // 5 * 5.0,
                account=f"key_{chance.randrange(4)}",
                owner=chance.choice(["", "ann", "bo"]),
                team=chance.choice(["", "team_a", "team_b"]),
                model=chance.choice("mmmmn"),
                endpoint=chance.choice(["chat", "messages"]),
                tags=chance.choice(["", "", "a", "a,b", "ab"]),
                ended=ended,
                status=200 if ended == "completed" else chance.choice([0, 400, 429, 500]),
                purpose=chance.choice(["", "", "describe"]),
            )
        )
    return [*found, use(at=START + DAY, model="rare", tags="rare"), credit(5, at=START + 5 * DAY)]


async def walked(
    store: LedgerStore, wanted: Wanted, limit: int
) -> tuple[list[Entry], list[Place | None]]:
    before: Place | None = None
    found: list[Entry] = []
    places: list[Place | None] = []
    while True:
        page = await store.search(wanted, before=before, limit=limit)
        assert len(page.rows) <= limit
        found += page.rows
        places.append(page.next)
        if page.next is None:
            return found, places
        assert before is None or page.next < before
        before = page.next


CHOICES: dict[str, list[Any]] = {
    "account": ["key_0", "key_9"],
    "team": ["team_a", ""],
    "owner": ["ann", ""],
    "model": ["m", "rare", "none"],
    "endpoint": ["chat"],
    "tag": ["a", "", "rare"],
    "ended": ["completed", "failed", "cut"],
    "status": [2, 4, 5],
    "kind": ["use", "credit"],
    "purpose": ["", "describe"],
    "since": [START + 2 * DAY + 7],
    "until": [START + 5 * DAY + 11],
}


def some_wanted(seed: int) -> list[Wanted]:
    chance = random.Random(seed)
    alone = [{name: value} for name, values in CHOICES.items() for value in values]
    mixed = [
        {name: chance.choice(CHOICES[name]) for name in chance.sample(sorted(CHOICES), count)}
        for count in (2, 3, 4)
        for _ in range(14)
    ]
    return [Wanted(**fields) for fields in [{}, *alone, *mixed]]


async def test_every_filter_finds_all_rows_that_match_in_one_order(
    ledger_store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_search, "SCAN", 70)
    entries = rows(500, 1)
    await ledger_store.append(entries)
    newest = sorted(entries, key=lambda row: (row.at, row.id), reverse=True)
    for wanted in some_wanted(2):
        found, _ = await walked(ledger_store, wanted, 40)
        assert found == [row for row in newest if wanted.matches(row)], wanted


async def test_days_without_a_match_are_passed_over(
    sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else 500 rows would take 25 pages."""
    monkeypatch.setattr(sql_search, "SCAN", 20)
    database = await Database.open(sql_url)
    store = SqlLedgerStore(database)
    await store.append(rows(500, 3))
    for wanted in (Wanted(model="rare"), Wanted(tag="rare"), Wanted(kind="use", model="none")):
        found, places = await walked(store, wanted, 10)
        assert len(found) == (wanted.model != "none")
        assert len(places) <= 5
    await database.aclose()


async def test_no_search_goes_through_the_whole_ledger(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each statement is led by an index, and reads no more rows than a page may."""
    database = await Database.open(sqlite_url)
    store = SqlLedgerStore(database)
    await store.append(rows(50, 4))
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    for wanted in some_wanted(5):
        await store.search(wanted, before=(START + 4 * DAY, "x"))
    await store.search(Wanted(account="key_1", kind="credit", owner="ann"))
    await store.page(account="key_1", kind="credit")
    await store.last_used(["key_1", "key_2"])
    event.remove(Engine, "before_cursor_execute", note)
    steps = set()
    async with database.read() as connection:
        for statement, values in asked:
            plan = await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, values)
            steps |= {row["detail"] for row in plan.mappings()}
    await database.aclose()
    assert not [step for step in steps if "TEMP B-TREE" in step], steps
    scanned = {step for step in steps if step.startswith("SCAN")}
    assert scanned <= {"SCAN each_one VIRTUAL TABLE INDEX 1:"}, scanned
    for index in ("ledger_account", "ledger_owner", "ledger_team", "ledger_failures", "ledger_at"):
        assert any(f"USING INDEX {index} " in step for step in steps), (index, steps)
    assert any("ledger_credits" in step for step in steps)


async def test_last_used_is_the_newest_request_of_each(ledger_store: LedgerStore) -> None:
    await ledger_store.append(
        [use(at=5.0), use(at=9.0), credit(1, at=20.0), use(at=7.0, account="key_2")]
    )
    found = await ledger_store.last_used(["key_1", "key_2", "key_3", "'--"])
    assert found == {"key_1": 9.0, "key_2": 7.0}
    assert await ledger_store.last_used([]) == {}
