"""/v1/videos, /v1/videos/generations and /v1/music/generations: jobs of the caller's own key.

A job of another key is answered as one that does not exist. Questions read SQL and ask no
upstream; they cost nothing and have a rate limit of their own (`jobs.polls`).
"""

import re
from collections.abc import Callable
from functools import partial
from math import ceil
from time import time
from urllib.parse import parse_qs

import msgspec
from msgspec.structs import replace

from edge.config.load import Settings
from edge.endpoints import Endpoint
from edge.media.content import send_file
from edge.media.fetch.links import Refused
from edge.media.forms import Form
from edge.media.jobs.service import Jobs
from edge.media.jobs.views import Data, openai_video, own
from edge.media.jobs.work import Work, decode_terms, joined
from edge.media.library import Files
from edge.requests.json_body import check_json_headers
from edge.routing.catalog import Catalog, Model
from edge.routing.paths import plain_path
from edge.routing.public_url import public_url
from edge.runtime.worker_thread import run_in_thread
from edge.untyped_json import decode_object
from middlewares.asgi import Header, Receive, Scope, Send
from middlewares.body import read_body
from middlewares.exchange import Exchange, Principal
from middlewares.idempotency.middleware import members
from middlewares.limits import Rate
from middlewares.problem import Problem, expected
from middlewares.stores.counters.base import Check, RateCounters
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.jobs.base import Job, Kind

from .create import Created, Creator, Draft, image_of, mark_of
from .read import LONGEST_PROMPT, image_name, read_callback, read_work

_GENERATIONS = "/generations/"
_PAGE, _MOST_PAGE = 20, 100
_REMIX_BODY = 256 << 10
_VARIANTS = ("video", "thumbnail", "spritesheet")


