"""Spend read from SQLite or PostgreSQL: whole days from the roll-ups, the rest from the ledger.

Theory of operation. A question goes to the smallest table that has its columns. The rows of a part
of a day are added, or those of the rest of that day are taken off its sums, whichever are fewer.
Groups by tag have two sections: rows without tags, from the tables that count each row once, and
each tag, from the tables of tags. A page is a range of an index (`_Section.lead`: the columns that
groups are sorted by first), which ends where the page is full or after `SCAN` rows of the table; so
it is short, and not the last, where few rows of the range count.
"""

from collections.abc import Callable, Sequence
from time import time
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    String,
    Table,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import (
    api_keys,
    ledger,
    spend_days,
    spend_key_tags,
    spend_keys,
    spend_owners,
    spend_tags,
    teams,
)

from .base import saturated
from .spend import (
    FAILED,
    SUMS,
    Cursor,
    Dimension,
    Filters,
    Group,
    Grouped,
    Part,
    Parts,
    Spend,
    added,
    group,
    ordered,
    shortest_parts,
)

SCAN = 30_000
"""Rows of a table of sums that a page reads at most, beside those of its first key or owner."""

_COUNTED = SUMS[2:]
_LOW = 2**32 - 1
_COLUMNS: dict[Dimension, str] = {
    "key": "account",
    **{name: name for name in ("team", "owner", "model", "endpoint", "tag", "day")},
}
_KINDS: dict[Dimension, Any] = {"day": BigInteger()}
_MANY: tuple[Dimension, ...] = ("key", "owner")
_Values = tuple[str | int, ...]


class _Section:
    """Groups that one table has the sums of. tag: of all of them, None where rows are grouped
    by tag; condition: of the rows of the ledger that it counts."""

    def __init__(
        self,
        by: tuple[Dimension, ...],
        filters: Filters,
        *,
        purposes: bool,
        tags: bool,
        tagged: bool | None = None,
    ) -> None:
        self.by = by
        self.tags = tags
        given = {
            name: value
            for name, value in msgspec.structs.asdict(filters).items()
            if value is not None and (tags or name != "tag")
        }
        used = {*by, *given}
        wide = "key" in used or purposes or (tags and "owner" in used)
        self.table: Table
        if tags:
            self.table = spend_key_tags if wide else spend_tags
        elif wide:
            self.table = spend_keys
        else:
            self.table = spend_owners if "owner" in used else spend_days
        self._purposes = purposes
        self._given = given
        self._tagged = tagged
        self.lead = tuple(name for name in by if name in ("tag", "key", "owner"))[
            : 2 if tags else 1
        ]
        if "key" in self.lead:
            self.lead = tuple(name for name in self.lead if name != "owner")

    def prefix(self) -> list[ColumnElement[bool]]:
        """Conditions by which an index begins, before the columns of `lead`."""
        names: list[Dimension] = ["tag"] if self.tags else []
        if "key" in self._given:
            names.append("key")
        elif self._given.get("owner") and (not self.tags or "tag" in self._given):
            names.append("owner")
        elif self._given.get("team") and self.table is spend_keys:
            names.append("team")
        return [
            self.table.c[_COLUMNS[name]] == self._given[name]
            for name in names
            if name in self._given
        ] + self._partial()

    def _partial(self) -> list[ColumnElement[bool]]:
        """What partial indexes of the table ask for."""
        if self.table is not spend_keys:
            return []
        names = [name for name in ("owner", "team") if self._given.get(name)]
        return [self.table.c[name] != literal_column("''") for name in names]

    def of_table(self, dialect: str, first: int, last: int) -> Select[Any]:
        """The sums of whole days, with a column for each dimension."""
        c = self.table.c
        # Where groups are sorted by other columns first, an index by day is the wrong one, which
        # SQLite does not know.
        sqlite = dialect == "sqlite"
        day = c.day + literal_column("0") if self.lead and sqlite else c.day
        wanted = [day >= first, day <= last, *self._filtered(c), *self._partial()]
        if self._tagged is not None:
            wanted.append(c.tagged == self._tagged)
        return select(*self._dimensions(c), *[c[name] for name in SUMS]).where(*wanted)

    def of_ledger(self, dialect: str, part: Part) -> Select[Any]:
        """The rows of a part of a day, each as sums of one, negative where they are taken off."""
        c = ledger.c
        columns: dict[str, Any] = {name: c[name] for name in c.keys()}  # noqa: SIM118
        columns["day"] = literal(part.day, BigInteger)
        if "key" not in self._given:  # a range of accounts is read from the index by time, too
            columns["account"] = c.account.op("||")(literal_column("''"))
        source: Any = ledger
        wanted = [c.kind == "use", c.at >= part.since, c.at < part.until]
        if self.tags:
            each = each_tag(dialect)
            columns["tag"] = each.c.value
            source = ledger.join(each, true())
            wanted += [c.tags != "", each.c.value != ""]
        elif self._tagged is not None:
            wanted.append((c.tags != "") if self._tagged else (c.tags == ""))
        one = literal(part.sign, BigInteger)
        failed = case((c.ended.in_(sorted(FAILED)), one), else_=literal(0, BigInteger))
        counted = [c[name] if part.sign > 0 else (-c[name]).label(name) for name in _COUNTED]
        sums = [one.label("requests"), failed.label("errors"), *counted]
        rows = select(*self._dimensions(columns), *sums).select_from(source)
        return rows.where(*wanted, *self._filtered(columns))

    def _dimensions(self, columns: Any) -> list[ColumnElement[Any]]:
        return [self._column(columns, name).label(name) for name in self.by]

    def _column(self, columns: Any, name: Dimension) -> Any:
        if name == "model" and self._purposes:
            return case((columns["purpose"] != "", columns["purpose"]), else_=columns["model"])
        return columns[_COLUMNS[name]]

    def _filtered(self, columns: Any) -> list[ColumnElement[bool]]:
        return [self._column(columns, name) == value for name, value in self._given.items()]  # type: ignore[arg-type]


