"""Periodic deletion of copies at vendors whose files are gone."""

from collections.abc import Mapping
from typing import Any

from edge.upstreams.provider import Provider
from middlewares.stores.periodic_sweep import PeriodicSweep

from .vendor_files import VendorFiles


class VendorFileSweeper(PeriodicSweep):
    """Deletes copies. Any number may share a store: a deletion can be repeated.

    timing: see `PeriodicSweep`. providers: of the newest configuration, set by the application.
    """

    def __init__(self, vendor_files: VendorFiles, *, period: float = 300.0, **timing: Any) -> None:
        super().__init__("sweep copies of files", "copies are swept again", period=period, **timing)
        self._vendor_files = vendor_files
        self.providers: Mapping[str, Provider] = {}

    async def sweep(self) -> None:
        """Delete the copies that are due. Raises StoreUnavailable."""
        await self._vendor_files.sweep(self.providers)
