"""Rows of files and their counters, on SQLite and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text

from middlewares.stores.files.base import (
    Cursor,
    FileRecord,
    LeaseLost,
    StorageFull,
    StorageUse,
)
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.sql.database import Database

NOW = 1_000_000.0


@pytest.fixture
async def files(sql_url: str) -> AsyncIterator[SqlFileStore]:
    database = await Database.open(sql_url)
    yield SqlFileStore(database)
    await database.aclose()


def record(name: str, owner: str = "alice", *, at: float = NOW, **more: object) -> FileRecord:
    fields = {"filename": f"{name}.txt", "purpose": "user_data", **more}
    return FileRecord(
        id=name,
        owner=owner,
        key=f"files/{name}",
        created_at=at,
        **fields,  # type: ignore[arg-type]
    )


async def save(files: SqlFileStore, one: FileRecord, *, limit: int | None = None) -> None:
    await files.begin(one, reserved=one.size, limit=limit, until=NOW + 60)
    await files.finish(one)


async def test_finish_reserved_more_than_the_size_counts_the_size(files: SqlFileStore) -> None:
    one = record("f1")
    assert await files.begin(one, reserved=100, limit=1000, until=NOW + 60) == StorageUse(0, 100)
    assert await files.get("alice", "f1") is None
    done = record("f1", size=30, sha256="ab", mime="image/png", expires_at=NOW + 5)
    assert await files.finish(done) == StorageUse(30, 0)
    assert await files.get("alice", "f1") == done
    assert await files.find_any("f1") == done
    assert await files.use("alice") == StorageUse(30, 0)
    assert await files.total() == StorageUse(30, 0)


async def test_id_with_a_nul_is_an_id_that_does_not_exist(sql_url: str) -> None:
    """PostgreSQL has no such text; its refusal would count as an outage for all callers."""
    database = await Database.open(sql_url)
    files = SqlFileStore(database)
    await save(files, record("f1", filename="a\0b"))
    assert await files.get("alice", "f1\0") is None
    assert await files.several("alice", ["\0", "f1"], now=NOW) == [await files.get("alice", "f1")]
    assert await files.delete("alice", "\0", NOW + 60, now=NOW) is None
    after = Cursor(NOW + 1, "\0")
    assert len(await files.page("alice", now=NOW, limit=9, after=after, newest_first=True)) == 1
    assert database.up
    await database.aclose()


async def test_begin_beyond_the_limit_changes_nothing(files: SqlFileStore) -> None:
    await save(files, record("f1", size=60), limit=100)
    with pytest.raises(StorageFull) as raised:
        await files.begin(record("f2"), reserved=41, limit=100, until=NOW + 60)
    assert raised.value.use == StorageUse(60, 0)
    await files.begin(record("f2"), reserved=40, limit=100, until=NOW + 60)
    with pytest.raises(StorageFull):
        await files.reserve_more(record("f2"), 1, limit=100)
    assert await files.use("alice") == StorageUse(60, 40)


async def test_begin_twenty_at_once_admits_exactly_one(files: SqlFileStore) -> None:
    await save(files, record("old", size=500), limit=1000)

    async def one(number: int) -> bool:
        try:
            await files.begin(record(f"f{number}"), reserved=300, limit=1000, until=NOW + 60)
        except StorageFull:
            return False
        return True

    admitted = await asyncio.gather(*(one(number) for number in range(20)))
    assert sum(admitted) == 1
    assert await files.use("alice") == StorageUse(500, 300)


async def test_another_owner_sees_nothing_and_changes_nothing(files: SqlFileStore) -> None:
    await save(files, record("f1", size=10))
    assert await files.get("bob", "f1") is None
    assert await files.delete("bob", "f1", NOW + 60, now=NOW) is None
    assert await files.page("bob", now=NOW, limit=10) == []
    assert await files.several("bob", ["f1"], now=NOW) == []
    assert await files.use("bob") == StorageUse()
    assert await files.get("alice", "f1") is not None


async def test_delete_is_invisible_at_once_and_counted_until_removed(files: SqlFileStore) -> None:
    await save(files, record("f1", size=10))
    found = await files.delete("alice", "f1", NOW + 60, now=NOW)
    assert found is not None and found.key == "files/f1"
    assert await files.get("alice", "f1") is None
    assert await files.delete("alice", "f1", NOW + 60, now=NOW) is None
    assert await files.use("alice") == StorageUse(10, 0)
    await files.remove("f1")
    await files.remove("f1")
    assert await files.use("alice") == StorageUse(0, 0)


async def test_due_takes_what_expired_and_what_lost_its_lease_once(files: SqlFileStore) -> None:
    await save(files, record("kept", size=1))
    await save(files, record("expired", size=2, expires_at=NOW))
    await files.begin(record("dead"), reserved=4, limit=None, until=NOW)
    await files.begin(record("alive"), reserved=8, limit=None, until=NOW + 60)
    await save(files, record("gone", size=16))
    await files.delete("alice", "gone", NOW, now=NOW)
    taken = await files.due(now=NOW, until=NOW + 60, limit=100)
    assert {one.id for one in taken} == {"expired", "dead", "gone"}
    assert await files.due(now=NOW, until=NOW + 60, limit=100) == []
    with pytest.raises(LeaseLost):
        await files.finish(record("dead", size=4))
    assert await files.abandon("dead", NOW + 60)  # its writer removes the object once more
    assert not await files.abandon("kept", NOW + 60)
    for one in taken:
        await files.remove(one.id)
    assert await files.use("alice") == StorageUse(1, 8)
    await files.renew("alive", NOW + 900)
    assert await files.due(now=NOW + 600, until=NOW + 900, limit=100) == []
    assert await files.abandon("alive", NOW + 900)
    await files.remove("alive")
    assert await files.use("alice") == StorageUse(1, 0)


async def test_page_walks_every_file_once_in_both_orders(files: SqlFileStore) -> None:
    for number in range(25):  # five of each moment, so that ids decide
        await save(files, record(f"f{number:02}", at=NOW + number // 5, size=1))
    await save(files, record("other", "bob", size=1))
    await save(files, record("expired", size=1, expires_at=NOW - 1))
    await save(files, record("vision", size=1, at=NOW + 9, purpose="vision"))
    names = [f"f{number:02}" for number in range(25)]
    for newest_first in (True, False):
        found: list[str] = []
        after: Cursor | None = None
        while page := await files.page(
            "alice",
            now=NOW,
            limit=7,
            after=after,
            newest_first=newest_first,
            purpose="user_data",
        ):
            found += [one.id for one in page]
            after = Cursor(page[-1].created_at, page[-1].id)
        assert found == (names[::-1] if newest_first else names)
    several = await files.several("alice", ["f03", "none", "other", "f01"], now=NOW)
    assert [one.id for one in several] == ["f03", "f01"]


async def test_take_lease_one_holder_at_a_time(files: SqlFileStore) -> None:
    assert await files.take_lease("sweep", "a", now=NOW, until=NOW + 10)
    assert not await files.take_lease("sweep", "b", now=NOW + 9, until=NOW + 20)
    assert await files.take_lease("sweep", "a", now=NOW + 9, until=NOW + 20)
    assert await files.take_lease("sweep", "b", now=NOW + 20, until=NOW + 30)


async def test_counters_are_the_sums_of_the_rows(sql_url: str, files: SqlFileStore) -> None:
    await save(files, record("f1", size=7))
    await files.begin(record("f2"), reserved=5, limit=None, until=NOW + 60)
    await save(files, record("f3", size=11))
    await files.delete("alice", "f3", NOW + 60, now=NOW)
    database = await Database.open(sql_url)
    try:
        async with database.read() as connection:
            sums = text("SELECT SUM(size), SUM(reserved) FROM files")
            size, reserved = (await connection.execute(sums)).one()
    finally:
        await database.aclose()
    assert await files.total() == StorageUse(int(size), int(reserved)) == StorageUse(18, 5)
