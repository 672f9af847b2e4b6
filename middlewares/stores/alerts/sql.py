"""Alerts in SQLite or PostgreSQL. All values are bound parameters."""

from collections.abc import Collection, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import msgspec
from sqlalchemy import bindparam, delete, select, text, update

from middlewares.shared import Shared
from middlewares.stores.counters.base import AHEAD
from middlewares.stores.ledger.totals import CREDITS
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import alerts

from .base import Alert, LowBalance, SpentPeriod

_c = alerts.c
_COLUMNS = tuple(_c[name] for name in Alert.__struct_fields__)
_due = select(_c.id).where(_c.due <= bindparam("now")).order_by(_c.due).limit(bindparam("most"))
_TAKE = (
    update(alerts)
    .where(_c.id.in_(_due.with_for_update(skip_locked=True)))
    .values(due=bindparam("until"))
    .returning(*_COLUMNS)
)
_CHANGE = (
    update(alerts)
    .where(_c.id == bindparam("which"))
    .values(due=bindparam("next"), tries=bindparam("tried"))
)
_FORGET = delete(alerts).where(_c.ends_at < bindparam("before"), _c.due.is_(None))

_WANTED = {
    "sqlite": "SELECT json_extract(value, '$[0]') AS account, json_extract(value, '$[1]') AS name"
    " FROM json_each(:wanted)",
    "postgresql": "SELECT value ->> 0 AS account, value ->> 1 AS name"
    " FROM json_array_elements(CAST(:wanted AS json)) AS pair(value)",
}
_SPENT = (
    "SELECT kept.account, kept.name, kept.start, kept.amount FROM ({wanted}) AS wanted"
    " JOIN ledger_totals AS kept ON kept.account = wanted.account AND kept.name = wanted.name"
    " AND kept.start = (SELECT newest.start FROM ledger_totals AS newest"
    "  WHERE newest.account = wanted.account AND newest.name = wanted.name"
    "  AND newest.start <= :latest ORDER BY newest.at DESC, newest.start DESC LIMIT 1)"
)
# One statement sees one moment: a balance and the grant that it followed.
_LOW = (
    "SELECT kept.account, kept.amount, (SELECT max(revision) FROM ledger"
    "  WHERE ledger.account = kept.account AND revision IS NOT NULL) AS granted"
    " FROM ({wanted}) AS wanted JOIN ledger_totals AS kept"
    " ON kept.account = wanted.account AND kept.name = wanted.name AND kept.start = 0"
    " WHERE kept.amount < :below"
)
_SPENT_BY = {name: text(_SPENT.format(wanted=wanted)) for name, wanted in _WANTED.items()}
_LOW_BY = {name: text(_LOW.format(wanted=wanted)) for name, wanted in _WANTED.items()}
_RECENT = text(
    "SELECT DISTINCT account, team FROM (SELECT account, team FROM ledger"
    " WHERE at >= :since ORDER BY at DESC, id DESC LIMIT :most) AS newest"
)


@cache
def _add(dialect: str) -> Any:
    """Adds an alert that is not there. Only the dialect that is used is loaded."""
    insert = import_module(f"sqlalchemy.dialects.{dialect}").insert
    return insert(alerts).on_conflict_do_nothing().returning(_c.id)


def _text(pairs: Sequence[tuple[str, str]]) -> str:
    return msgspec.json.encode(pairs).decode()


class SqlAlertStore(Shared):
    """An `AlertStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, alerts: Sequence[Alert]) -> set[str]:
        added: set[str] = set()
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            statement = _add(connection.dialect.name)
            # In one order, so that no two transactions wait for each other.
            for one in sorted(alerts, key=lambda alert: (alert.account, alert.name, alert.share)):
                row = await connection.execute(statement, msgspec.structs.asdict(one))
                added.update(row.scalars())
        return added

    async def take(self, now: float, until: float, most: int) -> list[Alert]:
        values = {"now": now, "most": most}
        async with self._database.read() as connection:
            if (await connection.execute(_due, {**values, "most": 1})).first() is None:
                return []
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            rows = (await connection.execute(_TAKE, {**values, "until": until})).all()
        return [Alert(**row._mapping) for row in rows]

    async def later(self, alert_id: str, due: float, tries: int) -> None:
        await self._write(_CHANGE, {"which": alert_id, "next": due, "tried": tries})

    async def end(self, alert_id: str, tries: int) -> None:
        await self._write(_CHANGE, {"which": alert_id, "next": None, "tried": tries})

    async def forget(self, before: float) -> None:
        await self._write(_FORGET, {"before": before})

    async def spent(self, windows: Sequence[tuple[str, str]], now: float) -> list[SpentPeriod]:
        values = {"wanted": _text(windows), "latest": now + AHEAD}
        async with self._database.read() as connection:
            statement = _SPENT_BY[connection.dialect.name]
            rows = (await connection.execute(statement, values)).all()
        return [SpentPeriod(*row) for row in rows]

    async def low(self, accounts: Collection[str], below: int) -> list[LowBalance]:
        values = {"wanted": _text([(one, CREDITS) for one in accounts]), "below": below}
        async with self._database.read() as connection:
            rows = (await connection.execute(_LOW_BY[connection.dialect.name], values)).all()
        return [LowBalance(*row) for row in rows if row.granted is not None]

    async def recent(self, since: float, most: int) -> list[str]:
        async with self._database.read() as connection:
            rows = (await connection.execute(_RECENT, {"since": since, "most": most})).all()
        return [*dict.fromkeys(id_ for row in rows for id_ in row if id_)]

    async def _write(self, statement: Any, values: dict[str, Any]) -> None:
        async with self._database.write() as connection:
            await connection.execute(statement, values)
