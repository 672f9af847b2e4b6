"""What every ledger keeps to: in memory, in a SQLite file, in PostgreSQL."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import Engine, event, text

from middlewares.stores.counters.base import Spent
from middlewares.stores.keys.sql import Database
from middlewares.stores.ledger.base import (
    AttemptRecord,
    Entry,
    LedgerStore,
    RowRejected,
    Sum,
    storable,
)
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.ledger.totals import CREDITS, totals
from middlewares.stores.sql.tables import ledger
from tests.middlewares.stores.entries import credit, use
from tests.waiting import DEADLINE

FULL: dict[str, Any] = {
    "owner": "o'; DROP TABLE ledger; --",
    "plan": "pro",
    "endpoint": "chat.completions",
    "model": "catalog/id",
    "asked": "as wrïtten 🙂",
    "stream": True,
    "status": 200,
    "ended": "drained",
    "on_hangup": "drain",
    "measured": False,
    "input": 1,
    "output": 2,
    "cache_read": 3,
    "cache_write": 4,
    "reasoning": 5,
    "images": 6,
    "audio_ms": 7,
    "jobs": 8,
    "characters": 10,
    "video_ms": 11,
    "parent": "p",
    "purpose": "describe",
    "team": "team_a",
    "team_starts": {"1d": 2000.5},
    "from_team_credits": 12,
    "tags": "a,b",
    "key_name": "laptop",
    "cost": 9 * 10**17,
    "from_credits": 9 * 10**17,
    "reserved": 2**62,
    "starts": {"5h": 1000.25, "calendar month": 0.1 + 0.2},
    "attempts": [AttemptRecord("a", "x", 502, "m", "upstream_error", 1.5, "b")],
    "fallback_from": "other",
    "first_content_ms": 12.75,
    "upstream_ms": 0.1,
    "duration_ms": 1e7 / 3,
}


def test_columns_are_the_fields() -> None:
    assert [column.name for column in ledger.columns] == [*Entry.__struct_fields__, "revision"]


async def test_a_row_comes_back_as_it_was_put(ledger_store: LedgerStore) -> None:
    full, bare, bought = use(**FULL), use(first_content_ms=None), credit(-5, note="taken back")
    assert {name for name in FULL if getattr(full, name) == getattr(bare, name)} == set()
    await ledger_store.append([full, bare, bought])
    for entry in (full, bare, bought):
        found = await ledger_store.get("key_1", entry.id)
        assert found == entry
        assert repr(found) == repr(entry)  # a bool is a bool
    assert await ledger_store.get(None, full.id) == full
    assert await ledger_store.get("key_2", full.id) is None
    assert await ledger_store.get("key_1", "req") is None
    await ledger_store.append([])


async def test_an_id_is_kept_once_and_counted_once(ledger_store: LedgerStore) -> None:
    first = use(starts={"5h": 1.0}, cost=10)
    other = use(starts={"5h": 1.0}, cost=100)
    changed = msgspec.structs.replace(first, cost=99, ended="lost")
    await ledger_store.append([first, changed])
    await ledger_store.append([changed, other, other])
    await ledger_store.append([first])
    assert await ledger_store.page() == [other, first]
    assert (await ledger_store.spent("key_1", 2.0, ()))[0] == Spent({"5h": 1.0}, {"5h": 110})


async def test_of_each_window_the_period_of_its_newest_row(ledger_store: LedgerStore) -> None:
    assert await ledger_store.spent("key_1", 0.0, ["x"]) == (Spent(), ())
    await ledger_store.append(
        [
            use(at=50.0, cost=1, starts={"5h": 0.0, "7d": 0.0}),
            use(at=100.0, cost=2, starts={"5h": 100.0, "7d": 0.0}),
            use(at=99.9, cost=4, starts={"5h": 100.0, "7d": 0.0}),  # another machine's clock
            use(at=110.0, cost=8, starts={"5h": 100.0}),  # the plan has lost the other window
            use(at=99.0, cost=16, starts={"5h": 0.0}),  # of the period before, and late
            use(at=111.0, cost=32, starts={}),
            use(at=112.0, cost=64, starts={"5h": 500.0}, account="key_2"),
        ]
    )
    spent, known = await ledger_store.spent("key_1", 120.0, ())
    assert spent == Spent({"5h": 100.0, "7d": 0.0}, {"5h": 2 + 4 + 8, "7d": 1 + 2 + 4})
    assert known == ()
    # A period may begin before the one it follows: a window that becomes aligned.
    await ledger_store.append([use(at=130.0, cost=128, starts={"5h": 90.0})])
    spent, _ = await ledger_store.spent("key_1", 140.0, ())
    assert (spent.starts["5h"], spent.spent["5h"]) == (90.0, 128)


async def test_credits_are_what_was_bought_less_what_was_used(ledger_store: LedgerStore) -> None:
    await ledger_store.append([credit(1000), use(cost=300, from_credits=300)])
    await ledger_store.append([credit(-50), use(cost=300), credit(5, account="key_2")])
    assert (await ledger_store.spent("key_1", 0.0, ()))[0] == Spent(credits=650)
    await ledger_store.append([use(cost=700, from_credits=700)])
    assert (await ledger_store.spent("key_1", 0.0, ()))[0].credits == -50
    assert (await ledger_store.spent("key_2", 0.0, ()))[0].credits == 5


async def test_which_ids_it_has(ledger_store: LedgerStore) -> None:
    mine, other, foreign = use(), use(), use(account="key_2")
    await ledger_store.append([mine, other, foreign])
    _, known = await ledger_store.spent("key_1", 0.0, [foreign.id, "x", mine.id, "'); --"])
    assert known == (mine.id,)
    _, known = await ledger_store.spent("key_1", 0.0, [f"x{n}" for n in range(3000)] + [other.id])
    assert known == (other.id,)


async def test_row_of_a_team_counts_for_both_accounts(ledger_store: LedgerStore) -> None:
    mine = {"team": "team_1", "starts": {"5h": 90.0}, "team_starts": {"7d": 50.0}}
    rows = [
        credit(1000, account="team_1"),
        use(**mine, cost=30),
        use(**{**mine, "account": "key_2"}, cost=12),
        use(team="team_1", starts={"5h": 90.0}, from_team_credits=7),
        use(team="team_1", from_credits=4, cost=4, team_starts={"7d": 50.0}),
        use(team="team_2", cost=5),  # a team without limits
    ]
    await ledger_store.append(rows)
    ids = [row.id for row in rows]
    spent, known = await ledger_store.spent("team_1", 100.0, ids)
    assert spent == Spent({"7d": 50.0}, {"7d": 46}, 993)
    assert set(known) == set(ids[:5])
    spent, known = await ledger_store.spent("key_1", 100.0, ids)
    assert spent == Spent({"5h": 90.0}, {"5h": 37}, -4)
    assert set(known) == {ids[1], *ids[3:]}
    assert (await ledger_store.spent("team_2", 100.0, ids[:5])) == (Spent(), ())


async def test_grants_are_listed_by_revision(ledger_store: LedgerStore) -> None:
    assert await ledger_store.grants(0) == (0, [])
    await ledger_store.append([use(), use()])
    assert await ledger_store.grants(0) == (0, [])
    first = credit(1)
    await ledger_store.append([use(), first])
    revision, accounts = await ledger_store.grants(0)
    assert accounts == ["key_1"]
    assert await ledger_store.grants(revision) == (revision, [])
    await ledger_store.append([credit(1, account="key_2"), credit(2, account="key_3"), use()])
    later, accounts = await ledger_store.grants(revision)
    assert later > revision
    assert sorted(accounts) == ["key_2", "key_3"]
    assert sorted((await ledger_store.grants(0))[1]) == ["key_1", "key_2", "key_3"]
    await ledger_store.append([first])
    assert (await ledger_store.grants(later))[1] == []


async def test_sums_by_day_and_model(ledger_store: LedgerStore) -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
    midnight = noon + 12 * 3600
    counts = {"input": 1, "output": 10, "cache_read": 100, "cache_write": 1000, "cost": 2**53}
    await ledger_store.append(
        [
            use(at=midnight, model="a", **counts),
            use(at=midnight - 0.001, model="b", **counts),
            use(at=noon, model="a", **counts),
            use(at=noon + 1, model="a", **counts),
            use(at=noon, model="a", cost=5, account="key_2"),
            credit(7, at=noon),
        ]
    )
    one = (1, 1, 10, 100, 1000, 2**53)
    assert await ledger_store.sums("key_1", noon, midnight + 1) == [
        Sum("2026-11-21", "a", *[2 * count for count in one]),
        Sum("2026-11-21", "b", *one),
        Sum("2026-11-22", "a", *one),
    ]
    assert await ledger_store.sums("key_1", noon + 1, midnight) == [
        Sum("2026-11-21", "a", *one),
        Sum("2026-11-21", "b", *one),
    ]
    assert await ledger_store.sums("key_3", noon, midnight) == []
    assert await ledger_store.sums(None, noon, noon + 0.5) == [
        Sum("2026-11-21", "a", 2, 1, 10, 100, 1000, 2**53 + 5)
    ]


async def test_pages_end_where_the_next_begins(ledger_store: LedgerStore) -> None:
    rows = [use(at=float(number // 3), account=f"key_{number % 2}") for number in range(20)]
    rows.append(credit(1, at=3.0))
    shuffled = random.Random(1).sample(rows, len(rows))
    await ledger_store.append(shuffled[:9])
    await ledger_store.append(shuffled[9:])
    newest = sorted(rows, key=lambda row: (row.at, row.id), reverse=True)
    assert await ledger_store.page() == newest
    walked: list[Entry] = []
    while page := await ledger_store.page(
        limit=4, before=(walked[-1].at, walked[-1].id) if walked else None
    ):
        assert len(page) <= 4
        walked += page
    assert walked == newest
    wanted = [row for row in newest if row.account == "key_1" and row.kind == "use"]
    assert await ledger_store.page(account="key_1", kind="use") == wanted
    wanted = [row for row in newest if 2.0 <= row.at < 4.0]
    assert await ledger_store.page(since=2.0, until=4.0) == wanted
    assert await ledger_store.page(kind="credit") == [rows[-1]]
    assert await ledger_store.page(account="'--") == []


async def test_what_no_database_takes_is_kept_all_the_same(ledger_store: LedgerStore) -> None:
    good = use(starts={"5h": 1.0}, cost=1)
    bad = [
        use(asked="a\0b", starts={"5h": 1.0}, cost=1),
        use(asked="\ud800", attempts=[AttemptRecord(error="\udfff\0")], starts={"5h": 1.0}, cost=1),
        use(input=2**70, output=-(2**70), starts={"5h": 1.0}, cost=1),
        use(plan=None, starts={"5h": 1.0}, cost=1),
    ]
    for row in bad:
        await ledger_store.append([good, row])
        found = await ledger_store.get("key_1", row.id)
        assert found is not None
        assert storable(found) in (found, storable(row))
        assert found.at == row.at
    assert (await ledger_store.spent("key_1", 2.0, ()))[0] == Spent({"5h": 1.0}, {"5h": 5})


async def test_what_cannot_be_mended_is_rejected_with_its_batch(sql_url: str) -> None:
    database = await Database.open(sql_url)
    store = SqlLedgerStore(database)
    for bad in (
        use(attempts=[AttemptRecord(error=cast(str, object()))]),
        use(starts={"5h": 1.0}, owner=object()),
    ):
        with pytest.raises(RowRejected):
            await store.append([use(), bad, credit(1)])
    assert await store.page() == []
    assert await store.spent("key_1", 0.0, ()) == (Spent(), ())
    assert await store.grants(0) == (0, [])
    await database.aclose()


async def test_money_and_rows_are_seen_together(ledger_store: LedgerStore) -> None:
    """Where a row is known its cost is in the sum, and where it is not, it is not."""
    rows = [use(starts={"5h": 1.0}, cost=1) for _ in range(400)]
    rows.insert(0, credit(1000))
    ids = [row.id for row in rows]

    async def write(part: list[Entry]) -> None:
        for start in range(0, len(part), 5):
            await ledger_store.append(part[start : start + 5])

    async with asyncio.timeout(DEADLINE):
        writers = [asyncio.create_task(write(rows[number::3])) for number in range(3)]
        while not all(writer.done() for writer in writers):
            spent, known = await ledger_store.spent("key_1", 2.0, ids)
            uses = len(known) - (rows[0].id in known)
            assert spent.spent.get("5h", 0) == uses
            assert spent.credits == 1000 * (rows[0].id in known)
            await asyncio.sleep(0)
        await asyncio.gather(*writers)
    spent, known = await ledger_store.spent("key_1", 2.0, ids)
    assert (spent.spent["5h"], len(known)) == (400, 401)


async def test_sums_kept_are_the_sums_of_the_rows(sql_url: str) -> None:
    """Several writers, each with rows that others write too, in another order."""
    chance = random.Random(7)
    rows = [
        chance.choice(
            [
                use(
                    account=f"key_{chance.randrange(4)}",
                    cost=chance.randrange(10**12),
                    starts={"5h": float(chance.randrange(3)), "7d": 1.0},
                ),
                use(
                    account=f"key_{chance.randrange(4)}",
                    cost=chance.randrange(10**12),
                    starts={"5h": float(chance.randrange(3))},
                    team=f"team_{chance.randrange(2)}",
                    team_starts={"7d": float(chance.randrange(2))},
                ),
                use(account=f"key_{chance.randrange(4)}", cost=9, from_credits=9),
                use(team=f"team_{chance.randrange(2)}", cost=9, from_team_credits=9),
                credit(chance.randrange(-50, 50), account=f"key_{chance.randrange(4)}"),
            ]
        )
        for _ in range(600)
    ]
    databases = [await Database.open(sql_url, patience=20) for _ in range(3)]

    async def write(database: Database, seed: int) -> None:
        store = SqlLedgerStore(database)
        mine = random.Random(seed).sample(rows, 400) + rows[seed::3]
        for start in range(0, len(mine), 37):
            part = sorted(mine[start : start + 37], key=lambda row: row.id)
            await store.append(part)

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*[write(each, seed) for seed, each in enumerate(databases)])
    async with databases[0].read() as connection:
        kept = await connection.execute(
            text("SELECT account, name, start, at, amount FROM ledger_totals")
        )
        found = {(row.account, row.name, row.start): (row.at, row.amount) for row in kept}
    for database in databases:
        await database.aclose()
    assert found == totals(rows)
    assert ("key_0", CREDITS, 0.0) in found and ("team_0", CREDITS, 0.0) in found


async def test_no_question_goes_through_the_whole_ledger(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    store = SqlLedgerStore(database)
    await store.append([use(starts={"5h": 1.0}), credit(1)])
    asked: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    event.listen(Engine, "before_cursor_execute", note)
    await store.spent("key_1", 0.0, ["x", "y"])
    await store.page(account="key_1", before=(1e9, "x"), kind="use")
    await store.page(before=(1e9, "x"))
    await store.page(since=1.0, until=1e9)
    await store.get(None, "x")
    await store.sums("key_1", 0.0, 1e9)
    await store.grants(0)
    event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) == 9
    steps = []
    async with database.read() as connection:
        for statement, values in asked:
            plan = await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, values)
            steps += [row["detail"] for row in plan.mappings()]
    await database.aclose()
    looks = [step for step in steps if step.startswith(("SCAN", "SEARCH"))]
    assert len([step for step in looks if "ledger" in step]) >= 7
    assert "SEARCH ledger USING PRIMARY KEY (id=?)" in looks  # of what holds are settled
    assert {step for step in looks if step.startswith("SCAN")} <= {
        "SCAN names",
        "SCAN identity",  # one row
        "SCAN CONSTANT ROW",
        "SCAN anon_1",  # of what was found in a table of sums, and in the rows of part of a day
        "SCAN ledger USING INDEX ledger_at",  # from its newest row, as far as the page goes
    }


HUGE = 2**63 - 1


async def test_sums_beyond_64_bits_saturate_and_are_read(ledger_store: LedgerStore) -> None:
    """Two rows of 2^64 - 1 tokens, in one batch and in two, and the same again for another."""
    odd = [
        use(account="key_odd", input=2**64 - 1, cost=2**70, starts={"5h": 1.0}, at=5.0)
        for _ in range(4)
    ]
    good = use(account="key_good", input=3, cost=1, starts={"5h": 1.0}, at=5.0)
    await ledger_store.append([*odd[:2], good])
    await ledger_store.append([odd[2], use(account="key_good", at=6.0, starts={"5h": 1.0})])
    await ledger_store.append([odd[3], credit(2**62, account="key_odd")])
    await ledger_store.append([credit(2**62, account="key_odd"), credit(2**62, account="key_odd")])
    spent, known = await ledger_store.spent("key_odd", 9.0, [row.id for row in odd])
    assert spent == Spent({"5h": 1.0}, {"5h": HUGE}, HUGE)
    assert len(known) == 4
    (sums,) = await ledger_store.sums("key_odd", 0.0, 9.0)
    assert (sums.requests, sums.input, sums.cost) == (4, HUGE, HUGE)
    spent, _ = await ledger_store.spent("key_good", 9.0, ())
    assert spent == Spent({"5h": 1.0}, {"5h": 8}, 0)
    (sums,) = await ledger_store.sums("key_good", 0.0, 9.0)
    assert (sums.requests, sums.input, sums.cost) == (2, 3, 8)
    assert len(await ledger_store.page()) == 9


async def test_sums_below_zero_saturate(ledger_store: LedgerStore) -> None:
    await ledger_store.append([use(cost=-(2**63), starts={"5h": 1.0}), credit(-(2**63))])
    await ledger_store.append([use(cost=-5, starts={"5h": 1.0}), credit(-7)])
    spent, _ = await ledger_store.spent("key_1", 9.0, ())
    assert spent == Spent({"5h": 1.0}, {"5h": -HUGE}, -HUGE)
    assert [row.cost for row in await ledger_store.sums("key_1", 0.0, 1e9)] == [-HUGE]


async def test_value_that_the_driver_refuses_is_rejected_not_an_outage(postgres_url: str) -> None:
    """asyncpg finds such values before it asks the server: then there is no SQLSTATE."""
    database = await Database.open(postgres_url)
    store = SqlLedgerStore(database)
    for bad in (
        use(at=cast(float, "soon")),
        use(account=cast(str, 7), starts={"5h": 1.0}),
        use(starts={"5h": cast(float, "x")}),
        use(starts={"".join(map(chr, range(300, 9000))): 1.0}),
    ):
        with pytest.raises(RowRejected):
            await store.append([use(), bad])
    await store.append([use()])
    await database.aclose()


async def test_spent_leaves_out_a_period_that_begins_ahead_of_the_clock(
    ledger_store: LedgerStore,
) -> None:
    """Written before the clock was set back; the period of now is found behind it."""
    now = 1_700_000_000.0
    await ledger_store.append(
        [
            use(account="key_1", cost=3, starts={"5h": now - 60, "7d": now - 60}, at=now - 60),
            use(account="key_1", cost=4, starts={"5h": now + 90}, at=now + 90),
            use(account="key_1", cost=5, starts={"7d": now + 86_400}, at=now + 86_400),
            use(account="key_2", cost=6, starts={"7d": now + 86_400}, at=now + 86_400),
        ]
    )
    spent, _ = await ledger_store.spent("key_1", now, [])
    assert spent.starts == {"5h": now + 90, "7d": now - 60}  # clocks differ by some seconds
    assert spent.spent == {"5h": 4, "7d": 3}
    assert (await ledger_store.spent("key_2", now, []))[0].starts == {}
    later, _ = await ledger_store.spent("key_1", now + 86_400, [])
    assert later.spent["7d"] == 5
