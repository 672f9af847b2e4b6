"""Periodic removal of expired files, and of what processes that died left of files."""

from collections.abc import Awaitable, Callable, Sequence
from secrets import token_hex
from typing import Any

from middlewares.stores.periodic_sweep import PeriodicSweep

from .library import Files


class FileSweeper(PeriodicSweep):
    """Sweeps files. Any number may share a store: one of them sweeps at a time.

    more: further sweeps, which return how much they removed. timing: see `PeriodicSweep`.
    `swept` counts removed files; `stored` is what all owners had at the last sweep of this one, in
    bytes.
    """

    def __init__(
        self,
        files: Files,
        *,
        more: Sequence[Callable[[], Awaitable[int]]] = (),
        period: float = 300.0,
        **timing: Any,
    ) -> None:
        super().__init__("sweep files", "files are swept again", period=period, **timing)
        self._sweeps = (*more, files.sweep)
        self._files = files
        self._holder = token_hex(8)
        self.swept = 0
        self.stored = 0

    async def sweep(self) -> None:
        """Sweep once, unless another process does. Raises StoreUnavailable."""
        if await self._files.take_sweep(self._holder, 2 * self.period):
            for sweep in self._sweeps:
                self.swept += await sweep()
            self.stored = (await self._files.total()).total
        else:
            self.stored = 0
