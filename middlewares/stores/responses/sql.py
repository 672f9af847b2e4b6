"""Responses and shared secrets in SQLite or PostgreSQL. All values are bound parameters."""

import asyncio
import secrets as random
import zlib
from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    tuple_,
    update,
)

from middlewares.shared import Shared
from middlewares.stores.counters.base import AHEAD
from middlewares.stores.secret import SECRET_BYTES
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import response_items, response_totals, responses, secrets

from .base import Kept, KeptTurn, Load

_SMALL = 512
_SLOW = 64 << 10
"""Bytes from which packing would hold up the event loop for more than about a millisecond."""
_ASKED = 500
_PURGED = 200
_ENDS_AT_ONCE = 5000

_c = responses.c
_LIVING = and_(
    _c.owner == bindparam("whose"),
    _c.id == bindparam("which"),
    _c.answer.is_not(None),
    _c.expires_at > bindparam("now"),
)
_GET = select(responses).where(_LIVING)
_DELETE = (
    update(responses)
    .where(_LIVING)
    .values(answer=null(), expires_at=bindparam("now"))
    .returning(_c.id)
)
_walk = select(_c.owner, _c.id, _c.previous, literal(1).label("depth")).where(_LIVING)
_walked = _walk.cte("walked", recursive=True)
_older = responses.alias("older")
_walked = _walked.union_all(
    select(_older.c.owner, _older.c.id, _older.c.previous, _walked.c.depth + 1)
    .join(
        _walked,
        and_(_older.c.owner == _walked.c.owner, _older.c.id == _walked.c.previous),
    )
    .where(_walked.c.depth < bindparam("most"))
)
_CONVERSATION = (
    select(_c.id, _c.input, _c.output)
    .join(_walked, and_(_c.owner == _walked.c.owner, _c.id == _walked.c.id))
    .order_by(_walked.c.depth.desc())
)
_HOLDING = select(_c.id, _c.input, _c.output).where(
    _c.owner == bindparam("whose"),
    _c.answer.is_not(None),
    _c.expires_at > bindparam("now"),
    _c.id.in_(
        select(response_items.c.response).where(
            response_items.c.owner == bindparam("whose"),
            response_items.c.item.in_(bindparam("items", expanding=True)),
        )
    ),
)
_ENDED = (
    select(_c.expires_at, _c.owner, _c.id)
    .where(
        _c.expires_at <= bindparam("before"),
        tuple_(_c.expires_at, _c.owner, _c.id)
        > tuple_(bindparam("at"), bindparam("whose"), bindparam("which")),
    )
    .order_by(_c.expires_at, _c.owner, _c.id)
    .limit(bindparam("most"))
)
_later = responses.alias("later")
_AMONG = tuple_(_c.owner, _c.id).in_(bindparam("rows", expanding=True))
_REMOVE = (
    delete(responses)
    .where(
        _AMONG,
        _c.expires_at <= bindparam("before"),
        ~exists().where(_later.c.owner == _c.owner, _later.c.previous == _c.id),
    )
    .returning(_c.owner, _c.previous)
)
_STRIP = (
    update(responses)
    .where(_AMONG, _c.expires_at <= bindparam("before"), _c.answer.is_not(None))
    .values(answer=null())
)
_REDATE = (
    update(responses)
    .where(_c.expires_at > bindparam("until"), _c.created_at > bindparam("latest"))
    .values(created_at=bindparam("now"), expires_at=bindparam("until"))
)
_SIZE = func.length(_c.input) + func.length(_c.output) + func.coalesce(func.length(_c.answer), 0)
_LOAD = select(response_totals.c.responses, response_totals.c.size).where(
    response_totals.c.owner == bindparam("whose")
)
_CHILDREN = select(func.count()).where(_later.c.owner == _c.owner, _later.c.previous == _c.id)
_ENDS = (
    select(_c.id, _c.previous, _SIZE)
    .where(
        _c.owner == bindparam("whose"),
        _c.id != bindparam("continued"),
        ~exists().where(_later.c.owner == _c.owner, _later.c.previous == _c.id),
    )
    .order_by(_c.created_at, _c.id)
    .limit(_ENDS_AT_ONCE)
)
_up = select(_c.owner, _c.id, _c.previous, literal(1).label("depth")).where(
    _c.owner == bindparam("whose"), _c.id == bindparam("which")
)
_upward = _up.cte("upward", recursive=True)
_upward = _upward.union_all(
    select(_older.c.owner, _older.c.id, _older.c.previous, _upward.c.depth + 1).join(
        _upward, and_(_older.c.owner == _upward.c.owner, _older.c.id == _upward.c.previous)
    )
)
_BACKWARDS = (
    select(_c.id, _SIZE, _CHILDREN.scalar_subquery())
    .join(_upward, and_(_c.owner == _upward.c.owner, _c.id == _upward.c.id))
    .order_by(_upward.c.depth)
)
_FORGET = (
    delete(responses)
    .where(_c.owner == bindparam("whose"), _c.id.in_(bindparam("ids", expanding=True)))
    .returning(_c.id)
)
_SECRET = select(secrets.c.value).where(secrets.c.name == bindparam("name"))


