"""The audit in SQLite or PostgreSQL. All values are bound parameters."""

import msgspec
from sqlalchemy import insert, select

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import audit

from .base import AuditChange

_c = audit.c
_INSERT = insert(audit)
_NEWEST = select(audit).order_by(_c.id.desc())
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict).decode


class SqlAuditStore(Shared):
    """An `AuditStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def note(self, change: AuditChange) -> None:
        values = msgspec.structs.asdict(change)
        del values["id"]
        values["detail"] = _encode(change.detail).decode()
        async with self._database.write() as connection:
            await connection.execute(_INSERT, values)

    async def page(
        self,
        *,
        subject: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditChange]:
        query = _NEWEST.limit(limit)
        if subject is not None:
            query = query.where(_c.subject == subject)
        if before is not None:
            query = query.where(_c.id < before)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).mappings().all()
        return [AuditChange(**{**row, "detail": _decode(row["detail"])}) for row in rows]
