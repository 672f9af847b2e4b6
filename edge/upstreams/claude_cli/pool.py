"""Pool of client processes: limits, a queue of requests, and prewarmed processes."""

import asyncio
from collections import deque
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from edge.runtime.run_folder import HeldFolder
from edge.upstreams import ConnectFailed

from .process import Process
from .program import Program

_T = TypeVar("_T")
_FOLDERS = ("work", "tmp")
_SPARE_TTL = 300.0
"""Seconds after which an unused prewarmed client is ended."""


class ProcessPool:
    """Client processes that are busy, prewarmed or ending.

    processes: limit of all processes. waiting: limit of queued requests.
    prewarm: processes started ahead of need, within `processes`, after the first request.
    """

    def __init__(self, program: Program, *, processes: int, waiting: int, prewarm: int) -> None:
        self._program = program
        self._max_processes = processes
        self._max_waiting = waiting
        self._prewarmed = prewarm
        self._running: set[Process] = set()
        self._ending: set[Process] = set()
        self._spare: deque[Process] = deque()
        self._starting = 0
        self._promised = 0
        """Slots assigned to queued requests that have not resumed yet."""
        self._queue: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._folder: HeldFolder | None = None
        self._last_take = 0.0
        self._expiry: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self) -> Process:
        """A client without input. The caller must `release` it.

        Raises ConnectFailed when none can be started, or when the queue is full.
        """
        if self._closed:
            raise ConnectFailed("the upstream is closed")
        if self._queue or self.free < 1:
            await self._wait()
        self._last_take = asyncio.get_running_loop().time()
        process = self._take_spare()
        if process is None:
            starting = self._start()
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                starting.add_done_callback(self._add_spare)
                raise
        self._prewarm()
        return process

    @property
    def folder(self) -> Path | None:
        """The private folder that clients work in, once there is one."""
        return None if self._folder is None else self._folder.path

    @property
    def spare(self) -> int:
        """Prewarmed clients."""
        return len(self._spare)

    @property
    def busy(self) -> int:
        """Clients with a request, those that are being started and those that end."""
        return len(self._running) - len(self._spare) + self._starting

    @property
    def waiting(self) -> int:
        """Requests in the queue for a client."""
        return len(self._queue)

    @property
    def free(self) -> int:
        """Free slots; a slot with a prewarmed client is free."""
        return self._max_processes - self.busy - self._promised

    async def _wait(self) -> None:
        """Wait for a free slot, which the caller must use before its next await."""
        if len(self._queue) >= self._max_waiting:
            raise ConnectFailed(
                f"all {self._max_processes} clients are busy and {len(self._queue)} requests wait"
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # `_wake_next` has removed it
                    self._queue.remove(turn)
            elif turn.exception() is None:
                self._promised -= 1
                self._wake_next()
            raise
        self._promised -= 1

    def _wake_next(self) -> None:
        while self._queue and self.free > 0:
            turn = self._queue.popleft()
            if not turn.done():
                self._promised += 1
                turn.set_result(None)

    def _take_spare(self) -> Process | None:
        while self._spare:
            process = self._spare.popleft()
            if not process.over:
                process.prewarmed = True
                return process
            self.release(process)
        return None

    def _start(self) -> asyncio.Task[Process]:
        self._starting += 1
        return self._run(self._launch())

    async def _launch(self) -> Process:
        try:
            process = await Process.start(self._program, self._private_folder())
            self._running.add(process)
        except OSError as error:  # disk full or no permission
            raise ConnectFailed(f"cannot create a private folder: {error}") from None
        finally:
            self._starting -= 1
            self._wake_next()
        if self._closed:
            self.release(process)
            raise ConnectFailed("the upstream is closed")
        return process

    def _private_folder(self) -> Path:
        """The folder of this pool (mode 0700); a new one if it was deleted."""
        folder = self._folder
        if folder is None or not all((folder.path / name).is_dir() for name in _FOLDERS):
            if folder is not None:
                self._folder = None
                folder.close()
            folder = HeldFolder("claude")
            for name in _FOLDERS:
                (folder.path / name).mkdir(mode=0o700)
            self._folder = folder
        return folder.path

    def _prewarm(self) -> None:
        """Start a client ahead of need if a slot is free and a request came recently."""
        wanted = asyncio.get_running_loop().time() < self._last_take + _SPARE_TTL
        missing = self._prewarmed - len(self._spare) - self._starting
        room = self.free - len(self._spare)
        if wanted and missing > 0 and room > 0 and not self._queue and not self._closed:
            self._start().add_done_callback(self._add_spare)

    def _add_spare(self, starting: asyncio.Task[Process]) -> None:
        """Keep a started client as prewarmed."""
        if starting.cancelled() or starting.exception() is not None:
            return  # the next request gets the error
        process = starting.result()
        if len(self._spare) >= self._prewarmed:
            return self.release(process)
        self._spare.append(process)
        self._wake_next()
        self._schedule_expiry()

    def _schedule_expiry(self) -> None:
        if self._expiry is None and self._spare:
            loop = asyncio.get_running_loop()
            self._expiry = loop.call_at(self._spare[0].born + _SPARE_TTL, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        due = asyncio.get_running_loop().time() - _SPARE_TTL
        while self._spare and self._spare[0].born <= due:
            self.release(self._spare.popleft())
        self._schedule_expiry()

    def release(self, process: Process) -> None:
        """End a client; its slot is free when the process is gone. Never waits."""
        if process in self._running and process not in self._ending:
            self._ending.add(process)
            self._run(self._end(process))

    async def _end(self, process: Process) -> None:
        try:
            await process.end()
        finally:
            self._running.discard(process)
            self._ending.discard(process)
            self._wake_next()
            self._prewarm()

    def _run(self, work: Coroutine[None, None, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End every client and refuse new requests."""
        self._closed = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._spare.clear()
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(ConnectFailed("the upstream is closed"))
        for process in list(self._running):
            self.release(process)
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.close)
            self._folder = None
