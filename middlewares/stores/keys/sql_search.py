"""Search in the keys of SQLite or PostgreSQL.

Theory of operation. A text that few keys begin with is answered by the indexes of names, owners and
display prefixes, and its keys are sorted. All else is read in the order of the page from an index
by time of creation, `SCAN` keys at most.
"""

from typing import Any

from sqlalchemy import (
    ColumnElement,
    Double,
    Row,
    String,
    and_,
    func,
    literal,
    or_,
    select,
    tuple_,
    union,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.stores.sql.tables import api_keys

from .base import KeysWanted

SCAN = 50_000
"""Keys that a page reads at most."""
FEW = 1000
"""Keys that are sorted for a page at most."""

_c = api_keys.c
_SEARCHED = (_c.name, _c.owner, _c.prefix)
_AFTER_ALL = "\U0010ffff"
"""A character after all others: what begins with a text is before the text with this behind it."""

Place = tuple[float, str]


async def search(
    connection: AsyncConnection, wanted: KeysWanted, now: float, after: Place | None, limit: int
) -> tuple[list[Row[Any]], Place | None]:
    """Rows of a page, and the place behind which the next one begins."""
    led: list[ColumnElement[bool]] = []
    rest: list[ColumnElement[bool]] = []
    if wanted.owner is not None:
        led.append(_c.owner == wanted.owner)
    if wanted.team is not None:
        in_team = _c.team == wanted.team if wanted.team else _c.team.is_(None)
        (rest if led else led).append(in_team)
    if wanted.state is not None:
        rest.append(_in_state(wanted.state, now))
    if wanted.text:
        ids = await _few(connection, wanted.text)
        if ids is None:
            begins = [_begins(connection, column, wanted.text) for column in _SEARCHED]
            rest.append(or_(*begins, _c.id == wanted.text))
        else:
            led, rest = [_c.id.in_(ids)], [*led, *rest]
    order = (_c.created_at.desc(), _c.id.desc()) if wanted.newest else (_c.created_at, _c.id)
    if after is not None:
        led.append(_compared(after, "<" if wanted.newest else ">"))
    end: Place | None = None
    if rest:
        last = select(_c.created_at, _c.id).where(*led).order_by(*order).limit(1).offset(SCAN)
        row = (await connection.execute(last)).one_or_none()
        if row is not None:
            end = (row[0], row[1])
            led.append(_compared(end, ">=" if wanted.newest else "<="))
    page = select(api_keys).where(*led, *rest).order_by(*order).limit(limit + 1)
    rows = list(await connection.execute(page))
    if len(rows) > limit:
        rows = rows[:limit]
        return rows, (rows[-1].created_at, rows[-1].id)
    return rows, end


async def _few(connection: AsyncConnection, text: str) -> list[str] | None:
    """Ids of the keys that a text finds; None when they are too many to be sorted."""
    found = [
        select(_c.id).where(_begins(connection, column, text)).limit(FEW + 1).subquery()
        for column in _SEARCHED
    ]
    ids = union(*[select(each.c.id) for each in found], select(_c.id).where(_c.id == text))
    rows = [row[0] for row in await connection.execute(ids)]
    return rows if len(rows) <= FEW else None


def _begins(connection: AsyncConnection, column: Any, text: str) -> ColumnElement[bool]:
    lower: Any = func.lower(column)
    wanted: Any = func.lower(literal(text, String))
    if connection.dialect.name == "postgresql":  # as the index sorts
        lower, wanted = lower.collate("C"), wanted.collate("C")
    return and_(lower >= wanted, lower < wanted + _AFTER_ALL)


def _in_state(state: str, now: float) -> ColumnElement[bool]:
    """See `Key.state`."""
    if state == "revoked":
        return _c.revoked_at.is_not(None)
    if state == "disabled":
        return and_(_c.revoked_at.is_(None), _c.disabled)
    expired = _c.expires_at <= now
    if state == "active":
        expired = or_(_c.expires_at.is_(None), _c.expires_at > now)
    return and_(_c.revoked_at.is_(None), ~_c.disabled, expired)


def _compared(place: Place, how: str) -> ColumnElement[bool]:
    bound = tuple_(literal(place[0], Double), literal(place[1], String))
    return tuple_(_c.created_at, _c.id).op(how, is_comparison=True)(bound)
