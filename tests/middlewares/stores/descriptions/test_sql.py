"""The cache of descriptions: by owner, one maker at a time, bounded in age and number."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from middlewares.stores.descriptions.sql import SqlDescriptionStore
from middlewares.stores.sql.database import Database

NOW = 1_000_000.0
KEEP = 100.0


@pytest.fixture
async def database(sql_url: str) -> AsyncIterator[Database]:
    database = await Database.open(sql_url)
    yield database
    await database.aclose()


@pytest.fixture
def store(database: Database) -> SqlDescriptionStore:
    return SqlDescriptionStore(database, keep=KEEP, most=3)


async def save(store: SqlDescriptionStore, owner: str, key: str, now: float = NOW) -> None:
    assert await store.claim(owner, key, "t", now, now + 10)
    await store.save(owner, key, "t", f"text of {key}", now)


async def test_find_returns_texts_of_the_owner_only(store: SqlDescriptionStore) -> None:
    await save(store, "ann", "k")
    assert await store.find("ann", ["k", "other"], NOW) == {"k": "text of k"}
    assert await store.find("bob", ["k"], NOW) == {}


async def test_claim_of_ten_at_once_is_given_to_one(store: SqlDescriptionStore) -> None:
    claims = [store.claim("ann", "k", f"t{n}", NOW, NOW + 10) for n in range(10)]
    assert sum(await asyncio.gather(*claims)) == 1
    assert await store.find("ann", ["k"], NOW) == {}


async def test_claim_after_the_lease_is_given_again_and_the_late_holder_saves_nothing(
    store: SqlDescriptionStore,
) -> None:
    assert await store.claim("ann", "k", "first", NOW, NOW + 10)
    await store.renew("ann", "k", "first", NOW + 20)
    assert not await store.claim("ann", "k", "second", NOW + 15, NOW + 25)
    assert await store.claim("ann", "k", "second", NOW + 21, NOW + 31)
    await store.save("ann", "k", "first", "late", NOW + 22)
    await store.release("ann", "k", "first")
    assert await store.find("ann", ["k"], NOW + 22) == {}
    await store.save("ann", "k", "second", "nul \0 and \udc80", NOW + 23)
    assert await store.find("ann", ["k"], NOW + 23) == {"k": "nul \ufffd and ?"}
    assert not await store.claim("ann", "k", "third", NOW + 99, NOW + 109)


async def test_released_key_can_be_claimed_at_once(store: SqlDescriptionStore) -> None:
    assert await store.claim("ann", "k", "first", NOW, NOW + 10)
    await store.release("ann", "k", "first")
    assert await store.claim("ann", "k", "second", NOW, NOW + 10)


async def test_text_that_is_too_old_is_made_again_and_purged(store: SqlDescriptionStore) -> None:
    await save(store, "ann", "old")
    await save(store, "ann", "new", NOW + 50)
    later = NOW + KEEP + 1
    assert await store.find("ann", ["old", "new"], later) == {"new": "text of new"}
    assert await store.claim("ann", "old", "t", later, later + 10)
    await store.release("ann", "old", "t")
    await save(store, "ann", "older", later - 2 * KEEP)
    assert await store.purge(later) == 1


async def test_least_recently_used_of_too_many_are_removed(
    store: SqlDescriptionStore, database: Database
) -> None:
    for n in range(3):
        await save(store, "ann", f"k{n}", NOW + n)
    await save(store, "bob", "k0")
    late = SqlDescriptionStore(database, keep=1e6, most=3)
    assert await late.find("ann", ["k0"], NOW + 4000)  # used now
    await save(late, "ann", "k3", NOW + 4001)
    found = await late.find("ann", ["k0", "k1", "k2", "k3"], NOW + 4001)
    assert sorted(found) == ["k0", "k2", "k3"]
    assert await late.find("bob", ["k0"], NOW + 4001)
