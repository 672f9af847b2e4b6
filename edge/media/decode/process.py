"""One sandbox process, as the worker sees it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from tempfile import TemporaryFile
from typing import Protocol, Self

LARGEST_RESULT = 72 << 20
"""Bytes of a result; the largest one is `MAX_SOUND` seconds of WAV."""
_PIECE = 1 << 20


class Source(Protocol):
    """Media of which the bytes come in pieces, such as a spool."""

    def pieces(self) -> AsyncIterator[bytes]:
        """All bytes, from the first one on."""
        ...


Media = bytes | bytearray | memoryview | Source


PROGRAM = (sys.executable, "-I", "-m", f"{__package__}.child")
"""Isolated: no variables, no user's packages, no modules of the current folder."""


class ResultTooLarge(Exception):
    """The process wrote more than a result may have."""


class SandboxProcess:
    """A process that runs one task. `start` creates it; the owner must `end` it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        pipe: asyncio.ReadTransport,
        out: asyncio.StreamReader,
    ) -> None:
        self._process = process
        self._pipe = pipe
        self._out = out

    @classmethod
    async def start(cls, program: tuple[str, ...], task: bytes, media: Media) -> Self:
        """Start `program` with an encoded task as its argument.

        Raises OSError, and what reading `media` raises.
        """
        descriptor = await _file_of(media)
        try:
            # Not by the event loop: uvloop forks, which takes 40 ms in a process of 500 MB.
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - 0.3 ms; our own module
                (*program, task.hex()),
                stdin=descriptor,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        assert process.stdout is not None
        loop = asyncio.get_running_loop()
        out = asyncio.StreamReader(_PIECE, loop)
        try:
            pipe, _ = await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(out, loop=loop), process.stdout
            )
        except BaseException:
            process.kill()
            process.wait()
            process.stdout.close()
            raise
        return cls(process, pipe, out)

    async def result(self) -> bytes:
        """What the process writes; b"" if it ended without a result. Raises ResultTooLarge."""
        parts, size = [], 0
        while part := await self._out.read(_PIECE):
            parts.append(part)
            size += len(part)
            if size > LARGEST_RESULT:
                raise ResultTooLarge
        return b"".join(parts)

    async def end(self) -> str:
        """Kill the process group if it runs; return how it ended, for the log."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._pipe.close()  # its output is not read any more
        return f"status {await asyncio.to_thread(self._process.wait)}"


async def _file_of(media: Media) -> int:
    """A descriptor of a nameless file with the bytes of `media`; the caller closes it."""
    descriptor = _nameless_file()
    try:
        async for piece in _pieces(media):
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left[:_PIECE]) :]
                await asyncio.sleep(0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("media")
    with TemporaryFile() as file:
        return os.dup(file.fileno())


async def _pieces(media: Media) -> AsyncIterator[bytes | bytearray | memoryview]:
    if isinstance(media, bytes | bytearray | memoryview):
        yield media
    else:
        async for piece in media.pieces():
            yield piece