class JobsApp:
    """Answers at the endpoints of jobs. clock: Unix seconds."""

    def __init__(
        self,
        settings: Settings,
        *,
        jobs: Jobs,
        creator: Creator,
        catalog: Catalog,
        files: Files,
        counters: RateCounters,
        clock: Callable[[], float] = time,
    ) -> None:
        rate = settings.jobs.polls
        self._polls = Check("polls", Rate(rate.count, rate.seconds, burst=rate.count))
        self._base = partial(
            public_url,
            configured=settings.server.public_url,
            trusted=settings.server.trusted_proxies,
        )
        self._has_files = "files" in settings.offered
        self._jobs = jobs
        self._creator = creator
        self._catalog = catalog
        self._files = files
        self._counters = counters
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        principal = exchange.principal
        if principal is None:
            raise Problem("missing_key", reason="no principal")
        row: Endpoint = exchange.row
        try:
            match row.name:
                case "videos.generations" | "music.generations":
                    await self._create(scope, exchange, send, _kind(row))
                case "videos" if row.form is None:
                    await self._remix(scope, receive, send, exchange, principal)
                case "videos":
                    if scope["method"] == "POST":
                        await self._create_video(scope, exchange, send)
                    else:
                        await self._list(scope, principal, send)
                case "webhooks.secret":
                    secret = await self._jobs.signer.secret(principal.id)
                    await _reply(scope, send, {"object": "webhook_secret", "secret": secret})
                case _:
                    await self._one(scope, receive, send, principal, _kind(row))
        except StoreUnavailable as raised:
            raise Problem("store_unavailable", reason=f"jobs: {raised}") from raised
        exchange.outcome = exchange.outcome or "completed"

    def _own(self, scope: Scope, job: Job) -> Data:
        return own(job, self._base(scope), files=self._has_files)

    # Create

    async def _create(self, scope: Scope, exchange: Exchange, send: Send, kind: Kind) -> None:
        created = await self._created(scope, exchange, kind)
        shown = self._own(scope, created.job)
        headers = [(b"location", shown["poll_url"].encode()), *_waits(created.job, self._clock())]
        await _reply(scope, send, shown, 202, [*headers, *_replayed(created)])

    async def _create_video(self, scope: Scope, exchange: Exchange, send: Send) -> None:
        created = await self._created(scope, exchange, "video")
        headers = [*_waits(created.job, self._clock()), *_replayed(created)]
        await _reply(scope, send, openai_video(created.job), 200, headers)

    async def _created(self, scope: Scope, exchange: Exchange, kind: Kind) -> Created:
        model: Model = exchange.resolved[0]
        fields, more = exchange.fields, self._creator.placement.members(model.entry)
        reading = partial(read_work, fields, kind, more)
        work = await run_in_thread(reading) if exchange.large else reading()
        mark = members(scope, exchange) or b""
        form = exchange.form
        for file in form.files() if isinstance(form, Form) else ():
            image = await image_of(file.spool, file.name)
            work = replace(work, media=replace(work.media, image=image))
            mark = mark_of(mark, file.spool.sha256)
        draft = Draft(work, self._callback(exchange), image_name=image_name(fields))
        return await self._creator.create(scope, exchange, model, draft, mark)

    def _callback(self, exchange: Exchange) -> str:
        url = read_callback(exchange.fields)
        if url:
            try:
                self._jobs.fetcher.check(url)
            except Refused:
                raise expected("callback_url", "an https URL of a host by name") from None
        return url

    # List

    async def _list(self, scope: Scope, principal: Principal, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        limit, order = query.get("limit", [str(_PAGE)])[-1], query.get("order", ["desc"])[-1]
        if not re.fullmatch("[0-9]{1,3}", limit) or not 1 <= int(limit) <= _MOST_PAGE:
            raise expected("limit", f"a number from 1 to {_MOST_PAGE}")
        if order not in ("asc", "desc"):
            raise expected("order", "asc or desc")
        after = query.get("after", [""])[-1] or None
        found = await self._jobs.store.page(
            principal.id, "video", after=after, limit=int(limit) + 1, newest_first=order == "desc"
        )
        page = found[: int(limit)]
        await _reply(
            scope,
            send,
            {
                "object": "list",
                "data": [openai_video(job) for job in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": len(found) > len(page),
            },
        )

    # One job

    async def _one(
        self, scope: Scope, receive: Receive, send: Send, principal: Principal, kind: Kind
    ) -> None:
        path = plain_path(scope["path"])
        ours = _GENERATIONS in path
        rest = path.partition(_GENERATIONS)[2] if ours else path.partition("/videos/")[2]
        job_id, _, action = rest.partition("/")
        await self._limit(principal)
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        job = await self._find(principal, job_id, kind)
        match method, action:
            case "GET", "":
                await self._show(scope, send, job, ours=ours)
            case "GET", "content":
                await self._content(scope, receive, send, job)
            case "DELETE", "":
                await self._delete(scope, send, job, ours=ours)
            case "POST", "cancel":
                await self._cancel(scope, send, job, ours=ours)
            case _, "" | "content" | "cancel":
                allowed = "GET, HEAD, DELETE" if not action else "GET, HEAD"
                allow = "POST" if action == "cancel" else allowed
                raise Problem("method_not_allowed", headers=((b"allow", allow.encode()),))
            case _:
                raise _unknown(job_id)

    async def _find(self, principal: Principal, job_id: str, kind: Kind) -> Job:
        """The job of this key. Raises Problem."""
        job = await self._jobs.store.get(principal.id, job_id) if len(job_id) <= 64 else None
        if job is None or job.kind != kind:
            raise _unknown(job_id)
        return job

    async def _limit(self, principal: Principal) -> None:
        try:
            verdict = await self._counters.admit(f"poll:{principal.id}", [self._polls])
        except CountersUnavailable:
            return  # a question costs a read
        if not verdict.admitted:
            raise Problem("rate_limited", retry_after=ceil(verdict.wait))

    async def _show(self, scope: Scope, send: Send, job: Job, *, ours: bool) -> None:
        shown = self._own(scope, job) if ours else openai_video(job)
        await _reply(scope, send, shown, 200, _waits(job, self._clock()))

    async def _content(self, scope: Scope, receive: Receive, send: Send, job: Job) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        variant = query.get("variant", ["video"])[-1]
        if variant not in _VARIANTS:
            raise expected("variant", f"one of {', '.join(_VARIANTS)}")
        number = query.get("index", ["0"])[-1]
        if not job.final:
            raise Problem("video_not_ready", headers=tuple(_waits(job, self._clock())))
        at = int(number) if re.fullmatch("[0-9]{1,2}", number) else len(job.results)
        if job.state != "succeeded" or variant != "video" or at >= len(job.results):
            raise Problem("not_found", message="There is no such content of this job.")
        record = await self._files.find(job.owner, job.results[at].file)
        if record is None:
            raise Problem("not_found", message="The content of this job was deleted.")
        await send_file(record, self._files.read, scope, receive, send)

    async def _delete(self, scope: Scope, send: Send, job: Job, *, ours: bool) -> None:
        deleted = await self._jobs.store.delete(job.owner, job.id, self._clock())
        if deleted is None:
            raise _unknown(job.id)
        if deleted.final:
            await self._jobs.results.remove(deleted)
        else:
            self._jobs.engine.wake()
        kind = f"{job.kind}.generation.deleted" if ours else "video.deleted"
        await _reply(scope, send, {"id": job.id, "object": kind, "deleted": True})

    async def _cancel(self, scope: Scope, send: Send, job: Job, *, ours: bool) -> None:
        now = await self._jobs.cancel(job.owner, job.id, self._clock())
        if now is None:
            raise _unknown(job.id)
        await self._show(scope, send, now, ours=ours)

    async def _remix(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        exchange: Exchange,
        principal: Principal,
    ) -> None:
        job_id = plain_path(scope["path"]).removesuffix("/remix").rpartition("/")[2]
        job = await self._find(principal, job_id, "video")
        body = await read_body(scope, receive, limit=_REMIX_BODY, idle=30.0, longest=60.0)
        check_json_headers(scope, body)
        try:
            fields = decode_object(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Problem("invalid_request", message="The body must be a JSON object.") from None
        prompt = fields.get("prompt")
        if not isinstance(prompt, str) or not 0 < len(prompt) <= LONGEST_PROMPT:
            raise expected("prompt", f"a string of 1 to {LONGEST_PROMPT} characters")
        terms = decode_terms(job.terms)
        place = next((p for p in terms.places if f"{p.upstream}/{p.model}" == job.upstream), None)
        model = self._catalog.find(job.model)
        if place is None or place.vendor != "openai-videos" or job.state != "succeeded":
            raise Problem("invalid_request", message="This video cannot be remixed.", param="id")
        if model is None or not self._catalog.allows(principal, model):
            raise Problem("model_not_allowed")
        before = joined(job.request, b"")
        work = Work(
            kind="video",
            prompt=prompt,
            seconds=before.seconds,
            size=before.size,
            remix=job.upstream_id,
        )
        draft = Draft(work, source=job.id, place=place)
        mark = mark_of(job.id.encode(), prompt.encode())
        created = await self._creator.create(scope, exchange, model, draft, mark)
        headers = [*_waits(created.job, self._clock()), *_replayed(created)]
        await _reply(scope, send, openai_video(created.job), 200, headers)


def _kind(row: Endpoint) -> Kind:
    return "music" if row.name.startswith("music") else "video"


def _waits(job: Job, now: float) -> list[Header]:
    """When to ask again; nothing once it has ended."""
    if job.final:
        return []
    pause = 1.0 if job.due is None else min(max(job.due - now, 1.0), 30.0)
    return [
        (b"retry-after", b"%d" % ceil(pause)),
        (b"openai-poll-after-ms", b"%d" % (1000 * ceil(pause))),
    ]


def _replayed(created: Created) -> list[Header]:
    return [(b"idempotent-replayed", b"true")] if created.replayed else []


def _unknown(job_id: str) -> Problem:
    return Problem("not_found", message="There is no such job.")


async def _reply(
    scope: Scope, send: Send, content: Data, status: int = 200, headers: list[Header] | None = None
) -> None:
    body = msgspec.json.encode(content)
    start = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *(headers or ()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
