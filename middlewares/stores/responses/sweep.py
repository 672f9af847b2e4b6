"""Periodic deletion of expired responses."""

from collections.abc import Callable
from time import time
from typing import Any

from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.periodic_sweep import PeriodicSweep

from .base import ResponseStore


class Sweeper(PeriodicSweep):
    """Deletes expired responses. Several may share a store.

    Expired responses are never returned, deleted or not; this frees their space.

    grace: seconds an expired response stays in the store: longer than a request may take, since
        one in flight may continue it.
    keep: seconds that a response is kept; repairs expiry times after a clock was set back. None
        leaves them.
    timing: see `PeriodicSweep`.
    """

    def __init__(
        self,
        store: ResponseStore,
        *,
        period: float = 600.0,
        grace: float = 7200.0,
        keep: float | None = None,
        clock: Callable[[], float] = time,
        **timing: Any,
    ) -> None:
        super().__init__(
            "delete expired responses",
            "expired responses are deleted again",
            period=period,
            prompt=False,
            **timing,
        )
        if grace <= 0:
            raise ValueError(f"grace {grace}: expected more than 0")
        self._store = store
        self.grace = grace
        self._keep = keep
        self._clock = clock

    async def sweep(self) -> None:
        """Delete what expired `grace` seconds ago. Raises StoreUnavailable."""
        try:
            if self._keep is not None:
                await self._store.redate(self._clock(), self._keep)
            await self._store.purge(self._clock() - self.grace)
        except ValueError as raised:  # a request just continued a row that was to be deleted
            raise StoreUnavailable(str(raised)) from raised
