"""The life of a job, one step at a time.

Theory of operation. A step begins with a claim of the job's row and ends with a write that says
when the next is due and ends the lease. Any worker may take the next. States and what leads out of
them:

    queued      submitted to the first of its targets; to the next where one refuses it or cannot
                be reached. Cancelled: ends.
    submitting  written before the first byte is sent. Found in this state, a worker died over it:
                unknown.
    unknown     looked for at the upstream, never sent again. Found: running. Not found within ten
                minutes: failed, `submission_unknown`, at no cost.
    running     asked about, less and less often. Only the upstream's verdict ends it, or a day.
    storing     each result is copied into a file; then succeeded.
    final       counters follow the ledger, then the webhook is sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import random
from secrets import token_hex
from time import time
from typing import Any

import msgspec
import structlog

from edge.observability.log_text import LONGEST_REASON, shown
from edge.untyped_json import decode_object
from edge.upstreams import Response, UpstreamFailure
from edge.upstreams.provider import Provider
from edge.upstreams.refusal import problem_of
from edge.vendors.errors.retry_after import retry_after
from middlewares.backoff import doubled
from middlewares.exchange import ErrorStyle
from middlewares.problem import Problem
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.jobs.base import Job, JobError, JobStore, Result, State
from middlewares.stores.ledger.base import MAX_COST, Entry
from middlewares.tracing.step_traces import StepTraces

from .charge import closed, cost_of_result
from .notices import Notices, next_try
from .results import NotMedia, Results, pieces
from .upstream import Reply, open_call, read
from .vendors import VENDORS
from .vendors.base import Answer, Call, Vendor
from .work import JobTerms, Place, Work, decode_terms, joined

_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_log = structlog.get_logger()

_AS_THEY_ARE = ("content_filtered", "invalid_request", "submission_unknown", "upstream_timeout")
"""Kinds of failure that owners see; every other is the upstream's or ours."""
_EXISTS = ("idempotency_key_reuse", "idempotency_key_in_use", "idempotency_error")
_MOST_WRITES, _AGAIN = 60, 1.0
"""Tries to write down the id of an accepted job, and seconds between them."""
_MISSING = (404, 410)
_VERDICTS = (400, 422)
"""Statuses with which fal gives the result of a job that failed."""
_MOST_MISSING = 20
"""Answers in a row that the upstream knows no such job, after which it is believed."""


class JobTimes(msgspec.Struct, frozen=True):
    """Seconds. submit: for which a submission is tried. unknown: for which a lost one is looked
    for. expire: after which a job that runs is given up. store: for which results are copied.
    first, longest: between two questions to an upstream."""

    submit: float = 600.0
    unknown: float = 600.0
    expire: float = 86400.0
    store: float = 7200.0
    first: float = 0.5
    longest: float = 15.0


