"""Sessions in SQLite or PostgreSQL. All values are bound parameters."""

import msgspec
from sqlalchemy import and_, bindparam, delete, insert, or_, select, update

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import sessions

from .base import IDLE, MOST, How, Session

_c = sessions.c
_COLUMNS = tuple(_c[name] for name in Session.__struct_fields__)
_THIS = _c.digest == bindparam("which")
_OF = and_(_c.how == bindparam("opened_by"), _c.subject == bindparam("whose"))
_FIND = select(*_COLUMNS).where(_THIS)
_INSERT = insert(sessions)
_SEEN = update(sessions).where(_THIS).values(seen_at=bindparam("at"))
_DELETE = delete(sessions).where(_THIS)
_LIST = select(*_COLUMNS).where(_OF).order_by(_c.seen_at.desc(), _c.digest).limit(bindparam("most"))
_NEWEST = (
    select(_c.digest)
    .where(_OF)
    .order_by(_c.seen_at.desc(), _c.digest)
    .limit(MOST)
    .scalar_subquery()
)
_LIMIT = delete(sessions).where(_OF, _c.digest.not_in(_NEWEST))
_DELETE_OF = delete(sessions).where(_OF)
_PURGE = delete(sessions).where(
    or_(
        _c.expires_at <= bindparam("now"),
        *(
            and_(_c.role == role, _c.seen_at <= bindparam(f"{role}_idle_since"))
            for role in sorted(IDLE)
        ),
    )
)


class SqlSessionStore(Shared):
    """A `SessionStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, digest: bytes) -> Session | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_FIND, {"which": digest})).mappings().one_or_none()
        return None if row is None else Session(**row)

    async def insert(self, session: Session) -> None:
        values = msgspec.structs.asdict(session)
        async with self._database.write() as connection:
            await connection.execute(_INSERT, values)
            await connection.execute(_LIMIT, {"opened_by": session.how, "whose": session.subject})

    async def seen(self, digest: bytes, at: float) -> None:
        async with self._database.write() as connection:
            await connection.execute(_SEEN, {"which": digest, "at": at})

    async def delete(self, digest: bytes) -> None:
        async with self._database.write() as connection:
            await connection.execute(_DELETE, {"which": digest})

    async def of_subject(self, how: How, subject: str, limit: int = MOST) -> list[Session]:
        values = {"opened_by": how, "whose": subject, "most": limit}
        async with self._database.read() as connection:
            rows = (await connection.execute(_LIST, values)).mappings().all()
        return [Session(**row) for row in rows]

    async def delete_of(self, how: How, subject: str) -> int:
        async with self._database.write() as connection:
            values = {"opened_by": how, "whose": subject}
            return (await connection.execute(_DELETE_OF, values)).rowcount

    async def purge(self, now: float) -> int:
        idle = {f"{role}_idle_since": now - seconds for role, seconds in IDLE.items()}
        async with self._database.write() as connection:
            return (await connection.execute(_PURGE, {"now": now, **idle})).rowcount
