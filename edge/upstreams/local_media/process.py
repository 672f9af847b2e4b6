"""The process of local models, as its worker sees it."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from edge.upstreams import ConnectFailed, Disconnected

from .frames import AnyFrame, FrameReader, Ready, encode

PROGRAM = (sys.executable, "-I", "-m", "edge.media.local_models")
_ENVIRONMENT = {"HF_HUB_OFFLINE": "1"}
"""Nothing is downloaded at run time."""
_READ = 256 << 10
READY = 60.0
"""Seconds until the program is ready; it loads its models later."""
ENDING = 5.0
"""Seconds from the closed socket until the program is killed."""

OnFrame = Callable[[AnyFrame], None]


class ModelProcess:
    """A running program. `start` creates it; the owner must `end` it.

    on_frame: gets each frame. on_end: is called once, when no more frames come.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        self.over = False
        self._process = process
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()
        self._task: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls, program: tuple[str, ...], on_frame: OnFrame, on_end: Callable[[], None]
    ) -> Self:
        """Start the program and wait until it is ready. Raises ConnectFailed."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            # Not by the event loop: uvloop forks, which takes 40 ms in a process of 500 MB.
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - 0.3 ms; our own module
                program,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise ConnectFailed(f"cannot start the local models: {error}") from None
        finally:
            theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        started = cls(process, reader, writer)
        try:
            async with asyncio.timeout(READY):
                first = await started._first_frame()
        except TimeoutError:
            await started.end()
            raise ConnectFailed(f"the local models were not ready after {READY:g} s") from None
        except BaseException:
            started._kill()
            raise
        if not isinstance(first, Ready):
            ended = await started.end()
            raise ConnectFailed(f"the local models did not start; {ended}")
        started._task = asyncio.create_task(started._pump(on_frame, on_end))
        return started

    async def _first_frame(self) -> AnyFrame | None:
        while data := await self._reader.read(_READ):
            for frame in self._frames.read(data):
                return frame
        return None

    async def _pump(self, on_frame: OnFrame, on_end: Callable[[], None]) -> None:
        try:
            while data := await self._reader.read(_READ):
                for frame in self._frames.read(data):
                    on_frame(frame)
        except (OSError, ValueError):
            pass
        finally:
            self.over = True
            on_end()

    async def send(self, frame: AnyFrame) -> None:
        """Send a frame; waits while the program does not read. Raises Disconnected."""
        self.post(frame)
        try:
            await self._writer.drain()
        except OSError:
            raise Disconnected("the local models ended", sent=True) from None

    def post(self, frame: AnyFrame) -> None:
        """Send a small frame without waiting. Raises Disconnected."""
        if self.over or self._writer.is_closing():
            raise Disconnected("the local models ended", sent=True)
        self._writer.write(encode(frame))

    async def end(self) -> str:
        """Close the socket, on which the program ends; return how it ended."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._writer.close()
        status = await asyncio.to_thread(self._wait)
        return f"it ended with status {status}"

    def _wait(self) -> int:
        try:
            return self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _kill(self) -> None:
        self._writer.close()
        self._process.kill()
        self._process.wait()