class Steps:
    """Takes steps of jobs.

    providers: those of the newest configuration by name. settle: has the accounts of a row
    restored after the ledger changed. charged: counts the nano-credits of a job that has ended, by
    the configured id of its model. lost: called for each job whose submission stays unknown.
    traces: begins the trace of each call.
    """

    def __init__(
        self,
        store: JobStore,
        *,
        providers: Callable[[], Mapping[str, Provider]],
        results: Results,
        notices: Notices,
        settle: Callable[[Entry], Awaitable[None]],
        charged: Callable[[str, int], Any] = lambda _model, _cost: None,
        lost: Callable[[], Any] = lambda: None,
        times: JobTimes | None = None,
        errors: Callable[[], ErrorStyle] = ErrorStyle,
        traces: StepTraces | None = None,
        clock: Callable[[], float] = time,
        random: Callable[[], float] = random,
    ) -> None:
        self._store = store
        self._providers = providers
        self._results = results
        self._notices = notices
        self._settle = settle
        self._charged = charged
        self._lost = lost
        self._times = times or JobTimes()
        self._errors = errors
        self._traces = traces or StepTraces()
        self._clock = clock
        self._random = random

    async def take(self, job: Job) -> None:
        """Take the next step of a claimed job. Raises ClaimLost, StoreUnavailable."""
        if job.final:
            return await self._after(job)
        terms, work = decode_terms(job.terms), joined(job.request, job.media)
        match job.state:
            case "queued":
                await self._submit(job, terms, work)
            case "submitting":
                await self._later(job, 0.0, state="unknown")
            case "unknown":
                await self._look_for(job, terms, work)
            case "running":
                await self._poll(job, terms, work)
            case "storing":
                await self._copy(job, terms, work)

    async def _open(self, job: Job, provider: Provider, call: Call) -> Response:
        """Send a call, in a trace of its own. Raises UpstreamFailure."""
        trace = self._traces.begin()
        attributes: dict[str, Any] = {
            "penstock.upstream": provider.name,
            "penstock.job_state": job.state,
        }
        try:
            response = await open_call(provider, call, trace.headers if provider.trace else ())
        except UpstreamFailure:
            trace.end("job.run", attributes=attributes, error="upstream_unavailable")
            raise
        attributes["http.response.status_code"] = response.status
        error = str(response.status) if 400 <= response.status <= 599 else ""
        trace.end("job.run", attributes=attributes, error=error)
        return response

    async def _ask(self, job: Job, provider: Provider, call: Call) -> Reply:
        """Send a call and read the whole answer. Raises UpstreamFailure."""
        return await read(await self._open(job, provider, call))

    # Submission

    async def _submit(self, job: Job, terms: JobTerms, work: Work) -> None:
        now = self._clock()
        if job.cancelling:
            return await self._end(job, "cancelled", cost=0)
        if now > job.created_at + self._times.submit:
            return await self._fail(job, "upstream_unavailable", "no target took it in time")
        place = terms.places[job.place % len(terms.places)]
        provider = self._providers().get(place.upstream)
        if provider is None:
            return await self._refused(
                job, terms, Problem("upstream_error", reason=f"no upstream {place.upstream}")
            )
        vendor = VENDORS[place.vendor]
        token = token_hex(16)
        call = vendor.submit(work, place.model, token)
        job = await self._store.change(
            job,
            state="submitting",
            since=now,
            token=token,
            upstream=f"{place.upstream}/{place.model}",
            tries=job.tries + 1,
            started_at=now,
        )
        try:
            response = await self._open(job, provider, call)
            if vendor.streams and response.status == 200 and _is_audio(response.headers):
                return await self._stream(job, work, vendor, response)
            reply = await read(response)
        except UpstreamFailure as failure:
            if failure.sent:
                return await self._unknown(job, failure.reason)
            return await self._next(job, terms, failure.reason)
        await self._answered(job, terms, work, place, provider, reply)

    async def _answered(
        self, job: Job, terms: JobTerms, work: Work, place: Place, provider: Provider, reply: Reply
    ) -> None:
        """The upstream has answered a submission."""
        status = reply.status
        if 200 <= status < 300:
            try:
                answer = VENDORS[place.vendor].submitted(reply.json())
            except ValueError as raised:
                return await self._unknown(job, str(raised))
            if answer.state == "failed" and not answer.id:
                return await self._refused(job, terms, self._verdict(answer, work))
            return await self._accepted(job, answer)
        if status in (409, 422) and any(word.encode() in reply.body for word in _EXISTS):
            return await self._unknown(job, "the upstream has this submission already")
        wait = retry_after(reply.headers, self._clock())
        if status == 429 or (status == 503 and isinstance(reply.json(), dict)):
            return await self._next(job, terms, f"status {status}", wait)
        if status >= 500 or status == 408:
            return await self._unknown(job, f"status {status}")
        problem = problem_of(
            status,
            reply.headers,
            reply.body,
            dialect="openai",
            fields=_fields(work),
            now=self._clock(),
        )
        problem.reason = provider.without_secrets(problem.reason)
        await self._refused(job, terms, problem)

    async def _accepted(self, job: Job, answer: Answer) -> None:
        """The upstream has the job, and may be done already."""
        changes: dict[str, Any] = {"state": "running", "tries": 0, "upstream_id": answer.id}
        pause = self._pause(job, answer.wait)
        if answer.state == "succeeded" and answer.results:
            changes, pause = {**self._results_of(answer), "upstream_id": answer.id}, 0.0
        for _ in range(_MOST_WRITES):
            try:
                return await self._later(job, pause, **changes)
            except StoreUnavailable as raised:  # only this worker knows the id
                _log.warning("accepted job not written", job=job.id, reason=_short(str(raised)))
                await asyncio.sleep(_AGAIN)
        await self._later(job, pause, **changes)

    async def _stream(self, job: Job, work: Work, vendor: Vendor, response: Any) -> None:
        """The answer to the submission is the result."""
        seconds = vendor.seconds(work)
        now = self._clock()
        job = await self._store.change(
            job,
            state="storing",
            since=now,
            results=(Result(seconds=seconds),),
            reported=_reported(seconds, None),
        )
        try:
            job = await self._results.save(job, 0, pieces(response), work, now)
        except (UpstreamFailure, NotMedia, Problem) as raised:  # no other answer will come
            reason = raised.reason if isinstance(raised, Problem) else str(raised)
            return await self._fail(job, "upstream_error", reason or str(raised))
        finally:
            response.close()
        await self._later(job, 0.0)

    async def _unknown(self, job: Job, reason: str) -> None:
        _log.warning("job submission without an answer", job=job.id, reason=_short(reason))
        await self._later(job, 0.0, state="unknown")

    async def _next(
        self, job: Job, terms: JobTerms, reason: str, wait: float | None = None
    ) -> None:
        """Nothing has begun: try the next target, after all of them a while later."""
        place = job.place + 1
        around = place % len(terms.places) == 0
        pause = (
            max(wait or 0.0, doubled(1.0, 60.0, place // len(terms.places) - 1)) if around else 0
        )
        _log.info("job not submitted", job=job.id, reason=_short(reason))
        await self._later(job, pause * (0.75 + self._random() / 2), state="queued", place=place)

    async def _refused(self, job: Job, terms: JobTerms, problem: Problem) -> None:
        """A target has refused it for good. If that is not the caller's fault, the next may do."""
        ours = problem.kind not in ("content_filtered", "invalid_request")
        if ours and job.place + 1 < len(terms.places):
            return await self._next(job, terms, problem.reason)
        await self._fail(job, problem.kind, problem.reason, problem)

    async def _look_for(self, job: Job, terms: JobTerms, work: Work) -> None:
        """Look for a job whose submission was not answered."""
        target = self._target(job, terms)
        now = self._clock()
        ids: list[str] = []
        if target is not None:
            provider, place = target
            vendor = VENDORS[place.vendor]
            call = vendor.find(work, place.model, job.token)
            if call is not None:
                try:
                    reply = await self._ask(job, provider, call)
                    if 200 <= reply.status < 300:
                        since = job.started_at or job.created_at
                        ids = vendor.found(reply.json(), work, job.token, since)
                except (UpstreamFailure, ValueError) as raised:
                    _log.info("job not found yet", job=job.id, reason=_short(str(raised)))
        if ids:
            # Of equal jobs of two owners neither may take the other's.
            free = set(ids) - await self._store.taken(ids)
            if len(free) == 1:
                _log.info("job found", job=job.id)
                return await self._accepted(job, Answer("running", id=free.pop()))
        if now > job.since + self._times.unknown:
            self._lost()
            reason = "the upstream did not answer its submission"
            _log.error("job submission stays unknown", job=job.id, target=job.upstream)
            return await self._fail(job, "submission_unknown", reason)
        await self._later(job, min(15.0, max(1.0, (now - job.since) / 4)))

    # Running

    async def _poll(self, job: Job, terms: JobTerms, work: Work) -> None:
        now = self._clock()
        if now > job.created_at + self._times.expire:
            return await self._fail(job, "upstream_timeout", "it ran for too long")
        target = self._target(job, terms)
        if target is None:  # its upstream may come back with the next configuration
            return await self._later(job, self._times.longest)
        provider, place = target
        vendor = VENDORS[place.vendor]
        try:
            if job.cancelling and not job.asked:
                call = vendor.cancel(work, job.upstream_id)
                if call is not None:
                    await self._ask(job, provider, call)
                job = await self._store.change(job, asked=True)
            reply = await self._ask(job, provider, vendor.poll(work, job.upstream_id))
            answer = _read(vendor, reply, job.upstream_id)
            if answer is not None and answer.then is not None:
                reply = await self._ask(job, provider, answer.then)
                answer = _read(vendor, reply, job.upstream_id, _VERDICTS)
        except UpstreamFailure as failure:
            _log.info("job cannot be asked about", job=job.id, reason=_short(failure.reason))
            return await self._later(job, self._pause(job, None))
        if answer is None:
            tries = job.tries + 1 if reply.status in _MISSING else 0
            if tries > _MOST_MISSING:
                return await self._fail(job, "upstream_error", "the upstream has lost it")
            return await self._later(job, self._pause(job, _wait(reply, now)), tries=tries)
        await self._said(job, vendor, work, answer, _wait(reply, now))

    async def _said(
        self, job: Job, vendor: Vendor, work: Work, answer: Answer, wait: float | None
    ) -> None:
        """What the upstream says of a job that it has."""
        progress = max(job.progress, min(answer.progress or 0, 99))
        match answer.state:
            case "running":
                pause = self._pause(job, answer.wait or wait)
                await self._later(job, pause, progress=progress, tries=0)
            case "succeeded":
                if not answer.results and vendor.content(job.upstream_id) is None:
                    return await self._fail(job, "upstream_error", "it ended without a result")
                await self._made(job, answer)
            case "cancelled" if job.cancelling:
                terms = decode_terms(job.terms)
                cost = self._cost(job, terms, answer.seconds, answer.cost)
                await self._end(job, "cancelled", cost=cost, seconds=answer.seconds)
            case "failed" if job.asked:  # how some vendors end what they were asked to cancel
                await self._end(job, "cancelled", cost=0)
            case "failed" | "cancelled":
                problem = self._verdict(answer, work)
                await self._fail(job, problem.kind, problem.reason, problem)

    async def _made(self, job: Job, answer: Answer) -> None:
        await self._later(job, 0.0, **self._results_of(answer))

    def _results_of(self, answer: Answer) -> dict[str, Any]:
        """A job whose results are to be copied."""
        results = answer.results or (Result(seconds=answer.seconds or 0.0),)
        if len(results) == 1 and not results[0].seconds and answer.seconds:
            results = (msgspec.structs.replace(results[0], seconds=answer.seconds),)
        return {
            "state": "storing",
            "tries": 0,
            "progress": 99,
            "results": results,
            "reported": _reported(answer.seconds, answer.cost),
        }

    # Results

    async def _copy(self, job: Job, terms: JobTerms, work: Work) -> None:
        target = self._target(job, terms)
        now = self._clock()
        try:
            for number, result in enumerate(job.results):
                if result.stored:
                    continue
                if target is None:
                    raise NotMedia("no such upstream any more")
                provider, place = target
                vendor = VENDORS[place.vendor]
                job = await self._results.copy(job, number, provider, vendor, work, now)
        except (UpstreamFailure, NotMedia, Problem) as raised:
            reason = raised.reason if isinstance(raised, Problem) else str(raised)
            if now > job.since + self._times.store or _too_large(raised):
                await self._results.remove(job)
                return await self._fail(job, "upstream_error", f"cannot copy its result: {reason}")
            _log.warning("job result not copied", job=job.id, reason=_short(reason))
            pause = doubled(1.0, 60.0, job.tries)
            return await self._later(job, pause, tries=job.tries + 1)
        said = decode_object(job.reported) if job.reported else {}
        seconds, cost = said.get("seconds"), said.get("cost")
        await self._end(
            job,
            "succeeded",
            cost=self._cost(job, terms, seconds, cost),
            seconds=seconds or sum(result.seconds for result in job.results) or terms.seconds,
            measured=seconds is not None or cost is not None or not terms.price.second,
        )

    # The end

    def _cost(self, job: Job, terms: JobTerms, seconds: float | None, cost: float | None) -> int:
        reserved = job.reservation.reserved
        amount = cost_of_result(terms, MAX_COST, seconds=seconds, cost=cost)
        if amount > reserved:
            _log.warning("job costs more than was reserved", job=job.id, cost=amount)
        return min(amount, reserved)

    async def _fail(self, job: Job, kind: str, reason: str, problem: Problem | None = None) -> None:
        kind = kind if kind in _AS_THEY_ARE else "upstream_error"
        style = self._errors()
        row = style.kind(kind)
        message = row.message.format(brand=style.brand, retry_after=1)
        if problem is not None and problem.kind == kind and problem.message is not None:
            message = problem.message
        error = JobError(
            row.code or kind,
            message,
            row.openai_type,
            problem.param if problem is not None else None,
        )
        await self._end(
            job, "failed", cost=0, error=error, problem=kind, reason=reason, status=row.status
        )

    async def _end(
        self,
        job: Job,
        state: State,
        *,
        cost: int,
        error: JobError | None = None,
        problem: str = "",
        reason: str = "",
        status: int = 200,
        seconds: float | None = None,
        measured: bool = True,
    ) -> None:
        now = self._clock()
        entry = closed(
            job,
            state,
            cost=cost,
            now=now,
            status=status,
            problem=problem,
            reason=_short(reason),
            seconds=seconds or 0.0,
            measured=measured,
        )
        job = await self._store.finish(
            job,
            entry,
            state=state,
            since=now,
            finished_at=now,
            charged=cost,
            error=error,
            due=now,
            tries=0,
            media=b"",
            expires_at=self._expiry(now) if state == "succeeded" else None,
            progress=100 if state == "succeeded" else job.progress,
        )
        if cost:
            self._charged(decode_terms(job.terms).entry or job.model, cost)
        _log.info(
            "job ended",
            job=job.id,
            kind=job.kind,
            model=job.model,
            state=state,
            target=job.upstream,
            cost=cost,
            reason=_short(reason),
        )
        await self._after(job)

    def _expiry(self, now: float) -> float | None:
        """When the files of results that are stored now expire."""
        return None if self._results.keep is None else now + self._results.keep

    async def _after(self, job: Job) -> None:
        """The counters, then the webhook. Each is tried until it works, the webhook six times."""
        try:
            await self._settle(job.reservation)
        except CountersUnavailable as raised:
            _log.warning("job not settled in the counters", job=job.id, reason=str(raised))
            return await self._later(job, 2.0)
        if job.deleted:
            await self._results.remove(job)
        if not job.callback:
            return await self._done(job)
        notices = job.notices + 1
        pause = next_try(notices)
        try:
            taken, reason = await self._notices.report(job, self._clock()), "not taken"
        except Problem as raised:
            taken, reason = False, raised.reason or raised.kind
        if taken or pause is None:
            if not taken:
                _log.warning("webhook given up", job=job.id, reason=_short(reason))
            return await self._done(job, notices=notices)
        _log.info("webhook not taken", job=job.id, tries=notices, reason=_short(reason))
        await self._later(job, pause, notices=notices)

    async def _done(self, job: Job, **changes: Any) -> None:
        await self._store.change(job, due=None, lease_until=0.0, **changes)

    async def _later(self, job: Job, pause: float, **changes: Any) -> None:
        """End this step; the next is due after `pause` seconds."""
        now = self._clock()
        if "state" in changes and changes["state"] != job.state:
            changes["since"] = now
        await self._store.change(job, due=now + pause, lease_until=0.0, **changes)

    # Facts

    def _target(self, job: Job, terms: JobTerms) -> tuple[Provider, Place] | None:
        """Who has the job; None where the configuration no longer has it."""
        for place in terms.places:
            if f"{place.upstream}/{place.model}" == job.upstream:
                provider = self._providers().get(place.upstream)
                return None if provider is None else (provider, place)
        return None

    def _pause(self, job: Job, wait: float | None) -> float:
        """Seconds until the next question: a tenth of the time that it has run."""
        times = self._times
        run = self._clock() - (job.started_at or job.created_at)
        pause = min(max(run / 10, times.first), times.longest) * (0.8 + 0.4 * self._random())
        return pause if wait is None else min(max(wait, pause), 300.0)

    def _verdict(self, answer: Answer, work: Work) -> Problem:
        """Why an upstream says that a job failed: the caller's fault only if it names a member."""
        body = msgspec.json.encode(answer.error)
        problem = problem_of(
            400, (), body, dialect="openai", fields=_fields(work), now=self._clock()
        )
        if problem.kind == "invalid_request" and problem.param is None:
            return Problem("upstream_error", reason=problem.reason)
        return problem


def _read(
    vendor: Vendor, reply: Reply, upstream_id: str, verdicts: tuple[int, ...] = ()
) -> Answer | None:
    """What a poll says; None where it is no answer.

    verdicts: statuses of an error that is the end of the job.
    """
    if not 200 <= reply.status < 300 and reply.status not in verdicts:
        return None
    body = reply.json()
    return vendor.polled(body, upstream_id) if isinstance(body, dict) else None


def _wait(reply: Reply, now: float) -> float | None:
    """Seconds that the upstream asks to wait."""
    for name, value in reply.headers:
        if name == b"openai-poll-after-ms" and value.isdigit():
            return int(value) / 1000
    return retry_after(reply.headers, now)


def _reported(seconds: float | None, cost: float | None) -> bytes:
    return msgspec.json.encode({"seconds": seconds, "cost": cost})


def _fields(work: Work) -> dict[str, msgspec.Raw]:
    """Members of the caller's request, of which errors may name one."""
    names = _decode_members(msgspec.json.encode(work))
    return {**names, **_decode_members(msgspec.json.encode(work.media))}


def _is_audio(headers: Any) -> bool:
    return any(
        name == b"content-type" and value.startswith((b"audio/", b"application/octet-stream"))
        for name, value in headers
    )


def _too_large(raised: Exception) -> bool:
    return isinstance(raised, Problem) and raised.kind in (
        "request_too_large",
        "storage_limit_exceeded",
    )


def _short(reason: str) -> str:
    return shown(reason, LONGEST_REASON)
