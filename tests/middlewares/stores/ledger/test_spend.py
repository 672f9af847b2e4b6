"""Spend by groups, against sums of the rows themselves."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise
from math import nextafter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple

from middlewares.stores.keys.sql import Database, SqlKeyStore
from middlewares.stores.ledger import sql_spend
from middlewares.stores.ledger.base import Entry, LedgerStore
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.ledger.rollups import TABLES
from middlewares.stores.ledger.spend import (
    DAY,
    DIMENSIONS,
    EVERYTHING,
    SUMS,
    Cursor,
    Dimension,
    Filters,
    Group,
    Spend,
    day_text,
    is_after,
    ordered,
    parts_of,
    shortest_parts,
)
from middlewares.stores.ledger.sql import SqlLedgerStore, write_row
from middlewares.stores.sql import tables
from tests.middlewares.stores.conftest import database_url
from tests.middlewares.stores.entries import credit, use
from tests.middlewares.stores.samples import new_key
from tests.waiting import DEADLINE

MIDNIGHT = 20_000 * DAY
SUBSETS = [subset for n in range(8) for subset in combinations(DIMENSIONS, n)]


def rows(count: int, seed: int) -> list[Entry]:
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        key = chance.randrange(12)
        tags = sorted(chance.sample(["a", "b", "c/1"], chance.choice([0, 0, 0, 1, 2, 3])))
        describes = chance.random() < 0.1
        more = {}
        if chance.random() < 0.3:
            more = {name: chance.randrange(9) for name in ("images", "audio_ms", "jobs")}
            more |= {name: chance.randrange(9) for name in ("characters", "video_ms")}
        found.append(
            use(
                at=MIDNIGHT + chance.randrange(-2 * DAY, 3 * DAY) + chance.choice([0, 0.25]),
                account=f"key_{key}",
                key_name=f"name {key}",
                owner=["", "ann", "bo"][key % 3] if chance.random() < 0.9 else "moved",
                team=["", "team_a"][key % 2] if chance.random() < 0.9 else "team_b",
                model=chance.choice("mno"),
                endpoint="describe" if describes else chance.choice(["chat", "messages"]),
                purpose="describe" if describes else "",
                ended=chance.choice(["completed", "completed", "failed", "cut", "hung_up"]),
                tags=",".join(tags),
                input=chance.randrange(10**6),
                output=chance.randrange(10**6),
                cache_read=chance.randrange(100),
                cache_write=chance.randrange(100),
                reasoning=chance.randrange(100),
                cost=chance.randrange(10**13),
                **more,
            )
        )
    return found


Row = tuple[dict[str, Any], tuple[str, ...], list[int]]


def merged(entries: Sequence[Entry], since: float, until: float) -> list[Row]:
    """Rows with the same values of all dimensions as one: values, tags, sums."""
    found: dict[tuple[Any, ...], list[int]] = {}
    for row in entries:
        if row.kind != "use" or not since <= row.at < until:
            continue
        values = (row.account, row.team, row.owner, row.model, row.endpoint, row.tags)
        sums = found.setdefault((*values, int(row.at // DAY)), [0] * len(SUMS))
        counts = [getattr(row, name) for name in SUMS[2:]]
        for place, count in enumerate([1, row.ended in ("failed", "cut"), *counts]):
            sums[place] += count
    names = ("key", "team", "owner", "model", "endpoint", "tags", "day")
    merged_rows = []
    for key, sums in found.items():
        named: dict[str, Any] = dict(zip(names, key, strict=True))
        merged_rows.append((named, tuple(named.pop("tags").split(",")), sums))
    return merged_rows


def expected(
    found: Sequence[Row], by: Sequence[Dimension], filters: Filters
) -> tuple[dict[tuple[Any, ...], tuple[int, ...]], Spend]:
    groups: dict[tuple[Any, ...], list[int]] = {}
    total = [0] * len(SUMS)
    for values, tags, sums in found:
        wanted = all(getattr(filters, name) in (None, values[name]) for name in DIMENSIONS[:5])
        if not wanted or (filters.tag is not None and filters.tag not in tags):
            continue
        total = [x + y for x, y in zip(total, sums, strict=True)]
        for tag in tags if "tag" in by else ("",):
            if "tag" in by and filters.tag not in (None, tag):
                continue
            key = tuple(tag if name == "tag" else values[name] for name in ordered(by))
            known = groups.get(key)
            groups[key] = sums if known is None else [*map(int.__add__, known, sums)]
    return {key: tuple(sums) for key, sums in groups.items()}, Spend(*total)


def key_of(group: Group, by: Sequence[Dimension]) -> tuple[Any, ...]:
    return tuple(getattr(group, name) for name in ordered(by))


def readable(key: tuple[Any, ...], by: Sequence[Dimension]) -> tuple[Any, ...]:
    return tuple(
        day_text(value) if name == "day" else value
        for name, value in zip(ordered(by), key, strict=True)
    )


async def walked(
    store: LedgerStore, by: Sequence[Dimension], filters: Filters, limit: int, **period: Any
) -> tuple[list[Group], Spend | None, int]:
    """All pages: groups, the total of the first, and how many pages there were."""
    after: Cursor | None = None
    groups: list[Group] = []
    total: Spend | None = None
    pages = 0
    while True:
        page = await store.grouped(by, filters, after=after, limit=limit, **period)
        assert len(page.groups) <= limit
        groups += page.groups
        total = page.total if after is None else total
        assert (page.total is None) == (after is not None)
        pages += 1
        if page.next is None:
            return groups, total, pages
        assert after is None or is_after(by, page.next)
        assert page.next != after
        after = page.next


async def compare(
    store: LedgerStore,
    entries: Sequence[Entry],
    by: Sequence[Dimension],
    filters: Filters = EVERYTHING,
    *,
    limit: int = 100_000,
    since: float = MIDNIGHT - DAY / 3,
    until: float = MIDNIGHT + 2 * DAY + 7.25,
    found: Sequence[Row] | None = None,
) -> int:
    groups, total, pages = await walked(store, by, filters, limit, since=since, until=until)
    if found is None:
        found = merged(entries, since, until)
    sums, once = expected(found, by, filters)
    wanted = {readable(key, by): value for key, value in sums.items()}
    assert {key_of(group, by): astuple(group.spend) for group in groups} == wanted, (by, filters)
    assert len(groups) == len(wanted), (by, filters)
    assert total == once, (by, filters)
    return pages


def test_columns_of_roll_ups_are_their_dimensions_and_the_sums() -> None:
    for name, key in TABLES.items():
        table = getattr(tables, name)
        assert [column.name for column in table.columns] == [*key, *SUMS]
        assert [column.name for column in table.primary_key] == list(key)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.full)])
async def test_every_grouping_of_many_rows_equals_the_ledger(
    kind: str, request: pytest.FixtureRequest, full: bool
) -> None:
    database = await Database.open(await database_url(kind, request), patience=20)
    store = SqlLedgerStore(database)
    entries = [*rows(20_000 if full else 5_000, 1), *[credit(5, at=MIDNIGHT + n) for n in range(9)]]
    for start in range(0, len(entries), 997):
        await store.append(entries[start : start + 997])
    since, until = MIDNIGHT - DAY / 3, MIDNIGHT + 2 * DAY + 7.25
    found = merged(entries, since, until)
    assert len(SUBSETS) == 128
    for by in SUBSETS:
        await compare(store, entries, by, since=since, until=until, found=found)
    await database.aclose()


FILTERS = [
    Filters(key="key_3"),
    Filters(team="team_a", model="m"),
    Filters(team=""),
    Filters(owner="ann"),
    Filters(owner="", endpoint="chat"),
    Filters(tag="a"),
    Filters(tag=""),
    Filters(tag="b", key="key_4"),
    Filters(tag="c/1", owner="moved"),
    Filters(key="key_1", owner="moved", team="team_a", model="n", endpoint="messages", tag=""),
    Filters(key="none"),
]


async def test_every_filter_and_page_equals_the_ledger(
    ledger_store: LedgerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages of 11 groups, which end early after 40 rows of a table."""
    entries = rows(300, 2)
    await ledger_store.append(entries)
    monkeypatch.setattr(sql_spend, "SCAN", 40)
    short = 0
    for n, filters in enumerate(FILTERS):
        chosen = random.Random(n).sample(SUBSETS, 1)
        for by in (*chosen, ("key",), ("tag", "owner"), ("key", "day", "tag")):
            pages = await compare(ledger_store, entries, by, filters, limit=11)
            short += pages > 3
    assert short > (0 if isinstance(ledger_store, MemoryLedgerStore) else 10)


