"""Files that come in parts: each part is an object, and completing joins them into one.

`middlewares.stores.files.uploads` tells the states of an upload.
"""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import time

import msgspec

from middlewares.problem import Problem, expected
from middlewares.shared import Shared
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.files.base import FileRecord, LeaseLost, StorageFull
from middlewares.stores.files.uploads import (
    PartRecord,
    PartsFull,
    SqlUploadStore,
    UploadEnded,
    UploadRecord,
)

from .library import Bytes, Files, new_id, object_key, storage_full, store_away
from .objects import Objects

_log = logging.getLogger(__name__)

PART = 64 << 20
"""Bytes of one part."""
_FORMS = 64 << 10
"""Bytes that the forms of parts may add to the sizes that are announced of them."""
LIFE = 3600.0
"""Seconds until an upload expires."""


class PartUploads(Shared):
    """Uploads of all owners. Every method raises Problem: `store_unavailable`, and what it names.

    An upload of another owner is an upload that does not exist. max_size: bytes of one file. lease,
    clock: as of `Files`.
    """

    def __init__(
        self,
        store: SqlUploadStore,
        files: Files,
        objects: Objects,
        *,
        max_size: int = 8 << 30,
        lease: float = 600.0,
        clock: Callable[[], float] = time,
    ) -> None:
        self._store = store
        self._files = files
        self._objects = objects
        self._lease = lease
        self._clock = clock
        self.max_size = max_size

    async def create(
        self,
        owner: str,
        *,
        filename: str,
        mime: str,
        purpose: str,
        size: int,
        keep: float | None,
        limit: int | None,
    ) -> UploadRecord:
        """Begin an upload, and reserve its bytes. Raises `storage_limit_exceeded`."""
        now = self._clock()
        record = UploadRecord(
            id=new_id("upload_"),
            owner=owner,
            filename=filename,
            mime=mime,
            purpose=purpose,
            size=size,
            created_at=now,
            expires_at=now + LIFE,
            keep=keep,
        )
        try:
            await self._store.create(record, limit=limit)
        except StorageFull as raised:
            raise storage_full(raised.use, limit) from raised
        except StoreUnavailable as raised:
            raise store_away(raised) from raised
        return record

    async def find(self, owner: str, upload_id: str) -> UploadRecord | None:
        """An upload of the owner, whatever its state."""
        try:
            found = await self._store.get(owner, upload_id)
        except StoreUnavailable as raised:
            raise store_away(raised) from raised
        if found is not None and found.state == "pending" and found.expires_at <= self._clock():
            return msgspec.structs.replace(found, state="expired")
        return found

    async def add_part(
        self, upload: UploadRecord, pieces: Bytes, *, size: int | None = None
    ) -> PartRecord:
        """Store a part. size: its bytes at most, if known. Raises `invalid_request`,
        `request_too_large`.

        All parts together have at most twice the bytes of the file, since some are sent again.
        """
        now = self._clock()
        most = min(PART, upload.size)
        part_id = new_id("part_")
        part = PartRecord(
            id=part_id,
            upload=upload.id,
            owner=upload.owner,
            key=object_key(part_id),
            size=min(size or most, most),
            created_at=now,
        )
        try:
            await self._store.begin_part(
                part, now=now, until=now + self._lease, slack=most + _FORMS
            )
            async with self._leased(part):
                written = 0
                async with self._objects.writing(part.key, part.owner) as writer:
                    async for piece in pieces:
                        written += len(piece)
                        if written > part.size:
                            message = f"The part is larger than {part.size} bytes."
                            raise Problem("request_too_large", message=message, param="data")
                        await writer.write(piece)
                    if not written:
                        message = "The part is empty."
                        raise Problem("invalid_request", message=message, param="data")
                part = msgspec.structs.replace(part, size=written)
                await self._store.finish_part(part)
        except PartsFull as raised:
            raise expected("data", f"parts of {upload.size} bytes in all") from raised
        except UploadEnded as raised:
            raise ended(upload.id) from raised
        except (StoreUnavailable, LeaseLost) as raised:
            raise store_away(raised) from raised
        return part

    @asynccontextmanager
    async def _leased(self, part: PartRecord) -> AsyncIterator[None]:
        """Renew the lease of a pending part; remove it again after an exception."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self._lease / 3)
                with suppress(StoreUnavailable):
                    await self._store.renew_part(part.id, self._clock() + self._lease)

        async def abandon() -> None:
            if await self._store.abandon_part(part.id, self._clock() + self._lease):
                await self._remove(part)

        renewing = asyncio.create_task(renew(), name="part-lease")
        try:
            yield
        except BaseException:
            await self._files.clean(abandon())
            raise
        finally:
            renewing.cancel()

    async def complete(
        self, owner: str, upload_id: str, part_ids: Sequence[str], md5: str | None
    ) -> tuple[UploadRecord, FileRecord]:
        """Join parts, in this order, into a file. Raises `invalid_request`; the upload is pending
        afterwards and can be completed again."""
        now = self._clock()
        try:
            upload = await self._store.lock(owner, upload_id, now=now, until=now + self._lease)
            if upload is None:
                return await self._completed(owner, upload_id)
            try:
                return await self._join(upload, part_ids, md5)
            except BaseException:
                await self._files.clean(self._store.renew(upload_id, 0.0))
                raise
        except UploadEnded as raised:
            raise ended(upload_id) from raised
        except (StoreUnavailable, LeaseLost) as raised:
            raise store_away(raised) from raised

    async def _completed(self, owner: str, upload_id: str) -> tuple[UploadRecord, FileRecord]:
        """An upload that was completed before, for a client that lost the answer. Raises Problem
        for any other."""
        upload = await self.find(owner, upload_id)
        if upload is not None and upload.state == "pending":
            message = f"Upload {upload_id} is being completed. Please try again."
            raise Problem("idempotency_conflict", message=message)
        file = None
        if upload is not None and upload.file is not None:
            file = await self._files.find(owner, upload.file)
        if upload is None or file is None:
            raise ended(upload_id)
        return upload, file

    async def _join(
        self, upload: UploadRecord, part_ids: Sequence[str], md5: str | None
    ) -> tuple[UploadRecord, FileRecord]:
        known = {
            part.id: part for part in await self._store.parts(upload.owner, upload.id, part_ids)
        }
        for number, part_id in enumerate(part_ids):
            if part_id not in known or part_id in part_ids[:number]:
                raise expected(f"part_ids[{number}]", "the id of a part of this upload, once")
        parts = [known[part_id] for part_id in part_ids]
        total = sum(part.size for part in parts)
        if total != upload.size:
            message = f"The parts have {total} bytes; the upload was created for {upload.size}."
            raise Problem("invalid_request", message=message, param="part_ids")
        digest = None if md5 is None else hashlib.md5(usedforsecurity=False)
        file_id = new_id("file-")
        now = self._clock()
        record = FileRecord(
            id=file_id,
            owner=upload.owner,
            key=object_key(file_id),
            filename=upload.filename,
            purpose=upload.purpose,
            created_at=now,
            expires_at=None if upload.keep is None else now + upload.keep,
        )
        completed: list[UploadRecord] = []

        async def joined() -> AsyncIterator[bytes]:
            for part in parts:
                await self._store.renew(upload.id, self._clock() + self._lease)
                async for piece in self._objects.read(part.key, 0, part.size):
                    if digest is not None:
                        digest.update(piece)
                    yield piece

        async def finish(done: FileRecord) -> FileRecord:
            if digest is not None and digest.hexdigest() != (md5 or "").lower():
                raise expected("md5", "the MD5 digest of the parts in this order, in hex")
            completed.append(await self._store.complete(upload.id, done, now=self._clock()))
            return done

        file = await self._files.write(
            record,
            joined(),
            reserved=upload.size,
            limit=None,
            most=upload.size,
            declared=upload.mime,
            finish=finish,
            counted=False,
        )
        await self._files.clean(self._remove_all(parts))
        return completed[0], file

    async def cancel(self, owner: str, upload_id: str) -> UploadRecord:
        """End a pending upload and give back what it reserved. Raises `invalid_request`."""
        try:
            found = await self._store.get(owner, upload_id)
            if found is None:
                raise ended(upload_id)
            cancelled = await self._store.cancel(upload_id, now=self._clock())
            await self._files.clean(self._sweep_parts(1000))
        except UploadEnded as raised:
            raise ended(upload_id) from raised
        except StoreUnavailable as raised:
            raise store_away(raised) from raised
        return cancelled

    async def sweep(self, most: int = 1000) -> int:
        """End expired uploads, and remove parts that no upload needs; how many parts went.

        Raises StoreUnavailable.
        """
        await self._store.expire(now=self._clock(), limit=most)
        return await self._swept(most)

    async def _sweep_parts(self, most: int) -> None:
        await self._swept(most)

    async def _swept(self, most: int) -> int:
        swept = 0
        while swept < most:
            now = self._clock()
            due = await self._store.due_parts(now=now, until=now + self._lease, limit=100)
            for part in due:
                await self._remove(part)
                swept += 1
            if not due:
                break
        return swept

    async def _remove_all(self, parts: Sequence[PartRecord]) -> None:
        for part in parts:
            await self._remove(part)

    async def _remove(self, part: PartRecord) -> None:
        await self._objects.remove(part.key)
        await self._store.remove_part(part.id)


def ended(upload_id: str) -> Problem:
    """The refusal for an upload that takes nothing more, or that the caller does not have."""
    named = upload_id if upload_id.isascii() and len(upload_id) <= 64 else "of this id"
    return Problem("not_found", message=f"No pending upload {named}")