class _Left:
    """What has still to go: responses and bytes."""

    def __init__(self, responses: int, size: int) -> None:
        self._responses = responses
        self._size = size

    def __bool__(self) -> bool:
        return self._responses > 0 or self._size > 0

    def take(self, size: int) -> None:
        """One of `size` bytes goes."""
        self._responses -= 1
        self._size -= size


class SqlResponseStore(Shared):
    """A `ResponseStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, kept: Kept) -> None:
        row = {
            "owner": kept.owner,
            "id": kept.id,
            "previous": kept.previous,
            "model": kept.model,
            "created_at": kept.created_at,
            "expires_at": kept.expires_at,
            "input": await _packed(kept.input),
            "output": await _packed(kept.output),
            "answer": await _packed(kept.answer),
        }
        items = [
            {"owner": kept.owner, "item": item, "response": kept.id}
            for item in dict.fromkeys(kept.items)
        ]
        async with self._database.write() as connection:
            await connection.execute(insert(responses), row)
            if items:
                await connection.execute(insert(response_items), items)

    async def get(self, owner: str, response_id: str, now: float) -> Kept | None:
        values = {"whose": owner, "which": response_id, "now": now}
        async with self._database.read() as connection:
            row = (await connection.execute(_GET, values)).one_or_none()
        if row is None:
            return None
        fields = dict(row._mapping)
        for name in ("input", "output", "answer"):
            fields[name] = await _unpacked(fields[name])
        return Kept(**fields)

    async def conversation(
        self, owner: str, response_id: str, now: float, most: int
    ) -> list[KeptTurn]:
        values = {"whose": owner, "which": response_id, "now": now, "most": most}
        return await self._turns(_CONVERSATION, values)

    async def holding(self, owner: str, items: Collection[str], now: float) -> list[KeptTurn]:
        found: dict[str, KeptTurn] = {}
        wanted = list(dict.fromkeys(items))
        for start in range(0, len(wanted), _ASKED):
            values = {"whose": owner, "now": now, "items": wanted[start : start + _ASKED]}
            found |= {turn.id: turn for turn in await self._turns(_HOLDING, values)}
        return list(found.values())

    async def delete(self, owner: str, response_id: str, now: float) -> bool:
        values = {"whose": owner, "which": response_id, "now": now}
        async with self._database.write() as connection:
            return (await connection.execute(_DELETE, values)).one_or_none() is not None

    async def redate(self, now: float, keep: float) -> int:
        values = {"now": now, "latest": now + AHEAD, "until": now + keep}
        async with self._database.write() as connection:
            return (await connection.execute(_REDATE, values)).rowcount

    async def purge(self, before: float) -> int:
        removed = 0
        last: dict[str, Any] = {"at": -1.0, "whose": "", "which": ""}
        while True:
            values = {"before": before, "most": _PURGED, **last}
            async with self._database.read() as connection:
                page = (await connection.execute(_ENDED, values)).all()
            if not page:
                return removed
            last = dict(zip(("at", "whose", "which"), page[-1], strict=True))
            rows = {(owner, id_) for _, owner, id_ in page}
            while rows:  # a row that goes may have been the last that needed another
                gone = await self._remove(rows, before)
                removed += len(gone)
                rows = {(owner, previous) for owner, previous in gone if previous is not None}

    async def _remove(
        self, rows: Collection[tuple[str, str]], before: float
    ) -> list[tuple[str, str | None]]:
        """Remove those of `rows` that nothing continues, strip the others of what no turn needs.

        Returns owner and predecessor of each that is gone. Two short transactions: in one, two
        processes could wait for each other's totals.
        """
        values = {"rows": sorted(rows), "before": before}
        async with self._database.write() as connection:
            gone = [tuple(row) for row in await connection.execute(_REMOVE, values)]
        async with self._database.write() as connection:
            await connection.execute(_STRIP, values)
        return gone

    async def load(self, owner: str) -> Load:
        async with self._database.read() as connection:
            row = (await connection.execute(_LOAD, {"whose": owner})).one_or_none()
        return Load(0, 0) if row is None else Load(*row)

    async def forget(
        self, owner: str, *, responses: int, size: int, continued: str | None = None
    ) -> int:
        left = _Left(responses, size)
        removed = 0
        while left:
            values = {"whose": owner, "continued": continued or ""}
            async with self._database.read() as connection:
                ends = (await connection.execute(_ENDS, values)).all()
            before = removed
            alone: list[str] = []
            for id_, previous, one in ends:
                if not left:
                    break
                if previous is None:
                    left.take(one)
                    alone.append(id_)
                else:
                    removed += await self._forget(
                        owner, await self._branch(owner, id_, continued, left)
                    )
            removed += await self._forget(owner, alone)
            if removed == before:
                break
        return removed

    async def _branch(
        self, owner: str, id_: str, continued: str | None, left: "_Left"
    ) -> list[str]:
        """The turns from the end of a conversation backwards that nothing else continues, as many
        as have to go."""
        async with self._database.read() as connection:
            rows = (await connection.execute(_BACKWARDS, {"whose": owner, "which": id_})).all()
        chosen: list[str] = []
        for turn, size, children in rows:
            if not left or turn == continued or children > (1 if chosen else 0):
                break
            left.take(size)
            chosen.append(turn)
        return chosen

    async def _forget(self, owner: str, ids: list[str]) -> int:
        """Remove those of `ids`, ends first; how many are gone."""
        removed = 0
        for start in range(0, len(ids), _ASKED):
            values = {"whose": owner, "ids": ids[start : start + _ASKED]}
            try:
                async with self._database.write() as connection:
                    removed += len((await connection.execute(_FORGET, values)).all())
            except ValueError:  # one of them was continued just now
                break
        return removed

    async def _turns(self, statement: Any, values: dict[str, Any]) -> list[KeptTurn]:
        async with self._database.read() as connection:
            rows = (await connection.execute(statement, values)).all()
        return [KeptTurn(id_, await _unpacked(new), await _unpacked(out)) for id_, new, out in rows]


class SqlSecretStore(Shared):
    """A `SecretStore` in a SQL database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def secret(self, name: str) -> bytes:
        found = await self._find(name)
        if found is not None:
            return found
        row = {"name": name, "value": random.token_bytes(SECRET_BYTES)}
        try:
            async with self._database.write() as connection:
                await connection.execute(insert(secrets), row)
        except ValueError:
            pass  # somebody else was first
        found = await self._find(name)
        if found is None:
            raise RuntimeError(f"secret {name!r} was written and is not there")
        return found

    async def _find(self, name: str) -> bytes | None:
        async with self._database.read() as connection:
            value = (await connection.execute(_SECRET, {"name": name})).scalar_one_or_none()
        return None if value is None else bytes(value)


async def _packed(text: bytes) -> bytes:
    """`text`, JSON, as it is kept: deflated if that makes it smaller.

    No JSON text begins as zlib's format does (RFC 1950), so the two can be distinguished.
    """
    if len(text) < _SMALL:
        return text
    if len(text) < _SLOW:
        packed = zlib.compress(text, 1)
    else:
        packed = await asyncio.to_thread(zlib.compress, text, 1)
    return packed if len(packed) < len(text) else text


async def _unpacked(kept: bytes) -> bytes:
    if kept[:1] != b"\x78":
        return kept
    if len(kept) < _SLOW:
        return zlib.decompress(kept)
    return await asyncio.to_thread(zlib.decompress, kept)
