"""Periodic removal of expired files, and of what processes that died left of files."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from secrets import SystemRandom, token_hex

from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.outage import Outage

from .library import Files

_log = logging.getLogger(__name__)
_random = SystemRandom().random


class FileSweeper:
    """A task that sweeps files. Any number may share a store: one of them sweeps at a time.

    more: further sweeps, which return how much they removed.
    period: seconds between two sweeps, each up to a half more or less. `swept` counts removed
    files; `stored` is what all owners had at the last sweep of this one, in bytes.

    `start` once, `aclose` at the end.
    """

    def __init__(
        self,
        files: Files,
        *,
        more: Sequence[Callable[[], Awaitable[int]]] = (),
        period: float = 300.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = _random,
    ) -> None:
        if period <= 0:
            raise ValueError(f"period {period}: expected more than 0")
        self._sweeps = (*more, files.sweep)
        self._files = files
        self._period = period
        self._sleep = sleep
        self._random = random
        self._holder = token_hex(8)
        self._outage = Outage(_log, "cannot sweep files", "files are swept again")
        self._task: asyncio.Task[None] | None = None
        self.swept = 0
        self.stored = 0

    def start(self) -> None:
        """Start the task; the first sweep comes within one period."""
        if self._task is not None:
            raise RuntimeError("FileSweeper.start was called twice")
        self._task = asyncio.create_task(self._run(), name="file-sweeper")

    async def aclose(self) -> None:
        """Stop the task, also during a sweep. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        await self._sleep(self._period * self._random())
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as raised:
                self._outage.failed(raised)
            except Exception:
                _log.exception("cannot sweep files")
            else:
                self._outage.worked()
            await self._sleep(self._period * (0.5 + self._random()))

    async def sweep(self) -> None:
        """Sweep once, unless another process does. Raises StoreUnavailable."""
        if await self._files.take_sweep(self._holder, 2 * self._period):
            for sweep in self._sweeps:
                self.swept += await sweep()
            self.stored = (await self._files.total()).total
        else:
            self.stored = 0
