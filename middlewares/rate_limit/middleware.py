"""Rate and concurrency limits per principal: requests, tokens, requests in flight."""

from collections.abc import Awaitable, Callable, Collection
from secrets import token_hex
from time import perf_counter

from middlewares.asgi import (
    BODILESS,
    ASGIApp,
    Entered,
    Receive,
    Scope,
    Send,
    header,
    refuse_scope,
    subscriber,
)
from middlewares.disconnects import ClientDisconnected
from middlewares.exchange import Exchange, client_of, exchange_of
from middlewares.limits import Limits, TeamLimits
from middlewares.problem import Problem
from middlewares.read_ahead import BOUND, ReadAhead
from middlewares.stores.counters.base import Check, RateCounters, Verdict
from middlewares.stores.counters.memory_rates import MemoryRates
from middlewares.stores.errors import CountersUnavailable

from .claim import Claim, others_wait
from .throttle_queue import QueueEntry, QueueFull, ThrottleQueue

_UNKNOWN_SIZE = 1 << 20
"""Bytes counted for a body without content-length."""
_NONE = Limits()


class RateLimitMiddleware(Entered):
    """Admit requests within the caller's limits; refuse or throttle the rest.

    limits: the limits of a request; None, or a kind that is None, does not limit.
    subject: what a request counts for; by default the principal, else the address (`by_address`).
    team: name in the counters, and limits, of the team of the principal, or None. A request must
        fit its principal's and its team's limits: it takes of both or nothing.
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
    Writes:  levels, queue_seconds, outcome
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
        "_team",
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
        team: Callable[[Exchange], TeamLimits | None] | None = None,
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
        self._team = team
        self._name = f"{name}:"
        self._exempt = frozenset(exempt)
        self._tokens = tokens
        self._queue = ThrottleQueue() if queue is None else queue
        self._report = report
        self._body_unread = body_unread
        self._refund_refused = refund_refused
        self._clock = clock

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # Not async: without limits it adds no frame, which each step of the app would pass.
        kind = scope["type"]
        if kind != "http":
            if kind == "lifespan":
                return self.app(scope, receive, send)
            return refuse_scope(scope, receive, send)
        exchange = exchange_of(scope)
        if exchange.endpoint in self._exempt:
            return self.app(scope, receive, send)
        limits = self._limits(exchange)
        if self._team is not None:
            principal = exchange.principal
            if principal is not None and principal.team is not None:
                team = self._team(exchange)
                if team is not None:
                    both = (limits or _NONE, team)
                    return self._limited_by_both(exchange, *both, scope, receive, send)
        if limits is None:
            return self.app(scope, receive, send)
        return self._limited(exchange, limits, scope, receive, send)

    def _limited(
        self, exchange: Exchange, limits: Limits, scope: Scope, receive: Receive, send: Send
    ) -> Awaitable[None]:
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
        if levels is not None:
            if self._report:
                exchange.levels += levels
            if not (lease or limits.tokens or self._refund_refused):
                return self.app(scope, receive, send)  # a rate of requests has nothing to release
        admitted = levels is not None
        return self._run(
            exchange, limits, subject, tokens, lease, scope, receive, send, admitted=admitted
        )

    async def _run(
        self,
        exchange: Exchange,
        limits: Limits,
        subject: str,
        tokens: int,
        lease: str,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        admitted: bool,
    ) -> None:
        """Run the app, once the request is admitted, and settle. The app runs in this frame: each
        step of it passes every frame around it."""
        inner_receive = receive
        if not admitted:
            claim = self._claim(exchange, subject, limits, None, tokens, lease)
            if claim.empty:
                return await self.app(scope, receive, send)
            admitted_receive: Receive | Problem | None
            if claim.waits:
                admitted_receive = await self._in_turn(claim, exchange, scope, receive)
            else:
                try:  # `_at_once`, without its frame
                    admitted_receive = self._answered(claim, exchange, receive, await claim.ask())
                except CountersUnavailable as raised:
                    admitted_receive = _unavailable(raised)
            if admitted_receive is None:
                return
            if isinstance(admitted_receive, Problem):
                return await admitted_receive(scope, receive, send)
            inner_receive = admitted_receive
        if not (lease or limits.tokens or self._refund_refused) and inner_receive is receive:
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

    async def _limited_by_both(
        self,
        exchange: Exchange,
        limits: Limits,
        team: TeamLimits,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """`_limited`, by limits of the principal and of its team."""
        subject = self._name + (
            _caller(exchange, scope) if self._subject is None else self._subject(exchange)
        )
        its_name, its = team
        tokens, lease = 0, ""
        if limits.tokens is not None or its.tokens is not None:
            tokens = exchange.estimate if self._tokens is None else self._tokens(exchange)
        if limits.concurrency or its.concurrency:
            lease = exchange.request_id or token_hex(12)
        levels = None
        if self._rates is not None and not others_wait(self._queue, subject, limits, team):
            now = None if self._clock is None else self._clock()
            levels = self._rates.take_of_both(
                subject, limits, team, tokens, lease, now, self._report
            )
        if levels is not None:
            if self._report:
                exchange.levels += levels
            inner_receive = receive
        else:
            claim = self._claim(exchange, subject, limits, team, tokens, lease)
            if claim.empty:
                return await self.app(scope, receive, send)
            admitted_receive = await self._admitted(claim, exchange, scope, receive)
            if admitted_receive is None:
                return
            if isinstance(admitted_receive, Problem):
                return await admitted_receive(scope, receive, send)
            inner_receive = admitted_receive
        failed = False
        try:
            await self.app(scope, inner_receive, send)
        except Exception:
            failed = True
            raise
        finally:
            own_lease, its_lease = (
                lease if limits.concurrency else "",
                lease if its.concurrency else "",
            )
            self._settle(exchange, limits, subject, tokens, own_lease, failed=failed)
            self._settle(exchange, its, its_name, tokens, its_lease, failed=failed)
            if isinstance(inner_receive, ReadAhead):
                inner_receive.close()

    def _claim(
        self,
        exchange: Exchange,
        subject: str,
        limits: Limits,
        team: TeamLimits | None,
        tokens: int,
        lease: str,
    ) -> Claim:
        return Claim(
            self._counters,
            self._queue,
            self._clock,
            subject,
            limits,
            team,
            tokens,
            lease,
            exchange.levels,
        )

    def _answered(
        self, claim: Claim, exchange: Exchange, receive: Receive, verdict: Verdict
    ) -> Receive | Problem:
        """`receive`, or the refusal."""
        if self._report:
            exchange.levels = claim.before + verdict.levels
        return receive if verdict.admitted else claim.refusal(verdict, verdict.wait)

    def _admitted(
        self, claim: Claim, exchange: Exchange, scope: Scope, receive: Receive
    ) -> Awaitable[Receive | Problem | None]:
        if claim.waits:
            return self._in_turn(claim, exchange, scope, receive)
        return self._at_once(claim, exchange, receive)

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
        """Release the slot of a subject, and count the tokens used. tokens: taken before."""
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
        self, claim: Claim, exchange: Exchange, receive: Receive
    ) -> Receive | Problem:
        """Ask the counters once: `receive`, or the refusal."""
        try:
            verdict = await claim.ask()
        except CountersUnavailable as raised:
            return _unavailable(raised)
        return self._answered(claim, exchange, receive, verdict)

    async def _in_turn(
        self, claim: Claim, exchange: Exchange, scope: Scope, receive: Receive
    ) -> Receive | Problem | None:
        """Admit the request at once or after a wait: its `receive` from here on, or the refusal.

        None: its client has disconnected.
        """
        verdict, since = None, -1
        if not claim.others_wait:
            since = self._queue.releases
            try:
                verdict = await claim.ask()
            except CountersUnavailable as raised:
                return _unavailable(raised)
            if self._report:
                exchange.levels = claim.before + verdict.levels
            if verdict.admitted:
                return receive
            if not claim.may_wait(verdict):
                return claim.refusal(verdict, verdict.wait)
        size = _size(exchange, scope)
        if self._body_unread:
            size = min(size, BOUND)
        try:
            entry = self._queue.join(
                claim.subject,
                claim.checks,
                size=size,
                verdict=verdict,
                since=since,
                team=claim.team,
            )
            return await self._wait(entry, claim, exchange, receive)
        except ClientDisconnected:
            exchange.outcome = "hung_up"
            return None
        except QueueFull as full:
            if self._report and full.verdict is not None:
                exchange.levels = claim.before + full.verdict.levels
            return claim.refusal(full.verdict, full.wait)
        except CountersUnavailable as raised:
            return _unavailable(raised)

    async def _wait(
        self, entry: QueueEntry, claim: Claim, exchange: Exchange, receive: Receive
    ) -> Receive:
        """Wait in the queue. Raises ClientDisconnected, QueueFull, CountersUnavailable."""
        ahead = ReadAhead(receive, entry.disconnect)
        inner_receive = False
        began = perf_counter()
        try:
            levels = (await entry.wait_turn(claim.ask_in_turn)).levels
            if entry.disconnected:
                claim.refund()
                raise ClientDisconnected
            inner_receive = True
        finally:
            exchange.queue_seconds += perf_counter() - began
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


def by_address(exchange: Exchange) -> str:
    """The caller's address, or its /64 for IPv6 (`subscriber`)."""
    return subscriber(exchange.client) or "unknown"


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


def _unavailable(raised: CountersUnavailable) -> Problem:
    return Problem("upstream_unavailable", reason=f"rate counters: {raised}")