def each_tag(dialect: str) -> Any:
    """A table of the tags of a row of the ledger, to be joined with it."""
    tags = ledger.c.tags
    if dialect == "sqlite":
        quoted = func.replace(func.json_quote(tags, type_=String), ",", '","', type_=String)
        return func.json_each("[" + quoted + "]").table_valued("value", name="each_tag")
    listed = func.unnest(func.string_to_array(tags, ","))
    return listed.table_valued("value", name="each_tag").render_derived()


def _sections(by: tuple[Dimension, ...], filters: Filters, *, purposes: bool) -> list[_Section]:
    """In the order of their groups."""
    tag = filters.tag
    sections = []
    if "tag" not in by:
        tagged = False if tag == "" else None
        return [_Section(by, filters, purposes=purposes, tags=bool(tag), tagged=tagged)]
    if not tag:
        rest = tuple(name for name in by if name != "tag")
        sections.append(_Section(rest, filters, purposes=purposes, tags=False, tagged=False))
    if tag != "":
        sections.append(_Section(by, filters, purposes=purposes, tags=True))
    return sections


class SqlSpend:
    """Reads groups and sums. clock: Unix seconds."""

    def __init__(self, database: Database, clock: Callable[[], float] = time) -> None:
        self._database = database
        self._clock = clock

    async def grouped(
        self,
        by: Sequence[Dimension],
        filters: Filters,
        since: float,
        until: float,
        after: Cursor | None,
        limit: int | None,
        *,
        purposes: bool,
    ) -> Grouped:
        """See `LedgerStore.grouped`; limit None: all groups."""
        dimensions = ordered(by)
        period = shortest_parts(since, until, self._clock())
        async with self._database.read() as connection:
            found: list[tuple[_Values, Spend]] = []
            following: Cursor | None = None
            sections = _sections(dimensions, filters, purposes=purposes)
            for n, section in enumerate(sections):
                start = _start(section, after, tagged="tag" in dimensions)
                if start is None:
                    continue
                most = None if limit is None else limit - len(found)
                page = _Page(connection, section, period, start, most)
                rows, following = await page.read()
                untagged = "tag" in dimensions and not section.tags
                found += [(("", *values) if untagged else values, spend) for values, spend in rows]
                if following is not None:
                    following = ("", *following) if untagged else following
                    break
                if limit is not None and len(found) >= limit and n + 1 < len(sections):
                    following = ("",)
                    break
            total = None
            if after is None:
                if following is None and "tag" not in dimensions:
                    total = Spend(*map(saturated, added(spend for _, spend in found)))
                else:
                    (one,) = _sections((), filters, purposes=purposes)
                    rows, _ = await _Page(connection, one, period, (), None).read()
                    total = rows[0][1] if rows else Spend()
            names = await _names(connection, dimensions, [values for values, _ in found])
        groups = [group(by, values, spend, names) for values, spend in found]
        return Grouped(groups, total, following)

    async def top_keys(self, day: int, limit: int) -> list[Group]:
        """The keys that spent most on a day, the first the most."""
        c = spend_keys.c
        order = (func.sum(c.cost).desc(), c.account)
        first = select(c.account).where(c.day == day).group_by(c.account).order_by(*order)
        # All sums of these keys alone: those of every key of the day take twice as long.
        sums = select(c.account, *_plain(c)).where(c.day == day, c.account.in_(first.limit(limit)))
        most = sums.group_by(c.account).order_by(*order)
        async with self._database.read() as connection:
            rows = (await connection.execute(most)).all()
            names = await _names(connection, ("key",), [(row[0],) for row in rows])
        return [group(("key",), row[:1], _spend(row[1:]), names) for row in rows]


