"""Search in the ledger of SQLite or PostgreSQL.

Theory of operation. The most selective of the indexes by time leads: of the account, the owner, the
team, of failures, of all rows. A page reads `SCAN` of its rows at most, and fewer where these fill
it. The roll-ups say which days have rows of a model, an endpoint, a tag, a team, an owner or a key,
so a page begins with the newest of them.
"""

from collections.abc import Sequence
from math import inf
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    Row,
    Select,
    String,
    func,
    literal,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.stores.sql.tables import (
    FAILURES,
    ledger,
    spend_days,
    spend_key_tags,
    spend_keys,
    spend_owners,
    spend_tags,
)

from .base import EQUAL, Place, Wanted
from .spend import DAY

SCAN = 20_000
"""Rows that a page reads at most."""
_FIRST = 20
"""A page reads so much less first: mostly it is full then."""

_NEWEST = (
    "SELECT ledger.at FROM ledger WHERE ledger.account = each_one.value AND ledger.kind = 'use'"
    " ORDER BY ledger.at DESC, ledger.id DESC LIMIT 1"
)
_LAST_USED = {
    dialect: text(f"SELECT each_one.value, ({_NEWEST}) FROM {accounts}")  # noqa: S608
    for dialect, accounts in {
        "sqlite": "json_each(:accounts) AS each_one",
        "postgresql": "unnest(CAST(:accounts AS text[])) AS each_one(value)",
    }.items()
}
"""For each account, the end of its part of an index."""
_encode = msgspec.json.Encoder().encode

_c = ledger.c
_OF_DAYS = ("account", "team", "owner", "model", "endpoint", "tag")


async def search(
    connection: AsyncConnection,
    columns: Select[Any],
    wanted: Wanted,
    before: Place | None,
    limit: int,
) -> tuple[list[Row[Any]], Place | None]:
    """Rows of a page, and the place before which the next one begins."""
    dialect = connection.dialect.name
    start = await _skip(connection, wanted, before)
    if _is_over(wanted, start):
        return [], None
    led, rest = _conditions(wanted, dialect)
    if start is not None:
        led.append(_compared(start, "<"))
    end: Place | None = None
    rows: list[Row[Any]] = []
    for most in (SCAN // _FIRST, SCAN) if rest else (0,):
        within = led
        if rest:
            last = select(_c.at, _c.id).where(*led).order_by(_c.at.desc(), _c.id.desc())
            row = (await connection.execute(last.limit(1).offset(most))).one_or_none()
            end = None if row is None else (row[0], row[1])
            within = led if end is None else [*led, _compared(end, ">=")]
        page = columns.where(*within, *rest).order_by(_c.at.desc(), _c.id.desc())
        rows = list(await connection.execute(page.limit(limit + 1)))
        if len(rows) > limit:
            rows = rows[:limit]
            return rows, (rows[-1].at, rows[-1].id)
        if end is None:
            break
    if end is not None:
        end = await _skip(connection, wanted, end)
    return rows, None if _is_over(wanted, end) else end


_NOWHERE: Place = (-inf, "")


def _is_over(wanted: Wanted, place: Place | None) -> bool:
    """Whether no row before `place` can match."""
    since = wanted.since
    return place is not None and (place == _NOWHERE or (since is not None and place[0] < since))


def _conditions(
    wanted: Wanted, dialect: str
) -> tuple[list[ColumnElement[bool]], list[ColumnElement[bool]]]:
    """Those that an index answers, and the others."""
    given: dict[str, ColumnElement[bool]] = {
        name: _c[name] == getattr(wanted, name)
        for name in EQUAL
        if getattr(wanted, name) is not None
    }
    if wanted.tag == "":
        given["tag"] = _c.tags == ""
    elif wanted.tag is not None:
        position = func.instr if dialect == "sqlite" else func.strpos
        given["tag"] = position("," + _c.tags + ",", f",{wanted.tag},") > 0
    if wanted.status is not None:
        low = wanted.status * 100
        given["status"] = (_c.status >= low) & (_c.status < low + 100)
    led: list[ColumnElement[bool]] = []
    if wanted.account is not None:
        led.append(given.pop("account"))
        if wanted.kind == "credit":
            given.pop("kind")
            led.append(text("kind = 'credit'"))  # type: ignore[arg-type]
    elif wanted.owner:
        led += [given.pop("owner"), text("owner <> ''")]  # type: ignore[list-item]
    elif wanted.team:
        led += [given.pop("team"), text("team <> ''")]  # type: ignore[list-item]
    elif wanted.ended not in (None, "completed") or wanted.status in (4, 5):
        led.append(text(FAILURES))  # type: ignore[arg-type]
    if wanted.since is not None:
        led.append(_c.at >= wanted.since)
    if wanted.until is not None:
        led.append(_c.at < wanted.until)
    return led, list(given.values())


def _compared(place: Place, how: str) -> ColumnElement[bool]:
    bound = tuple_(literal(place[0], Double), literal(place[1], String))
    return tuple_(_c.at, _c.id).op(how, is_comparison=True)(bound)


async def _skip(connection: AsyncConnection, wanted: Wanted, before: Place | None) -> Place | None:
    """The newest place, not after `before`, before which there may be rows that match;
    `_NOWHERE` when there is none."""
    given = {name: getattr(wanted, name) for name in _OF_DAYS}
    given = {name: value for name, value in given.items() if value is not None}
    tag = given.pop("tag", None)
    uses = wanted.kind == "use" or wanted.model or wanted.endpoint or tag  # credits have none
    if not uses or not (given or tag is not None) or (given.keys() == {"account"} and not tag):
        return before
    if "account" in given or (tag and "owner" in given):
        table = spend_key_tags if tag else spend_keys
    elif tag:
        table = spend_tags
    else:
        table = spend_owners if "owner" in given else spend_days
    c = table.c
    conditions = [c[name] == value for name, value in given.items()]
    if tag:
        conditions.append(c.tag == tag)
    elif tag == "":
        conditions.append(~c.tagged)
    until = min(place for place in (wanted.until, before and before[0], 1e15) if place is not None)
    latest = max(-(2**62), min(int(until // DAY), 2**62))
    newest = select(c.day).where(*conditions, c.day <= literal(latest, BigInteger))
    day = (await connection.execute(newest.order_by(c.day.desc()).limit(1))).scalar_one_or_none()
    if day is None:
        return _NOWHERE
    end: Place = (float((day + 1) * DAY), "")
    return end if before is None else min(before, end)


async def last_used(connection: AsyncConnection, accounts: Sequence[str]) -> dict[str, float]:
    """See `LedgerStore.last_used`."""
    dialect = connection.dialect.name
    given: Any = _encode(list(accounts)).decode() if dialect == "sqlite" else list(accounts)
    rows = await connection.execute(_LAST_USED[dialect], {"accounts": given})
    return {account: at for account, at in rows if at is not None}
