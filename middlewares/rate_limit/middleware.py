"""Rate and concurrency limits per principal: requests, tokens, requests in flight."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import lru_cache
from math import ceil
from secrets import token_hex
from time import gmtime, strftime, time

from middlewares.asgi import (
    BODILESS,
    ASGIApp,
    Header,
    Receive,
    Scope,
    Send,
    header,
    refuse_scope,
    subscriber,
)
from middlewares.disconnects import ClientDisconnected
from middlewares.exchange import Exchange, client_of, exchange_of
from middlewares.limits import Level, Limits, Rate
from middlewares.problem import Problem
from middlewares.read_ahead import BOUND, ReadAhead
from middlewares.stores.counters.base import Check, RateCounters, Verdict
from middlewares.stores.counters.memory_rates import MemoryRates
from middlewares.stores.errors import CountersUnavailable

from .throttle_queue import QueueEntry, QueueFull, ThrottleQueue

_UNKNOWN_SIZE = 1 << 20
"""Bytes counted for a body without content-length."""
_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


class RateLimitMiddleware:
    """Admit requests within the caller's limits; refuse or throttle the rest.

    limits: the limits of a request; None, or a kind that is None, does not limit.
    subject: what a request counts for; by default the principal, else the address (`by_address`).
    name: separates this limiter's counters from those of others on the same `counters`.
    exempt: endpoints that are not counted.
    tokens: estimated tokens of a request. At its end the actual number counts: that of `usage`, or
        none if no upstream was asked.
    queue: where throttled requests wait; several limiters may share it.
    report: whether to write `levels`, for response headers; one limiter of an app, and limiters of
        the same principals further in, which add theirs.
    body_unread: whether the body has not been read yet: a waiting request holds only a part of it.
    refund_refused: whether a request that an inner limiter refuses is not counted in the rate.
    clock: Unix seconds; by default the counters use their own clock.

    Reads:   endpoint, principal, client, request_id, size, estimate, usage, attempts, outcome,
             problem, output_estimate
    Writes:  levels, outcome
    Rejects: rate_limited, upstream_unavailable
    Order:   inside authentication, and inside intake where tokens are limited; outside all that
             costs money
    Cost:    one call of the counters; a request that waits also costs a task that watches for a
             disconnect
    """

    __slots__ = (
        "_body_unread",
        "_clock",
        "_counters",
        "_exempt",
        "_limits",
        "_name",
        "_queue",
        "_rates",
        "_refund_refused",
        "_report",
        "_subject",
        "_tokens",
        "app",
    )

    def __init__(
        self,
        app: ASGIApp,
        *,
        counters: RateCounters,
        limits: Callable[[Exchange], Limits | None],
        subject: Callable[[Exchange], str] | None = None,
        name: str = "key",
        exempt: Collection[str] = (),
        tokens: Callable[[Exchange], int] | None = None,
        queue: ThrottleQueue | None = None,
        report: bool = True,
        body_unread: bool = False,
        refund_refused: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.app = app
        self._counters = counters
        self._rates = _in_process(counters)
        self._limits = limits
        self._subject = subject
        self._name = f"{name}:"
        self._exempt = frozenset(exempt)
        self._tokens = tokens
        self._queue = ThrottleQueue() if queue is None else queue
        self._report = report
        self._body_unread = body_unread
        self._refund_refused = refund_refused
        self._clock = clock

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not async: without limits it adds no frame, which each step of the app would pass.
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                return self.app(scope, receive, send)
            return refuse_scope(scope, receive, send)
        exchange = exchange_of(scope)
        limits = None if exchange.endpoint in self._exempt else self._limits(exchange)
        if limits is None:
            return self.app(scope, receive, send)
        return self._limited(exchange, limits, scope, receive, send)

    async def _limited(
        self, exchange: Exchange, limits: Limits, scope: Scope, receive: Receive, send: Send
    ) -> None:
        subject = self._name + (
            _caller(exchange, scope) if self._subject is None else self._subject(exchange)
        )
        tokens = 0
        if limits.tokens is not None:
            tokens = exchange.estimate if self._tokens is None else self._tokens(exchange)
        lease = (exchange.request_id or token_hex(12)) if limits.concurrency else ""
        rates = self._rates
        if rates is None or (limits.on_excess == "throttle" and self._queue.has_waiting(subject)):
            levels = None
        else:
            now = None if self._clock is None else self._clock()
            levels = rates.take(subject, limits, tokens, lease, now, self._report)
        # The app runs in this frame: each step of it passes every frame around it.
        if levels is not None:
            if self._report:
                exchange.levels += levels
            inner_receive = receive
        else:
            claim = _Claim(
                self._counters, self._queue, subject, limits, tokens, lease, exchange.levels
            )
            if not (claim.checks or lease):
                return await self.app(scope, receive, send)
            if limits.on_excess == "throttle":
                admitted_receive = await self._in_turn(claim, limits, exchange, scope, receive)
            else:
                admitted_receive = await self._at_once(claim, limits, exchange, receive)
            if admitted_receive is None:
                return
            if isinstance(admitted_receive, Problem):
                return await admitted_receive(scope, receive, send)
            inner_receive = admitted_receive
        if not (lease or limits.tokens or self._refund_refused) and inner_receive is receive:
            # A rate of requests has nothing to release.
            return await self.app(scope, receive, send)
        failed = False
        try:
            await self.app(scope, inner_receive, send)
        except Exception:
            failed = True
            raise
        finally:
            self._settle(exchange, limits, subject, tokens, lease, failed=failed)
            if isinstance(inner_receive, ReadAhead):
                inner_receive.close()

    def _settle(
        self,
        exchange: Exchange,
        limits: Limits,
        subject: str,
        tokens: int,
        lease: str,
        *,
        failed: bool,
    ) -> None:
        """Release the slot and count the tokens actually used. tokens: taken before."""
        if lease:
            self._counters.release(subject, lease)
            self._queue.slot_released(subject)
        if limits.tokens is not None:
            more = _used(exchange, tokens, failed=failed) - tokens
            if more:
                now = None if self._clock is None else self._clock()
                self._counters.charge(subject, Check("tokens", limits.tokens, more), now)
        counted = limits.requests if self._refund_refused else None
        if counted is not None and exchange.problem and _refused_within(exchange):
            now = None if self._clock is None else self._clock()
            self._counters.charge(subject, Check("requests", counted, -1), now)

    async def _at_once(
        self, claim: "_Claim", limits: Limits, exchange: Exchange, receive: Receive
    ) -> Receive | Problem:
        """Ask the counters once: `receive`, or the refusal."""
        try:
            verdict = await claim.ask(self._clock)
        except CountersUnavailable as raised:
            return _unavailable(raised)
        if self._report:
            exchange.levels = claim.before + verdict.levels
        return receive if verdict.admitted else _refusal(limits, verdict, verdict.wait)

    async def _in_turn(
        self, claim: "_Claim", limits: Limits, exchange: Exchange, scope: Scope, receive: Receive
    ) -> Receive | Problem | None:
        """Admit the request at once or after a wait: its `receive` from here on, or the refusal.

        None: its client has disconnected.
        """
        verdict, since = None, -1
        if not self._queue.has_waiting(claim.subject):
            since = self._queue.releases
            try:
                verdict = await claim.ask(self._clock)
            except CountersUnavailable as raised:
                return _unavailable(raised)
            if self._report:
                exchange.levels = claim.before + verdict.levels
            if verdict.admitted:
                return receive
        size = _size(exchange, scope)
        if self._body_unread:
            size = min(size, BOUND)
        try:
            entry = self._queue.join(
                claim.subject, claim.checks, size=size, verdict=verdict, since=since
            )
            return await self._wait(entry, claim, exchange, receive)
        except ClientDisconnected:
            exchange.outcome = "hung_up"
            return None
        except QueueFull as full:
            if self._report and full.verdict is not None:
                exchange.levels = claim.before + full.verdict.levels
            return _refusal(limits, full.verdict, full.wait)
        except CountersUnavailable as raised:
            return _unavailable(raised)

    async def _wait(
        self, entry: QueueEntry, claim: "_Claim", exchange: Exchange, receive: Receive
    ) -> Receive:
        """Wait in the queue. Raises ClientDisconnected, QueueFull, CountersUnavailable."""
        ahead = ReadAhead(receive, entry.disconnect)
        inner_receive = False
        try:
            levels = (await entry.wait_turn(lambda: claim.ask(self._clock))).levels
            if entry.disconnected:
                claim.refund(self._clock)
                raise ClientDisconnected
            inner_receive = True
        finally:
            if not inner_receive:
                ahead.close()
        if self._report:
            exchange.levels = claim.before + levels
        ahead.stop()
        return ahead


def _in_process(counters: RateCounters) -> MemoryRates | None:
    """The counters, if they can be asked without waiting."""
    return counters if isinstance(counters, MemoryRates) and counters.in_process else None


def _refused_within(exchange: Exchange) -> bool:
    """Whether an inner limiter refused it."""
    refused = exchange.outcome == "refused" and exchange.problem == "rate_limited"
    return refused and not exchange.attempts


class _Claim:
    """What one request takes of its limits. before: levels that an outer limiter wrote."""

    __slots__ = ("_counters", "_queue", "before", "checks", "lease", "slots", "subject")

    def __init__(
        self,
        counters: RateCounters,
        queue: ThrottleQueue,
        subject: str,
        limits: Limits,
        tokens: int,
        lease: str,
        before: tuple[Level, ...],
    ) -> None:
        self._counters = counters
        self._queue = queue
        self.before = before
        self.subject = subject
        self.slots = limits.concurrency or 0
        self.lease = lease
        self.checks = [] if limits.requests is None else [Check("requests", limits.requests)]
        if limits.tokens is not None:
            self.checks.append(Check("tokens", limits.tokens, tokens))

    async def ask(self, clock: Callable[[], float] | None) -> Verdict:
        """Ask the counters for all of it. Raises CountersUnavailable."""
        now = None if clock is None else clock()
        try:
            return await self._counters.admit(
                self.subject, self.checks, slots=self.slots, lease=self.lease, now=now
            )
        except BaseException:
            self.release()  # the slot may have been taken although no answer came
            raise

    def refund(self, clock: Callable[[], float] | None) -> None:
        """Give back all that was taken."""
        self.release()
        for check in self.checks:
            if check.cost:
                now = None if clock is None else clock()
                self._counters.charge(self.subject, Check(check.name, check.rate, -check.cost), now)

    def release(self) -> None:
        """Release the slot; harmless if it was not taken."""
        if self.slots:
            self._counters.release(self.subject, self.lease)
            self._queue.slot_released(self.subject)


def by_address(exchange: Exchange) -> str:
    """The caller's address, or its /64 for IPv6 (`subscriber`)."""
    return subscriber(exchange.client) or "unknown"


