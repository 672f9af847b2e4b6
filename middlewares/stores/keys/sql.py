"""Keys in SQLite or PostgreSQL, through SQLAlchemy Core. All values are bound parameters."""

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from sqlalchemy import Row, bindparam, insert, or_, select, tuple_, update

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.revision import NEXT_REVISION, REVISION
from middlewares.stores.sql.tables import api_keys, teams
from middlewares.stores.sql.tables_version import SchemaMismatch, needs_migration
from middlewares.stores.teams.base import TeamRecord

from .base import Change, Key, KeyPage, KeysWanted, KeyWithTeam, UnknownKey, revision_of
from .sql_search import search

__all__ = ["Database", "SchemaMismatch", "SqlKeyStore", "needs_migration"]

_c = api_keys.c
_ORDERED = select(api_keys).order_by(_c.created_at, _c.id)
_HAS_DIGEST = or_(_c.digest == bindparam("digest"), _c.previous_digest == bindparam("digest"))
_BY_DIGEST = select(api_keys).where(_HAS_DIGEST)
_KEYS = [column.name for column in _c]
_TEAMS = [column.name for column in teams.c]
_WITH_TEAM = select(
    *_c, *(column.label(f"of_team_{column.name}") for column in teams.c)
).select_from(api_keys.outerjoin(teams, teams.c.id == _c.team))
_BY_DIGEST_WITH_TEAM = _WITH_TEAM.where(_HAS_DIGEST)
_BY_ID = select(api_keys).where(_c.id == bindparam("id"))
_BY_IDS = select(api_keys).where(_c.id.in_(bindparam("ids", expanding=True)))
_MATCHING = _ORDERED.where(
    or_(_c.id == bindparam("text"), _c.prefix == bindparam("text"), _c.name == bindparam("text"))
)
_CHANGED_KEYS = (
    _WITH_TEAM.where(_c.revision > bindparam("since"), _c.revision <= bindparam("until"))
    .order_by(_c.revision)
    .limit(bindparam("most"))
)
_CHANGED_TEAMS = (
    select(teams)
    .where(teams.c.revision > bindparam("since"), teams.c.revision <= bindparam("until"))
    .order_by(teams.c.revision)
    .limit(bindparam("most"))
)
_PAGE = _ORDERED.limit(bindparam("most"))
_LATER = _PAGE.where(tuple_(_c.created_at, _c.id) > tuple_(bindparam("at"), bindparam("place")))
_OF_TEAM = _c.team == bindparam("of")
_PAGE_OF_TEAM, _LATER_OF_TEAM = _PAGE.where(_OF_TEAM), _LATER.where(_OF_TEAM)
_INSERT = insert(api_keys)
_REPLACE = update(api_keys).where(_c.id == bindparam("old_id"))


def _key(row: Row[Any]) -> Key:
    fields = dict(zip(_KEYS, row, strict=False))
    for name in ("models", "endpoints", "networks"):
        if fields[name] is not None:
            fields[name] = tuple(fields[name])
    return Key(**fields)


def _with_team(row: Row[Any]) -> KeyWithTeam:
    fields = dict(zip(_TEAMS, row[len(_KEYS) :], strict=True))
    return KeyWithTeam(_key(row), None if fields["id"] is None else TeamRecord(**fields))


class SqlKeyStore(Shared):
    """A `KeyStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def generation(self) -> int:
        return self._database.identity.generation

    async def find(self, digest: bytes) -> Key | None:
        found = await self._one(_BY_DIGEST, {"digest": digest})
        if found is None:
            await self.revision()  # in another database than before it may be missing
        return found

    async def find_with_team(self, digest: bytes) -> KeyWithTeam | None:
        async with self._database.read() as connection:
            values = {"digest": digest}
            row = (await connection.execute(_BY_DIGEST_WITH_TEAM, values)).one_or_none()
        if row is None:
            await self.revision()  # in another database than before it may be missing
            return None
        return _with_team(row)

    async def get(self, key_id: str) -> Key | None:
        return await self._one(_BY_ID, {"id": key_id})

    async def get_many(self, ids: Collection[str]) -> list[Key]:
        """The keys with these ids, in any order."""
        return await self._all(_BY_IDS, {"ids": [*ids]})

    async def match(self, text: str) -> list[Key]:
        return await self._all(_MATCHING, {"text": text})

    async def every(self) -> list[Key]:
        return await self._all(_ORDERED, {})

    async def page(
        self, after: tuple[float, str] | None, limit: int, *, team: str | None = None
    ) -> list[Key]:
        values: dict[str, Any] = {"most": limit}
        statement = _PAGE if team is None else _PAGE_OF_TEAM
        if team is not None:
            values["of"] = team
        if after is not None:
            statement = _LATER if team is None else _LATER_OF_TEAM
            values["at"], values["place"] = after
        return await self._all(statement, values)

    async def search(
        self,
        wanted: KeysWanted,
        *,
        now: float,
        after: tuple[float, str] | None = None,
        limit: int = 50,
    ) -> KeyPage:
        async with self._database.read() as connection:
            rows, following = await search(connection, wanted, now, after, limit)
        return KeyPage([_key(row) for row in rows], following)

    async def changes(self, since: int, limit: int) -> list[Change]:
        async with self._database.read() as connection:
            # All writes up to this revision are visible, in both tables. Later ones may be so in
            # the second only.
            until = (await connection.execute(REVISION)).scalar_one()
            values = {"since": since, "until": until, "most": limit}
            keys = await connection.execute(_CHANGED_KEYS, values)
            found: list[Change] = [_with_team(row) for row in keys]
            changed = await connection.execute(_CHANGED_TEAMS, values)
            found += [TeamRecord(**row._mapping) for row in changed]
        return sorted(found, key=revision_of)[:limit]

    async def revision(self) -> int:
        async with self._database.read(checked=True) as connection:
            return (await self._database.confirm(connection)).keys

    async def insert(self, key: Key) -> Key:
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            revision = (await connection.execute(NEXT_REVISION)).scalar_one()
            key = msgspec.structs.replace(key, revision=revision)
            await connection.execute(_INSERT, msgspec.structs.asdict(key))
            return key

    async def update(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            # The counter comes first: its lock makes this the only writer of keys until commit.
            revision = (await connection.execute(NEXT_REVISION)).scalar_one()
            row = (await connection.execute(_BY_ID, {"id": key_id})).one_or_none()
            if row is None:
                raise UnknownKey(key_id)
            key = msgspec.structs.replace(change(_key(row)), revision=revision)
            await connection.execute(_REPLACE, {"old_id": key_id, **msgspec.structs.asdict(key)})
            return key

    async def _one(self, statement: Any, values: dict[str, Any]) -> Key | None:
        async with self._database.read() as connection:
            row = (await connection.execute(statement, values)).one_or_none()
        return None if row is None else _key(row)

    async def _all(self, statement: Any, values: dict[str, Any]) -> list[Key]:
        async with self._database.read() as connection:
            return [_key(row) for row in await connection.execute(statement, values)]
