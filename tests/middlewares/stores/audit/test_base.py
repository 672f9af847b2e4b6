"""What every audit store keeps to: in memory, in a SQLite file, in PostgreSQL."""

from collections.abc import AsyncIterator

import msgspec
import pytest

from middlewares.stores.audit.base import AuditChange, AuditStore, MemoryAuditStore
from middlewares.stores.audit.sql import SqlAuditStore
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.keys.sql import Database
from tests.middlewares.stores.conftest import database_url

DETAIL = {"plan": {"from": None, "to": "pro"}, "note": "ünï\U0001f4a9", "n": [1, 2.5, True]}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def audit(request: pytest.FixtureRequest) -> AsyncIterator[AuditStore]:
    if request.param == "memory":
        yield MemoryAuditStore()
        return
    database = await Database.open(await database_url(request.param, request))
    yield SqlAuditStore(database)
    await database.aclose()


def change(n: int, subject: str = "key_a") -> AuditChange:
    return AuditChange(
        at=1e9 + n, actor="admin", action="key.edit", subject=subject, detail={"n": n}
    )


async def test_a_row_comes_back_as_it_was_put(audit: AuditStore) -> None:
    noted = AuditChange(
        at=1e9 + 0.25, actor="it's", action="key.edit", subject="'; --", detail=DETAIL
    )
    await audit.note(noted)
    (found,) = await audit.page()
    assert found.id > 0
    assert msgspec.structs.replace(found, id=0) == noted


async def test_newest_first_in_pages_each_once(audit: AuditStore) -> None:
    for n in range(7):
        await audit.note(change(n, "key_a" if n % 2 else "key_b"))
    seen: list[AuditChange] = []
    while found := await audit.page(before=seen[-1].id if seen else None, limit=3):
        assert len(found) <= 3
        seen += found
    assert [one.detail["n"] for one in seen] == [6, 5, 4, 3, 2, 1, 0]
    of_one = await audit.page(subject="key_a", limit=2)
    assert [one.detail["n"] for one in of_one] == [5, 3]
    rest = await audit.page(subject="key_a", limit=2, before=of_one[-1].id)
    assert [one.detail["n"] for one in rest] == [1]
    assert await audit.page(subject="key_c") == []


async def test_a_store_that_is_away_says_so(sqlite_url: str) -> None:
    database = await Database.open(sqlite_url)
    async with database.write() as connection:
        await connection.exec_driver_sql("DROP TABLE audit")
    audit = SqlAuditStore(database)
    with pytest.raises(StoreUnavailable):
        await audit.note(change(1))
    with pytest.raises(StoreUnavailable):
        await audit.page()
    await database.aclose()
