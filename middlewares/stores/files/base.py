"""Rows of files, and the storage that each owner uses: the protocol of their store.

Theory of operation. The row comes before the bytes, so no object exists without a row that names
it. A file goes through these states:

    pending    its object is being written; `reserved` bytes are counted for it
    ready      the owner can see it; its `size` is counted as used
    deleting   invisible; its bytes stay counted until the object is gone

A process that writes or removes an object holds a lease of the row. When it dies, the lease ends,
and a sweep (`due`) takes the row, removes the object and then the row. Each step can be repeated.
The counters of an owner change in the transaction of the rows they count.
"""

from collections.abc import Collection
from typing import Protocol

import msgspec


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One file.

    owner: id of a principal. key: name of its object. mime: type that it is served with.
    size: bytes. sha256: hex digest of them. Times are Unix seconds.
    """

    id: str
    owner: str
    key: str
    filename: str
    mime: str = "application/octet-stream"
    size: int = 0
    sha256: str = ""
    purpose: str = ""
    created_at: float
    expires_at: float | None = None

    def expired(self, now: float) -> bool:
        """Whether it can no longer be read."""
        return self.expires_at is not None and self.expires_at <= now


class StorageUse(msgspec.Struct, frozen=True):
    """Bytes that count against the quota of an owner.

    used: of files, deleted ones included until their objects are gone. reserved: for files that
    are being written.
    """

    used: int = 0
    reserved: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.used + self.reserved


class Cursor(msgspec.Struct, frozen=True):
    """The place of a file in a list."""

    created_at: float
    id: str


class StorageFull(Exception):
    """The bytes do not fit into the quota. use: what the owner has."""

    def __init__(self, use: StorageUse) -> None:
        super().__init__(f"{use.used} bytes used, {use.reserved} reserved")
        self.use = use


class LeaseLost(Exception):
    """The row was taken by a sweep, because its lease had ended."""


class FileStore(Protocol):
    """Rows of files. Every method may raise StoreUnavailable. `limit` None: no quota.

    An owner's methods do not see the rows of others: they answer as for ids that do not exist.
    """

    async def begin(
        self, record: FileRecord, *, reserved: int, limit: int | None, until: float
    ) -> StorageUse:
        """Insert a pending row with a lease until `until`, and reserve bytes.

        Raises StorageFull, and then nothing has changed.
        """
        ...

    async def reserve_more(self, record: FileRecord, more: int, *, limit: int | None) -> StorageUse:
        """Reserve further bytes for a pending file. Raises StorageFull, LeaseLost."""
        ...

    async def renew(self, file_id: str, until: float) -> None:
        """Extend the lease of a pending or deleting row, if it is still there."""
        ...

    async def finish(self, record: FileRecord) -> StorageUse:
        """Make a pending file ready, with the size, digest and type of `record`, and turn what was
        reserved into what it uses. Raises LeaseLost."""
        ...

    async def abandon(self, file_id: str, until: float) -> bool:
        """Take a file that did not become ready out, leased until `until`, to remove its object.
        False: it is ready, and its object must stay."""
        ...

    async def get(self, owner: str, file_id: str) -> FileRecord | None:
        """A ready file of the owner, also an expired one."""
        ...

    async def find_any(self, file_id: str) -> FileRecord | None:
        """A ready file of any owner, for links that name it and are signed."""
        ...

    async def page(
        self,
        owner: str,
        *,
        now: float,
        limit: int,
        after: Cursor | None = None,
        newest_first: bool = True,
        purpose: str | None = None,
    ) -> list[FileRecord]:
        """Ready files that have not expired, by time of creation and then by id."""
        ...

    async def several(
        self, owner: str, file_ids: Collection[str], *, now: float
    ) -> list[FileRecord]:
        """Those of the ids that are ready files of the owner, in the order of a list."""
        ...

    async def delete(
        self, owner: str, file_id: str, until: float, *, now: float
    ) -> FileRecord | None:
        """Make a ready file invisible, leased until `until`, to remove its object. None: the owner
        has no such file, or it has expired."""
        ...

    async def remove(self, file_id: str) -> None:
        """Remove a deleting row, whose object is gone, and what is counted for it."""
        ...

    async def due(self, *, now: float, until: float, limit: int) -> list[FileRecord]:
        """Take rows to be removed, leased until `until`: expired files, and rows whose lease has
        ended. They are deleting afterwards."""
        ...

    async def use(self, owner: str) -> StorageUse:
        """What an owner has."""
        ...

    async def total(self) -> StorageUse:
        """What all owners have."""
        ...

    async def take_lease(self, name: str, holder: str, *, now: float, until: float) -> bool:
        """Take or renew the lease `name`. False: another holder has it."""
        ...
