"""Rows of copies, on SQLite and PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from middlewares.stores.files.base import FileRecord
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.sql.database import Database
from middlewares.stores.vendor_files.base import VendorFile
from middlewares.stores.vendor_files.sql import SqlVendorFileStore

NOW = 1_000_000.0


@pytest.fixture
async def database(sql_url: str) -> AsyncIterator[Database]:
    opened = await Database.open(sql_url)
    yield opened
    await opened.aclose()


def copy(file_id: str, vendor_id: str = "v1", account: str = "a") -> VendorFile:
    return VendorFile(account=account, file_id=file_id, vendor_id=vendor_id, expires_at=NOW + 100)


async def test_the_first_copy_is_kept_until_it_expires(database: Database) -> None:
    copies = SqlVendorFileStore(database)
    assert await copies.find("a", "f", NOW) is None
    assert await copies.add(copy("f"), NOW) == "v1"
    assert await copies.add(copy("f", "v2"), NOW) == "v1"
    assert await copies.find("a", "f", NOW + 99) == "v1"
    assert await copies.find("b", "f", NOW) is None
    assert await copies.find("a", "f", NOW + 100) is None
    assert await copies.add(copy("f", "v3"), NOW + 100) == "v3"


async def test_due_are_those_without_a_file_and_expired_ones(database: Database) -> None:
    copies, files = SqlVendorFileStore(database), SqlFileStore(database)
    for name, expires_at in (("f1", None), ("f2", NOW + 5), ("f3", None)):
        record = FileRecord(
            id=name,
            owner="o",
            key=name,
            filename=name,
            created_at=NOW,
            size=1,
            sha256="00",
            expires_at=expires_at,
        )
        await files.begin(record, reserved=1, limit=None, until=NOW + 60)
        await files.finish(record)
        await copies.add(copy(name), NOW)
    await copies.add(copy("f9", account="b"), NOW)
    assert await copies.due(["a"], NOW, 10) == []
    assert await copies.due(["a", "b"], NOW, 10) == [copy("f9", account="b")]
    assert await files.delete("o", "f3", NOW + 60, now=NOW)
    due = await copies.due(["a"], NOW + 6, 10)
    assert sorted(one.file_id for one in due) == ["f2", "f3"]
    for one in due:
        await copies.remove(one)
    assert await copies.due(["a"], NOW + 6, 10) == []
    assert len(await copies.due(["a", "b"], NOW + 100, 10)) == 2
    await copies.forget(NOW + 100)
    assert await copies.due(["a", "b"], NOW + 100, 10) == []
