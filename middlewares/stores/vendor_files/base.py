"""Copies of files at vendors: the protocol of their store.

A copy belongs to one file and one account of an upstream. It ends with its file: a sweep takes the
copies whose file is gone (`due`), deletes them at the vendor and then removes their rows.
"""

from typing import Protocol

import msgspec


class VendorFile(msgspec.Struct, frozen=True, kw_only=True):
    """A copy of a file. account: of the upstream, as a digest. vendor_id: id of the file there,
    which no client sees. expires_at: Unix seconds after which the vendor may not have it."""

    account: str
    file_id: str
    vendor_id: str
    expires_at: float


class VendorFileStore(Protocol):
    """Rows of copies. Every method may raise StoreUnavailable."""

    async def find(self, account: str, file_id: str, now: float) -> str | None:
        """The vendor's id of a copy that has not expired."""
        ...

    async def add(self, copy: VendorFile, now: float) -> str:
        """Keep a copy. Returns the id that is kept: that of another copy, if one was faster."""
        ...

    async def due(self, accounts: list[str], now: float, most: int) -> list[VendorFile]:
        """Copies in these accounts whose file is gone or that have expired."""
        ...

    async def remove(self, copy: VendorFile) -> None:
        """Remove the row of a copy."""
        ...

    async def forget(self, now: float) -> None:
        """Remove the rows of copies that have expired, in any account."""
        ...