PERIODS: list[tuple[float, float]] = [
    (MIDNIGHT, MIDNIGHT + DAY),
    (MIDNIGHT + 1, MIDNIGHT + 2),
    (MIDNIGHT - 60, MIDNIGHT + 60),
    (MIDNIGHT - 60, MIDNIGHT),
    (MIDNIGHT, MIDNIGHT + 0.25),
    (MIDNIGHT - DAY, MIDNIGHT + DAY + 0.5),
    (0.0, MIDNIGHT + 30 * DAY),
    (MIDNIGHT + 9 * DAY, MIDNIGHT + 12 * DAY),
    (MIDNIGHT + 9 * DAY + 3600.5, MIDNIGHT + 10 * DAY - 7200.25),
    (MIDNIGHT + 9 * DAY + 3600.0, MIDNIGHT + 11 * DAY - 0.5),
]


async def test_periods_begin_and_end_at_any_instant(ledger_store: LedgerStore) -> None:
    entries = rows(600, 3)
    await ledger_store.append(entries)
    for since, until in PERIODS:
        for by in ((), ("day",), ("key", "model"), ("tag",), ("tag", "owner", "day")):
            await compare(ledger_store, entries, by, since=since, until=until, limit=9)


def test_parts_of_a_period_cover_it_once() -> None:
    for since, until in PERIODS:
        first, last, rest = parts_of(since, until)
        days = [(float(day * DAY), float((day + 1) * DAY)) for day in range(first, last + 1)]
        parts = sorted([*days, *[(begin, end) for _, begin, end, _ in rest]])
        assert parts[0][0] == since
        assert parts[-1][1] == until
        assert all(one[1] == two[0] for one, two in pairwise(parts))
        assert all(day * DAY <= begin < end <= (day + 1) * DAY for day, begin, end, _ in rest)


