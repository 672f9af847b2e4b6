"""Copies of files at vendors in SQLite or PostgreSQL. All values are bound parameters."""

from sqlalchemy import and_, bindparam, delete, exists, insert, or_, select

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import files, vendor_files

from .base import VendorFile

_c = vendor_files.c
_COLUMNS = tuple(_c[name] for name in VendorFile.__struct_fields__)
_THIS = and_(_c.account == bindparam("at"), _c.file_id == bindparam("which"))
_FIND = select(_c.vendor_id).where(_THIS, _c.expires_at > bindparam("now"))
_REMOVE = delete(vendor_files).where(_THIS, _c.vendor_id == bindparam("named"))
_REMOVE_EXPIRED = delete(vendor_files).where(_THIS, _c.expires_at <= bindparam("now"))
_FORGET = delete(vendor_files).where(_c.expires_at <= bindparam("now"))
_HELD = exists().where(
    files.c.id == _c.file_id,
    files.c.state == "ready",
    or_(files.c.expires_at.is_(None), files.c.expires_at > bindparam("now")),
)
_DUE = (
    select(*_COLUMNS)
    .where(
        _c.account.in_(bindparam("accounts", expanding=True)),
        or_(~_HELD, _c.expires_at <= bindparam("now")),
    )
    .limit(bindparam("most"))
)


class SqlVendorFileStore(Shared):
    """A `VendorFileStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, account: str, file_id: str, now: float) -> str | None:
        values = {"at": account, "which": file_id, "now": now}
        async with self._database.read() as connection:
            found: str | None = (await connection.execute(_FIND, values)).scalar_one_or_none()
        return found

    async def add(self, copy: VendorFile, now: float) -> str:
        this = {"at": copy.account, "which": copy.file_id}
        async with self._database.write() as connection:
            await connection.execute(_REMOVE_EXPIRED, {**this, "now": now})
            found: str | None = (
                await connection.execute(_FIND, {**this, "now": now})
            ).scalar_one_or_none()
            if found is None:
                row = {name: getattr(copy, name) for name in VendorFile.__struct_fields__}
                await connection.execute(insert(vendor_files), row)
        return found or copy.vendor_id

    async def due(self, accounts: list[str], now: float, most: int) -> list[VendorFile]:
        values = {"accounts": accounts, "now": now, "most": most}
        async with self._database.read() as connection:
            rows = (await connection.execute(_DUE, values)).all()
        return [VendorFile(**row._mapping) for row in rows]

    async def remove(self, copy: VendorFile) -> None:
        values = {"at": copy.account, "which": copy.file_id, "named": copy.vendor_id}
        async with self._database.write() as connection:
            await connection.execute(_REMOVE, values)

    async def forget(self, now: float) -> None:
        async with self._database.write() as connection:
            await connection.execute(_FORGET, {"now": now})
