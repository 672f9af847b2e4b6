"""A task that deletes sessions that have ended."""

from collections.abc import Callable
from time import time

from middlewares.stores.periodic_sweep import PeriodicSweep

from .base import SessionStore

_PERIOD = 3600.0


class SessionSweeper(PeriodicSweep):
    """Deletes the rows of sessions that are over, about once an hour."""

    def __init__(
        self,
        store: SessionStore,
        *,
        period: float = _PERIOD,
        clock: Callable[[], float] = time,
    ) -> None:
        super().__init__("delete old sessions", "old sessions are deleted again", period=period)
        self._store = store
        self._clock = clock

    async def sweep(self) -> None:
        await self._store.purge(self._clock())
