"""The cache of texts: made once, waited for, and made again after a failure."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.proxy.describing.cache import DescriptionCache
from middlewares.stores.descriptions.sql import SqlDescriptionStore
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.sqlite_files import new_sqlite


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlDescriptionStore]:
    database = await Database.open(new_sqlite(tmp_path / "keys.db"))
    yield SqlDescriptionStore(database, keep=1e6)
    await database.aclose()


class Making:
    """Makes a text when `gate` opens. failing: how often it fails first."""

    def __init__(self, failing: int = 0) -> None:
        self.gate = asyncio.Event()
        self.calls = 0
        self._failing = failing

    async def __call__(self) -> str:
        self.calls += 1
        await self.gate.wait()
        if self.calls <= self._failing:
            raise ValueError
        return f"text {self.calls}"


async def test_callers_of_two_workers_share_one_making(store: SqlDescriptionStore) -> None:
    first, second = DescriptionCache(store), DescriptionCache(store)
    make = Making()
    async with asyncio.TaskGroup() as group:
        gets = [group.create_task(cache.get("o", "k", make)) for cache in (first, second) * 3]
        await asyncio.sleep(0)
        make.gate.set()
    assert make.calls == 1
    assert {text for text, _ in (task.result() for task in gets)} == {"text 1"}
    assert sum(not hit for _, hit in (task.result() for task in gets)) == 1
    assert await first.find("o", ["k"]) == {"k": "text 1"}


async def test_failure_is_not_kept_and_the_next_caller_makes_it(store: SqlDescriptionStore) -> None:
    cache, make = DescriptionCache(store), Making(failing=1)
    make.gate.set()
    with pytest.raises(ValueError):
        await cache.get("o", "k", make)
    assert await cache.get("o", "k", make) == ("text 2", False)


async def test_cancelled_maker_leaves_the_key_to_those_that_wait(
    store: SqlDescriptionStore,
) -> None:
    cache, make = DescriptionCache(store), Making()
    leaving = asyncio.create_task(cache.get("o", "k", make))
    while not make.calls:
        await asyncio.sleep(0.01)
    waiting = asyncio.create_task(cache.get("o", "k", make))
    leaving.cancel()
    make.gate.set()
    assert await asyncio.wait_for(waiting, 10) == ("text 2", False)


class Away(SqlDescriptionStore):
    """A store that does not answer."""

    async def find(self, *_: object) -> dict[str, str]:
        raise StoreUnavailable("away")


async def test_store_that_is_away_is_gone_without(tmp_path: Path) -> None:
    database = await Database.open(new_sqlite(tmp_path / "keys.db"))
    try:
        cache, make = DescriptionCache(Away(database, keep=1.0)), Making()
        make.gate.set()
        assert await cache.find("o", ["k"]) == {}
        assert await cache.get("o", "k", make) == ("text 1", False)
        assert await cache.get("o", "k", make) == ("text 2", False)
    finally:
        await database.aclose()
