"""One suite of storage for a folder, for SeaweedFS, which checks keys, and for moto."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

import pytest

from edge.media.library import Files
from edge.media.objects import Objects
from edge.media.part_uploads import PartUploads
from middlewares.problem import Problem
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.files.base import StorageUse
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.files.uploads import SqlUploadStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.sqlite_files import new_sqlite

from .s3_servers import BUCKET, S3Server, moto, seaweed
from .stored import check_balance

MIB = 1 << 20


@pytest.fixture(scope="module")
def seaweed_server() -> Iterator[S3Server]:
    yield from _running(seaweed)


@pytest.fixture(scope="module")
def moto_server() -> Iterator[S3Server]:
    yield from _running(moto)


def _running(make: Callable[[Path], S3Server]) -> Iterator[S3Server]:
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    server = make(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["folder", "seaweed", "moto"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty store."""
    if request.param == "folder":
        return Objects(f"file:{tmp_path}/objects")
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return Objects(f"s3://{BUCKET}/{uuid4().hex}", server.options)


class Store(NamedTuple):
    files: Files
    uploads: PartUploads
    objects: Objects
    database: Database

    async def balance(self) -> set[str]:
        return await check_balance(self.database, self.objects)


@pytest.fixture
async def store(objects: Objects, tmp_path: Path) -> AsyncIterator[Store]:
    database = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    files = Files(SqlFileStore(database), objects, SqlSecretStore(database), max_size=64 * MIB)
    yield Store(files, PartUploads(SqlUploadStore(database), files, objects), objects, database)
    await files.aclose()
    await database.aclose()


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 5 * MIB, 11 * MIB + 1])
async def test_save_is_read_back_whole_and_by_range(store: Store, size: int) -> None:
    data = os.urandom(size)
    saved = await store.files.save(
        "alice", "a", pieces(data, 300_001), purpose="user_data", limit=1 << 30
    )
    assert saved.sha256 == hashlib.sha256(data).hexdigest()
    for start, end in ((0, size), (size // 2, size), (0, 1), (size - 1, size)):
        read = store.files.read(saved, start, end)
        assert b"".join([piece async for piece in read]) == data[start:end]
    assert await store.balance() == {saved.key}
    assert await store.files.delete("alice", saved.id)
    assert await store.balance() == set()
    assert await store.files.use("alice") == StorageUse()


async def test_save_that_breaks_off_leaves_nothing(store: Store) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield bytes(MIB)
        raise Problem("invalid_request", message="The body broke off.")

    for source in (broken(), pieces(b"", 1)):
        with pytest.raises(Problem):
            await store.files.save("alice", "a", source, purpose="user_data", limit=None)
        assert await store.balance() == set()
        assert await store.files.use("alice") == StorageUse()


@pytest.mark.parametrize("kind", ["seaweed", "moto"])
async def test_save_that_breaks_off_aborts_its_multipart_upload(
    request: pytest.FixtureRequest, kind: str
) -> None:
    server: S3Server = request.getfixturevalue(f"{kind}_server")
    objects = Objects(f"s3://{BUCKET}/{uuid4().hex}", server.options)
    with pytest.raises(ValueError, match="broke off"):
        async with objects.writing("a") as writer:
            for _ in range(12):
                await writer.write(bytes(MIB))
            raise ValueError("broke off")
    found = await asyncio.to_thread(server.client.list_multipart_uploads, Bucket=BUCKET)
    assert found.get("Uploads", []) == []


async def test_save_that_is_cancelled_leaves_nothing(store: Store) -> None:
    started = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield bytes(MIB)
        started.set()
        await asyncio.Event().wait()

    saving = asyncio.create_task(
        store.files.save("alice", "a", endless(), purpose="user_data", limit=None)
    )
    await started.wait()
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving
    assert await store.balance() == set()


async def test_read_of_an_object_that_is_gone_is_not_found(store: Store) -> None:
    saved = await store.files.save("alice", "a", b"abc", purpose="user_data", limit=None)
    await store.objects.remove(saved.key)
    with pytest.raises(Problem) as raised:
        async for _ in store.files.read(saved):
            pass
    assert raised.value.kind == "not_found"


async def test_parts_are_joined_into_one_object(store: Store) -> None:
    data = os.urandom(7 * MIB)
    upload = await store.uploads.create(
        "alice",
        filename="a",
        mime="",
        purpose="user_data",
        size=len(data),
        keep=None,
        limit=len(data),
    )
    halves = (data[: 6 * MIB], data[6 * MIB :])
    parts = await asyncio.gather(
        *(store.uploads.add_part(upload, pieces(half, MIB), size=len(half)) for half in halves)
    )
    assert len(await store.balance()) == 2
    _, file = await store.uploads.complete(
        "alice", upload.id, [part.id for part in parts], hashlib.md5(data).hexdigest()
    )
    assert b"".join([piece async for piece in store.files.read(file)]) == data
    assert await store.balance() == {file.key}
    assert await store.files.use("alice") == StorageUse(len(data), 0)


async def test_check_writes_reads_and_removes(store: Store) -> None:
    await store.objects.check()
    assert await store.balance() == set()


async def test_bucket_without_its_account_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(StoreUnavailable):
        await Objects("az://container/files").check()


async def test_wrong_keys_are_refused_and_leave_nothing(
    seaweed_server: S3Server, tmp_path: Path
) -> None:
    options = {**seaweed_server.options, "secret_access_key": "wrong"}
    objects = Objects(f"s3://{BUCKET}/wrong", options)
    database = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    try:
        files = Files(SqlFileStore(database), objects, SqlSecretStore(database))
        with pytest.raises(StoreUnavailable) as refused:
            await objects.check()
        assert "wrong" not in str(refused.value) and "127.0.0.1" not in str(refused.value)
        with pytest.raises(Problem) as raised:
            await files.save("alice", "a", b"abc", purpose="user_data", limit=None)
        assert raised.value.kind == "store_unavailable"
        assert seaweed_server.keys("wrong") == set()
        use = await files.use("alice")
        assert use.used == 0  # the reservation waits for the sweep: the object may be there
    finally:
        await database.aclose()


async def test_bucket_that_goes_away_refuses_and_the_sweep_makes_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="s3-"))
    server = moto(folder)
    now = 1_000_000.0
    database = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    try:
        monkeypatch.setattr("edge.media.objects.PATIENCE", 1.0)
        objects = Objects(f"s3://{BUCKET}/files", server.options)
        files = Files(SqlFileStore(database), objects, SqlSecretStore(database), clock=lambda: now)
        kept = await files.save("alice", "a", b"abc", purpose="user_data", limit=None)
        server.freeze()
        with pytest.raises(Problem) as raised:
            await files.save("alice", "b", b"abc", purpose="user_data", limit=None)
        assert raised.value.kind == "store_unavailable"
        with pytest.raises(Problem) as raised:
            async for _ in files.read(kept):
                pass
        assert raised.value.kind == "store_unavailable"
        assert await files.delete("alice", kept.id)
        assert await files.page("alice", limit=10) == []
        server.thaw()
        now += 3600
        await files.sweep()
        assert await check_balance(database, objects) == set()
        assert await files.use("alice") == StorageUse()
    finally:
        server.stop()
        await database.aclose()
        shutil.rmtree(folder, ignore_errors=True)
