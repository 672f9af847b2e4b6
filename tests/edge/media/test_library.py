"""Files of callers over a real folder and a real database."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.media.library import STEP, Files
from edge.media.objects import Objects
from middlewares.problem import Problem
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.files.base import StorageUse
from middlewares.stores.files.sql import SqlFileStore
from middlewares.stores.responses.sql import SqlSecretStore
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.sqlite_files import new_sqlite

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    yield opened
    await opened.aclose()


@pytest.fixture
async def files(tmp_path: Path, database: Database, clock: Clock) -> AsyncIterator[Files]:
    opened = Files(
        SqlFileStore(database),
        Objects(f"file:{tmp_path}/objects"),
        SqlSecretStore(database),
        max_size=64 << 20,
        clock=clock,
    )
    yield opened
    await opened.aclose()


def objects_in(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


async def pieces(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def content(files: Files, owner: str, file_id: str, *span: int) -> bytes:
    record = await files.find(owner, file_id)
    assert record is not None
    return b"".join([piece async for piece in files.read(record, *span)])


async def test_save_bytes_and_streams_are_read_back_whole_and_by_range(files: Files) -> None:
    data = os.urandom(3 * (1 << 20) + 17)
    for source in (data, pieces(data, 100_001)):
        saved = await files.save("alice", "a.bin", source, purpose="user_data", limit=1 << 30)
        assert saved.size == len(data)
        assert saved.sha256 == hashlib.sha256(data).hexdigest()
        assert await content(files, "alice", saved.id) == data
        assert await content(files, "alice", saved.id, 5, 1 << 20) == data[5 : 1 << 20]
        assert await content(files, "alice", saved.id, len(data) - 1) == data[-1:]
    assert await files.use("alice") == StorageUse(2 * len(data), 0)


async def test_save_reads_the_type_from_the_content(files: Files) -> None:
    saved = await files.save("alice", "page.html", PNG, purpose="vision", limit=None)
    assert saved.mime == "image/png"
    saved = await files.save("alice", "", PNG, purpose="vision", limit=None)
    assert (saved.mime, saved.filename) == ("image/png", "unnamed.png")


async def test_save_unknown_length_reserves_in_steps_up_to_the_last_byte(
    files: Files, database: Database
) -> None:
    store = SqlFileStore(database)
    seen: list[StorageUse] = []

    async def watched(size: int) -> AsyncIterator[bytes]:
        for _ in range(0, size, 1 << 20):
            yield bytes(1 << 20)
            seen.append(await store.use("alice"))

    limit = 2 * STEP + (3 << 20)
    saved = await files.save("alice", "a", watched(limit), purpose="user_data", limit=limit)
    assert saved.size == limit
    assert all(use.total <= limit for use in seen)
    assert StorageUse(0, STEP) in seen and StorageUse(0, 2 * STEP) in seen
    with pytest.raises(Problem) as raised:
        await files.save("alice", "b", pieces(b"x", 1), purpose="user_data", limit=limit)
    assert raised.value.kind == "storage_limit_exceeded"
    assert dict(raised.value.headers) == {
        b"x-storage-used-bytes": b"%d" % limit,
        b"x-storage-limit-bytes": b"%d" % limit,
    }


@pytest.mark.parametrize("failure", ["quota", "bound", "empty", "source", "cancelled"])
async def test_save_that_fails_leaves_nothing(
    files: Files, tmp_path: Path, database: Database, failure: str
) -> None:
    data = bytes(5 << 20)
    started = asyncio.Event()

    async def broken() -> AsyncIterator[bytes]:
        yield data
        started.set()
        if failure == "cancelled":
            await asyncio.Event().wait()
        raise Problem("invalid_request", message="The body broke off.")

    source: AsyncIterator[bytes] = {
        "quota": pieces(data, 1 << 20),
        "bound": pieces(data, 1 << 20),
        "empty": pieces(b"", 1),
    }.get(failure, broken())
    saving = asyncio.ensure_future(
        files.save(
            "alice",
            "a",
            source,
            purpose="user_data",
            limit=3 << 20 if failure == "quota" else None,
            max_size=2 << 20 if failure == "bound" else None,
        )
    )
    if failure == "cancelled":
        await started.wait()
        saving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await saving
    else:
        with pytest.raises(Problem) as raised:
            await saving
        assert raised.value.kind == {
            "quota": "storage_limit_exceeded",
            "bound": "request_too_large",
        }.get(failure, "invalid_request")
    assert objects_in(tmp_path) == []
    assert await files.use("alice") == StorageUse()
    assert await files.page("alice", limit=10) == []


async def test_delete_removes_the_object_and_the_count(files: Files, tmp_path: Path) -> None:
    saved = await files.save("alice", "a", b"abc", purpose="user_data", limit=None)
    assert len(objects_in(tmp_path)) == 1
    assert not await files.delete("bob", saved.id)
    assert await files.delete("alice", saved.id)
    assert not await files.delete("alice", saved.id)
    assert objects_in(tmp_path) == []
    assert await files.use("alice") == StorageUse()


async def test_delete_while_objects_are_away_is_finished_by_the_sweep(
    files: Files, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = await files.save("alice", "a", b"abc", purpose="user_data", limit=None)

    async def away(self: Objects, key: str) -> None:
        raise StoreUnavailable("objects: away")

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "remove", away)
        assert await files.delete("alice", saved.id)
    assert await files.find("alice", saved.id) is None
    assert await files.use("alice") == StorageUse(3, 0)
    assert await files.sweep() == 0  # it is leased
    clock.now += 3600
    assert await files.sweep() == 1
    assert objects_in(tmp_path) == []
    assert await files.use("alice") == StorageUse()


async def test_expired_file_is_unknown_before_and_after_the_sweep(
    files: Files, tmp_path: Path, clock: Clock
) -> None:
    saved = await files.save(
        "alice", "a", b"abc", purpose="user_data", limit=None, expires_at=clock.now + 10
    )
    clock.now += 10
    assert await files.find("alice", saved.id) is None
    expired = await files.find_expired("alice", saved.id)
    assert expired is not None and expired.id == saved.id
    assert not await files.delete("alice", saved.id)
    assert await files.sweep() == 1
    assert await files.find_expired("alice", saved.id) is None
    assert objects_in(tmp_path) == []
    assert await files.use("alice") == StorageUse()


async def test_lease_lost_during_an_upload_refuses_and_leaves_nothing(
    files: Files, tmp_path: Path, clock: Clock
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield bytes(2 << 20)
        clock.now += 3600
        assert await files.sweep() == 1
        yield b"end"

    with pytest.raises(Problem) as raised:
        await files.save("alice", "a", slow(), purpose="user_data", limit=None)
    assert raised.value.kind == "store_unavailable"
    assert objects_in(tmp_path) == []
    assert await files.use("alice") == StorageUse()


async def test_remove_deletes_what_a_killed_writer_left(tmp_path: Path) -> None:
    objects = Objects(f"file:{tmp_path}/objects")
    async with objects.writing("files/ab/one") as writer:
        await writer.write(b"abc")
    left = tmp_path / "objects/files/ab/one#1"
    other = tmp_path / "objects/files/ab/one2#1"
    left.write_bytes(b"half")
    other.write_bytes(b"half")
    assert [key async for key in objects.all_keys()] == ["files/ab/one"]
    await objects.remove("files/ab/one")
    await objects.remove("files/ab/one")
    assert objects_in(tmp_path) == [other]
    assert oct((tmp_path / "objects").stat().st_mode & 0o777) == "0o700"


async def test_link_is_valid_for_its_time_and_file_alone(
    files: Files, clock: Clock, database: Database, tmp_path: Path
) -> None:
    saved = await files.save("alice", "a.png", PNG, purpose="vision", limit=None)
    other = await files.save("alice", "b.png", PNG, purpose="vision", limit=None)
    link = await files.link(saved, "https://api.example.com/", seconds=60)
    assert link.startswith(f"https://api.example.com/v1/links/{saved.id}?exp=1000060&sig=")
    signature = link.rpartition("=")[2]
    assert "alice" not in link
    replica = Files(
        SqlFileStore(database), Objects(f"file:{tmp_path}"), SqlSecretStore(database), clock=clock
    )
    for one in (files, replica):
        found = await one.find_linked(saved.id, "1000060", signature)
        assert found is not None and found.id == saved.id
    for wrong in (
        (other.id, "1000060", signature),
        (saved.id, "1000061", signature),
        (saved.id, "1000060", signature[:-1]),
        (saved.id, "1000060", "é"),
        (saved.id, "", signature),
        (saved.id, "1" * 30, signature),
        (saved.id, "\u00b2", signature),
        (saved.id, "\u0661" * 9, signature),
    ):
        assert await files.find_linked(*wrong) is None
    clock.now += 60
    assert await files.find_linked(saved.id, "1000060", signature) is None


async def test_writing_many_of_one_owner_wait_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.media.objects.WRITERS", (3, 2))
    objects = Objects(f"file:{tmp_path}/objects")
    begun: list[str] = []
    go_on = asyncio.Event()

    async def write(owner: str, key: str) -> None:
        async with objects.writing(key, owner) as writer:
            begun.append(key)
            await go_on.wait()
            await writer.write(b"x")

    writes = [asyncio.create_task(write("alice", f"a{number}")) for number in range(4)]
    writes.append(asyncio.create_task(write("bob", "b")))
    while len(begun) < 3:
        await asyncio.sleep(0)
    assert sorted(key[0] for key in begun) == ["a", "a", "b"]
    go_on.set()
    await asyncio.gather(*writes)
    assert len(objects_in(tmp_path)) == 5
