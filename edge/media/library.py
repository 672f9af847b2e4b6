"""Files of callers: rows in SQL, bytes in objects, and the quota over both.

`middlewares.stores.files.base` tells the states of a file. This module runs them: it reserves,
streams, hashes and settles, and cleans up after a client that leaves or a store that fails.
"""

import asyncio
import hashlib
import hmac
import logging
import re
from base64 import urlsafe_b64encode
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
)
from contextlib import asynccontextmanager, suppress
from secrets import choice
from string import ascii_letters, digits
from time import time
from typing import Any

import msgspec

from middlewares.exchange import Principal
from middlewares.problem import Problem
from middlewares.shared import Shared
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.files.base import (
    Cursor,
    FileRecord,
    FileStore,
    LeaseLost,
    StorageFull,
    StorageUse,
)
from middlewares.stores.outage import Outage
from middlewares.stores.secret import SecretStore

from .filenames import safe_filename
from .kinds import HEAD, kind_of
from .objects import Objects

_log = logging.getLogger(__name__)

STEP = 8 << 20
"""Bytes of quota that are reserved at a time for a file of unknown length."""
_BASE62 = ascii_letters + digits
_RANDOM = 27
"""Characters of an id: 160 bits."""
_LINK_KEY = "file-links"
_SECONDS = re.compile("[0-9]{1,12}").fullmatch

Bytes = AsyncIterable[bytes]


def new_id(prefix: str) -> str:
    """A random id, which tells nothing of its owner, time or content."""
    return prefix + "".join(choice(_BASE62) for _ in range(_RANDOM))


def object_key(file_id: str) -> str:
    """The key of the object of a file. Nothing of it comes from a client."""
    return f"files/{file_id[-2:].lower()}/{file_id}"


def owner_of(principal: Principal | None) -> str | None:
    """The id that files are stored under; None for a caller without an identity."""
    return None if principal is None or principal.id in ("", "unknown") else principal.id


def storage_full(use: StorageUse, limit: int | None, *, needed: int = 0) -> Problem:
    """The refusal of bytes that do not fit into the quota. needed: by the result of a job."""
    message = f"The storage limit is reached: {use.total} of {limit or 0} bytes are used"
    if needed:
        message += f", and the result of a job needs up to {needed}"
    return Problem(
        "storage_limit_exceeded",
        message=f"{message}. "
        + (
            "Delete files to make room."
            if needed <= (limit or 0)
            else "It is too small for any job."
        ),
        headers=storage_headers(use, limit),
    )


def storage_headers(use: StorageUse, limit: int | None) -> tuple[tuple[bytes, bytes], ...]:
    """The headers that say how much of the quota is used; no limit header without a quota."""
    used = (b"x-storage-used-bytes", b"%d" % use.total)
    if limit is None:
        return (used,)
    return used, (b"x-storage-limit-bytes", b"%d" % limit)


def store_away(raised: Exception) -> Problem:
    """The answer while rows or objects cannot be reached."""
    return Problem("store_unavailable", reason=f"files: {raised}")


