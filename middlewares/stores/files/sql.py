"""Files in SQLite or PostgreSQL. All values are bound parameters."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    Row,
    Select,
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import files, leases, storage

from .base import Cursor, FileRecord, LeaseLost, StorageFull, StorageUse

_c = files.c
_COLUMNS = tuple(_c[name] for name in FileRecord.__struct_fields__)
_OWNED = and_(_c.owner == bindparam("whose"), _c.state == "ready")

_NEW_OWNER = text(
    "INSERT INTO storage (owner, used, reserved) VALUES (:whose, 0, 0)"
    " ON CONFLICT (owner) DO NOTHING"
)
_COUNT = (
    update(storage)
    .where(storage.c.owner == bindparam("whose"))
    .values(
        used=storage.c.used + bindparam("more_used"),
        reserved=storage.c.reserved + bindparam("more_reserved"),
    )
    .returning(storage.c.used, storage.c.reserved)
)
_COUNT_WITHIN = _COUNT.where(
    storage.c.used + storage.c.reserved + bindparam("more_reserved") <= bindparam("limit")
)
_RESERVE_MORE = (
    update(files)
    .where(_c.id == bindparam("which"), _c.state == "pending")
    .values(reserved=_c.reserved + bindparam("more"))
    .returning(_c.owner)
)
_RENEW = (
    update(files)
    .where(_c.id == bindparam("which"), _c.state != "ready")
    .values(lease_until=bindparam("until"))
)
_FINISH_READ = select(_c.reserved).where(_c.id == bindparam("which"), _c.state == "pending")
_FINISH = (
    update(files)
    .where(_c.id == bindparam("which"), _c.state == "pending")
    .values(
        state="ready",
        filename=bindparam("new_filename"),
        mime=bindparam("new_mime"),
        size=bindparam("new_size"),
        sha256=bindparam("new_sha256"),
        purpose=bindparam("new_purpose"),
        expires_at=bindparam("new_expires_at"),
        reserved=0,
        lease_until=0.0,
    )
    .returning(_c.id)
)
_ABANDON = (
    update(files)
    .where(_c.id == bindparam("which"), _c.state == "pending")
    .values(state="deleting", lease_until=bindparam("until"))
    .returning(_c.id)
)
_STATE = select(_c.state).where(_c.id == bindparam("which"))
_GET = select(*_COLUMNS).where(_OWNED, _c.id == bindparam("which"))
_FIND_ANY = select(*_COLUMNS).where(_c.id == bindparam("which"), _c.state == "ready")
_LIVE = or_(_c.expires_at.is_(None), _c.expires_at > bindparam("now"))
_PAGE = select(*_COLUMNS).where(_OWNED, _LIVE)
_SEVERAL = (
    select(*_COLUMNS)
    .where(_OWNED, _LIVE, _c.id.in_(bindparam("ids", expanding=True)))
    .order_by(_c.created_at.desc(), _c.id.desc())
)
_DELETE = (
    update(files)
    .where(_OWNED, _c.id == bindparam("which"), _LIVE)
    .values(state="deleting", lease_until=bindparam("until"))
    .returning(*_COLUMNS)
)
_REMOVE = (
    delete(files)
    .where(_c.id == bindparam("which"), _c.state == "deleting")
    .returning(_c.owner, _c.size, _c.reserved)
)
_due = (
    select(_c.id)
    .where(
        or_(
            and_(_c.state != "ready", _c.lease_until <= bindparam("now")),
            and_(_c.state == "ready", _c.expires_at <= bindparam("now")),
        )
    )
    .limit(bindparam("most"))
)
_TAKE_DUE = (
    update(files)
    .where(_c.id.in_(_due.with_for_update(skip_locked=True)))
    .values(state="deleting", lease_until=bindparam("until"))
    .returning(*_COLUMNS)
)
_USE = select(storage.c.used, storage.c.reserved).where(storage.c.owner == bindparam("whose"))
_TOTAL = select(
    func.coalesce(func.sum(storage.c.used), literal_column("0")),
    func.coalesce(func.sum(storage.c.reserved), literal_column("0")),
)
_NEW_LEASE = text(
    "INSERT INTO leases (name, holder, until) VALUES (:name, '', 0) ON CONFLICT (name) DO NOTHING"
)
_TAKE_LEASE = (
    update(leases)
    .where(
        leases.c.name == bindparam("called"),
        or_(leases.c.until <= bindparam("now"), leases.c.holder == bindparam("by")),
    )
    .values(holder=bindparam("by"), until=bindparam("to"))
    .returning(leases.c.name)
)


class SqlFileStore(Shared):
    """A `FileStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, record: FileRecord, *, reserved: int, limit: int | None, until: float
    ) -> StorageUse:
        row = {
            **{name: getattr(record, name) for name in FileRecord.__struct_fields__},
            "state": "pending",
            "reserved": reserved,
            "lease_until": until,
        }
        async with self._database.write() as connection:
            use = await count(connection, record.owner, reserved=reserved, limit=limit)
            await connection.execute(insert(files), row)
        return use

    async def reserve_more(self, record: FileRecord, more: int, *, limit: int | None) -> StorageUse:
        async with self._database.write() as connection:
            values = {"which": record.id, "more": more}
            if (await connection.execute(_RESERVE_MORE, values)).one_or_none() is None:
                raise LeaseLost(record.id)
            return await count(connection, record.owner, reserved=more, limit=limit)

    async def renew(self, file_id: str, until: float) -> None:
        async with self._database.write() as connection:
            await connection.execute(_RENEW, {"which": file_id, "until": until})

    async def finish(self, record: FileRecord) -> StorageUse:
        async with self._database.write() as connection:
            return await finish(connection, record)

    async def abandon(self, file_id: str, until: float) -> bool:
        async with self._database.write() as connection:
            await connection.execute(_ABANDON, {"which": file_id, "until": until})
            state = await connection.execute(_STATE, {"which": file_id})
            return state.scalar_one_or_none() != "ready"

    async def get(self, owner: str, file_id: str) -> FileRecord | None:
        return await self._one(_GET, {"whose": owner, "which": file_id})

    async def find_any(self, file_id: str) -> FileRecord | None:
        return await self._one(_FIND_ANY, {"which": file_id})

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
        statement = _PAGE
        values: dict[str, Any] = {"whose": owner, "now": now}
        place = tuple_(_c.created_at, _c.id)
        if after is not None:
            start = tuple_(bindparam("at"), bindparam("from_id"))
            statement = statement.where(place < start if newest_first else place > start)
            values |= {"at": after.created_at, "from_id": after.id}
        if purpose is not None:
            statement = statement.where(_c.purpose == bindparam("purpose"))
            values["purpose"] = purpose
        if newest_first:
            statement = statement.order_by(_c.created_at.desc(), _c.id.desc())
        else:
            statement = statement.order_by(_c.created_at, _c.id)
        async with self._database.read() as connection:
            rows = (await connection.execute(statement.limit(limit), values)).all()
        return [_record(row) for row in rows]

    async def several(
        self, owner: str, file_ids: Collection[str], *, now: float
    ) -> list[FileRecord]:
        values = {"whose": owner, "ids": list(file_ids), "now": now}
        async with self._database.read() as connection:
            rows = (await connection.execute(_SEVERAL, values)).all()
        return [_record(row) for row in rows]

    async def delete(
        self, owner: str, file_id: str, until: float, *, now: float
    ) -> FileRecord | None:
        values = {"whose": owner, "which": file_id, "until": until, "now": now}
        async with self._database.write() as connection:
            row = (await connection.execute(_DELETE, values)).one_or_none()
        return None if row is None else _record(row)

    async def remove(self, file_id: str) -> None:
        async with self._database.write() as connection:
            row = (await connection.execute(_REMOVE, {"which": file_id})).one_or_none()
            if row is not None:
                owner, size, reserved = row
                await count(connection, owner, used=-size, reserved=-reserved)

    async def due(self, *, now: float, until: float, limit: int) -> list[FileRecord]:
        values = {"now": now, "until": until, "most": limit}
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)  # objects of another database are not ours
            rows = (await connection.execute(_TAKE_DUE, values)).all()
        return [_record(row) for row in rows]

    async def use(self, owner: str) -> StorageUse:
        async with self._database.read() as connection:
            row = (await connection.execute(_USE, {"whose": owner})).one_or_none()
        return StorageUse() if row is None else StorageUse(*row)

    async def total(self) -> StorageUse:
        async with self._database.read() as connection:
            used, reserved = (await connection.execute(_TOTAL)).one()
        return StorageUse(int(used), int(reserved))

    async def take_lease(self, name: str, holder: str, *, now: float, until: float) -> bool:
        values = {"called": name, "by": holder, "now": now, "to": until}
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            await connection.execute(_NEW_LEASE, {"name": name})
            return (await connection.execute(_TAKE_LEASE, values)).one_or_none() is not None

    async def _one(self, statement: Select[Any], values: dict[str, Any]) -> FileRecord | None:
        async with self._database.read() as connection:
            row = (await connection.execute(statement, values)).one_or_none()
        return None if row is None else _record(row)


async def count(
    connection: AsyncConnection,
    owner: str,
    *,
    used: int = 0,
    reserved: int = 0,
    limit: int | None = None,
) -> StorageUse:
    """Add to the counters of an owner, within its quota. Raises StorageFull."""
    await connection.execute(_NEW_OWNER, {"whose": owner})
    values: dict[str, Any] = {"whose": owner, "more_used": used, "more_reserved": reserved}
    if limit is None:
        return StorageUse(*(await connection.execute(_COUNT, values)).one())
    values["limit"] = limit
    row = (await connection.execute(_COUNT_WITHIN, values)).one_or_none()
    if row is None:
        found = (await connection.execute(_USE, {"whose": owner})).one()
        raise StorageFull(StorageUse(*found))
    return StorageUse(*row)


async def finish(connection: AsyncConnection, record: FileRecord) -> StorageUse:
    """Make a pending file ready; see `FileStore.finish`. Raises LeaseLost."""
    reserved = (await connection.execute(_FINISH_READ, {"which": record.id})).scalar_one_or_none()
    values = {
        "which": record.id,
        "new_filename": record.filename,
        "new_mime": record.mime,
        "new_size": record.size,
        "new_sha256": record.sha256,
        "new_purpose": record.purpose,
        "new_expires_at": record.expires_at,
    }
    row = (await connection.execute(_FINISH, values)).one_or_none()
    if row is None or reserved is None:
        raise LeaseLost(record.id)
    return await count(connection, record.owner, used=record.size, reserved=-reserved)


def _record(row: Row[Any]) -> FileRecord:
    return FileRecord(**row._mapping)
