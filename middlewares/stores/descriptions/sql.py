"""Descriptions in SQLite or PostgreSQL. All values are bound parameters."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import and_, bindparam, delete, select, text, update

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import descriptions

_TOUCHED = 3600.0
"""Seconds after which another use of a text is noted."""
_ASKED = 500
"""Keys in one statement."""

_c = descriptions.c
_OWN = _c.owner == bindparam("whose")
_FIND = select(_c.key, _c.text, _c.used_at).where(
    _OWN,
    _c.key.in_(bindparam("keys", expanding=True)),
    _c.text.is_not(None),
    _c.created_at > bindparam("oldest"),
)
_TOUCH = (
    update(descriptions)
    .where(_OWN, _c.key.in_(bindparam("keys", expanding=True)))
    .values(used_at=bindparam("now"))
)
_CLAIM = text(
    "INSERT INTO descriptions (owner, key, text, created_at, used_at, token, lease_until)"
    " VALUES (:whose, :key, NULL, :now, :now, :token, :until)"
    " ON CONFLICT (owner, key) DO UPDATE SET text = NULL, created_at = excluded.created_at,"
    " used_at = excluded.used_at, token = excluded.token, lease_until = excluded.lease_until"
    " WHERE (descriptions.text IS NULL AND descriptions.lease_until < excluded.created_at)"
    " OR descriptions.created_at <= :oldest"
    " RETURNING key"
)
_MINE = and_(_OWN, _c.key == bindparam("which"), _c.token == bindparam("mine"), _c.text.is_(None))
_RENEW = update(descriptions).where(_MINE).values(lease_until=bindparam("until"))
_SAVE = (
    update(descriptions)
    .where(_MINE)
    .values(text=bindparam("words"), created_at=bindparam("now"), used_at=bindparam("now"))
)
_RELEASE = delete(descriptions).where(_MINE)
_KEPT = (
    select(_c.key)
    .where(_OWN)
    .order_by(_c.used_at.desc(), _c.key)
    .limit(bindparam("most"))
    .scalar_subquery()
)
_LIMIT = delete(descriptions).where(_OWN, _c.text.is_not(None), _c.key.not_in(_KEPT))
_PURGE = delete(descriptions).where(_c.created_at <= bindparam("oldest"))


class SqlDescriptionStore(Shared):
    """A `DescriptionStore` in a SQL database.

    keep: seconds that a text is used. most: texts of one owner.
    """

    def __init__(self, database: Database, *, keep: float, most: int = 5000) -> None:
        self._database = database
        self._keep = keep
        self._most = most

    async def find(self, owner: str, keys: Collection[str], now: float) -> Mapping[str, str]:
        found: dict[str, str] = {}
        wanted = sorted(set(keys))
        for start in range(0, len(wanted), _ASKED):
            values: dict[str, Any] = {
                "whose": owner,
                "keys": wanted[start : start + _ASKED],
                "oldest": now - self._keep,
            }
            async with self._database.read() as connection:
                rows = (await connection.execute(_FIND, values)).all()
            found |= {key: words for key, words, _ in rows}
            stale = [key for key, _, used_at in rows if used_at < now - _TOUCHED]
            if stale:
                async with self._database.write() as connection:
                    values = {"whose": owner, "keys": stale, "now": now}
                    await connection.execute(_TOUCH, values)
        return found

    async def claim(self, owner: str, key: str, token: str, now: float, until: float) -> bool:
        values = {
            "whose": owner,
            "key": key,
            "token": token,
            "now": now,
            "until": until,
            "oldest": now - self._keep,
        }
        async with self._database.write() as connection:
            return (await connection.execute(_CLAIM, values)).one_or_none() is not None

    async def renew(self, owner: str, key: str, token: str, until: float) -> None:
        values = {"whose": owner, "which": key, "mine": token, "until": until}
        async with self._database.write() as connection:
            await connection.execute(_RENEW, values)

    async def save(self, owner: str, key: str, token: str, text: str, now: float) -> None:
        words = text.replace("\0", "\ufffd").encode(errors="replace").decode()
        values = {"whose": owner, "which": key, "mine": token, "words": words, "now": now}
        async with self._database.write() as connection:
            await connection.execute(_SAVE, values)
            await connection.execute(_LIMIT, {"whose": owner, "most": self._most})

    async def release(self, owner: str, key: str, token: str) -> None:
        values = {"whose": owner, "which": key, "mine": token}
        async with self._database.write() as connection:
            await connection.execute(_RELEASE, values)

    async def purge(self, now: float) -> int:
        async with self._database.write() as connection:
            return (await connection.execute(_PURGE, {"oldest": now - self._keep})).rowcount
