"""Rows of uploads in parts, in SQLite or PostgreSQL. All values are bound parameters.

Theory of operation. An upload reserves the bytes of its file when it is created, and its parts draw
on that: `received` counts them. A part is an object of its own, with a row that goes through the
states of a file (`base`). Completing an upload joins its parts into a file, and one transaction
makes that file ready, the upload completed and its parts rows to be removed. A cancelled or expired
upload gives back what it reserved. Rows of ended uploads stay for a day, to be asked about.
"""

from collections.abc import Collection
from typing import Any, Literal

import msgspec
from sqlalchemy import (
    Row,
    and_,
    bindparam,
    delete,
    exists,
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import upload_parts, uploads

from .base import FileRecord, LeaseLost, StorageUse
from .sql import count, finish

UploadState = Literal["pending", "completed", "cancelled", "expired"]

_REMEMBERED = 86400.0
"""Seconds for which the row of an ended upload stays."""


class UploadRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One upload. size: bytes of its file. keep: seconds until that file expires; None: for ever.
    file: its id, when the upload is completed. Times are Unix seconds."""

    id: str
    owner: str
    state: UploadState = "pending"
    filename: str
    mime: str
    purpose: str
    size: int
    created_at: float
    expires_at: float
    keep: float | None = None
    file: str | None = None


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One part. size: bytes; the most that it may have while it is being written."""

    id: str
    upload: str
    owner: str
    key: str
    size: int
    created_at: float


class PartsFull(Exception):
    """The parts of an upload have more bytes than its file."""


class UploadEnded(Exception):
    """The owner has no pending upload of this id."""


_u, _p = uploads.c, upload_parts.c
_UPLOAD = tuple(_u[name] for name in UploadRecord.__struct_fields__)
_PART = tuple(_p[name] for name in PartRecord.__struct_fields__)
_PENDING = and_(_u.id == bindparam("which"), _u.state == "pending")
_OWN = and_(_u.owner == bindparam("whose"), _PENDING)

_GET = select(*_UPLOAD).where(_u.owner == bindparam("whose"), _u.id == bindparam("which"))
_RECEIVE = (
    update(uploads)
    .where(
        _OWN,
        _u.expires_at > bindparam("now"),
        _u.received + bindparam("more") <= _u.size + bindparam("slack"),
    )
    .values(received=_u.received + bindparam("more"))
    .returning(_u.id)
)
_IS_PENDING = select(_u.id).where(_OWN, _u.expires_at > bindparam("now"))
_ADJUST = (
    update(uploads)
    .where(_PENDING)
    .values(received=_u.received + bindparam("more"))
    .returning(_u.id)
)
_PART_SIZE = select(_p.size).where(_p.id == bindparam("part"), _p.state == "pending")
_FINISH_PART = (
    update(upload_parts)
    .where(_p.id == bindparam("part"), _p.state == "pending")
    .values(state="ready", size=bindparam("new_size"), lease_until=0.0)
    .returning(_p.id)
)
_PART_STATE = select(_p.state).where(_p.id == bindparam("part"))
_ABANDON_PART = (
    update(upload_parts)
    .where(_p.id == bindparam("part"), _p.state == "pending")
    .values(state="deleting", lease_until=bindparam("until"))
    .returning(_p.id)
)
_RENEW_PART = (
    update(upload_parts)
    .where(_p.id == bindparam("part"), _p.state != "ready")
    .values(lease_until=bindparam("until"))
)
_PARTS = select(*_PART).where(
    _p.owner == bindparam("whose"),
    _p.upload == bindparam("which"),
    _p.state == "ready",
    _p.id.in_(bindparam("parts", expanding=True)),
)
_DROP_PARTS = (
    update(upload_parts)
    .where(_p.upload == bindparam("which"))
    .values(state="deleting", lease_until=bindparam("until"))
)
_LOCK = (
    update(uploads)
    .where(_OWN, _u.expires_at > bindparam("now"), _u.lease_until <= bindparam("now"))
    .values(lease_until=bindparam("until"))
    .returning(*_UPLOAD)
)
_RENEW = update(uploads).where(_PENDING).values(lease_until=bindparam("until"))
_RESERVED = select(_u.owner, _u.reserved).where(_PENDING)
_END = (
    update(uploads)
    .where(_PENDING)
    .values(
        state=bindparam("new_state"),
        file=bindparam("new_file"),
        reserved=0,
        lease_until=0.0,
    )
    .returning(*_UPLOAD)
)
_EXPIRED = (
    select(_u.id)
    .where(
        _u.state == "pending", _u.expires_at <= bindparam("now"), _u.lease_until <= bindparam("now")
    )
    .limit(bindparam("most"))
)
_due = (
    select(_p.id)
    .where(_p.state != "ready", _p.lease_until <= bindparam("now"))
    .limit(bindparam("most"))
)
_TAKE_DUE = (
    update(upload_parts)
    .where(_p.id.in_(_due.with_for_update(skip_locked=True)))
    .values(state="deleting", lease_until=bindparam("until"))
    .returning(*_PART)
)
_REMOVE_PART = (
    delete(upload_parts)
    .where(_p.id == bindparam("part"), _p.state == "deleting")
    .returning(_p.upload, _p.size)
)
_FORGET = delete(uploads).where(
    _u.state != "pending",
    _u.expires_at <= bindparam("before"),
    ~exists().where(_p.upload == _u.id),
)


class SqlUploadStore(Shared):
    """Uploads in a SQL database, to be shared by any number of processes.

    Every method may raise StoreUnavailable. The rows of another owner are rows that do not exist.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, record: UploadRecord, *, limit: int | None) -> StorageUse:
        """Insert an upload and reserve the bytes of its file. Raises StorageFull."""
        row = {
            **msgspec.structs.asdict(record),
            "received": 0,
            "reserved": record.size,
            "lease_until": 0.0,
        }
        async with self._database.write() as connection:
            use = await count(connection, record.owner, reserved=record.size, limit=limit)
            await connection.execute(insert(uploads), row)
        return use

    async def get(self, owner: str, upload_id: str) -> UploadRecord | None:
        """An upload of the owner."""
        async with self._database.read() as connection:
            found = await connection.execute(_GET, {"whose": owner, "which": upload_id})
            row = found.one_or_none()
        return None if row is None else _upload(row)

    # Parts

    async def begin_part(self, part: PartRecord, *, now: float, until: float, slack: int) -> None:
        """Insert a pending part with a lease. slack: bytes beyond those of the file, for parts that
        are sent again. Raises UploadEnded, PartsFull."""
        values: dict[str, Any] = {"whose": part.owner, "which": part.upload, "now": now}
        row = {**msgspec.structs.asdict(part), "state": "pending", "lease_until": until}
        async with self._database.write() as connection:
            more = {**values, "more": part.size, "slack": slack}
            if (await connection.execute(_RECEIVE, more)).one_or_none() is None:
                if (await connection.execute(_IS_PENDING, values)).one_or_none() is None:
                    raise UploadEnded(part.upload)
                raise PartsFull(part.upload)
            await connection.execute(insert(upload_parts), row)

    async def finish_part(self, part: PartRecord) -> None:
        """Make a part ready, with its true size. Raises LeaseLost, UploadEnded."""
        async with self._database.write() as connection:
            found = await connection.execute(_PART_SIZE, {"part": part.id})
            counted = found.scalar_one_or_none()
            if counted is None:
                raise LeaseLost(part.id)
            more = {"which": part.upload, "more": part.size - counted}
            if (await connection.execute(_ADJUST, more)).one_or_none() is None:
                raise UploadEnded(part.upload)
            values = {"part": part.id, "new_size": part.size}
            if (await connection.execute(_FINISH_PART, values)).one_or_none() is None:
                raise LeaseLost(part.id)

    async def renew_part(self, part_id: str, until: float) -> None:
        """Extend the lease of a part that is being written."""
        async with self._database.write() as connection:
            await connection.execute(_RENEW_PART, {"part": part_id, "until": until})

    async def abandon_part(self, part_id: str, until: float) -> bool:
        """Take a part that did not become ready out, to remove its object. False: it is ready."""
        async with self._database.write() as connection:
            await connection.execute(_ABANDON_PART, {"part": part_id, "until": until})
            state = await connection.execute(_PART_STATE, {"part": part_id})
            return state.scalar_one_or_none() != "ready"

    async def parts(
        self, owner: str, upload_id: str, part_ids: Collection[str]
    ) -> list[PartRecord]:
        """Those of the ids that are ready parts of this upload of the owner."""
        values = {"whose": owner, "which": upload_id, "parts": list(part_ids)}
        async with self._database.read() as connection:
            rows = (await connection.execute(_PARTS, values)).all()
        return [PartRecord(**row._mapping) for row in rows]

    async def remove_part(self, part_id: str) -> None:
        """Remove a deleting part, whose object is gone."""
        async with self._database.write() as connection:
            row = (await connection.execute(_REMOVE_PART, {"part": part_id})).one_or_none()
            if row is not None:
                await connection.execute(_ADJUST, {"which": row[0], "more": -row[1]})

    # Ends

    async def lock(
        self, owner: str, upload_id: str, *, now: float, until: float
    ) -> UploadRecord | None:
        """Take a pending upload to complete it. None: there is none, or another one has it."""
        values = {"whose": owner, "which": upload_id, "now": now, "until": until}
        async with self._database.write() as connection:
            row = (await connection.execute(_LOCK, values)).one_or_none()
        return None if row is None else _upload(row)

    async def renew(self, upload_id: str, until: float) -> None:
        """Extend the lock of an upload, or let go of it."""
        async with self._database.write() as connection:
            await connection.execute(_RENEW, {"which": upload_id, "until": until})

    async def complete(self, upload_id: str, record: FileRecord, *, now: float) -> UploadRecord:
        """End an upload with its file, which becomes ready. Raises UploadEnded, LeaseLost."""
        async with self._database.write() as connection:
            ended = await _end(connection, upload_id, "completed", record.id, now)
            await finish(connection, record)
        return ended

    async def cancel(self, upload_id: str, *, now: float) -> UploadRecord:
        """End an upload without a file. Raises UploadEnded."""
        async with self._database.write() as connection:
            return await _end(connection, upload_id, "cancelled", None, now)

    # Sweep

    async def expire(self, *, now: float, limit: int) -> int:
        """End uploads that have expired, and forget those that ended long ago; how many ended."""
        async with self._database.write() as connection:
            found = await connection.execute(_EXPIRED, {"now": now, "most": limit})
            ids = found.scalars().all()
            for upload_id in ids:
                await _end(connection, upload_id, "expired", None, now)
            await connection.execute(_FORGET, {"before": now - _REMEMBERED})
        return len(ids)

    async def due_parts(self, *, now: float, until: float, limit: int) -> list[PartRecord]:
        """Take parts to be removed, leased until `until`: of ended uploads, and those whose lease
        has ended."""
        values = {"now": now, "until": until, "most": limit}
        async with self._database.write() as connection:
            rows = (await connection.execute(_TAKE_DUE, values)).all()
        return [PartRecord(**row._mapping) for row in rows]


async def _end(
    connection: AsyncConnection, upload_id: str, state: UploadState, file: str | None, now: float
) -> UploadRecord:
    """End a pending upload, give back what it reserved, and have its parts removed."""
    row = (await connection.execute(_RESERVED, {"which": upload_id})).one_or_none()
    values = {"which": upload_id, "new_state": state, "new_file": file}
    ended = (await connection.execute(_END, values)).one_or_none()
    if row is None or ended is None:
        raise UploadEnded(upload_id)
    owner, reserved = row
    await connection.execute(_DROP_PARTS, {"which": upload_id, "until": now})
    await count(connection, owner, reserved=-reserved)
    return _upload(ended)


def _upload(row: Row[Any]) -> UploadRecord:
    return UploadRecord(**row._mapping)
