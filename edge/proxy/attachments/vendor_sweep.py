"""Periodic deletion of copies at vendors whose files are gone."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from secrets import SystemRandom

from edge.upstreams.provider import Provider
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.outage import Outage

from .vendor_files import VendorFiles

_log = logging.getLogger(__name__)
_random = SystemRandom().random


class VendorFileSweeper:
    """A task that deletes copies. Any number may share a store: a deletion can be repeated.

    period: seconds between two sweeps, each up to a half more or less. providers: of the newest
    configuration, set by the application.

    `start` once, `aclose` at the end.
    """

    def __init__(
        self,
        vendor_files: VendorFiles,
        *,
        period: float = 300.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = _random,
    ) -> None:
        self._vendor_files = vendor_files
        self._period = period
        self._sleep = sleep
        self._random = random
        self._outage = Outage(_log, "cannot sweep copies of files", "copies are swept again")
        self._task: asyncio.Task[None] | None = None
        self.providers: Mapping[str, Provider] = {}

    def start(self) -> None:
        """Start the task; the first sweep comes within one period."""
        self._task = asyncio.create_task(self._run(), name="vendor-file-sweeper")

    async def aclose(self) -> None:
        """Stop the task. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        await self._sleep(self._period * self._random())
        while True:
            try:
                await self._vendor_files.sweep(self.providers)
            except StoreUnavailable as raised:
                self._outage.failed(raised)
            except Exception:
                _log.exception("cannot sweep copies of files")
            else:
                self._outage.worked()
            await self._sleep(self._period * (0.5 + self._random()))
