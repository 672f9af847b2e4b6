"""How much of it: requests and tokens in a time, and requests at once, for each principal."""

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
from middlewares.exchange import Exchange, client_of, exchange_of
from middlewares.limits import Level, Limits, Rate
from middlewares.problem import Problem
from middlewares.read_ahead import BOUND, ReadAhead
from middlewares.stores.counters.base import Check, RateCounters, Verdict
from middlewares.stores.counters.memory_rates import MemoryRates
from middlewares.stores.errors import CountersUnavailable

from .throttle_queue import ClientDisconnected, QueueEntry, QueueFull, ThrottleQueue

_UNREAD = 1 << 20
"""Bytes that a body is taken for whose length nobody has said."""
_PERIODS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}


class RateLimitMiddleware:
    """Let through what the limits of the caller have room for; refuse the rest, or let it wait.

    limits: of this request; None, or a kind that is None, does not limit.
    who: whom they count for; by default the principal, without one the address (`by_address`).
    name: keeps this limiter's counters apart from those of others with the same `counters`.
    exempt: endpoints that are not counted.
    tokens: what the request will probably take of the rate of tokens. When it is over, what it
        really took counts: what `usage` says, nothing if no upstream was asked.
    line: where requests wait whose limits say "throttle". It may be shared.
    report: whether to write `levels`, for response headers; one limiter of an app may, and others
        of the same principals further in, whose levels are added.
    unread: whether the body has not been read yet: of one that waits, only a part is held.
    gives_back: whether a request that another limiter further in refuses takes nothing of the rate
        of requests.
    clock: Unix seconds; by default the counters go by their own clock.

    Reads:   endpoint, principal, client, request_id, size, estimate, usage, attempts, outcome,
             problem, output_estimate
    Writes:  levels, outcome
    Rejects: rate_limited, upstream_unavailable
    Order:   inside whatever tells who is calling, and how much it asks for if tokens are limited;
             outside all that costs money
    Cost:    one call of the counters; a request that waits also costs a task that listens for a
             hang-up
    """

    __slots__ = (
        "_clock",
        "_counters",
        "_exempt",
        "_gives_back",
        "_limits",
        "_line",
        "_name",
        "_rates",
        "_report",
        "_tokens",
        "_unread",
        "_who",
        "app",
    )

    def __init__(
        self,
        app: ASGIApp,
        *,
        counters: RateCounters,
        limits: Callable[[Exchange], Limits | None],
        who: Callable[[Exchange], str] | None = None,
        name: str = "key",
        exempt: Collection[str] = (),
        tokens: Callable[[Exchange], int] | None = None,
        line: ThrottleQueue | None = None,
        report: bool = True,
        unread: bool = False,
        gives_back: bool = False,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.app = app
        self._counters = counters
        self._rates = _in_process(counters)
        self._limits = limits
        self._who = who
        self._name = f"{name}:"
        self._exempt = frozenset(exempt)
        self._tokens = tokens
        self._line = ThrottleQueue() if line is None else line
        self._report = report
        self._unread = unread
        self._gives_back = gives_back
        self._clock = clock

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Where nothing is limited no frame is added: each would be passed with each step.
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
        who = self._name + (_caller(exchange, scope) if self._who is None else self._who(exchange))
        tokens = 0
        if limits.tokens is not None:
            tokens = exchange.estimate if self._tokens is None else self._tokens(exchange)
        lease = (exchange.request_id or token_hex(12)) if limits.concurrency else ""
        rates = self._rates
        if rates is None or (limits.on_excess == "throttle" and self._line.waits(who)):
            levels = None
        else:
            now = None if self._clock is None else self._clock()
            levels = rates.take(who, limits, tokens, lease, now, self._report)
        # The app runs in this frame: each one more would be passed with each step of it.
        if levels is not None:
            if self._report:
                exchange.levels += levels
            entered = receive
        else:
            share = _Share(self._counters, self._line, who, limits, tokens, lease, exchange.levels)
            if not (share.checks or lease):
                return await self.app(scope, receive, send)
            if limits.on_excess == "throttle":
                let_in = await self._in_turn(share, limits, exchange, scope, receive)
            else:
                let_in = await self._at_once(share, limits, exchange, receive)
            if let_in is None:
                return
            if isinstance(let_in, Problem):
                return await let_in(scope, receive, send)
            entered = let_in
        if not (lease or limits.tokens or self._gives_back) and entered is receive:
            # Where only requests are counted nothing is given back.
            return await self.app(scope, receive, send)
        failed = False
        try:
            await self.app(scope, entered, send)
        except Exception:
            failed = True
            raise
        finally:
            self._settle(exchange, limits, who, tokens, lease, failed=failed)
            if isinstance(entered, ReadAhead):
                entered.close()

    def _settle(
        self,
        exchange: Exchange,
        limits: Limits,
        who: str,
        tokens: int,
        lease: str,
        *,
        failed: bool,
    ) -> None:
        """Give back what a request held, and count what it took really. tokens: taken before."""
        if lease:
            self._counters.release(who, lease)
            self._line.freed(who)
        if limits.tokens is not None:
            more = _used(exchange, tokens, failed=failed) - tokens
            if more:
                now = None if self._clock is None else self._clock()
                self._counters.charge(who, Check("tokens", limits.tokens, more), now)
        counted = limits.requests if self._gives_back else None
        if counted is not None and exchange.problem and _refused_within(exchange):
            now = None if self._clock is None else self._clock()
            self._counters.charge(who, Check("requests", counted, -1), now)

    async def _at_once(
        self, share: "_Share", limits: Limits, exchange: Exchange, receive: Receive
    ) -> Receive | Problem:
        """Ask once: `receive`, or the refusal."""
        try:
            verdict = await share.ask(self._clock)
        except CountersUnavailable as raised:
            return _unavailable(raised)
        if self._report:
            exchange.levels = share.before + verdict.levels
        return receive if verdict.admitted else _refusal(limits, verdict, verdict.wait)

    async def _in_turn(
        self, share: "_Share", limits: Limits, exchange: Exchange, scope: Scope, receive: Receive
    ) -> Receive | Problem | None:
        """Have the request let through, at once or in its turn: its `receive` from here on, or the
        refusal. None: its client has left."""
        verdict, since = None, -1
        if not self._line.waits(share.who):
            since = self._line.releases
            try:
                verdict = await share.ask(self._clock)
            except CountersUnavailable as raised:
                return _unavailable(raised)
            if self._report:
                exchange.levels = share.before + verdict.levels
            if verdict.admitted:
                return receive
        size = _size(exchange, scope)
        if self._unread:
            size = min(size, BOUND)
        try:
            place = self._line.join(
                share.who, share.checks, size=size, verdict=verdict, since=since
            )
            return await self._wait(place, share, exchange, receive)
        except ClientDisconnected:
            exchange.outcome = "hung_up"
            return None
        except QueueFull as full:
            if self._report and full.verdict is not None:
                exchange.levels = share.before + full.verdict.levels
            return _refusal(limits, full.verdict, full.wait)
        except CountersUnavailable as raised:
            return _unavailable(raised)

    async def _wait(
        self, place: QueueEntry, share: "_Share", exchange: Exchange, receive: Receive
    ) -> Receive:
        """Wait for the turn. Raises ClientDisconnected, QueueFull, CountersUnavailable."""
        ahead = ReadAhead(receive, place.leave)
        entered = False
        try:
            levels = (await place.turn(lambda: share.ask(self._clock))).levels
            if place.left:
                share.give_back(self._clock)
                raise ClientDisconnected
            entered = True
        finally:
            if not entered:
                ahead.close()
        if self._report:
            exchange.levels = share.before + levels
        ahead.enough()
        return ahead


def _in_process(counters: RateCounters) -> MemoryRates | None:
    """Counters that can be asked without waiting."""
    if isinstance(counters, MemoryRates) and type(counters).admit is MemoryRates.admit:
        return counters
    return None


def _refused_within(exchange: Exchange) -> bool:
    """Whether another limiter refused it."""
    refused = exchange.outcome == "refused" and exchange.problem == "rate_limited"
    return refused and not exchange.attempts


class _Share:
    """What one request takes of the limits. before: levels that a limiter further out told."""

    __slots__ = ("_counters", "_line", "before", "checks", "lease", "slots", "who")

    def __init__(
        self,
        counters: RateCounters,
        line: ThrottleQueue,
        who: str,
        limits: Limits,
        tokens: int,
        lease: str,
        before: tuple[Level, ...],
    ) -> None:
        self._counters = counters
        self._line = line
        self.before = before
        self.who = who
        self.slots = limits.concurrency or 0
        self.lease = lease
        self.checks = [] if limits.requests is None else [Check("requests", limits.requests)]
        if limits.tokens is not None:
            self.checks.append(Check("tokens", limits.tokens, tokens))

    async def ask(self, clock: Callable[[], float] | None) -> Verdict:
        """Ask for all of it. Raises CountersUnavailable."""
        now = None if clock is None else clock()
        try:
            return await self._counters.admit(
                self.who, self.checks, slots=self.slots, lease=self.lease, now=now
            )
        except BaseException:
            self.release()  # it may have been given, though nobody heard of it
            raise

    def give_back(self, clock: Callable[[], float] | None) -> None:
        """It was given, and is not wanted any more."""
        self.release()
        for check in self.checks:
            if check.cost:
                now = None if clock is None else clock()
                self._counters.charge(self.who, Check(check.name, check.rate, -check.cost), now)

    def release(self) -> None:
        """Give the slot back, if there is one, and also if it may not have been given."""
        if self.slots:
            self._counters.release(self.who, self.lease)
            self._line.freed(self.who)


def by_address(exchange: Exchange) -> str:
    """The caller's address; of IPv6 its /64 (`subscriber`)."""
    return subscriber(exchange.client) or "unknown"


def rate_limit_headers(
    exchange: Exchange, *, clock: Callable[[], float] = time
) -> Sequence[Header]:
    """Where the caller's rates stand, for `HeaderStampMiddleware`.

    `x-ratelimit-*` is of the rate of requests, with its reset in whole Unix seconds. Beside it
    stand, by dialect, OpenAI's headers, whose resets are durations ("6m0s"), or Anthropic's, whose
    resets are times (RFC 3339). Sources: the vendors' pages on rate limits.
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
        told = _moment(until) if anthropic else _duration(reset - now)
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
                    (b"anthropic-ratelimit-requests-reset", told),
                )
            else:
                headers += (
                    (b"x-ratelimit-limit-requests", limit),
                    (b"x-ratelimit-remaining-requests", remaining),
                    (b"x-ratelimit-reset-requests", told),
                )
        elif anthropic:
            headers += (
                (b"anthropic-ratelimit-tokens-limit", limit),
                (b"anthropic-ratelimit-tokens-remaining", remaining),
                (b"anthropic-ratelimit-tokens-reset", told),
            )
        else:
            headers += (
                (b"x-ratelimit-limit-tokens", limit),
                (b"x-ratelimit-remaining-tokens", remaining),
                (b"x-ratelimit-reset-tokens", told),
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
    return max(_UNREAD, exchange.size)


def _used(exchange: Exchange, estimate: int, *, failed: bool) -> int:
    """Tokens that a request took, now that it is over."""
    usage = exchange.usage
    if usage is not None:
        return usage.input + usage.output + usage.cache_read + usage.cache_write
    outcome = exchange.outcome
    if failed or outcome in ("refused", "failed"):
        return 0
    if exchange.attempts or not outcome:  # "": an app that does not tell what it does
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
    """As OpenAI writes it, which is Go's way: "120ms", "1s", "8.64s", "6m0s"."""
    milliseconds = ceil(seconds * 1000)
    if milliseconds < 1000:
        return b"%dms" % milliseconds if milliseconds > 0 else b"0s"
    if milliseconds < 60_000:
        return b"%gs" % (milliseconds / 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    if minutes < 60:
        return b"%dm%gs" % (minutes, rest / 1000)
    return b"%dh%dm%gs" % (*divmod(minutes, 60), rest / 1000)
