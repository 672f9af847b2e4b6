"""Jobs in SQLite or PostgreSQL. All values are bound parameters."""

from collections.abc import Collection, Mapping
from typing import Any, get_args

import msgspec
from msgspec.structs import replace
from sqlalchemy import (
    Row,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from middlewares.shared import Shared
from middlewares.stores.files.sql import count
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.sql import release, reserve, write_row
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.tables import api_keys, jobs

from .base import (
    FINAL,
    STATES,
    ClaimLost,
    Job,
    JobError,
    JobExists,
    JobFigures,
    Kind,
    Result,
    State,
)

_PURGED = 200

_encode = msgspec.json.Encoder().encode
_DECODERS: Mapping[str, msgspec.json.Decoder[Any]] = {
    "reservation": msgspec.json.Decoder(Entry),
    "results": msgspec.json.Decoder(tuple[Result, ...]),
    "error": msgspec.json.Decoder(JobError | None),
}
"""Fields that are kept as JSON."""

_c = jobs.c
_FIELDS = Job.__struct_fields__
_WHOLE = [_c[name] for name in _FIELDS]
_WITHOUT_MEDIA = [literal(b"").label("media") if name == "media" else _c[name] for name in _FIELDS]
_FREE = and_(_c.due <= bindparam("now"), _c.lease_until <= bindparam("now"))
_NEXT = select(_c.id).where(_FREE).order_by(_c.due, _c.id).limit(1)
_NEXT_LOCKED = _NEXT.with_for_update(skip_locked=True)
_CLAIM = (
    update(jobs)
    .where(_c.id == bindparam("which"), _FREE)
    .values(
        holder=bindparam("whose"),
        lease_until=bindparam("until"),
        fence=_c.fence + 1,
    )
    .returning(*_WHOLE)
)
_MINE = and_(_c.id == bindparam("which"), _c.fence == bindparam("claim"))
_OF = and_(_c.owner == bindparam("whose"), _c.id == bindparam("which"), ~_c.deleted)
_GET = select(*_WITHOUT_MEDIA).where(_OF)
_CANCELLED = {
    "cancelling": case((_c.state.in_(FINAL), _c.cancelling), else_=True),
    "due": case((_c.state.in_(FINAL), _c.due), else_=bindparam("now")),
}
_CANCEL = update(jobs).where(_OF).values(**_CANCELLED).returning(*_WITHOUT_MEDIA)
_DELETE = update(jobs).where(_OF).values(deleted=True, **_CANCELLED).returning(*_WITHOUT_MEDIA)
_PURGE = delete(jobs).where(
    _c.id.in_(
        select(_c.id)
        .where(_c.finished_at < bindparam("before"), _c.due.is_(None), _c.state.in_(FINAL))
        .limit(_PURGED)
    )
)


def _values(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a job as columns."""
    return {name: _encode(value) if name in _DECODERS else value for name, value in changes.items()}


def _job(row: Row[Any]) -> Job:
    fields = dict(row._mapping)
    for name, decoder in _DECODERS.items():
        fields[name] = decoder.decode(fields[name])
    return Job(**fields)


class SqlJobStore(Shared):
    """A `JobStore` in a SQL database, to be shared by any number of processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, job: Job, *, limit: int | None) -> None:
        row = _values(msgspec.structs.asdict(job))
        row["entry_id"] = job.reservation.id
        try:
            async with self._database.write(checked=True) as connection:
                await self._database.confirm(connection)
                await connection.execute(insert(jobs), row)
                await reserve(connection, job.reservation)
                await count(connection, job.owner, reserved=job.storage, limit=limit)
        except ValueError as raised:  # a constraint
            raise JobExists(str(raised)) from raised

    async def get(self, owner: str, job_id: str) -> Job | None:
        async with self._database.read() as connection:
            row = (await connection.execute(_GET, {"whose": owner, "which": job_id})).one_or_none()
        return None if row is None else _job(row)

    async def with_key(self, owner: str, key: str) -> Job | None:
        statement = select(*_WITHOUT_MEDIA).where(_c.owner == owner, _c.key == key)
        async with self._database.read() as connection:
            row = (await connection.execute(statement)).one_or_none()
        return None if row is None else _job(row)

    async def page(
        self, owner: str, kind: Kind, *, after: str | None, limit: int, newest_first: bool = True
    ) -> list[Job]:
        wanted = [_c.owner == owner, _c.kind == kind, ~_c.deleted]
        place = tuple_(_c.created_at, _c.id)
        if after is not None:
            # Of the owner's only: an id of another says nothing.
            start = select(_c.created_at, _c.id).where(_c.owner == owner, _c.id == after)
            async with self._database.read() as connection:
                row = (await connection.execute(start)).one_or_none()
            if row is None:
                return []
            begin = tuple_(literal(row[0]), literal(row[1]))
            wanted.append(place < begin if newest_first else place > begin)
        order = (_c.created_at.desc(), _c.id.desc()) if newest_first else (_c.created_at, _c.id)
        statement = select(*_WITHOUT_MEDIA).where(*wanted).order_by(*order).limit(limit)
        async with self._database.read() as connection:
            return [_job(row) for row in await connection.execute(statement)]

    async def listed(
        self,
        owner: str,
        *,
        kind: Kind | None = None,
        states: Collection[State] = (),
        after: tuple[float, str] | None = None,
        limit: int,
    ) -> list[Job]:
        wanted = [_c.owner == owner, ~_c.deleted]
        if states:
            wanted.append(_c.state.in_(states))
        if after is not None:
            wanted.append(tuple_(_c.created_at, _c.id) < tuple_(*after))
        newest = select(*_WITHOUT_MEDIA).order_by(_c.created_at.desc(), _c.id.desc()).limit(limit)
        found: list[Job] = []
        async with self._database.read() as connection:
            # An index has the jobs of an owner by kind: a query for each reads one page at most.
            for each in get_args(Kind) if kind is None else (kind,):
                rows = await connection.execute(newest.where(*wanted, _c.kind == each))
                found += [_job(row) for row in rows]
        return sorted(found, key=lambda job: (job.created_at, job.id), reverse=True)[:limit]

    async def reservations(self, owner: str) -> list[Entry]:
        statement = select(_c.reservation).where(_c.owner == owner, _c.state.not_in(FINAL))
        decode = _DECODERS["reservation"].decode
        async with self._database.read() as connection:
            return [decode(row[0]) for row in await connection.execute(statement)]

    async def reservations_of_team(self, team: str) -> list[Entry]:
        keys = select(api_keys.c.id).where(api_keys.c.team == team)
        statement = select(_c.reservation).where(_c.owner.in_(keys), _c.state.not_in(FINAL))
        decode = _DECODERS["reservation"].decode
        async with self._database.read() as connection:
            rows = [decode(row[0]) for row in await connection.execute(statement)]
        return [row for row in rows if row.team == team]

    async def claim(
        self, holder: str, now: float, lease: float, job_id: str | None = None
    ) -> Job | None:
        values = {"now": now, "whose": holder, "until": now + lease}
        if job_id is None:
            # A look first: a transaction that writes would hold up the other writers of SQLite.
            async with self._database.read(checked=True) as connection:
                await self._database.confirm(connection)  # jobs of another database are not ours
                found = await connection.execute(_NEXT, {"now": now})
                if found.scalar_one_or_none() is None:
                    return None
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            if job_id is None:
                found = await connection.execute(_NEXT_LOCKED, {"now": now})
                job_id = found.scalar_one_or_none()
                if job_id is None:
                    return None
            claimed = await connection.execute(_CLAIM, {**values, "which": job_id})
            row = claimed.one_or_none()
        return None if row is None else _job(row)

    async def renew(self, job: Job, until: float) -> bool:
        held = _c.lease_until > 0  # the step may have ended it meanwhile
        statement = update(jobs).where(_MINE, held).values(lease_until=until)
        async with self._database.write() as connection:
            done = await connection.execute(statement, {"which": job.id, "claim": job.fence})
        return done.rowcount == 1

    async def change(self, job: Job, **changes: Any) -> Job:
        async with self._database.write() as connection:
            await _change(connection, job, changes)
        return replace(job, **changes)

    async def finish(self, job: Job, entry: Entry, **changes: Any) -> Job:
        if changes.get("state") not in FINAL:
            raise ValueError(f"state {changes.get('state')!r}: expected one of {', '.join(FINAL)}")
        async with self._database.write(checked=True) as connection:
            await self._database.confirm(connection)
            await _change(connection, job, changes, _c.state.not_in(FINAL))
            # Sums of accounts first, as in every transaction of the ledger, which ends with those
            # that all share.
            await release(connection, job.reservation)
            await write_row(connection, entry)
            await count(connection, job.owner, reserved=-job.storage)
            deleted = await connection.execute(select(_c.deleted).where(_c.id == job.id))
            changes = {**changes, "deleted": bool(deleted.scalar_one())}
        return replace(job, **changes)

    async def cancel(self, owner: str, job_id: str, now: float) -> Job | None:
        return await self._marked(_CANCEL, owner, job_id, now)

    async def delete(self, owner: str, job_id: str, now: float) -> Job | None:
        return await self._marked(_DELETE, owner, job_id, now)

    async def _marked(self, statement: Any, owner: str, job_id: str, now: float) -> Job | None:
        values = {"whose": owner, "which": job_id, "now": now}
        async with self._database.write() as connection:
            row = (await connection.execute(statement, values)).one_or_none()
        return None if row is None else _job(row)

    async def let_go(self, claims: Collection[Job]) -> None:
        mine = [and_(_c.id == job.id, _c.fence == job.fence) for job in claims]
        if mine:
            async with self._database.write() as connection:
                await connection.execute(update(jobs).where(or_(*mine)).values(lease_until=0.0))

    async def taken(self, ids: Collection[str]) -> set[str]:
        statement = select(_c.upstream_id).where(_c.upstream_id.in_(list(ids)))
        async with self._database.read() as connection:
            return {row[0] for row in await connection.execute(statement)}

    async def figures(self, now: float) -> JobFigures:
        # Those with something to do have an index of their own; it does not hold all that ended.
        counts = select(_c.state, func.count()).where(_c.due.is_not(None)).group_by(_c.state)
        free = select(func.min(_c.due)).where(_FREE)
        async with self._database.read(checked=True) as connection:
            await self._database.confirm(connection)
            states = {row[0]: row[1] for row in await connection.execute(counts)}
            oldest = (await connection.execute(free, {"now": now})).scalar_one_or_none()
        return JobFigures(
            {state: states.get(state, 0) for state in STATES},
            0.0 if oldest is None else max(0.0, now - oldest),
        )

    async def purge(self, before: float) -> int:
        removed = 0
        while True:
            async with self._database.write() as connection:
                gone = (await connection.execute(_PURGE, {"before": before})).rowcount
            removed += gone
            if gone < _PURGED:
                return removed


async def _change(
    connection: AsyncConnection, job: Job, changes: Mapping[str, Any], *wanted: Any
) -> None:
    """Write `changes` if the claim holds. Raises ClaimLost."""
    statement = update(jobs).where(_MINE, *wanted).values(**_values(changes))
    done = await connection.execute(statement, {"which": job.id, "claim": job.fence})
    if done.rowcount != 1:
        raise ClaimLost(job.id)
