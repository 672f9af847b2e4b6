"""How many clients run, and who waits for one."""

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
_STALE = 300.0
"""Seconds after which a client that nobody wanted is ended."""


class ProcessPool:
    """Clients: those at work, those started ahead of need, those that are ending.

    processes: most of them all together.
    waiting: most requests that wait for one.
    spare: how many are started ahead, within `processes`, once there has been a request.
    """

    def __init__(self, program: Program, *, processes: int, waiting: int, spare: int) -> None:
        self._program = program
        self._most = processes
        self._most_waiting = waiting
        self._most_spare = spare
        self._running: set[Process] = set()
        self._ending: set[Process] = set()
        self._spare: deque[Process] = deque()
        self._starting = 0
        self._granted = 0
        """Places of requests that have waited and do not know yet that it is their turn."""
        self._line: deque[asyncio.Future[None]] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._folder: HeldFolder | None = None
        self._taken = 0.0
        self._ageing: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self) -> Process:
        """A client that has been told nothing. Give it back with `release`.

        Raises ConnectFailed when none can be started, or too many wait already.
        """
        if self._closed:
            raise ConnectFailed("closed")
        if self._line or self._free() < 1:
            await self._wait()
        self._taken = asyncio.get_running_loop().time()
        process = self._started()
        if process is None:
            starting = self._start()
            try:
                process = await asyncio.shield(starting)
            except asyncio.CancelledError:
                starting.add_done_callback(self._keep)
                raise
        self._prepare()
        return process

    def _free(self) -> int:
        """Places for requests; one with a spare client in it is free."""
        used = len(self._running) - len(self._spare) + self._starting
        return self._most - used - self._granted

    async def _wait(self) -> None:
        """Return when a place is free, which the caller has to fill before it awaits anything."""
        if len(self._line) >= self._most_waiting:
            raise ConnectFailed(f"{self._most} clients are at work and {len(self._line)} wait")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with suppress(ValueError):  # `_next` has passed over it
                    self._line.remove(turn)
            elif turn.exception() is None:
                self._granted -= 1
                self._next()
            raise
        self._granted -= 1

    def _next(self) -> None:
        while self._line and self._free() > 0:
            turn = self._line.popleft()
            if not turn.done():
                self._granted += 1
                turn.set_result(None)

    def _started(self) -> Process | None:
        while self._spare:
            process = self._spare.popleft()
            if not process.over:
                process.ahead = True
                return process
            self.release(process)
        return None

    def _start(self) -> asyncio.Task[Process]:
        self._starting += 1
        return self._run(self._launch())

    async def _launch(self) -> Process:
        try:
            process = await Process.start(self._program, self._private())
            self._running.add(process)
        except OSError as error:  # no room or no right to make a folder
            raise ConnectFailed(f"no private folder: {error}") from None
        finally:
            self._starting -= 1
            self._next()
        if self._closed:
            self.release(process)
            raise ConnectFailed("closed")
        return process

    def _private(self) -> Path:
        """A folder of this pool alone (mode 0700); another when something has tidied it up."""
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

    def _prepare(self) -> None:
        """Start a client ahead of need, where there is room and requests have come of late."""
        wanted = asyncio.get_running_loop().time() < self._taken + _STALE
        missing = self._most_spare - len(self._spare) - self._starting
        room = self._free() - len(self._spare)
        if wanted and missing > 0 and room > 0 and not self._line and not self._closed:
            self._start().add_done_callback(self._keep)

    def _keep(self, starting: asyncio.Task[Process]) -> None:
        """Have a client that nobody waits for."""
        if starting.cancelled() or starting.exception() is not None:
            return  # whoever needs one will be told
        process = starting.result()
        if len(self._spare) >= self._most_spare:
            return self.release(process)
        self._spare.append(process)
        self._next()
        self._watch_age()

    def _watch_age(self) -> None:
        if self._ageing is None and self._spare:
            loop = asyncio.get_running_loop()
            self._ageing = loop.call_at(self._spare[0].born + _STALE, self._expire)

    def _expire(self) -> None:
        self._ageing = None
        due = asyncio.get_running_loop().time() - _STALE
        while self._spare and self._spare[0].born <= due:
            self.release(self._spare.popleft())
        self._watch_age()

    def release(self, process: Process) -> None:
        """End a client; its place is free when it is gone. Never waits."""
        if process in self._running and process not in self._ending:
            self._ending.add(process)
            self._run(self._end(process))

    async def _end(self, process: Process) -> None:
        try:
            await process.end()
        finally:
            self._running.discard(process)
            self._ending.discard(process)
            self._next()
            self._prepare()

    def _run(self, work: Coroutine[None, None, _T]) -> asyncio.Task[_T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def aclose(self) -> None:
        """End every client, and refuse requests from now on."""
        self._closed = True
        if self._ageing is not None:
            self._ageing.cancel()
        self._spare.clear()
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_exception(ConnectFailed("closed"))
        for process in list(self._running):
            self.release(process)
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.close)
            self._folder = None