def rate_limit_headers(
    exchange: Exchange, *, clock: Callable[[], float] = time
) -> Sequence[Header]:
    """Rate limit headers, for `HeaderStampMiddleware`.

    `x-ratelimit-*` is the rate of requests, with its reset in whole Unix seconds. Beside it come,
    by dialect, OpenAI's headers, whose resets are durations ("6m0s"), or Anthropic's, whose resets
    are times (RFC 3339). Sources: the vendors' pages on rate limits.
    """
    levels = exchange.levels
    if not levels:
        return ()
    anthropic = exchange.dialect == "anthropic"
    now = clock()
    headers: list[Header] = []
    for level in levels:
        limit, remaining = _number(level.limit), b"%d" % level.remaining
        reset = level.reset
        until = ceil(reset)
        shown = _moment(until) if anthropic else _duration(reset - now)
        if level.name == "requests":
            headers += (
                (b"x-ratelimit-limit", limit),
                (b"x-ratelimit-remaining", remaining),
                (b"x-ratelimit-reset", b"%d" % until),
            )
            if anthropic:
                headers += (
                    (b"anthropic-ratelimit-requests-limit", limit),
                    (b"anthropic-ratelimit-requests-remaining", remaining),
                    (b"anthropic-ratelimit-requests-reset", shown),
                )
            else:
                headers += (
                    (b"x-ratelimit-limit-requests", limit),
                    (b"x-ratelimit-remaining-requests", remaining),
                    (b"x-ratelimit-reset-requests", shown),
                )
        elif anthropic:
            headers += (
                (b"anthropic-ratelimit-tokens-limit", limit),
                (b"anthropic-ratelimit-tokens-remaining", remaining),
                (b"anthropic-ratelimit-tokens-reset", shown),
            )
        else:
            headers += (
                (b"x-ratelimit-limit-tokens", limit),
                (b"x-ratelimit-remaining-tokens", remaining),
                (b"x-ratelimit-reset-tokens", shown),
            )
    return headers