class Files(Shared):
    """Files of all owners. An owner is the id of a principal (`owner_of`).

    Every method raises Problem: `store_unavailable`, and what it names itself. A file of another
    owner is a file that does not exist.

    max_size: bytes of one file. lease: seconds after which the work of a process that died is
    taken over; living processes renew it. clock: Unix seconds. `aclose` at the end.
    """

    def __init__(
        self,
        store: FileStore,
        objects: Objects,
        secrets: SecretStore,
        *,
        max_size: int = 512 << 20,
        lease: float = 600.0,
        clock: Callable[[], float] = time,
    ) -> None:
        if max_size < 1 or lease <= 0:
            raise ValueError(f"max_size {max_size}, lease {lease}: expected more than 0")
        self._store = store
        self._objects = objects
        self._secrets = secrets
        self._lease = lease
        self._clock = clock
        self._link_key: bytes | None = None
        self._cleaning: set[asyncio.Task[None]] = set()
        self._outage = Outage(_log, "cannot remove files", "files are removed again")
        self.max_size = max_size

    async def aclose(self) -> None:
        """Wait for what is still being cleaned up."""
        if self._cleaning:
            await asyncio.wait(self._cleaning, timeout=10)

    # Writing

    async def save(
        self,
        owner: str,
        filename: str,
        source: bytes | Bytes,
        *,
        purpose: str,
        limit: int | None,
        expires_at: float | None = None,
        declared: str = "",
        size: int | None = None,
        max_size: int | None = None,
        described: Callable[[FileRecord], FileRecord] | None = None,
        file_id: str = "",
    ) -> FileRecord:
        """Store a file from its bytes, or from a stream of pieces.

        limit: quota of the owner in bytes (`Plans.storage`); None: no quota. declared: media type
        named by the sender. size: bytes of the stream at most, where that is known; reserved at
        once. max_size: bound of this file, where it is not the usual one. described: called when
        the stream has ended; what it returns is stored as the row, such as with another purpose.
        file_id: a new id that the caller has noted; one is made unless given.

        Raises Problem: `storage_limit_exceeded`, `request_too_large`, `invalid_request` for an
        empty file, and whatever `source` raises. After any of them nothing is left of the file.
        """
        pieces: Bytes = _single(source) if isinstance(source, bytes) else source
        if isinstance(source, bytes):
            size = len(source)
        most = self.max_size if max_size is None else max_size
        if size is not None and size > most:
            raise _too_large(most)
        file_id = file_id or new_id("file-")
        record = FileRecord(
            id=file_id,
            owner=owner,
            key=object_key(file_id),
            filename=filename,
            purpose=purpose,
            created_at=self._clock(),
            expires_at=expires_at,
        )
        reserved = size or 0  # of a stream of unknown length the first piece reserves

        async def finish(done: FileRecord) -> FileRecord:
            if described is not None:
                done = described(done)
            await self._store.finish(done)
            return done

        return await self.write(
            record,
            pieces,
            reserved=reserved,
            limit=limit,
            most=most,
            declared=declared,
            finish=finish,
        )

    async def write(
        self,
        record: FileRecord,
        pieces: Bytes,
        *,
        reserved: int,
        limit: int | None,
        most: int,
        declared: str,
        finish: Callable[[FileRecord], Awaitable[FileRecord]],
        counted: bool = True,
    ) -> FileRecord:
        """Write the row and object of a file, and have `finish` make it ready. See `save`.

        counted: whether `reserved` is to be reserved, and not reserved by another row.
        """
        try:
            async with self._pending(record, reserved if counted else 0, limit):
                done = await self._write(record, pieces, reserved, limit, most, declared)
                return await finish(done)
        except StorageFull as raised:
            raise storage_full(raised.use, limit) from raised
        except (StoreUnavailable, LeaseLost) as raised:
            raise store_away(raised) from raised

    @asynccontextmanager
    async def _pending(
        self, record: FileRecord, reserved: int, limit: int | None
    ) -> AsyncIterator[None]:
        """A pending row with a lease that is renewed; removed again after an exception."""
        await self._store.begin(
            record, reserved=reserved, limit=limit, until=self._clock() + self._lease
        )
        renewing = asyncio.create_task(self._renew(record.id), name="file-lease")
        try:
            yield
        except BaseException:
            await self.clean(self._abandon(record))
            raise
        finally:
            renewing.cancel()

    async def _renew(self, file_id: str) -> None:
        while True:
            await asyncio.sleep(self._lease / 3)
            with suppress(StoreUnavailable):  # `finish` notices when the lease was lost
                await self._store.renew(file_id, self._clock() + self._lease)

    async def _write(
        self,
        record: FileRecord,
        pieces: Bytes,
        reserved: int,
        limit: int | None,
        most: int,
        declared: str,
    ) -> FileRecord:
        """Write the object, and return the row that describes it."""
        size = 0
        digest = hashlib.sha256()
        head = b""
        async with self._objects.writing(record.key, record.owner) as writer:
            async for piece in pieces:
                size += len(piece)
                if size > most:
                    raise _too_large(most)
                if size > reserved:
                    reserved += await self._reserve_more(record, size - reserved, limit)
                if len(head) < HEAD:
                    head += piece[: HEAD - len(head)]
                digest.update(piece)
                await writer.write(piece)
            if not size:
                raise Problem("invalid_request", message="The file is empty.", param="file")
        mime = kind_of(head, declared)
        return msgspec.structs.replace(
            record,
            filename=safe_filename(record.filename, mime),
            mime=mime,
            size=size,
            sha256=digest.hexdigest(),
        )

    async def _reserve_more(self, record: FileRecord, least: int, limit: int | None) -> int:
        """Reserve a further step; near the limit only what the next piece needs."""
        step = max(STEP, least)
        try:
            await self._store.reserve_more(record, step, limit=limit)
        except StorageFull:
            await self._store.reserve_more(record, least, limit=limit)
            return least
        return step

    async def _abandon(self, record: FileRecord) -> None:
        if await self._store.abandon(record.id, self._clock() + self._lease):
            await self._remove(record)

    async def _remove(self, record: FileRecord) -> None:
        """Remove the object of a deleting row, and then the row."""
        await self._objects.remove(record.key)
        await self._store.remove(record.id)

    async def clean(self, step: Coroutine[Any, Any, None]) -> None:
        """Run a step to its end, also when the caller is cancelled. A sweep does what fails."""

        async def run() -> None:
            try:
                await step
            except StoreUnavailable as raised:
                self._outage.failed(raised)
            except Exception:
                _log.exception("cannot remove a file")
            else:
                self._outage.worked()

        task = asyncio.create_task(run(), name="file-clean")
        self._cleaning.add(task)
        task.add_done_callback(self._cleaning.discard)
        await asyncio.shield(task)

    # Reading

    async def find(self, owner: str, file_id: str) -> FileRecord | None:
        """A file of the owner that has not expired."""
        record = await self.find_expired(owner, file_id)
        return None if record is None or record.expired(self._clock()) else record

    async def find_expired(self, owner: str, file_id: str) -> FileRecord | None:
        """A file of the owner, also an expired one that was not swept yet."""
        try:
            return await self._store.get(owner, file_id)
        except StoreUnavailable as raised:
            raise store_away(raised) from raised

    async def several(self, owner: str, file_ids: Collection[str]) -> list[FileRecord]:
        """Those of the ids that are files of the owner."""
        try:
            return await self._store.several(owner, file_ids, now=self._clock())
        except StoreUnavailable as raised:
            raise store_away(raised) from raised

    async def page(
        self,
        owner: str,
        *,
        limit: int,
        after: Cursor | None = None,
        newest_first: bool = True,
        purpose: str | None = None,
    ) -> list[FileRecord]:
        """The files of an owner in the order of their creation."""
        try:
            return await self._store.page(
                owner,
                now=self._clock(),
                limit=limit,
                after=after,
                newest_first=newest_first,
                purpose=purpose,
            )
        except StoreUnavailable as raised:
            raise store_away(raised) from raised

    async def read(
        self, record: FileRecord, start: int = 0, end: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes of a file from `start` to before `end`, in pieces of about 256 KiB."""
        try:
            async for piece in self._objects.read(
                record.key, start, record.size if end is None else min(end, record.size)
            ):
                yield piece
        except FileNotFoundError as raised:
            reason = f"the object of {record.id} is gone"
            raise Problem("not_found", message=unknown(record.id), reason=reason) from raised
        except StoreUnavailable as raised:
            raise store_away(raised) from raised

    async def use(self, owner: str) -> StorageUse:
        """What counts against the quota of an owner."""
        try:
            return await self._store.use(owner)
        except StoreUnavailable as raised:
            raise store_away(raised) from raised

    # Deleting

    async def delete(self, owner: str, file_id: str) -> bool:
        """Delete a file of the owner; it is invisible from then on. False: there is none.

        Its object is removed at once, or by the next sweep where the objects are out of reach.
        """
        now = self._clock()
        try:
            record = await self._store.delete(owner, file_id, now + self._lease, now=now)
        except StoreUnavailable as raised:
            raise store_away(raised) from raised
        if record is None:
            return False
        await self.clean(self._remove(record))
        return True

    async def sweep(self, most: int = 1000) -> int:
        """Remove expired files and what processes that died left behind; how many rows went.

        Raises StoreUnavailable.
        """
        swept = 0
        while swept < most:
            now = self._clock()
            due = await self._store.due(now=now, until=now + self._lease, limit=100)
            for record in due:
                await self._remove(record)
                swept += 1
            if not due:
                break
        return swept

    async def take_sweep(self, holder: str, seconds: float) -> bool:
        """Take or keep the right to sweep for so long. Raises StoreUnavailable."""
        now = self._clock()
        return await self._store.take_lease("file-sweep", holder, now=now, until=now + seconds)

    async def total(self) -> StorageUse:
        """What all owners have. Raises StoreUnavailable."""
        return await self._store.total()

    # Links

    async def link(self, record: FileRecord, base: str, *, seconds: float = 3600.0) -> str:
        """A URL at which anybody can read the file for so long, without a key.

        base: scheme, host and path of this gateway, such as "https://api.example.com".
        """
        until = int(self._clock() + seconds)
        signature = await self._signature(record.id, until)
        return f"{base.rstrip('/')}/v1/links/{record.id}?exp={until}&sig={signature}"

    async def find_linked(self, file_id: str, until: str, signature: str) -> FileRecord | None:
        """The file of a link that is valid now; None for any other link."""
        if _SECONDS(until) is None or int(until) <= self._clock():
            return None
        good = await self._signature(file_id, int(until))
        if not hmac.compare_digest(good.encode(), signature.encode("utf-8", "replace")):
            return None
        try:
            record = await self._store.find_any(file_id)
        except StoreUnavailable as raised:
            raise store_away(raised) from raised
        return None if record is None or record.expired(self._clock()) else record

    async def _signature(self, file_id: str, until: int) -> str:
        if self._link_key is None:
            try:
                self._link_key = await self._secrets.secret(_LINK_KEY)
            except StoreUnavailable as raised:
                raise store_away(raised) from raised
        signed = hmac.digest(self._link_key, f"{file_id}\n{until}".encode(), "sha256")
        return urlsafe_b64encode(signed).rstrip(b"=").decode()


def unknown(file_id: str) -> str:
    """The message for a file that the caller does not have, whatever the reason."""
    return (
        f"No such file: {file_id}" if file_id.isascii() and len(file_id) <= 64 else "No such file"
    )


def _too_large(most: int) -> Problem:
    return Problem("request_too_large", message=f"The file is larger than {most:d} bytes.")


async def _single(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 20):
        yield data[start : start + (1 << 20)]