def _start(section: _Section, after: Cursor | None, *, tagged: bool) -> Cursor | None:
    """Where the page begins in a section, () at its beginning; None where it is behind."""
    if after is None:
        return ()
    if not tagged:
        return after
    if section.tags:
        return () if after[0] == "" else after
    if after[0] != "" or len(after) == 1:
        return None
    return after[1:]


class _Page:
    """One page of a section, from behind `start`."""

    def __init__(
        self,
        connection: AsyncConnection,
        section: _Section,
        period: Parts,
        start: Cursor,
        limit: int | None,
    ) -> None:
        self._connection = connection
        self._section = section
        self._period = period
        self._start = start
        self._limit = limit

    async def read(self) -> tuple[list[tuple[_Values, Spend]], Cursor | None]:
        """Groups, and where the next page begins."""
        end = await self._end() if self._limit is not None and self._section.lead else None
        statement = self._statement(end)
        if statement is None:
            return [], None
        try:
            rows = (await self._connection.execute(statement(_plain))).all()
        except OperationalError as raised:
            if "integer overflow" not in str(raised):
                raise
            rows = (await self._connection.execute(statement(_by_halves))).all()
        by = len(self._section.by)
        sums = [(tuple(row[:by]), _spend(row[by:])) for row in rows if row[by] is not None]
        found = [each for each in sums if each[1].requests]
        if self._limit is not None and len(found) > self._limit:
            found = found[: self._limit]
            return found, found[-1][0] if found else self._start or None
        return found, end

    async def _end(self) -> Cursor | None:
        """Values of `lead` where a range of `SCAN` rows ends; None if all that is left is less."""
        section = self._section
        lead = [section.table.c[_COLUMNS[name]] for name in section.lead]
        wanted = section.prefix()
        start = self._start[: len(lead)]
        if start:
            within = len(self._start) > len(lead)  # groups of these values may be left
            how = ">=" if within else ">"
            wanted.append(_compared(lead[: len(start)], section.lead, start, how))
        last = select(*lead).where(*wanted).order_by(*lead).limit(1).offset(SCAN)
        row = (await self._connection.execute(last)).one_or_none()
        return None if row is None else tuple(row)

    def _statement(self, end: Cursor | None) -> Any:
        section, (first, last, rest) = self._section, self._period
        dialect = self._connection.dialect.name
        parts = [section.of_table(dialect, first, last)] if first <= last else []
        parts += [section.of_ledger(dialect, part) for part in rest]
        takes_off = any(part.sign < 0 for part in rest)
        if not parts:
            return None
        parts = [part.where(*self._range(part, end)) for part in parts]
        source = parts[0].subquery() if len(parts) == 1 else union_all(*parts).subquery()
        dimensions = [source.c[name] for name in section.by]

        def statement(sums: Any) -> Select[Any]:
            groups = select(*dimensions, *sums(source.c))
            if dimensions:
                groups = groups.group_by(*dimensions).order_by(*dimensions)
                if takes_off:  # else there is a row for each group
                    groups = groups.having(func.sum(source.c.requests) > 0)
            return groups if self._limit is None else groups.limit(self._limit + 1)

        return statement

    def _range(self, part: Select[Any], end: Cursor | None) -> list[ColumnElement[bool]]:
        columns = [column.element for column in part.selected_columns[: len(self._section.by)]]
        by, start, wanted = self._section.by, self._start, []
        if start:
            lead = min(len(self._section.lead), len(start))
            if lead and lead < len(start):  # what an index begins with
                wanted.append(_compared(columns[:lead], by, start[:lead], ">="))
            wanted.append(_compared(columns[: len(start)], by, start, ">"))
        if end is not None:
            wanted.append(_compared(columns[: len(end)], by, end, "<="))
        return wanted


