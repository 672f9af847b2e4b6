"""One client process: write lines, read lines, end it."""

import asyncio
import os
import shutil
import signal
import tempfile
from asyncio.subprocess import SubprocessStreamProtocol
from contextlib import suppress
from pathlib import Path
from typing import Self

from edge.upstreams import ConnectFailed, Disconnected, Malformed

from .program import Program

_READ = 64 << 10
"""Bytes per read; at most twice as many are buffered."""
_LINE = 8 << 20
"""Bytes of the longest line, which may repeat whole blocks of an answer."""
GRACE = 2.0
"""Seconds between SIGTERM, on which the client cleans up, and SIGKILL."""
_EXIT_WAIT = 0.5
"""Seconds to wait for the exit status of a client that has closed its output."""
_STDERR_CHARS = 2000
"""Last characters of standard error that are kept."""


class _Pipes(SubprocessStreamProtocol):
    """Sets `gone` when the process has exited. `Process.wait` would also wait for the end of its
    output, which needs a reader."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_READ, loop)
        self.gone = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.gone.set()


class Process:
    """A client in its own process group.

    `start` creates it; the owner must `end` it. One reader at a time.
    born: loop time of the start. prewarmed: whether it was started before a request needed it.
    """

    def __init__(
        self, transport: asyncio.SubprocessTransport, pipes: _Pipes, scratch: Path
    ) -> None:
        assert pipes.stdin is not None
        assert pipes.stdout is not None
        assert pipes.stderr is not None
        self.born = asyncio.get_running_loop().time()
        self.prewarmed = False
        self.pid = transport.get_pid()
        self._transport = transport
        self._scratch = scratch
        self._gone = pipes.gone
        self._in = pipes.stdin
        self._out = pipes.stdout
        self._rest = bytearray()
        self._stderr = ""
        self._stderr_reader = asyncio.create_task(self._read_stderr(pipes.stderr))

    @classmethod
    async def start(cls, program: Program, folder: Path) -> Self:
        """Start a client. Raises ConnectFailed.

        folder: private; the client runs in `work` and has its temporary files in `tmp`.
        """
        loop = asyncio.get_running_loop()
        argv = program.argv()
        scratch = Path(tempfile.mkdtemp(dir=folder / "tmp"))
        try:
            transport, pipes = await loop.subprocess_exec(
                lambda: _Pipes(loop),
                *argv,
                cwd=folder / "work",
                env=program.environ(scratch),
                start_new_session=True,
            )
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise ConnectFailed(f"cannot start {program.command}: {error}") from None
        return cls(transport, pipes, scratch)

    @property
    def over(self) -> bool:
        """Whether the process has exited."""
        return self._gone.is_set()

    async def _read_stderr(self, errors: asyncio.StreamReader) -> None:
        while data := await errors.read(_READ):
            self._stderr = (self._stderr + data.decode("utf-8", "replace"))[-_STDERR_CHARS:]

    async def write(self, lines: bytes) -> None:
        """Write complete lines. Raises Disconnected when the process has exited."""
        try:
            self._in.write(lines)
            await self._in.drain()
        except (OSError, RuntimeError):  # uvloop raises RuntimeError for a closed pipe
            raise Disconnected(await self.exit_reason(), sent=True) from None

    async def read(self) -> list[bytes]:
        """Complete lines; [] at the end. Raises Malformed for a line that is too long."""
        while True:
            data = await self._out.read(_READ)
            if not data:
                return []  # an incomplete line is dropped
            first, *later = data.split(b"\n")
            self._rest += first
            if len(self._rest) > _LINE:
                raise Malformed(f"it wrote a line of more than {_LINE} bytes", sent=True)
            if later:
                lines = [bytes(self._rest), *later]
                self._rest = bytearray(lines.pop())
                return lines

    async def exit_reason(self) -> str:
        """How the process ended, with its standard error, for the log."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_WAIT):
                await self._gone.wait()
                await asyncio.shield(self._stderr_reader)
        status = self._transport.get_returncode()
        ended = "it closed its output" if status is None else f"it ended with status {status}"
        said = " ".join(self._stderr.split())
        return f"{ended}; standard error: {said or 'empty'}"

    async def end(self) -> None:
        """End the process group; return when the process has exited."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._gone.wait(), GRACE)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._gone.wait()
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # remaining processes of the group
            self._stderr_reader.cancel()
            self._transport.close()  # its output is not read any more
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if not self.over:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
