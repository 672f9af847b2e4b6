"""What every response store keeps to: in memory, in a SQLite file, in PostgreSQL."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import func, select

from middlewares.stores import Kept, KeptTurn, MemoryResponseStore, ResponseStore, StoreUnavailable
from middlewares.stores.responses.base import Load
from middlewares.stores.responses.quota import BoundedResponseStore
from middlewares.stores.responses.sql import SqlResponseStore
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import response_items, responses
from tests.middlewares.stores.conftest import database_url

replace = msgspec.structs.replace
NOW = 1_000.0
LATER = 5_000.0


def kept(id_: str, previous: str | None = None, **fields: Any) -> Kept:
    made = {
        "owner": "ann",
        "id": id_,
        "previous": previous,
        "model": "m",
        "created_at": NOW,
        "expires_at": LATER,
        "input": b'["in %b"]' % id_.encode(),
        "output": b'["out %b"]' % id_.encode(),
        "answer": b'{"id":"%b","output":null}' % id_.encode(),
        "items": (f"msg_{id_}",),
        **fields,
    }
    return Kept(**made)


def turn(id_: str) -> KeptTurn:
    one = kept(id_)
    return KeptTurn(one.id, one.input, one.output)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ResponseStore]:
    if request.param == "memory":
        yield MemoryResponseStore()
        return
    database = await Database.open(await database_url(request.param, request))
    yield SqlResponseStore(database)
    await database.aclose()


async def chain(store: ResponseStore, *ids: str, **fields: Any) -> None:
    previous = None
    for id_ in ids:
        await store.save(kept(id_, previous, **fields))
        previous = id_


async def test_a_response_comes_back_as_it_was_put(store: ResponseStore) -> None:
    await store.save(kept("a"))
    one = kept(
        "b",
        "a",
        model="m/é😀",
        created_at=1.25,
        expires_at=LATER + 0.5,
        input=b'["' + b"x" * 600 + b'\x00\xff"]',
        output=b'["' + b"y" * 100_000 + b'"]',
        answer=b"{}",
    )
    await store.save(one)
    assert await store.get("ann", "b", NOW) == replace(one, items=())


async def test_only_its_owner_finds_it(store: ResponseStore) -> None:
    await store.save(kept("a"))
    await store.save(kept("a", owner="bob", answer=b"[]"))
    for owner, answer in (("ann", kept("a").answer), ("bob", b"[]")):
        found = await store.get(owner, "a", NOW)
        assert found is not None
        assert found.answer == answer
    assert await store.get("eve", "a", NOW) is None
    assert await store.conversation("eve", "a", NOW, 10) == []
    assert await store.holding("eve", ["msg_a"], NOW) == []
    assert not await store.delete("eve", "a", NOW)
    assert await store.delete("bob", "a", NOW)
    assert await store.get("ann", "a", NOW) is not None


async def test_a_conversation_is_read_from_its_root(store: ResponseStore) -> None:
    await chain(store, "a", "b", "c")
    await store.save(kept("d", "a"))
    assert await store.conversation("ann", "c", NOW, 10) == [turn("a"), turn("b"), turn("c")]
    assert await store.conversation("ann", "d", NOW, 10) == [turn("a"), turn("d")]
    assert await store.conversation("ann", "c", NOW, 2) == [turn("b"), turn("c")]
    assert await store.conversation("ann", "x", NOW, 10) == []


async def test_another_owners_response_cannot_be_continued(store: ResponseStore) -> None:
    await store.save(kept("a", owner="bob"))
    with pytest.raises(ValueError, match=r".+"):
        await store.save(kept("b", "a"))
    assert await store.get("ann", "b", NOW) is None


async def test_an_id_is_taken_once(store: ResponseStore) -> None:
    await store.save(kept("a"))
    with pytest.raises(ValueError, match=r".+"):
        await store.save(kept("a", answer=b"[]"))
    found = await store.get("ann", "a", NOW)
    assert found is not None
    assert found.answer == kept("a").answer


async def test_items_are_found_by_id(store: ResponseStore) -> None:
    await chain(store, "a", "b")
    await store.save(kept("c", items=("fc_1", "fc_1", "msg_a")))
    assert await store.holding("ann", ["msg_b", "nothing"], NOW) == [turn("b")]
    both = await store.holding("ann", ["msg_a"], NOW)
    assert sorted(found.id for found in both) == ["a", "c"]
    many = [f"x{n}" for n in range(1200)]
    assert await store.holding("ann", [*many, "fc_1"], NOW) == [turn("c")]
    assert await store.holding("ann", [], NOW) == []


async def test_what_has_expired_is_not_there(store: ResponseStore) -> None:
    await store.save(kept("a", expires_at=2_000.0))
    assert await store.get("ann", "a", 1_999.0) is not None
    assert await store.get("ann", "a", 2_000.0) is None
    assert await store.conversation("ann", "a", 2_000.0, 10) == []
    assert await store.holding("ann", ["msg_a"], 2_000.0) == []
    assert not await store.delete("ann", "a", 2_000.0)


async def test_deleting_in_the_middle_leaves_what_came_later(store: ResponseStore) -> None:
    await chain(store, "a", "b", "c")
    assert await store.delete("ann", "b", NOW)
    assert not await store.delete("ann", "b", NOW)
    assert await store.get("ann", "b", NOW) is None
    assert await store.get("ann", "b", 0.0) is None
    assert await store.conversation("ann", "b", NOW, 10) == []
    assert await store.holding("ann", ["msg_b"], NOW) == []
    whole = [turn("a"), turn("b"), turn("c")]
    assert await store.conversation("ann", "c", NOW, 10) == whole
    assert await store.purge(NOW + 1) == 0
    assert await store.conversation("ann", "c", NOW, 10) == whole
    assert await store.delete("ann", "c", NOW)
    assert await store.purge(NOW + 1) == 2
    assert await store.conversation("ann", "a", NOW, 10) == [turn("a")]


async def test_a_response_may_be_kept_behind_one_just_deleted(store: ResponseStore) -> None:
    await store.save(kept("a"))
    await store.delete("ann", "a", NOW)
    await store.save(kept("b", "a"))
    assert await store.conversation("ann", "b", NOW, 10) == [turn("a"), turn("b")]


async def test_purging_takes_what_nothing_needs(store: ResponseStore) -> None:
    await chain(store, "a", "b", "c", expires_at=2_000.0)
    await store.save(kept("b2", "b"))
    await store.save(kept("z", expires_at=2_000.5))
    assert await store.purge(1_999.0) == 0
    assert await store.purge(2_000.0) == 1
    assert await store.conversation("ann", "b2", NOW, 9) == [turn("a"), turn("b"), turn("b2")]
    assert await store.get("ann", "a", 3_000.0) is None
    assert await store.purge(2_001.0) == 1
    assert await store.purge(LATER) == 3
    assert await store.purge(LATER) == 0


async def test_purging_takes_long_chains_and_many_at_once(store: ResponseStore) -> None:
    ids = [f"r{n:03}" for n in range(250)]
    await chain(store, *ids, expires_at=2_000.0)
    for n in range(250):
        await store.save(kept(f"s{n}", expires_at=1_500.0))
    await store.save(kept("alive", ids[9]))
    assert await store.purge(3_000.0) == 250 + 240
    assert len(await store.conversation("ann", "alive", 3_000.0, 1000)) == 11


async def test_redate_shortens_what_was_stored_before_a_clock_was_set_back(
    store: ResponseStore,
) -> None:
    day = 86_400.0
    await store.save(kept("ahead", created_at=NOW + day, expires_at=NOW + day + 100))
    await store.save(kept("now", expires_at=NOW + 100))
    await store.save(kept("longer", expires_at=NOW + day))  # as it was configured once
    await store.save(kept("close", created_at=NOW + 200, expires_at=NOW + 300))
    assert await store.redate(NOW, 100.0) == 1
    assert await store.redate(NOW, 100.0) == 0
    found = await store.get("ann", "ahead", NOW)
    assert found is not None
    assert (found.created_at, found.expires_at) == (NOW, NOW + 100)
    assert await store.purge(NOW + 100) == 2


async def test_a_purge_leaves_nothing_in_the_tables(sql_url: str) -> None:
    database = await Database.open(sql_url)
    store = SqlResponseStore(database)
    await chain(store, "a", "b", expires_at=2_000.0)
    await store.save(kept("c", "b"))
    await store.purge(2_000.0)

    async def count(statement: Any) -> int:
        async with database.read() as connection:
            return int((await connection.execute(statement)).scalar_one())

    answers = select(func.count()).where(responses.c.answer.is_not(None))
    assert await count(answers) == 1
    await store.purge(LATER)
    assert await count(select(func.count()).select_from(responses)) == 0
    assert await count(select(func.count()).select_from(response_items)) == 0
    await database.aclose()


async def test_what_is_large_is_kept_small(sql_url: str) -> None:
    database = await Database.open(sql_url)
    store = SqlResponseStore(database)
    await store.save(kept("a", input=b'["' + b"word " * 100_000 + b'"]'))
    async with database.read() as connection:
        size = (await connection.execute(select(func.length(responses.c.input)))).scalar_one()
    assert size < 10_000
    await database.aclose()


async def test_many_at_once_are_all_kept(sql_url: str) -> None:
    databases = [await Database.open(sql_url, patience=20) for _ in range(3)]
    stores = [SqlResponseStore(database) for database in databases]
    await stores[0].save(kept("root"))
    ids = [f"r{n}" for n in range(30)]
    await asyncio.gather(
        *(stores[n % 3].save(kept(id_, "root")) for n, id_ in enumerate(ids)),
        stores[1].purge(NOW),
    )
    for id_ in ids:
        assert await stores[2].conversation("ann", id_, NOW, 9) == [turn("root"), turn(id_)]
    for database in databases:
        await database.aclose()


async def test_purges_at_once_take_each_row_once(sql_url: str) -> None:
    databases = [await Database.open(sql_url, patience=20) for _ in range(2)]
    stores = [SqlResponseStore(database) for database in databases]
    for n in range(60):
        await stores[0].save(kept(f"r{n}", expires_at=1_500.0))
    removed = await asyncio.gather(*(store.purge(2_000.0) for store in stores))
    assert sum(removed) == 60
    for database in databases:
        await database.aclose()


async def test_a_store_that_is_gone_says_so() -> None:
    database = Database.at("postgresql://unknown@127.0.0.1:1/none?sslmode=disable")
    store = SqlResponseStore(database)
    for call in (
        store.save(kept("a")),
        store.get("ann", "a", NOW),
        store.conversation("ann", "a", NOW, 9),
        store.holding("ann", ["x"], NOW),
        store.delete("ann", "a", NOW),
        store.purge(NOW),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    await database.aclose()


# What one owner has, and making room


def old(id_: str, at: float, previous: str | None = None, **fields: Any) -> Kept:
    return kept(id_, previous, created_at=at, **fields)


async def left(store: ResponseStore, *ids: str) -> set[str]:
    found = [id_ for id_ in ids if await store.get("ann", id_, NOW)]
    return set(found)


async def test_load_counts_one_owners_responses_and_bytes(store: ResponseStore) -> None:
    assert await store.load("ann") == Load(0, 0)
    await chain(store, "a", "b")
    await store.save(kept("a", owner="bob"))
    assert await store.load("ann") == Load(2, kept("a").size + kept("b").size)
    await store.delete("ann", "b", NOW)
    assert (await store.load("ann")).responses == 2


async def test_forget_oldest_conversations_go_from_their_ends(store: ResponseStore) -> None:
    await store.save(old("a1", 1))
    await store.save(old("single", 2))
    await store.save(old("b1", 3))
    await store.save(old("a2", 4, "a1"))
    await store.save(old("b2", 5, "b1"))
    await store.save(old("single", 0, owner="bob"))
    every = ("a1", "a2", "b1", "b2", "single")
    assert await store.forget("ann", responses=0, size=0) == 0
    assert await store.forget("ann", responses=1, size=0) == 1
    assert await left(store, *every) == {"a1", "a2", "b1", "b2"}
    assert await store.forget("ann", responses=0, size=1) == 1
    assert await left(store, *every) == {"a1", "b1", "b2"}
    assert await store.forget("ann", responses=2, size=0) == 2
    assert await left(store, *every) == {"b1"}
    assert await store.get("bob", "single", NOW) is not None


async def test_forget_what_is_continued_stays_with_what_it_continues(store: ResponseStore) -> None:
    await chain(store, "a", "b", "c", "d")
    await store.save(old("other", NOW + 1, "b"))
    assert await store.forget("ann", responses=99, size=0, continued="c") == 2
    assert await left(store, "a", "b", "c", "d", "other") == {"a", "b", "c"}
    assert await store.forget("ann", responses=99, size=0, continued="c") == 0
    assert await store.forget("ann", responses=99, size=0) == 3
    assert await store.load("ann") == Load(0, 0)


async def test_forget_branch_stops_where_another_conversation_goes_on(store: ResponseStore) -> None:
    await chain(store, "a", "b")
    await store.save(old("x", NOW + 1, "a"))
    await store.save(old("y", NOW + 2, "b"))
    await store.save(old("y2", NOW + 3, "y"))
    assert await store.forget("ann", responses=2, size=0) == 2
    assert await left(store, "a", "b", "x", "y", "y2") == {"a", "b", "y"}


async def test_quota_oldest_make_room_and_no_save_is_refused(store: ResponseStore) -> None:
    removed: list[int] = []
    bounded = BoundedResponseStore(store, size=10**6, count=20, removed=removed.append)
    for n in range(100):
        await bounded.save(old(f"r{n}", float(n)))
        assert (await store.load("ann")).responses <= 20
    assert sum(removed) == 100 - (await store.load("ann")).responses
    assert await left(store, *(f"r{n}" for n in range(100))) >= {f"r{n}" for n in range(90, 100)}
    await bounded.save(old("r1", 1.0, owner="bob"))
    assert (await store.load("bob")).responses == 1


async def test_quota_bytes_are_bounded_and_a_conversation_goes_on(store: ResponseStore) -> None:
    body = random.Random(1).randbytes(5000)  # as it is kept: it cannot be packed
    one = old("x", 0, input=body).size
    bounded = BoundedResponseStore(store, size=20 * one, count=1000)
    previous = None
    for n in range(16):
        await bounded.save(old(f"side{n}", 2.0 * n, input=body))
        if n % 2 == 0:
            await bounded.save(old(f"main{n}", 2.0 * n + 1, previous, input=body))
            previous = f"main{n}"
        assert (await store.load("ann")).size <= 20 * one
    assert await store.get("ann", "side0", NOW) is None
    assert previous is not None
    assert len(await bounded.conversation("ann", previous, NOW, 99)) == 8


async def test_quota_conversation_larger_than_it_is_not_kept(store: ResponseStore) -> None:
    bounded = BoundedResponseStore(store, size=10**6, count=3)
    await chain(bounded, "a", "b", "c")
    with pytest.raises(ValueError, match="larger than the quota"):
        await bounded.save(kept("d", "c"))
    assert [one.id for one in await bounded.conversation("ann", "c", NOW, 9)] == ["a", "b", "c"]
    await bounded.save(old("new", NOW + 1))
    assert await left(store, "new") == {"new"}
    with pytest.raises(ValueError, match="larger than the quota"):
        await BoundedResponseStore(store, size=10, count=3).save(kept("huge", owner="bob"))


async def test_quota_workers_that_share_a_store_stay_within_it(
    store: ResponseStore, full: bool
) -> None:
    workers = [BoundedResponseStore(store, size=10**6, count=100) for _ in range(8)]
    for n in range(400 if full else 200):
        await workers[n % 8].save(old(f"r{n}", float(n)))
        assert (await store.load("ann")).responses <= 100


def test_quota_of_nothing_is_refused() -> None:
    for size, count in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="expected at least 1"):
            BoundedResponseStore(MemoryResponseStore(), size=size, count=count)
