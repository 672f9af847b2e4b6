"""One running client: lines in, lines out, and its end."""

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
"""Bytes taken at once; twice as many wait at most while nobody takes them."""
_LINE = 8 << 20
"""Longest line: it repeats whole blocks of an answer besides its pieces."""
GRACE = 2.0
"""Seconds between SIGTERM, on which the client tidies up, and SIGKILL."""
_EXIT_WAIT = 0.5
"""Seconds in which a client that has closed its output is to tell how it ended."""
_STDERR_CHARS = 2000
"""Characters of its standard error that are kept, from the end."""


class _Pipes(SubprocessStreamProtocol):
    """`gone` is set when the process is. `Process.wait` waits for the end of its output too, which
    does not come as long as nobody reads it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(_READ, loop)
        self.gone = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.gone.set()


class Process:
    """A client in a process group of its own.

    Started with `start`; whoever has it must `end` it. Its reads are one caller's at a time.
    born: loop time. prewarmed: whether it was started before anybody needed it.
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
        """folder: private; the client runs in `work`, and its scratch files are in `tmp`.

        Raises ConnectFailed.
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
            raise ConnectFailed(f"{program.command} does not start: {error}") from None
        return cls(transport, pipes, scratch)

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        return self._gone.is_set()

    async def _read_stderr(self, errors: asyncio.StreamReader) -> None:
        while data := await errors.read(_READ):
            self._stderr = (self._stderr + data.decode("utf-8", "replace"))[-_STDERR_CHARS:]

    async def write(self, lines: bytes) -> None:
        """Lines for it, each with its end. Raises Disconnected when it has gone."""
        try:
            self._in.write(lines)
            await self._in.drain()
        except (OSError, RuntimeError):  # uvloop raises the latter for a pipe it has closed
            raise Disconnected(await self.exit_reason(), sent=True) from None

    async def read(self) -> list[bytes]:
        """Whole lines, at least one; none at its end. Raises Malformed over an endless line."""
        while True:
            data = await self._out.read(_READ)
            if not data:
                return []  # what it was cut off in is no line
            first, *later = data.split(b"\n")
            self._rest += first
            if len(self._rest) > _LINE:
                raise Malformed(f"it wrote a line of more than {_LINE} bytes", sent=True)
            if later:
                lines = [bytes(self._rest), *later]
                self._rest = bytearray(lines.pop())
                return lines

    async def exit_reason(self) -> str:
        """How it ended, as far as can be told soon, for the log."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_WAIT):
                await self._gone.wait()
                await asyncio.shield(self._stderr_reader)
        status = self._transport.get_returncode()
        ended = "it closed its output" if status is None else f"it ended with status {status}"
        said = " ".join(self._stderr.split())
        return f"{ended}, saying: {said or 'nothing'}"

    async def end(self) -> None:
        """End its group; return when it is gone."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._gone.wait(), GRACE)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self._gone.wait()
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # what it may have left in its group
            self._stderr_reader.cancel()
            self._transport.close()  # nobody reads on to the end of its output
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if not self.over:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
