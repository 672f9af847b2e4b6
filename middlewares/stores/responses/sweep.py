"""Periodic deletion of expired responses."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from secrets import SystemRandom
from time import time

from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.outage import Outage

from .base import ResponseStore

_log = logging.getLogger(__name__)
_random = SystemRandom().random


class Sweeper:
    """A task that deletes expired responses. Several may share a store.

    Expired responses are never returned, deleted or not; this frees their space.

    period: seconds between two sweeps, each up to a half more or less, so that the workers of a
        gateway do not sweep at the same time.
    grace: seconds an expired response stays in the store: longer than a request may take, since
        one in flight may continue it.
    keep: seconds that a response is kept; repairs expiry times after a clock was set back. None
        leaves them.

    `start` once, `aclose` at the end.
    """

    def __init__(
        self,
        store: ResponseStore,
        *,
        period: float = 600.0,
        grace: float = 7200.0,
        keep: float | None = None,
        clock: Callable[[], float] = time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = _random,
    ) -> None:
        for name, value in (("period", period), ("grace", grace)):
            if value <= 0:
                raise ValueError(f"{name} {value}: expected more than 0")
        self._store = store
        self._period = period
        self.grace = grace
        self._keep = keep
        self._clock = clock
        self._sleep = sleep
        self._random = random
        self._outage = Outage(
            _log,
            "cannot delete expired responses",
            "expired responses are deleted again",
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the task; the first sweep comes after one period."""
        if self._task is not None:
            raise RuntimeError("Sweeper.start was called twice")
        self._task = asyncio.create_task(self._run(), name="response-sweeper")

    async def aclose(self) -> None:
        """Stop the task, also during a sweep. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._sleep(self._period * (0.5 + self._random()))
            try:
                if self._keep is not None:
                    await self._store.redate(self._clock(), self._keep)
                await self._store.purge(self._clock() - self.grace)
            except StoreUnavailable as raised:
                self._outage.failed(raised)
            except ValueError as raised:  # a request just continued a row that was to be deleted
                self._outage.failed(StoreUnavailable(str(raised)))
            except Exception:
                _log.exception("cannot delete expired responses")
            else:
                self._outage.worked()
