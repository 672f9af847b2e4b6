"""Create a job: its row, its reservation and its room, before it is answered.

Theory of operation. Money is set aside in the counters first, which decide; then one transaction
writes the job with its reservation and the room for its results; then the hold of the counters is
converted, as for a row of the ledger. A process that dies in between leaves a hold that ends by
itself, or a row that counts. Once begun, this runs to its end: a client that leaves cannot stop it
halfway.
"""

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from secrets import choice
from string import ascii_letters, digits
from time import time
from weakref import WeakValueDictionary

import msgspec
from msgspec.structs import replace

from edge.billing.plans import Plans
from edge.config.load import Settings
from edge.endpoints import Endpoint
from edge.media.forms import Spool
from edge.media.jobs.charge import most_cost
from edge.media.jobs.placement import Placement, seconds_of
from edge.media.jobs.service import Jobs
from edge.media.jobs.work import JobTerms, Media, Place, Work, encode, split
from edge.media.library import Files, storage_full
from edge.routing.catalog import Model
from edge.runtime.worker_thread import run_in_thread
from middlewares.asgi import Scope
from middlewares.budget import charged_to, refusal_of, tags_text, team_account
from middlewares.exchange import Exchange, Principal
from middlewares.problem import Problem, expected
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import Hold
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.files.base import StorageFull
from middlewares.stores.jobs.base import Job, JobExists, Kind
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.writer import LedgerWriter

_BASE62 = ascii_letters + digits
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_NAME = b"idempotency-key"
_PARAM = "Idempotency-Key"
_MOST_IMAGE = 20 << 20
"""Bytes of a file that becomes an image of a request."""


class Created(msgspec.Struct, frozen=True):
    """A job, and whether an earlier request had created it."""

    job: Job
    replayed: bool = False


class Draft(msgspec.Struct, frozen=True):
    """What a request asks for. source: the job that it changes. place: the only target that can.
    image_name: the member that gives the first image."""

    work: Work
    callback: str = ""
    source: str = ""
    place: Place | None = None
    image_name: str = "image"


