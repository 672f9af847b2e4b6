"""The bytes of one file, in memory and on disk."""

import asyncio
import os
import random
import threading
from hashlib import sha256

import pytest

from edge.media.forms import spool as spools
from edge.media.forms.spool import Spool
from middlewares.problem import Problem
from middlewares.uploads import Upload, Uploads

from .wire import deleted_files


@pytest.mark.parametrize("size", [1, 1000, 4096, 4097, 20_000])
async def test_spool_of_any_size_is_read_as_often_as_wanted(size: int) -> None:
    data = random.Random(size).randbytes(size)
    spool = Spool(memory=4096)
    for at in range(0, size, 700):
        await spool.write(data[at : at + 700])
    await spool.finish()
    assert (spool.size, spool.sha256) == (size, sha256(data).digest())
    assert spool.in_memory == (size <= 4096)
    for _ in range(2):
        assert b"".join([each async for each in spool.pieces(size=333)]) == data
    assert await spool.read(5, 50) == data[5:50]
    assert await spool.read(size) == b""
    assert spool.read_now(3, 10) == data[3:13]
    spool.close()


async def test_spool_closed_leaves_no_file_and_reads_nothing() -> None:
    before = deleted_files()
    spool = Spool(memory=10)
    await spool.write(b"x" * 100)
    assert len(deleted_files() - before) == 1
    spool.close()
    spool.close()
    assert deleted_files() == before
    with pytest.raises(ValueError, match="closed"):
        await spool.read()


async def test_spool_closed_during_a_write_closes_its_file_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = deleted_files()
    spool = Spool(memory=10)
    await spool.write(b"x" * 100)
    loop = asyncio.get_running_loop()
    began, go_on = asyncio.Event(), threading.Event()
    read = os.pread

    def slowly(descriptor: int, size: int, start: int) -> bytes:
        loop.call_soon_threadsafe(began.set)
        go_on.wait()
        return read(descriptor, size, start)

    monkeypatch.setattr(os, "pread", slowly)
    reading = asyncio.create_task(spool.read())
    await began.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    spool.close()
    assert len(deleted_files() - before) == 1  # the step still reads it
    go_on.set()
    while deleted_files() != before:
        await asyncio.sleep(0.01)


async def test_spool_counts_only_what_is_in_memory() -> None:
    uploads = Uploads(total=10_000, each=10_000)
    upload = Upload(uploads, "a")
    spool = Spool(upload=upload, memory=1000)
    await spool.write(b"x" * 900)
    assert uploads.held == 900
    await spool.write(b"x" * 200)
    assert uploads.held == 0
    await spool.write(b"x" * 300)
    assert uploads.held == 300
    spool.close()
    assert uploads.held == 0


async def test_spool_without_room_on_the_disk_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spools, "TemporaryFile", full)
    spool = Spool(memory=10)
    with pytest.raises(Problem) as refused:
        await spool.write(b"x" * 100)
    assert refused.value.kind == "upstream_unavailable"
    assert "No space left" in refused.value.reason
    spool.close()


async def test_spool_knows_the_kind_of_a_file_that_came_in_tiny_pieces() -> None:
    spool = Spool()
    for each in b"\x89PNG\r\n\x1a\n" + bytes(40):
        await spool.write(bytes([each]))
    await spool.finish()
    assert spool.kind == "image/png"
