"""Rows of alerts and what they are decided by, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from middlewares.stores.alerts.base import Alert, LowBalance, SpentPeriod
from middlewares.stores.alerts.sql import SqlAlertStore
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.entries import credit, use

NOW = 1_000_000.0


def alert(alert_id: str, **fields: Any) -> Alert:
    made: dict[str, Any] = {
        "account": "key_1",
        "name": "5h",
        "start": NOW,
        "share": 80,
        "id": alert_id,
        "body": b"{}",
        "created_at": NOW,
        "ends_at": NOW + 100,
        "due": NOW,
        **fields,
    }
    return Alert(**made)


@pytest.fixture
async def databases(sql_url: str) -> AsyncIterator[list[Database]]:
    """Of three processes."""
    async with AsyncExitStack() as stack:
        found = []
        for _ in range(3):
            found.append(await Database.open(sql_url))
            stack.push_async_callback(found[-1].aclose)
        yield found


@pytest.fixture
def database(databases: list[Database]) -> Database:
    return databases[0]


async def test_add_of_one_alert_by_three_processes_is_won_by_one(databases: list[Database]) -> None:
    stores = [SqlAlertStore(database) for database in databases]
    for period in range(5):
        start = NOW + period
        pairs = [
            [
                alert(f"a-{period}-{n}", start=start),
                alert(f"b-{period}-{n}", start=start, account="key_2", share=100),
            ]
            for n in range(6)
        ]
        orders = [pair if n % 2 else pair[::-1] for n, pair in enumerate(pairs)]
        won = await asyncio.gather(*(stores[n % 3].add(orders[n]) for n in range(6)))
        assert sorted(one[0] for ids in won for one in ids) == ["a", "b"]
    assert len(await stores[1].take(NOW, NOW + 60, 100)) == 10


async def test_take_gives_an_alert_to_one_process_until_its_time_is_over(
    databases: list[Database],
) -> None:
    stores = [SqlAlertStore(database) for database in databases]
    await stores[0].add([alert(f"a{n}", share=n + 1) for n in range(9)])
    assert await stores[0].take(NOW - 1, NOW + 60, 9) == []
    taken = await asyncio.gather(*(store.take(NOW, NOW + 60, 3) for store in stores))
    ids = sorted(one.id for some in taken for one in some)
    assert ids == sorted(set(ids)), "none was given to two"
    for store in stores:
        ids += [one.id for one in await store.take(NOW, NOW + 60, 9)]
    assert sorted(ids) == [f"a{n}" for n in range(9)]
    assert await stores[0].take(NOW + 59, NOW + 60, 9) == []
    again = await stores[1].take(NOW + 60, NOW + 120, 9)
    assert sorted(one.id for one in again) == sorted(ids)
    assert again[0].body == b"{}"


async def test_take_passes_over_what_has_ended_and_what_is_due_later(database: Database) -> None:
    store = SqlAlertStore(database)
    await store.add([alert("ended"), alert("later", share=90), alert("never", share=1, due=None)])
    assert {one.id for one in await store.take(NOW, NOW + 60, 9)} == {"ended", "later"}
    await store.end("ended", 1)
    await store.later("later", NOW + 5, 1)
    assert await store.take(NOW + 4, NOW + 60, 9) == []
    (found,) = await store.take(NOW + 5, NOW + 60, 9)
    assert (found.id, found.tries) == ("later", 1)


async def test_forget_keeps_periods_that_last_and_alerts_that_are_due(database: Database) -> None:
    store = SqlAlertStore(database)
    await store.add(
        [
            alert("over", due=None),
            alert("over-but-due", share=90),
            alert("lasts", share=95, due=None, ends_at=NOW + 500),
            alert("credits", name="", share=0, due=None, ends_at=None),
        ]
    )
    await store.forget(NOW + 101)
    again = [alert("over"), alert("over-but-due", share=90), alert("lasts", share=95)]
    again.append(alert("credits", name="", share=0))
    again = [alert(f"new-{one.id}", name=one.name, share=one.share) for one in again]
    assert await store.add(again) == {"new-over"}


async def test_spent_is_of_the_newest_period_of_each_window(database: Database) -> None:
    store, ledger = SqlAlertStore(database), SqlLedgerStore(database)
    await ledger.append(
        [
            use(account="key_1", at=NOW, starts={"5h": NOW, "7d": NOW}, cost=7),
            use(account="key_1", at=NOW + 1, starts={"5h": NOW, "7d": NOW}, cost=5),
            use(account="key_1", at=NOW + 2, starts={"5h": NOW + 2, "7d": NOW}, cost=3),
            use(account="key_2", at=NOW, starts={"5h": NOW + 9000}, cost=9),
            use(account="key_2", at=NOW - 9, starts={"5h": NOW - 9}, cost=2),
        ]
    )
    pairs = [("key_1", "5h"), ("key_1", "7d"), ("key_2", "5h"), ("key_3", "5h"), ("key_1", "1d")]
    found = await store.spent(pairs, NOW + 3)
    assert sorted(found, key=lambda one: (one.account, one.name)) == [
        SpentPeriod("key_1", "5h", NOW + 2, 3),
        SpentPeriod("key_1", "7d", NOW, 15),
        SpentPeriod("key_2", "5h", NOW - 9, 2),
    ]


async def test_low_is_who_was_granted_credits_and_has_few(database: Database) -> None:
    store, ledger = SqlAlertStore(database), SqlLedgerStore(database)
    await ledger.append([credit(100, account="key_1"), credit(100, account="key_2")])
    await ledger.append([use(account="key_1", cost=60, from_credits=60)])
    await ledger.append([use(account="key_3", cost=60, from_credits=60)])
    asked = ["key_1", "key_2", "key_3", "key_4"]
    (low,) = await store.low(asked, 50)
    assert low == LowBalance("key_1", 40, low.grant)
    await ledger.append([credit(5, account="key_1")])
    (after,) = await store.low(asked, 50)
    assert (after.amount, after.grant > low.grant) == (45, True)
    assert await store.low(asked, 45) == []


async def test_recent_is_keys_and_teams_of_the_newest_rows(database: Database) -> None:
    store, ledger = SqlAlertStore(database), SqlLedgerStore(database)
    await ledger.append(
        [
            use(account="key_1", at=NOW),
            use(account="key_2", at=NOW + 1, team="team_1"),
            use(account="key_3", at=NOW + 2, team="team_1"),
            use(account="key_3", at=NOW + 3),
        ]
    )
    assert sorted(await store.recent(NOW + 1, 100)) == ["key_2", "key_3", "team_1"]
    assert sorted(await store.recent(NOW, 2)) == ["key_3", "team_1"]