class Creator:
    """Creates jobs under one configuration. clock: Unix seconds."""

    def __init__(
        self,
        settings: Settings,
        *,
        jobs: Jobs,
        files: Files,
        plans: Plans,
        accounts: Accounts,
        ledger_writer: LedgerWriter,
        clock: Callable[[], float] = time,
    ) -> None:
        self.placement = Placement(settings)
        self._room = int(settings.jobs.max_result)
        self._jobs = jobs
        self._files = files
        self._plans = plans
        self._accounts = accounts
        self._ledger_writer = ledger_writer
        self._clock = clock
        self._creating: set[asyncio.Task[Created]] = set()
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create(
        self,
        scope: Scope,
        exchange: Exchange,
        model: Model,
        draft: Draft,
        fingerprint: bytes,
    ) -> Created:
        """Create a job, or find the one that this Idempotency-Key created. Raises Problem."""
        principal = exchange.principal
        if principal is None:
            raise Problem("missing_key", reason="no principal to charge")
        key = idempotency_key(scope, draft.work.kind)
        mark = fingerprint.hex() if key is not None else ""
        if key is not None and (known := await self._known(principal.id, key, mark)) is not None:
            return known
        work = draft.work
        targets = [(target.upstream, target.model) for target in model.targets]
        places = (
            [draft.place]
            if draft.place is not None
            else self.placement.places(model.entry, targets, work)
        )
        if not places:
            raise expected("model", f"a model that makes {_MADE[work.kind]}")
        work = replace(work, seconds=seconds_of(places, work))
        terms = self.placement.terms(model.entry, places, model.prices, work)
        work = await self._with_files(principal.id, work, draft.image_name)
        making = asyncio.create_task(
            self._once(exchange, principal, model, draft, work, terms, key, mark),
            name="job-create",
        )
        self._creating.add(making)
        making.add_done_callback(self._creating.discard)
        return await asyncio.shield(making)

    async def _once(
        self,
        exchange: Exchange,
        principal: Principal,
        model: Model,
        draft: Draft,
        work: Work,
        terms: JobTerms,
        key: str | None,
        mark: str,
    ) -> Created:
        """Repeats of a request take turns, so that only one sets money aside."""
        if key is None:
            return await self._make(exchange, principal, model, draft, work, terms, None, "")
        turn = self._turns.setdefault((principal.id, key), asyncio.Lock())
        async with turn:
            known = await self._known(principal.id, key, mark)
            if known is not None:
                return known
            try:
                return await self._make(exchange, principal, model, draft, work, terms, key, mark)
            except Problem:  # perhaps only as another process has just created it
                known = await self._known(principal.id, key, mark)
                if known is None:
                    raise
                return known

    async def _make(
        self,
        exchange: Exchange,
        principal: Principal,
        model: Model,
        draft: Draft,
        work: Work,
        terms: JobTerms,
        key: str | None,
        mark: str,
    ) -> Created:
        amount = most_cost(terms)
        hold = await self._reserve(principal, exchange.request_id, amount)
        job = self._job(exchange, principal, model, draft, work, terms, amount, hold)
        job = replace(job, key=key, fingerprint=mark)
        limit = self._plans.storage(principal)
        try:
            await self._jobs.store.create(job, limit=limit)
        except BaseException as raised:
            if hold is not None:
                self._accounts.drop(hold)
            match raised:
                case JobExists() if key is not None:
                    known = await self._known(principal.id, key, mark)
                    if known is None:
                        raise Problem("internal", reason=f"no such job: {raised}") from raised
                    return known
                case StorageFull():
                    raise storage_full(raised.use, limit, needed=self._room) from raised
                case StoreUnavailable():
                    # It may be there all the same; then only the ledger knows what is reserved.
                    await self._restore(job.reservation)
                    raise Problem("store_unavailable", reason=f"jobs: {raised}") from raised
            raise
        if hold is not None:
            self._ledger_writer.written_elsewhere([job.reservation])
        self._jobs.engine.wake()
        return Created(job)

    async def _reserve(self, principal: Principal, hold_id: str, amount: int) -> Hold | None:
        budget = self._plans.limits(principal).budget
        team = team_account(principal, self._plans.team_budget(principal))
        if not amount or not (budget.limited or team is not None):
            return None
        account = principal.id
        try:
            answer = await self._accounts.reserve(account, hold_id, amount, amount, budget, team)
        except (CountersUnavailable, StoreUnavailable) as raised:
            raise Problem("upstream_unavailable", reason=f"budget: {raised}") from raised
        if isinstance(answer, Hold):
            return answer
        raise refusal_of(answer, budget, team, amount, self._clock())

    async def _restore(self, reservation: Entry) -> None:
        with suppress(CountersUnavailable):  # lost ones are restored from the ledger anyway
            await self._accounts.changed(reservation)

    def _job(
        self,
        exchange: Exchange,
        principal: Principal,
        model: Model,
        draft: Draft,
        work: Work,
        terms: JobTerms,
        amount: int,
        hold: Hold | None,
    ) -> Job:
        row: Endpoint = exchange.row
        now = self._clock()
        reservation = Entry(
            exchange.request_id,
            principal.id,
            now if hold is None else hold.at,
            now,
            owner=principal.owner,
            plan=principal.plan or "",
            endpoint=row.name,
            model=model.id,
            asked=exchange.model or model.id,
            ended="lost",
            cost=amount,
            reserved=amount,
            measured=False,
            tags=tags_text(exchange.tags),
        )
        reservation = charged_to(principal, hold, reservation)
        request, media = split(work)
        return Job(
            id=f"{work.kind}_" + "".join(choice(_BASE62) for _ in range(27)),
            owner=principal.id,
            kind=work.kind,
            model=model.id,
            created_at=now,
            request=request,
            media=media,
            terms=encode(terms),
            reservation=reservation,
            callback=draft.callback,
            source=draft.source,
            storage=self._room,
            due=now,
            since=now,
        )

    async def _known(self, owner: str, key: str, mark: str) -> Created | None:
        try:
            job = await self._jobs.store.with_key(owner, key)
        except StoreUnavailable as raised:
            raise Problem("store_unavailable", reason=f"jobs: {raised}") from raised
        if job is None:
            return None
        if job.fingerprint != mark:
            raise Problem("idempotency_mismatch", param=_PARAM)
        return Created(job, replayed=True)

    async def _with_files(self, owner: str, work: Work, image_name: str) -> Work:
        """The work with the files that it names as data URLs. Raises Problem."""
        media = work.media
        image = await self._inlined(owner, media.image, image_name)
        last = await self._inlined(owner, media.last_image, "last_image")
        references = [
            await self._inlined(owner, one, f"reference_images[{n}]")
            for n, one in enumerate(media.reference_images)
        ]
        return replace(work, media=Media(image, last, tuple(references)))

    async def _inlined(self, owner: str, image: str, path: str) -> str:
        if not image.startswith("file:"):
            return image
        record = await self._files.find(owner, image.removeprefix("file:"))
        if record is None:
            raise Problem("not_found", message="There is no such file.", param=path)
        if not record.mime.startswith("image/") or record.size > _MOST_IMAGE:
            raise Problem("invalid_media", param=path)
        return await _data_url(record.mime, self._files.read(record))


async def image_of(spool: Spool, path: str) -> str:
    """The file of a form as a data URL. Raises Problem."""
    if not spool.size:
        raise Problem("invalid_request", message="The file is empty.", param=path)
    if not spool.kind.startswith("image/") or spool.size > _MOST_IMAGE:
        raise Problem("invalid_media", param=path)
    return await _data_url(spool.kind, spool.pieces())


async def _data_url(kind: str, pieces: AsyncIterator[bytes]) -> str:
    data = b"".join([piece async for piece in pieces])
    encoded = await run_in_thread(lambda: b64encode(data).decode())
    return f"data:{kind};base64,{encoded}"


_MADE: Mapping[Kind, str] = {"video": "videos", "music": "music"}


def idempotency_key(scope: Scope, kind: Kind) -> str | None:
    """The Idempotency-Key of a request, by kind of job. Raises Problem for a malformed one."""
    given = {value for name, value in scope["headers"] if name == _NAME}
    if not given:
        return None
    value = given.pop()
    if given or not _KEY.fullmatch(value):
        message = f"The {_PARAM} header must be one value of 1 to 255 visible ASCII characters."
        raise Problem("invalid_request", message=message, param=_PARAM)
    return f"{kind}:{value.decode()}"


def mark_of(*parts: bytes) -> bytes:
    """A fingerprint over several parts."""
    found = hashlib.sha256()
    for part in parts:
        found.update(b"%d " % len(part))
        found.update(part)
    return found.digest()
