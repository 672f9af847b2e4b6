"""Teams in SQLite or PostgreSQL, through SQLAlchemy Core. All values are bound parameters."""

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from sqlalchemy import Row, bindparam, insert, or_, select, tuple_, update

from middlewares.shared import Shared
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.revision import NEXT_REVISION
from middlewares.stores.sql.tables import teams

from .base import TeamRecord, UnknownTeam

_c = teams.c
_ORDERED = select(teams).order_by(_c.created_at, _c.id)
_BY_ID = select(teams).where(_c.id == bindparam("id"))
_BY_IDS = select(teams).where(_c.id.in_(bindparam("ids", expanding=True)))
_MATCHING = _ORDERED.where(or_(_c.id == bindparam("text"), _c.name == bindparam("text")))
_PAGE = _ORDERED.limit(bindparam("most"))
_LATER = _PAGE.where(tuple_(_c.created_at, _c.id) > tuple_(bindparam("at"), bindparam("place")))
_INSERT = insert(teams)
_REPLACE = update(teams).where(_c.id == bindparam("old_id"))


def _team(row: Row[Any]) -> TeamRecord:
    return TeamRecord(**row._mapping)


class SqlTeamStore(Shared):
    """A `TeamStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, team_id: str) -> TeamRecord | None:
        found = await self._all(_BY_ID, {"id": team_id})
        return found[0] if found else None

    async def get_many(self, ids: Collection[str]) -> list[TeamRecord]:
        return await self._all(_BY_IDS, {"ids": list(ids)}) if ids else []

    async def match(self, text: str) -> list[TeamRecord]:
        return await self._all(_MATCHING, {"text": text})

    async def page(self, after: tuple[float, str] | None, limit: int) -> list[TeamRecord]:
        if after is None:
            return await self._all(_PAGE, {"most": limit})
        return await self._all(_LATER, {"most": limit, "at": after[0], "place": after[1]})

    async def insert(self, team: TeamRecord) -> TeamRecord:
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            revision = (await connection.execute(NEXT_REVISION)).scalar_one()
            team = msgspec.structs.replace(team, revision=revision)
            await connection.execute(_INSERT, msgspec.structs.asdict(team))
            return team

    async def update(self, team_id: str, change: Callable[[TeamRecord], TeamRecord]) -> TeamRecord:
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            # The counter comes first: its lock makes this the only writer of teams until commit.
            revision = (await connection.execute(NEXT_REVISION)).scalar_one()
            row = (await connection.execute(_BY_ID, {"id": team_id})).one_or_none()
            if row is None:
                raise UnknownTeam(team_id)
            team = msgspec.structs.replace(change(_team(row)), revision=revision)
            await connection.execute(_REPLACE, {"old_id": team_id, **msgspec.structs.asdict(team)})
            return team

    async def _all(self, statement: Any, values: dict[str, Any]) -> list[TeamRecord]:
        async with self._database.read() as connection:
            return [_team(row) for row in await connection.execute(statement, values)]
