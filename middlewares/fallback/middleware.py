"""Try one candidate after another until one answers, and let the client see only that one.

Theory of operation. `candidates` says where an exchange may be answered, best first. An attempt is
one call inward with `exchange.candidate` set. It ends in one of three ways:

    answered          anything was answered, a refusal of what was asked included: over
    failed            nothing that the client could have seen has left, and another candidate, or
                      the same one later, may do better: the next attempt
    failed for good   content has left, or nothing is left to try: the failure goes outward

An attempt has failed when `Problem` of a kind in `retry_state.FAILED` is raised inside, or the
inner app answers with a status in `statuses`. After a head that left early with nothing but signs
of life behind it (`exchange.headers_sent_early`) attempts go on; what is sent after it is up to the
inner app.

A candidate that refuses what the one before it would have taken is less able: another model, or a
target of another dialect. It is passed over, and the caller gets the last failure, not its refusal.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import random
from time import perf_counter

from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.body import read_body, refuse, replay
from middlewares.disconnects import hear
from middlewares.exchange import Candidate, Exchange, exchange_of
from middlewares.problem import Problem
from middlewares.stores.health.base import Health

from .retry_state import AttemptGuard, RetryPolicy, RetryState

Candidates = Callable[[Exchange], Sequence[Candidate] | Awaitable[Sequence[Candidate]]]
"""Where an exchange may be answered, best first. None: it is passed on without one."""

STATUSES = frozenset((408, 409, 429, 500, 502, 503, 504, 529))
"""Of an answer that says something of the candidate, and nothing of what was asked."""

_IDLE = 60.0


class FallbackMiddleware:
    """Try one candidate after another.

    candidates: see `Candidates`. health: what is known of targets; those that are broken are
        passed over while there is another. None: each is tried in its turn.
    served: called with the candidate that has answered.
    statuses: of an inner app that answers failures itself; none where it raises `Problem`, sets
        `exchange.first_content` and tells `exchange.health_report` when content begins. Then
        nothing is put around `send`.
    body: bytes of a request body to keep for further attempts; None where nothing inside reads one.

    Reads:   attempts, headers_sent_early, first_content, outcome
    Writes:  candidate, repeatable, fallback_from, fallback_depth, health_report, outcome
    Rejects: invalid_request, request_timeout, request_too_large
    Order:   inside what pays, so that one reservation is for all attempts; right around the app
    Cost:    one look at the candidates of a model; with `statuses` wraps send, with `body` holds it
    """

    __slots__ = (
        "_body",
        "_candidates",
        "_clock",
        "_health",
        "_random",
        "_retry",
        "_served",
        "_statuses",
        "app",
    )  # fmt: skip

    def __init__(
        self,
        app: ASGIApp,
        *,
        candidates: Candidates,
        health: Health | None = None,
        retry: RetryPolicy | None = None,
        served: Callable[[Exchange, Candidate], None] = lambda exchange, candidate: None,
        statuses: frozenset[int] = STATUSES,
        body: int | None = 32 << 20,
        clock: Callable[[], float] = perf_counter,
        random: Callable[[], float] = random,
    ) -> None:
        self.app = app
        self._candidates = candidates
        self._health = health
        self._retry = retry or RetryPolicy()
        self._served = served
        self._statuses = statuses
        self._body = body
        self._clock = clock
        self._random = random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        candidates = self._candidates(exchange)
        if type(candidates) is not tuple and not isinstance(candidates, Sequence):
            candidates = await candidates
        if not candidates:
            return await self.app(scope, receive, send)
        if len(candidates) == 1 and not self._retry.retries and not self._statuses:
            return await self._once(exchange, candidates[0], scope, receive, send)
        await self._attempts(exchange, candidates, scope, receive, send)

    async def _attempts(
        self,
        exchange: Exchange,
        candidates: Sequence[Candidate],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """One attempt after another, until one answers or none is left."""
        state = RetryState(candidates, self._health, self._retry, self._clock, self._random)
        body: bytes | None = None
        if self._body is not None and state.possible:
            try:
                body = await read_body(scope, receive, limit=self._body, idle=_IDLE)
            except Problem as problem:
                return await refuse(problem, scope, receive, send)
        # What a layer further out has changed stays changed.
        origin, depth = exchange.fallback_from, exchange.fallback_depth
        while True:
            candidate = state.take()
            exchange.candidate = candidate
            exchange.repeatable = state.repeatable
            exchange.fallback_from = origin or candidate.instead_of
            exchange.fallback_depth = depth
            if exchange.fallback_from:
                exchange.fallback_depth = max(1, depth + state.depth)
            again = receive if body is None else replay(body, receive)
            if await self._attempt(exchange, candidate, state, scope, again, send):
                return
            if state.pause and await _left(receive, state.pause):
                exchange.outcome = "hung_up"
                return

    async def _once(
        self, exchange: Exchange, candidate: Candidate, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """The only attempt there can be, which is most of them."""
        exchange.candidate = candidate
        if candidate.instead_of and not exchange.fallback_from:
            exchange.fallback_from = candidate.instead_of
            exchange.fallback_depth = max(1, exchange.fallback_depth)
        made = len(exchange.attempts)
        guard = AttemptGuard(self._health, candidate.target, self._clock)
        exchange.health_report = guard
        try:
            await self.app(scope, receive, send)
            self._over(exchange, candidate, guard)
        except Problem as problem:
            guard.failed(problem, exchange, made)
            raise
        finally:
            exchange.health_report = None
            guard.ends("none")

    def _over(self, exchange: Exchange, candidate: Candidate, guard: AttemptGuard) -> None:
        """The app has returned, and it was no failure."""
        left = exchange.outcome == "hung_up"
        if not left or exchange.first_content:
            guard.answered()
        if not left:
            self._served(exchange, candidate)

    async def _attempt(
        self,
        exchange: Exchange,
        candidate: Candidate,
        state: RetryState,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> bool:
        """One attempt; False when another is to be made. Raises what goes outward."""
        made = len(exchange.attempts)
        guard = AttemptGuard(self._health, candidate.target, self._clock)
        gate = _Gate(send, self._statuses, exchange, state, guard) if self._statuses else None
        exchange.health_report = guard
        try:
            await self.app(scope, receive, send if gate is None else gate.send)
            if gate is not None and gate.failed:
                return not gate.shut
            self._over(exchange, candidate, guard)
            return True
        except Problem as problem:
            # No second name for what is raised on from here: its traceback holds this frame, and
            # the two would stay until the next garbage collection.
            if gate is not None and gate.shut:
                return False
            failed = guard.failed(problem, exchange, made)
            if exchange.first_content or (
                gate is not None and gate.passed and not exchange.headers_sent_early
            ):
                raise
            able = not candidate.instead_of and (len(exchange.attempts) > made or not made)
            step = state.next_step(exchange, problem, failed=failed, able=able)
            if step == "raise":
                raise
            if step == "again":
                return False
        finally:
            exchange.health_report = None
            guard.ends("none")
        raise state.take_failure()


class _Gate:
    """`send` for an app that answers failures itself: one that is not to be seen ends here.

    failed: the status says so. shut: nothing of it leaves. passed: its head has left.
    """

    __slots__ = ("_exchange", "_guard", "_send", "_state", "_statuses", "failed", "passed", "shut")

    def __init__(
        self,
        send: Send,
        statuses: frozenset[int],
        exchange: Exchange,
        state: RetryState,
        guard: AttemptGuard,
    ) -> None:
        self._send = send
        self._statuses = statuses
        self._exchange = exchange
        self._state = state
        self._guard = guard
        self.failed = False
        self.passed = False
        self.shut = False

    async def send(self, message: Message) -> None:
        if self.shut:
            return
        if message["type"] == "http.response.start":
            if message["status"] in self._statuses:
                self.failed = True
                wait: int | None = None
                for name, value in message.get("headers", ()):
                    if name == b"retry-after" and value.isdigit() and len(value) < 6:
                        wait = int(value)
                self._guard.ends("bad", wait=wait)
                if self._state.goes_on(self._exchange):
                    self.shut = True
                    return
            self.passed = True
            if not self.failed and not self._exchange.headers_sent_early:
                self._guard.answered()
        await self._send(message)


async def _left(receive: Receive, seconds: float) -> bool:
    """Wait so long; True as soon as the client has left."""
    try:
        async with asyncio.timeout(seconds):
            while (await hear(receive))["type"] != "http.disconnect":
                pass
            return True
    except TimeoutError:
        return False
