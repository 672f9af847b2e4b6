"""Files that come in parts, over a real folder and both databases."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.media.library import Files
from edge.media.objects import Objects
from edge.media.part_uploads import LIFE, PART, PartUploads
from middlewares.problem import Problem
from middlewares.stores.files.base import StorageUse
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.files.uploads import SqlUploadStore, UploadRecord
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.sqlite_files import new_sqlite

from .stored import check_balance


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        url = await server.migrated_database()
    else:
        url = new_sqlite(tmp_path / "penstock.db")
    opened = await Database.open(url)
    yield opened
    await opened.aclose()


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(f"file:{tmp_path}/objects")


@pytest.fixture
def files(database: Database, objects: Objects, clock: Clock) -> Files:
    return Files(SqlFileStore(database), objects, SqlSecretStore(database), clock=clock)


@pytest.fixture
def uploads(database: Database, objects: Objects, files: Files, clock: Clock) -> PartUploads:
    return PartUploads(SqlUploadStore(database), files, objects, clock=clock)


async def begin(uploads: PartUploads, size: int, limit: int | None = None) -> UploadRecord:
    return await uploads.create(
        "alice",
        filename="a.txt",
        mime="text/plain",
        purpose="user_data",
        size=size,
        keep=60.0,
        limit=limit,
    )


async def data(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def test_create_reserves_and_complete_uses(
    uploads: PartUploads, files: Files, database: Database, objects: Objects, clock: Clock
) -> None:
    upload = await begin(uploads, 6, limit=6)
    assert await files.use("alice") == StorageUse(0, 6)
    with pytest.raises(Problem) as raised:
        await begin(uploads, 1, limit=6)
    assert raised.value.kind == "storage_limit_exceeded"
    second = await uploads.add_part(upload, data(b"def"), size=400)
    first = await uploads.add_part(upload, data(b"abc"))
    assert await files.use("alice") == StorageUse(0, 6)
    done, file = await uploads.complete("alice", upload.id, [first.id, second.id], None)
    assert (done.state, done.file) == ("completed", file.id)
    assert (file.size, file.expires_at) == (6, clock.now + 60)
    assert b"".join([piece async for piece in files.read(file)]) == b"abcdef"
    assert await files.use("alice") == StorageUse(6, 0)
    assert await check_balance(database, objects) == {file.key}


async def test_complete_that_fails_keeps_the_upload(
    uploads: PartUploads, files: Files, database: Database, objects: Objects
) -> None:
    upload = await begin(uploads, 6)
    part = await uploads.add_part(upload, data(b"abcdef"))
    for part_ids, md5 in (
        ([part.id, part.id], None),
        (["part_x"], None),
        ([part.id], "0" * 32),
    ):
        with pytest.raises(Problem):
            await uploads.complete("alice", upload.id, part_ids, md5)
        assert await files.use("alice") == StorageUse(0, 6)
        assert await check_balance(database, objects) == {part.key}
    await uploads.complete("alice", upload.id, [part.id], None)


async def test_parts_of_more_bytes_than_the_file_are_refused(
    uploads: PartUploads, database: Database, objects: Objects
) -> None:
    size = 300_000
    upload = await begin(uploads, size)
    for _ in range(2):  # a part that is sent again fits too
        await uploads.add_part(upload, data(bytes(size)), size=size + 400)
    await uploads.add_part(upload, data(bytes(9)), size=9)
    with pytest.raises(Problem) as raised:
        await uploads.add_part(upload, data(bytes(size)), size=size + 400)
    assert (raised.value.kind, raised.value.param) == ("invalid_request", "data")
    with pytest.raises(Problem) as raised:
        await uploads.add_part(upload, data(bytes(9)), size=8)
    assert raised.value.kind == "request_too_large"
    with pytest.raises(Problem) as raised:
        await uploads.add_part(upload, data(b""))
    assert raised.value.param == "data"
    assert len(await check_balance(database, objects)) == 3


async def test_part_of_more_bytes_than_the_file_is_not_kept(
    uploads: PartUploads, files: Files, database: Database, objects: Objects
) -> None:
    upload = await begin(uploads, 1, limit=1)
    for size in (None, 400, PART):
        with pytest.raises(Problem) as raised:
            await uploads.add_part(upload, data(bytes(2)), size=size)
        assert raised.value.kind == "request_too_large"
    assert await check_balance(database, objects) == set()
    assert await files.use("alice") == StorageUse(0, 1)


async def test_cancel_gives_back_what_was_reserved(
    uploads: PartUploads, files: Files, database: Database, objects: Objects
) -> None:
    upload = await begin(uploads, 6)
    await uploads.add_part(upload, data(b"abc"))
    assert (await uploads.cancel("alice", upload.id)).state == "cancelled"
    for refused in (
        uploads.add_part(upload, data(b"def")),
        uploads.cancel("alice", upload.id),
        uploads.complete("alice", upload.id, ["part_x"], None),
    ):
        with pytest.raises(Problem) as raised:
            await refused
        assert raised.value.kind == "not_found"
    assert await files.use("alice") == StorageUse()
    assert await check_balance(database, objects) == set()


async def test_cancel_while_a_part_arrives_leaves_nothing_of_it(
    uploads: PartUploads, files: Files, database: Database, objects: Objects
) -> None:
    upload = await begin(uploads, 6)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"abc"
        arrived.set()
        await go_on.wait()

    adding = asyncio.create_task(uploads.add_part(upload, slow()))
    await arrived.wait()
    await uploads.cancel("alice", upload.id)
    go_on.set()
    with pytest.raises(Problem):
        await adding
    await uploads.sweep()
    assert await files.use("alice") == StorageUse()
    assert await check_balance(database, objects) == set()


async def test_expired_upload_is_swept_and_forgotten_a_day_later(
    uploads: PartUploads, files: Files, database: Database, objects: Objects, clock: Clock
) -> None:
    upload = await begin(uploads, 6)
    await uploads.add_part(upload, data(b"abc"))
    clock.now += LIFE
    found = await uploads.find("alice", upload.id)
    assert found is not None and found.state == "expired"
    with pytest.raises(Problem):
        await uploads.add_part(upload, data(b"def"))
    assert await uploads.sweep() == 1
    assert await files.use("alice") == StorageUse()
    assert await check_balance(database, objects) == set()
    clock.now += 86400
    await uploads.sweep()
    assert await uploads.find("alice", upload.id) is None


async def test_upload_of_another_owner_is_not_there(uploads: PartUploads) -> None:
    upload = await begin(uploads, 3)
    part = await uploads.add_part(upload, data(b"abc"))
    assert await uploads.find("bob", upload.id) is None
    for refused in (
        uploads.cancel("bob", upload.id),
        uploads.complete("bob", upload.id, [part.id], None),
    ):
        with pytest.raises(Problem) as raised:
            await refused
        assert raised.value.kind == "not_found"
    found = await uploads.find("alice", upload.id)
    assert found is not None and found.state == "pending"