def _caller(exchange: Exchange, scope: Scope) -> str:
    if exchange.principal is not None:
        return exchange.principal.id
    return subscriber(client_of(exchange, scope)) or "unknown"


def _size(exchange: Exchange, scope: Scope) -> int:
    """Bytes of the body that a waiting request holds."""
    length = header(scope, b"content-length")
    if length is not None and length.isdigit() and len(length) <= 20:
        return int(length)
    if scope["method"] in BODILESS:
        return 0
    return max(_UNKNOWN_SIZE, exchange.size)


def _used(exchange: Exchange, estimate: int, *, failed: bool) -> int:
    """Tokens that a finished request took."""
    usage = exchange.usage
    if usage is not None:
        return usage.input + usage.output + usage.cache_read + usage.cache_write
    outcome = exchange.outcome
    if failed or outcome in ("refused", "failed"):
        return 0
    if exchange.attempts or not outcome:  # "": an app that sets no outcome
        return estimate + exchange.output_estimate
    return 0


def _refusal(limits: Limits, verdict: Verdict | None, wait: float) -> Problem:
    lacking = "requests" if verdict is None else verdict.lacking
    seconds = max(1, ceil(wait))
    rate = limits.tokens if lacking == "tokens" else limits.requests
    if lacking == "concurrency" or rate is None:
        what = f"concurrent requests: limit {limits.concurrency} at once"
    else:
        what = f"{lacking}: limit {rate.count} per {_period(rate)}"
    return Problem(
        "rate_limited",
        message=f"Rate limit reached for {what}. Please try again in {seconds}s.",
        reason=f"no {lacking} left for {wait:.3f} s",
        retry_after=seconds,
    )


def _period(rate: Rate) -> str:
    seconds = rate.seconds
    if seconds in _PERIODS:
        return _PERIODS[int(seconds)]
    for length in (86400, 3600, 60):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g} {_PERIODS[length]}s"
    return f"{seconds:g} seconds"


def _unavailable(raised: CountersUnavailable) -> Problem:
    return Problem("upstream_unavailable", reason=f"rate counters: {raised}")


@lru_cache(4096)
def _number(number: int) -> bytes:
    return b"%d" % number


@lru_cache(256)
def _moment(seconds: int) -> bytes:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds)).encode()


def _duration(seconds: float) -> bytes:
    """A duration as OpenAI (and Go) writes it: "120ms", "1s", "8.64s", "6m0s"."""
    milliseconds = ceil(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds > 0 else b"0s"
    if milliseconds < 60_000:
        return b"%gs" % (milliseconds / 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    if minutes < 60:
        return b"%dm%gs" % (minutes, rest / 1000)
    return b"%dh%dm%gs" % (*divmod(minutes, 60), rest / 1000)
