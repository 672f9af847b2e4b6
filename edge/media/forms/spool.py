"""The bytes of one file: in memory while they are few, then in an unnamed temporary file.

Theory of operation. A spool is written once and then read as often as needed: every attempt at an
upstream sends the file from its beginning. Writing, hashing and reading of the temporary file run
in threads of this module, so that a slow disk does not stop the event loop. A step of such a thread
may outlive its task, which was cancelled; the temporary file is closed after the last step, so that
no step writes to a descriptor that has meanwhile become another file.
"""

import os
from asyncio import get_running_loop
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from tempfile import TemporaryFile
from threading import Lock
from typing import Any, TypeVar

from edge.media.kinds import HEAD, OTHER, kind_of
from middlewares.problem import Problem
from middlewares.uploads import Upload

T = TypeVar("T")

MEMORY = 128 << 10
"""Bytes that are held in memory; a larger file is on disk, except for what is being written."""
PIECE = 64 << 10
"""Bytes of one read, and of one write to the disk at least."""
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="spool")
"""Few: each has memory of its own, and reads and writes are short."""


class Spool:
    """The bytes of one file.

    upload: counts the bytes in memory; its creator closes it.
    memory: bytes that may be held in memory.
    """

    __slots__ = (
        "_buffer",
        "_closed",
        "_counted",
        "_digest",
        "_file",
        "_hash",
        "_head",
        "_lock",
        "_memory",
        "_steps",
        "_upload",
        "kind",
        "size",
    )

    def __init__(self, *, upload: Upload | None = None, memory: int = MEMORY) -> None:
        self.size = 0
        """Bytes written."""
        self.kind = OTHER
        """Media type by the first bytes (`kind_of`), set by `finish`."""
        self._upload = upload
        self._memory = memory
        self._buffer = bytearray()
        self._counted = 0
        self._head = b""
        self._hash = sha256()
        self._digest = b""
        self._file: Any = None
        self._lock = Lock()
        self._steps = 0
        self._closed = False

    async def write(self, data: bytes) -> None:
        """Append `data`. Raises Problem where there is no room in memory or on the disk."""
        self._check_open()
        if self._upload is not None:
            self._upload.add(len(data))
        self._counted += len(data)
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        self.size += len(data)
        if self._file is not None and not self._buffer and len(data) >= PIECE:
            await self._store(data)
            return
        self._buffer += data
        if len(self._buffer) > (self._memory if self._file is None else PIECE):
            await self._flush()

    async def finish(self) -> None:
        """End the writing: sets `kind` and `sha256`."""
        self._check_open()
        if self._file is not None:
            await self._flush()
        else:
            self._hash.update(self._buffer)
        self._digest = self._hash.digest()
        self.kind = kind_of(self._head)
        self._head = b""

    @property
    def sha256(self) -> bytes:
        """The digest of all bytes. Raises ValueError before `finish`."""
        if not self._digest:
            raise ValueError("the file is not complete")
        return self._digest

    @property
    def in_memory(self) -> bool:
        """Whether all bytes are held in memory."""
        return self._file is None

    def read_now(self, start: int, size: int) -> bytes:
        """`size` bytes from `start`, fewer at the end. It blocks: for few bytes, or in threads."""
        if self._file is None:
            self._check_open()
            return bytes(memoryview(self._buffer)[start : start + size])
        return self._guarded(partial(_read, self._file, start, size))

    async def read(self, start: int = 0, end: int | None = None) -> bytes:
        """The bytes from `start` to `end`, all of them in memory."""
        size = max(0, (self.size if end is None else min(end, self.size)) - start)
        if self._file is None:
            return self.read_now(start, size)
        return await self._in_thread(partial(_read, self._file, start, size))

    async def pieces(
        self, start: int = 0, end: int | None = None, *, size: int = PIECE
    ) -> AsyncIterator[bytes]:
        """The bytes from `start` to `end`, in pieces of at most `size`."""
        end = self.size if end is None else min(end, self.size)
        while start < end:
            piece = await self.read(start, min(start + size, end))
            if not piece:
                raise OSError(f"the temporary file ends at byte {start} of {self.size}")
            yield piece
            start += len(piece)

    def close(self) -> None:
        """Delete the bytes. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._steps and self._file is not None:
                self._file.close()
        self._release(self._counted)
        self._buffer = bytearray()

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("the file is closed")

    async def _flush(self) -> None:
        """Move what is in memory to the temporary file."""
        data, self._buffer = self._buffer, bytearray()
        await self._store(data)

    async def _store(self, data: bytes | bytearray) -> None:
        try:
            await self._in_thread(partial(self._append, data))
        except OSError as error:
            raise Problem(
                "upstream_unavailable", reason=f"the temporary folder takes no file: {error}"
            ) from None
        self._release(len(data))

    def _append(self, data: bytes | bytearray) -> None:
        if self._file is None:
            self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - `close` closes it
        self._hash.update(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _release(self, size: int) -> None:
        size = min(size, self._counted)
        self._counted -= size
        if self._upload is not None:
            self._upload.remove(size)

    async def _in_thread(self, step: Callable[[], T]) -> T:
        return await get_running_loop().run_in_executor(_THREADS, self._guarded, step)

    def _guarded(self, step: Callable[[], T]) -> T:
        """Run `step`; the file is closed after it at the earliest."""
        with self._lock:
            self._check_open()
            self._steps += 1
        try:
            return step()
        finally:
            with self._lock:
                self._steps -= 1
                if self._closed and not self._steps and self._file is not None:
                    self._file.close()


def _read(file: Any, start: int, size: int) -> bytes:
    parts = []
    while size:
        part = os.pread(file.fileno(), size, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