_instants = st.floats(0, 6 * DAY) | st.integers(0, 6 * 24).map(lambda hours: hours * 3600.0)


@given(_instants, _instants, _instants, st.lists(_instants, max_size=20))
def test_shortest_parts_of_a_period_count_each_instant_of_it_once(
    one: float, other: float, now: float, instants: list[float]
) -> None:
    since, until = min(one, other), max(one, other)
    first, last, rest = shortest_parts(since, until, now)
    for at in [*instants, since, until, nextafter(until, 0)]:
        counted = int(first <= at // DAY <= last)
        counted += sum(part.sign for part in rest if part.since <= at < part.until)
        assert counted == (since <= at < until), (at, first, last, rest)


@given(_instants, _instants)
def test_shortest_parts_of_a_period_read_half_a_day_at_most_and_nothing_of_today(
    one: float, now: float
) -> None:
    for part in shortest_parts(min(one, now), now, now).rest:
        assert min(part.until, now) - part.since <= DAY / 2
    assert all(part.since >= now for part in shortest_parts(0.0, now, now).rest)


@pytest.fixture(params=["Asia/Kolkata", "America/Los_Angeles"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import time

    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


async def test_days_are_utc_days_and_seven_of_them_are_the_week(
    zone: str, ledger_store: LedgerStore
) -> None:
    entries = rows(500, 4)
    await ledger_store.append(entries)
    first = MIDNIGHT - 3 * DAY
    week = await ledger_store.grouped(("day",), since=first, until=first + 7 * DAY)
    days = []
    for n in range(7):
        day = await ledger_store.grouped((), since=first + n * DAY, until=first + (n + 1) * DAY)
        assert day.total is not None
        days.append(day.total)
    assert week.total is not None
    assert week.total.requests == 500
    for place, sum_ in enumerate(astuple(week.total)):
        assert sum(astuple(day)[place] for day in days) == sum_
    by_day = {group.day: group.spend for group in week.groups}
    assert by_day == {day_text(first // DAY + n): day for n, day in enumerate(days) if day.requests}
    sums = await ledger_store.sums(None, first, first + 7 * DAY)
    assert sum(one.cost for one in sums) == week.total.cost


async def test_row_with_two_tags_counts_under_each_and_once_in_total(
    ledger_store: LedgerStore,
) -> None:
    await ledger_store.append(
        [
            use(at=MIDNIGHT + 1.0, tags="a,b", cost=5),
            use(at=MIDNIGHT + 2.0, tags="", cost=2),
            use(at=MIDNIGHT + 3.0, tags="b", cost=1),
        ]
    )
    found = await ledger_store.grouped(("tag",), since=MIDNIGHT, until=MIDNIGHT + DAY)
    assert [(one.tag, one.spend.cost) for one in found.groups] == [("", 2), ("a", 5), ("b", 6)]
    assert found.total is not None
    assert found.total.cost == 8


async def test_tags_are_read_whatever_they_contain(ledger_store: LedgerStore) -> None:
    """Of the first hour, so from the rows themselves, and of the day."""
    odd = ['"', "\\", "x'; --", "ü🙂", "[]", "a b", "%"]
    await ledger_store.append([use(at=MIDNIGHT + 1.0, tags=",".join(sorted(odd)), cost=3)])
    for seconds in (3600, DAY):
        found = await ledger_store.grouped(("tag",), since=MIDNIGHT, until=MIDNIGHT + seconds)
        assert {one.tag for one in found.groups} == set(odd)
        for tag in odd:
            one = await ledger_store.grouped(
                (), Filters(tag=tag), since=MIDNIGHT, until=MIDNIGHT + seconds
            )
            assert one.total == Spend(requests=1, cost=3)


async def test_purposes_stand_in_place_of_models(ledger_store: LedgerStore) -> None:
    entries = rows(300, 5)
    await ledger_store.append(entries)
    since, until = MIDNIGHT - 1.0, MIDNIGHT + DAY
    found = await ledger_store.grouped(
        ("model",), Filters(key="key_2"), since=since, until=until, purposes=True
    )
    counts: dict[str, int] = {}
    for row in entries:
        if row.account == "key_2" and since <= row.at < until:
            name = row.purpose or row.model
            counts[name] = counts.get(name, 0) + row.cost
    assert {one.model: one.spend.cost for one in found.groups} == counts
    assert "describe" in counts
    one = await ledger_store.grouped(
        ("day",), Filters(key="key_2", model="describe"), since=since, until=until, purposes=True
    )
    assert one.total is not None
    assert one.total.cost == counts["describe"]


async def test_names_are_the_current_ones(sql_url: str) -> None:
    database = await Database.open(sql_url)
    store = SqlLedgerStore(database)
    key, _ = new_key(name="as it is now")
    await SqlKeyStore(database).insert(key)
    async with database.write() as connection:
        await connection.execute(
            tables.teams.insert(),
            {"id": "team_a", "created_at": 1.0, "name": "A", "disabled": False, "revision": 1},
        )
    await store.append(
        [
            use(at=MIDNIGHT + 1.0, account=key.id, key_name="before", team="team_a", owner="then"),
            use(at=MIDNIGHT + 1.0, account="127.0.0.1", team="team_gone"),
        ]
    )
    found = await store.grouped(("key", "team", "owner"), since=MIDNIGHT, until=MIDNIGHT + DAY)
    names = {one.key: (one.key_name, one.team_name, one.owner) for one in found.groups}
    assert names == {key.id: ("as it is now", "A", "then"), "127.0.0.1": ("", "", "")}
    await database.aclose()


async def test_top_keys_of_a_day_are_those_that_cost_most(ledger_store: LedgerStore) -> None:
    entries = rows(400, 6)
    await ledger_store.append(entries)
    costs: dict[str, int] = {}
    for row in entries:
        if row.at // DAY == MIDNIGHT // DAY:
            costs[row.account] = costs.get(row.account, 0) + row.cost
    most = sorted(costs, key=lambda key: -costs[key])[:5]
    found = await ledger_store.top_keys(MIDNIGHT + 5.0, 5)
    assert [(one.key, one.spend.cost) for one in found] == [(key, costs[key]) for key in most]


async def test_sums_beyond_64_bits_saturate_in_groups(ledger_store: LedgerStore) -> None:
    huge = 2**63 - 1
    for _ in range(2):
        await ledger_store.append([use(at=MIDNIGHT + 1.0, cost=huge, model=m) for m in "ab"])
    for until in (MIDNIGHT + DAY, MIDNIGHT + 60):
        found = await ledger_store.grouped(("model",), since=MIDNIGHT, until=until)
        assert [one.spend.cost for one in found.groups] == [huge, huge]
        assert found.total is not None
        assert (found.total.cost, found.total.requests) == (huge, 4)


async def test_memory_and_sql_name_the_same_groups_in_the_same_order(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    sql, memory = SqlLedgerStore(database), MemoryLedgerStore()
    entries = rows(300, 7)
    for store in (sql, memory):
        await store.append(entries)
    period: dict[str, Any] = {"since": MIDNIGHT - 99.0, "until": MIDNIGHT + 2 * DAY}
    groupings: list[tuple[Dimension, ...]] = [
        *(("day", "tag", "key"), ("model", "owner"), ("endpoint", "day"))
    ]
    for by in groupings:
        found = [await store.grouped(by, limit=10, **period) for store in (sql, memory)]
        assert [key_of(one, by) for one in found[0].groups] == [
            key_of(one, by) for one in found[1].groups
        ]
        assert found[0].total == found[1].total
    await database.aclose()


async def test_writers_at_once_keep_the_sums_of_the_rows(sql_url: str) -> None:
    """Three writers with rows of the same groups, many of them the same rows, and rows of jobs,
    which are written in transactions of their own."""
    entries, of_jobs = rows(240, 8), rows(30, 9)
    databases = [await Database.open(sql_url, patience=20) for _ in range(3)]

    async def append(database: Database, seed: int) -> None:
        store = SqlLedgerStore(database)
        mine = random.Random(seed).sample(entries, 150) + entries[seed::3]
        for start in range(0, len(mine), 17):
            await store.append(sorted(mine[start : start + 17], key=lambda row: row.id))

    async def finish(database: Database, seed: int) -> None:
        for row in of_jobs[seed::3]:
            async with database.write() as connection:
                await write_row(connection, row)

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(
            *[
                write(each, seed)
                for seed, each in enumerate(databases)
                for write in (append, finish)
            ]
        )
    store = SqlLedgerStore(databases[0])
    for by in (("key", "model"), ("tag", "day"), ("tag", "owner"), ("team",)):
        await compare(store, [*entries, *of_jobs], by, since=0.0, until=2.0 * MIDNIGHT)
    for database in databases:
        await database.aclose()
