"""The ledger in SQLite or PostgreSQL. All values are bound parameters.

Rows come by the hundred many times a second, so they are written by one statement that the driver
runs for all of them, without SQLAlchemy's work on each.
"""

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import asyncpg
import msgspec
from msgspec.structs import astuple
from sqlalchemy import (
    Row,
    String,
    bindparam,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.shared import Shared
from middlewares.stores.counters.base import AHEAD, Spent
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.sqlite_writer import SqliteWriter
from middlewares.stores.sql.tables import ledger

from . import sql_search
from .base import (
    LARGEST,
    AttemptRecord,
    Entry,
    Found,
    Kind,
    Place,
    RowRejected,
    Sum,
    Wanted,
    daily_sum,
    saturated,
    storable,
)
from .spend import DAY, EVERYTHING, GROUPS, Cursor, Dimension, Filters, Group, Grouped
from .sql_rollups import POSTGRES, SQLITE, add_sqlite, rollup_rows_in_thread
from .sql_spend import SqlSpend
from .totals import CREDITS, Period, Total, totals

_FIELDS = Entry.__struct_fields__
_OTHERS = _FIELDS.index("stream")
_RARE = _FIELDS.index("fallback_from")
_USUAL = astuple(Entry("", "", 0.0, 0.0))[_RARE:-1]
"""Of the fields from `_RARE` to the last, which is `key_name`."""
_TEAM_STARTS = _FIELDS.index("team_starts") - _RARE
_SHORT = _RARE + 1
"""Length of a usual row: the fields before `_RARE`, and `key_name`."""
_AT_ONCE = 25
"""Rows for which SQLite holds up the loop, for about a quarter of a millisecond."""
_BAD_VALUE = ("22", "23", "54")
"""Classes of SQLSTATE (PostgreSQL, appendix A): data exceptions, constraint violations, limits of
the program (a value too large for an index)."""
_BAD_POSTGRES = (asyncpg.DataError, TypeError, ValueError, OverflowError)
"""What the driver says of a value that it cannot write down; it has no SQLSTATE then."""

_KNOWN_SQLITE = "SELECT id FROM ledger WHERE id IN (SELECT value FROM json_each(?))"
_COLUMNS = ", ".join((*_FIELDS, "revision"))
_INSERT_SQLITE = f"INSERT INTO ledger ({_COLUMNS}) VALUES (?{', ?' * len(_FIELDS)})"  # noqa: S608
_USUAL_COLUMNS = [*_USUAL[:_TEAM_STARTS], "{}", *_USUAL[_TEAM_STARTS + 1 :]]
_USUAL_VALUES = f"(?{', ?' * (_RARE - 1)}, {', '.join(map(repr, _USUAL_COLUMNS))}, ?, NULL)"
_INSERT_USUAL_SQLITE = f"INSERT INTO ledger ({_COLUMNS}) VALUES {_USUAL_VALUES}"  # noqa: S608
_INSERT_MANY_USUAL_SQLITE = _INSERT_USUAL_SQLITE + f", {_USUAL_VALUES}" * (_AT_ONCE - 1)
_INSERT_POSTGRES = (
    f"INSERT INTO ledger ({_COLUMNS}) SELECT * FROM unnest("  # noqa: S608
    "$1::text[], $2::text[], $3::float8[], $4::float8[], $5::text[], $6::text[],"
    " $7::text[], $8::text[], $9::text[], $10::int8[], $11::text[], $12::text[],"
    " $13::int8[], $14::int8[], $15::int8[], $16::int8[], $17::int8[], $18::int8[],"
    " $19::int8[], $20::int8[], $21::float8[], $22::float8[], $23::float8[], $24::bool[],"
    " $25::bool[], $26::text[], $27::text[], $28::text[], $29::int8[], $30::int8[],"
    " $31::int8[], $32::text[], $33::int8[], $34::text[], $35::int8[], $36::int8[],"
    " $37::text[], $38::text[], $39::text[], $40::text[], $41::int8[], $42::text[],"
    " $43::text[], $44::int8[])"
    " ON CONFLICT (id) DO NOTHING RETURNING id"
)
_ADD_SQLITE = (
    "INSERT INTO ledger_totals (account, name, start, at, amount) VALUES (?, ?, ?, ?, ?)"  # noqa: S608
    " ON CONFLICT (account, name, start) DO UPDATE SET"
    " at = max(at, excluded.at),"
    f" amount = max(-{LARGEST}, min({LARGEST}, amount + excluded.amount))"
)
_ADD_POSTGRES = (
    "INSERT INTO ledger_totals AS kept (account, name, start, at, amount)"  # noqa: S608
    " SELECT * FROM unnest("
    "$1::text[], $2::text[], $3::float8[], $4::float8[], $5::int8[])"
    " ON CONFLICT (account, name, start) DO UPDATE SET"
    " at = greatest(kept.at, excluded.at), amount ="
    f" greatest(-{LARGEST}, least({LARGEST}, kept.amount::numeric + excluded.amount))"
)
_BAD_SQLITE = (
    sqlite3.DataError,
    sqlite3.InterfaceError,
    sqlite3.ProgrammingError,
    OverflowError,
    UnicodeEncodeError,
)
"""What the driver says of a value that it cannot bind."""
# One statement sees one moment. The names of an account's windows are found by going from one to
# the next in the index, and of each the period of the newest row.
_SPENT = text(
    "WITH RECURSIVE names (name) AS ("
    " SELECT min(name) FROM ledger_totals WHERE account = :account"
    " UNION ALL SELECT (SELECT min(other.name) FROM ledger_totals AS other"
    "  WHERE other.account = :account AND other.name > names.name)"
    " FROM names WHERE names.name IS NOT NULL)"
    " SELECT kept.name, kept.start, kept.amount, NULL AS id FROM names"
    " JOIN ledger_totals AS kept ON kept.account = :account AND kept.name = names.name"
    " AND kept.start = (SELECT newest.start FROM ledger_totals AS newest"
    "  WHERE newest.account = :account AND newest.name = names.name AND newest.start <= :latest"
    "  ORDER BY newest.at DESC, newest.start DESC LIMIT 1)"
    " UNION ALL SELECT NULL, NULL, NULL, id FROM ledger"
    " WHERE id IN :ids AND :account IN (account, team)"
    " UNION ALL SELECT NULL, NULL, NULL, jobs.entry_id FROM jobs"
    " WHERE jobs.entry_id IN :ids"
).bindparams(bindparam("ids", type_=String, expanding=True))
_GRANTS = text(
    "SELECT value, NULL AS account FROM revisions WHERE name = 'credits'"
    " UNION ALL SELECT NULL, account FROM ledger WHERE revision > :since"
)

_NEXT_REVISION = "UPDATE revisions SET value = value + 1 WHERE name = 'credits' RETURNING value"

_c = ledger.c
_ENTRIES = select(*[_c[name] for name in _FIELDS])
_GET = _ENTRIES.where(_c.id == bindparam("which"))
_CREDIT: Any = text("kind = 'credit'")
_CHILDREN = (
    _ENTRIES.where(_c.account == bindparam("whose"), _c.parent == bindparam("which"))
    .where(text("parent <> ''"))  # as the index says
    .order_by(_c.at, _c.id)
    .limit(1000)
)


_encode = msgspec.json.Encoder().encode
_starts = msgspec.json.Decoder(dict[str, float])
_attempts = msgspec.json.Decoder(list[AttemptRecord])


def _rows(entries: Sequence[Entry], revision: int | None) -> list[list[Any]]:
    """Rows for `_COLUMNS`; short ones, for all columns but those whose values they share
    with nearly all rows, which are `_USUAL`."""
    rows = []
    starts: Any = ...
    periods = ""
    try:
        for entry in entries:
            values = astuple(entry)
            stream, measured, counts_in, tries = values[_OTHERS:_RARE]
            if counts_in is not starts:  # most count in the same periods as the one before
                starts = counts_in
                periods = _text(starts or {})
            # SQLite's driver searches long for what to do with a truth value.
            row = [*values[:_OTHERS], +stream, +measured, periods, _text(tries or [])]
            rest = values[_RARE:-1]
            if rest == _USUAL:
                row.append(values[-1])
            else:
                row += rest
                row[_RARE + _TEAM_STARTS] = _text(rest[_TEAM_STARTS] or {})
                row += (values[-1], revision if entry.kind == "credit" else None)
            rows.append(row)
    except (TypeError, ValueError) as raised:  # of attempts
        raise _rejected(raised) from raised
    return rows


def _text(value: Any) -> str:
    return _encode(value).decode()


def _rejected(raised: BaseException | None) -> RowRejected:
    return RowRejected(str(raised).partition("\n")[0])


def _entry(row: Row[Any]) -> Entry:
    fields = dict(row._mapping)
    fields["starts"] = _starts.decode(fields["starts"])
    fields["team_starts"] = _starts.decode(fields["team_starts"])
    fields["attempts"] = _attempts.decode(fields["attempts"])
    return Entry(**fields)


class SqlLedgerStore(Shared):
    """A `LedgerStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._spend = SqlSpend(database)
        self._writer: SqliteWriter | None = None
        if database.sqlite_file is not None:
            self._writer = SqliteWriter(database, database.sqlite_file)

    async def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        try:
            await self._append(entries)
        except RowRejected:  # one bad value must not hold up the whole ledger
            await self._append([storable(entry) for entry in entries])

    async def _append(self, entries: Sequence[Entry]) -> None:
        """And in front of them those that the database has had and lost."""
        identity = self._database.identity
        if self._writer is not None:
            async with self._writer.transaction() as connection:
                await _append_sqlite([*identity.lost, *entries], connection)
        else:
            await self._append_postgres(entries)
        identity.written(entries)

    async def _append_postgres(self, entries: Sequence[Entry]) -> None:
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            entries = [*self._database.identity.lost, *entries]
            revision = None
            if _any_credit(entries):
                # The counter comes first, as with keys: what it orders becomes visible in order.
                revision = (await connection.exec_driver_sql(_NEXT_REVISION)).scalar_one()
            await _append_postgres(connection, entries, revision)

    async def get(self, account: str | None, entry_id: str) -> Entry | None:
        statement = _GET if account is None else _GET.where(_c.account == account)
        async with self._database.read() as connection:
            row = (await connection.execute(statement, {"which": entry_id})).one_or_none()
        return None if row is None else _entry(row)

    async def children(self, account: str, entry_id: str) -> list[Entry]:
        async with self._database.read() as connection:
            rows = await connection.execute(_CHILDREN, {"whose": account, "which": entry_id})
            return [_entry(row) for row in rows]

    async def spent(
        self, account: str, now: float, ids: Sequence[str]
    ) -> tuple[Spent, tuple[str, ...]]:
        async with self._database.read(checked=True) as connection:
            await self._database.confirm(connection)
            values = {"account": account, "ids": ids, "latest": now + AHEAD}
            rows = (await connection.execute(_SPENT, values)).all()
        if self._database.identity.lost:
            await self._append(())
            return await self.spent(account, now, ids)
        starts: dict[str, float] = {}
        amounts: dict[str, int] = {}
        for name, start, amount, id_ in rows:
            if id_ is None:
                starts[name] = start
                amounts[name] = saturated(amount)
        starts.pop(CREDITS, None)
        balance = amounts.pop(CREDITS, 0)
        return Spent(starts, amounts, balance), tuple([row.id for row in rows if row.id])

    async def grants(self, since: int) -> tuple[int, list[str]]:
        async with self._database.read(checked=True) as connection:
            await self._database.confirm(connection)
            rows = (await connection.execute(_GRANTS, {"since": since})).all()
        if self._database.identity.lost:
            await self._append(())
        revision = next(value for value, account in rows if account is None)
        return revision, list(dict.fromkeys(account for _, account in rows if account is not None))

    async def sums(self, account: str | None, since: float, until: float) -> list[Sum]:
        found = await self._spend.grouped(
            ("day", "model"),
            Filters(key=account),
            since,
            until,
            None,
            None,
            purposes=account is not None,
        )
        return [daily_sum(group) for group in found.groups]

    async def grouped(
        self,
        by: Sequence[Dimension],
        filters: Filters = EVERYTHING,
        *,
        since: float,
        until: float,
        after: Cursor | None = None,
        limit: int = GROUPS,
        purposes: bool = False,
    ) -> Grouped:
        return await self._spend.grouped(by, filters, since, until, after, limit, purposes=purposes)

    async def top_keys(self, at: float, limit: int = 10) -> list[Group]:
        return await self._spend.top_keys(int(at // DAY), limit)

    async def page(
        self,
        *,
        account: str | None = None,
        kind: Kind | None = None,
        since: float | None = None,
        until: float | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        wanted = []
        if account is not None:
            wanted.append(_c.account == account)
        if kind is not None:
            # As the index of credits says.
            wanted.append(_CREDIT if kind == "credit" else _c.kind == kind)
        if since is not None:
            wanted.append(_c.at >= since)
        if until is not None:
            wanted.append(_c.at < until)
        if before is not None:
            wanted.append(tuple_(_c.at, _c.id) < tuple_(*before))
        newest = _ENTRIES.order_by(_c.at.desc(), _c.id.desc()).limit(limit)
        async with self._database.read() as connection:
            rows = await connection.execute(newest.where(*wanted))
            return [_entry(row) for row in rows]

    async def search(
        self, wanted: Wanted, *, before: Place | None = None, limit: int = 50
    ) -> Found:
        async with self._database.read() as connection:
            rows, following = await sql_search.search(connection, _ENTRIES, wanted, before, limit)
        return Found([_entry(row) for row in rows], following)

    async def last_used(self, accounts: Sequence[str]) -> dict[str, float]:
        async with self._database.read() as connection:
            return await sql_search.last_used(connection, accounts)


def _any_credit(entries: Sequence[Entry]) -> bool:
    return any(entry.kind == "credit" for entry in entries)


async def _append_sqlite(entries: Sequence[Entry], connection: sqlite3.Connection) -> None:
    connection.execute("SAVEPOINT fresh")
    try:
        await _add_sqlite(entries, connection)
        return
    except sqlite3.IntegrityError:  # an id is there already, which is rare
        connection.execute("ROLLBACK TO fresh")
    except _BAD_SQLITE as raised:
        raise _rejected(raised) from raised
    new = {entry.id: entry for entry in reversed(entries)}  # of two with one id, the first
    # The transaction is the only one that writes, so what is not there now stays so.
    for (known,) in connection.execute(_KNOWN_SQLITE, (_encode(list(new)).decode(),)):
        del new[known]
    try:
        await _add_sqlite(list(reversed(new.values())), connection)
    except (sqlite3.IntegrityError, *_BAD_SQLITE) as raised:
        raise _rejected(raised) from raised


async def _add_sqlite(entries: Sequence[Entry], connection: sqlite3.Connection) -> None:
    revision = None
    if _any_credit(entries):
        (revision,) = connection.execute(_NEXT_REVISION).fetchone()
    for start in range(0, len(entries), _AT_ONCE):
        if start:
            await asyncio.sleep(0)
        rows = _rows(entries[start : start + _AT_ONCE], revision)
        usual = [row for row in rows if len(row) == _SHORT]
        if len(usual) == _AT_ONCE:
            # One statement for all of them takes two thirds of the time.
            connection.execute(_INSERT_MANY_USUAL_SQLITE, [*chain.from_iterable(usual)])
        else:
            connection.executemany(_INSERT_USUAL_SQLITE, usual)
            others = [row for row in rows if len(row) > _SHORT]
            connection.executemany(_INSERT_SQLITE, others)
    connection.executemany(_ADD_SQLITE, _total_rows(totals(entries)))
    await add_sqlite(connection, entries)


async def _append_postgres(
    connection: AsyncConnection, entries: Sequence[Entry], revision: int | None
) -> None:
    rows = [
        row if len(row) > _SHORT else [*row[:-1], *_USUAL_COLUMNS, row[-1], None]
        for row in _rows(entries, revision)
    ]
    columns: list[tuple[Any, ...]] = [*zip(*rows, strict=True)]
    for place in (_OTHERS, _OTHERS + 1):  # stream, measured
        columns[place] = tuple(map(bool, columns[place]))
    inserted = await _execute(connection, _INSERT_POSTGRES, columns)
    ids = {id_ for (id_,) in inserted}
    new = {entry.id: entry for entry in reversed(entries) if entry.id in ids}
    await _add_totals(connection, totals(new.values()))
    await _add_rollups(connection, [*new.values()])


async def write_row(connection: AsyncConnection, entry: Entry) -> None:
    """Write a row in a transaction of the caller's, who knows that it is not there yet.

    Raises what `Database.write` translates.
    """
    entry = storable(entry)
    if connection.dialect.name == "postgresql":
        await _append_postgres(connection, [entry], None)
        return
    (row,) = _rows([entry], None)
    statement = _INSERT_SQLITE if len(row) > _SHORT else _INSERT_USUAL_SQLITE
    await connection.exec_driver_sql(statement, tuple(row))
    await _add_totals(connection, totals([entry]))
    await _add_rollups(connection, [entry])


async def reserve(connection: AsyncConnection, entry: Entry) -> None:
    """Count the cost of `entry`, which is not in the ledger yet, in the totals of its account, in a
    transaction of the caller's."""
    await _add_totals(connection, totals([entry]))


async def release(connection: AsyncConnection, entry: Entry) -> None:
    """Undo `reserve`."""
    sums = totals([entry])
    await _add_totals(connection, {period: (at, -amount) for period, (at, amount) in sums.items()})


async def _add_totals(connection: AsyncConnection, sums: dict[Period, Total]) -> None:
    if not sums:
        return
    rows = _total_rows(sums)
    if connection.dialect.name == "postgresql":
        await _execute(connection, _ADD_POSTGRES, zip(*rows, strict=True))
    else:
        await connection.exec_driver_sql(_ADD_SQLITE, rows)


async def _add_rollups(connection: AsyncConnection, entries: Sequence[Entry]) -> None:
    for name, rows in await rollup_rows_in_thread(entries):
        if connection.dialect.name == "postgresql":
            await _execute(connection, POSTGRES[name], zip(*rows, strict=True))
        else:
            await connection.exec_driver_sql(SQLITE[name], rows)


async def _execute(
    connection: AsyncConnection, statement: str, columns: Iterable[Sequence[Any]]
) -> Any:
    """Run a statement over columns. Raises Rejected for an invalid value, found by the
    server or by the driver."""
    try:
        return await connection.exec_driver_sql(statement, tuple(columns))
    except DBAPIError as raised:
        state = str(getattr(raised.orig, "sqlstate", None) or "")
        cause = getattr(raised.orig, "__cause__", None)
        if state.startswith(_BAD_VALUE) or (not state and isinstance(cause, _BAD_POSTGRES)):
            raise _rejected(raised.orig) from raised
        raise
    except _BAD_POSTGRES as raised:
        raise _rejected(raised) from raised


def _total_rows(sums: dict[Period, Total]) -> list[tuple[str, str, float, float, int]]:
    # In one order, so that no two transactions wait for each other.
    return [(*period, at, saturated(amount)) for period, (at, amount) in sorted(sums.items())]
