"""One sandbox process, as the worker sees it."""

import asyncio
import os
import signal
import subprocess
import sys
from asyncio.subprocess import SubprocessStreamProtocol
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


class _Pipes(SubprocessStreamProtocol):
    """Sets `gone` when the process has exited, whether or not its output was read."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_PIECE, loop)
        self.gone = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.gone.set()


class SandboxProcess:
    """A process that runs one task. `start` creates it; the owner must `end` it."""

    def __init__(self, transport: asyncio.SubprocessTransport, pipes: _Pipes) -> None:
        assert pipes.stdout is not None
        self._transport = transport
        self._out = pipes.stdout
        self._gone = pipes.gone

    @classmethod
    async def start(cls, program: tuple[str, ...], task: bytes, media: Media) -> Self:
        """Start `program` with an encoded task as its argument.

        Raises OSError, and what reading `media` raises.
        """
        loop = asyncio.get_running_loop()
        descriptor = await _file_of(media)
        try:
            transport, pipes = await loop.subprocess_exec(
                lambda: _Pipes(loop),
                *program,
                task.hex(),
                stdin=descriptor,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
            )
        finally:
            os.close(descriptor)
        return cls(transport, pipes)

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
        if not self._gone.is_set():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.get_pid(), signal.SIGKILL)
            await self._gone.wait()
        status = self._transport.get_returncode()
        self._transport.close()  # its output is not read any more
        return f"status {status}"


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