def _compared(
    columns: Sequence[Any], by: Sequence[Dimension], values: Cursor, how: str
) -> ColumnElement[bool]:
    bound = [
        literal(value, _KINDS.get(name, String())) for name, value in zip(by, values, strict=False)
    ]
    if len(bound) == 1:
        compared: ColumnElement[bool] = columns[0].op(how, is_comparison=True)(bound[0])
        return compared
    return tuple_(*columns).op(how, is_comparison=True)(tuple_(*bound))


def _plain(columns: Any) -> list[ColumnElement[Any]]:
    return [func.sum(columns[name]) for name in SUMS]


def _by_halves(columns: Any) -> list[ColumnElement[Any]]:
    """Sums of SQLite, which fail beyond 64 bits."""
    found: list[ColumnElement[Any]] = []
    for name in SUMS:
        found.append(func.sum(columns[name].op(">>")(32)))
        found.append(func.sum(columns[name].op("&")(_LOW)))
    return found


def _spend(sums: Sequence[Any]) -> Spend:
    if len(sums) > len(SUMS):
        sums = [(high << 32) + low for high, low in zip(sums[::2], sums[1::2], strict=True)]
    elif type(sums[0]) is int:  # of SQLite, within 64 bits
        return Spend(*sums)
    return Spend(*map(saturated, sums))


_NAMES = {
    "key": select(api_keys.c.id, api_keys.c.name).where(
        api_keys.c.id.in_(bindparam("ids", expanding=True))
    ),
    "team": select(teams.c.id, teams.c.name).where(
        teams.c.id.in_(bindparam("ids", expanding=True))
    ),
}


async def _names(
    connection: AsyncConnection, by: Sequence[Dimension], rows: Sequence[Sequence[Any]]
) -> tuple[dict[str, str], dict[str, str]]:
    """Names of the keys and teams of these groups, by id."""
    found: list[dict[str, str]] = []
    for name in ("key", "team"):
        ids = {row[by.index(name)] for row in rows} - {""} if name in by else set()
        named: dict[str, str] = {}
        if ids:
            answer = await connection.execute(_NAMES[name], {"ids": sorted(ids)})
            named = {row[0]: row[1] for row in answer}
        found.append(named)
    return found[0], found[1]
