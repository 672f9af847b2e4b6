"""A task that sweeps a store again and again."""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from secrets import SystemRandom

from .errors import StoreUnavailable
from .outage import Outage

_log = logging.getLogger(__name__)
_random = SystemRandom().random


class PeriodicSweep(ABC):
    """Calls `sweep` periodically, whatever it raises. Any number may share a store.

    what: the work, for the log: "sweep files". resumed: "files are swept again".
    period: seconds between two sweeps, each up to a half more or less, so that the workers of a
        gateway do not sweep at the same time.
    prompt: whether the first sweep comes within one period, not after about one.

    `start` once, `aclose` at the end.
    """

    def __init__(
        self,
        what: str,
        resumed: str,
        *,
        period: float,
        prompt: bool = True,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = _random,
    ) -> None:
        if period <= 0:
            raise ValueError(f"period {period}: expected more than 0")
        self.period = period
        self._failure = f"cannot {what}"
        self._prompt = prompt
        self._sleep = sleep
        self._random = random
        self._outage = Outage(_log, self._failure, resumed)
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def sweep(self) -> None:
        """Sweep once. Raises StoreUnavailable."""

    def start(self) -> None:
        """Start the task."""
        if self._task is not None:
            raise RuntimeError(f"{type(self).__name__}.start was called twice")
        self._task = asyncio.create_task(self._run(), name=type(self).__name__)

    async def aclose(self) -> None:
        """Stop the task, also during a sweep. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        await self._sleep(self.period * ((0.0 if self._prompt else 0.5) + self._random()))
        while True:
            try:
                await self.sweep()
            except StoreUnavailable as raised:
                self._outage.failed(raised)
            except Exception:
                _log.exception(self._failure)
            else:
                self._outage.worked()
            await self._sleep(self.period * (0.5 + self._random()))
