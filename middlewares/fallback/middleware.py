"""Fallback: try candidates in order until one answers; the client sees only that answer.

Theory of operation. `candidates` lists where an exchange may be answered, best first. An attempt is
one call of the inner app with `exchange.candidate` set. It ends in one of three ways:

    answered          the app answered, possibly with a refusal of the request: the end
    failed            nothing has reached the client, and another candidate, or the same one later,
                      may do better: the next attempt
    failed for good   content has reached the client, or no attempt is left: the failure is raised

An attempt fails when the inner app raises a `Problem` of a kind in `retry_state.FAILED` or answers
with a status in `statuses`. After an early head with nothing but keep-alives behind it
(`exchange.headers_sent_early`) attempts continue; what is sent after it is up to the inner app.

A later candidate may have another model or dialect and refuse what the first one accepts. If the
first one failed and a later one refuses, the caller gets the failure, not the refusal.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import random
from time import perf_counter

from middlewares.asgi import ASGIApp, Entered, Message, Receive, Scope, Send
from middlewares.body import read_body, refuse, replay
from middlewares.disconnects import receive_or_disconnect
from middlewares.exchange import Candidate, Exchange, exchange_of
from middlewares.problem import Problem
from middlewares.stores.health.base import Health

from .retry_state import AttemptGuard, RetryPolicy, RetryState

Candidates = Callable[[Exchange], Sequence[Candidate] | Awaitable[Sequence[Candidate]]]
"""Returns the candidates of an exchange, best first. Empty: the request passes unchanged."""

Failed = Callable[[Exchange, Candidate, Problem], None]
"""Called with each failure of a candidate that was raised."""

STATUSES = frozenset((408, 409, 429, 500, 502, 503, 504, 529))
"""Statuses after which another candidate is tried, for apps that answer failures themselves."""

_IDLE = 60.0


class FallbackMiddleware(Entered):
    """Try candidates in order until one answers.

    candidates: see `Candidates`. health: state of the targets; broken ones are skipped while there
        is another candidate. None: each is tried in turn.
    served: called with the candidate that has answered. failed: see `Failed`.
    statuses: failures that the inner app answers itself; empty where it raises `Problem`, sets
        `exchange.first_content` and reports to `exchange.health_report` when content begins. Then
        `send` is not wrapped.
    body: largest request body kept for further attempts, bytes; None where the app reads none.

    Reads:   attempts, headers_sent_early, first_content, outcome
    Writes:  candidate, repeatable, fallback_from, fallback_depth, health_report, outcome
    Rejects: invalid_request, request_timeout, request_too_large
    Order:   inside budget, so that one reservation covers all attempts; directly around the app
    Cost:    one health check per candidate; with `statuses` wraps send, with `body` holds the body
    """

    __slots__ = (
        "_body",
        "_candidates",
        "_clock",
        "_failed",
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
        failed: Failed | None = None,
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
        self._failed = failed
        self._statuses = statuses
        self._body = body
        self._clock = clock
        self._random = random

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the awaitable of the attempts, so this layer adds one frame to a stream."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        exchange = exchange_of(scope)
        candidates = self._candidates(exchange)
        if type(candidates) is not tuple and not isinstance(candidates, Sequence):
            return self._serve_later(exchange, candidates, scope, receive, send)
        return self._serve(exchange, candidates, scope, receive, send)

    async def _serve_later(
        self,
        exchange: Exchange,
        candidates: Awaitable[Sequence[Candidate]],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        await self._serve(exchange, await candidates, scope, receive, send)

    def _serve(
        self,
        exchange: Exchange,
        candidates: Sequence[Candidate],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> Awaitable[None]:
        """Go on with the candidates."""
        if not candidates:
            return self.app(scope, receive, send)
        if len(candidates) == 1 and not self._retry.retries and not self._statuses:
            return self._single_attempt(exchange, candidates[0], scope, receive, send)
        return self._attempts(exchange, candidates, scope, receive, send)

    async def _attempts(
        self,
        exchange: Exchange,
        candidates: Sequence[Candidate],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Make attempts until one answers or none is left."""
        state = RetryState(candidates, self._health, self._retry, self._clock, self._random)
        body: bytes | None = None
        if self._body is not None and state.may_retry:
            try:
                body = await read_body(scope, receive, limit=self._body, idle=_IDLE)
            except Problem as problem:
                return await refuse(problem, scope, receive, send)
        # An outer layer (downgrade) may have set them.
        origin, depth = exchange.fallback_from, exchange.fallback_depth
        while True:
            candidate = state.next_candidate()
            exchange.candidate = candidate
            exchange.repeatable = state.repeatable
            exchange.fallback_from = origin or candidate.instead_of
            exchange.fallback_depth = depth
            if exchange.fallback_from:
                exchange.fallback_depth = max(1, depth + state.depth)
            again = receive if body is None else replay(body, receive)
            if await self._attempt(exchange, candidate, state, scope, again, send):
                return
            if state.pause and await _client_disconnects(receive, state.pause):
                exchange.outcome = "hung_up"
                return

    async def _single_attempt(
        self, exchange: Exchange, candidate: Candidate, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Make the only possible attempt; most exchanges have one."""
        exchange.candidate = candidate
        if candidate.instead_of and not exchange.fallback_from:
            exchange.fallback_from = candidate.instead_of
            exchange.fallback_depth = max(1, exchange.fallback_depth)
        made = len(exchange.attempts)
        guard = AttemptGuard(self._health, candidate.target, self._clock)
        exchange.health_report = guard
        try:
            await self.app(scope, receive, send)
            self._app_returned(exchange, candidate, guard)
        except Problem as problem:
            if guard.failed(problem, exchange, made) and self._failed is not None:
                self._failed(exchange, candidate, problem)
            raise
        finally:
            exchange.health_report = None
            guard.end("none")

    def _app_returned(self, exchange: Exchange, candidate: Candidate, guard: AttemptGuard) -> None:
        """Record an attempt that returned without a failure."""
        disconnected = exchange.outcome == "hung_up"
        if not disconnected or exchange.first_content:
            guard.answered()
        if not disconnected:
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
        """Make one attempt; False when another follows. Raises what ends the exchange."""
        made = len(exchange.attempts)
        guard = AttemptGuard(self._health, candidate.target, self._clock)
        attempt_send: _AttemptSend | None = None
        if self._statuses:
            attempt_send = _AttemptSend(send, self._statuses, exchange, state, guard)
        exchange.health_report = guard
        try:
            await self.app(scope, receive, send if attempt_send is None else attempt_send.send)
            if attempt_send is not None and attempt_send.failed:
                return not attempt_send.discards
            self._app_returned(exchange, candidate, guard)
            return True
        except Problem as problem:
            # A second name would make a cycle of this frame and the traceback, which stays until
            # the next garbage collection.
            if attempt_send is not None and attempt_send.discards:
                return False
            failed = guard.failed(problem, exchange, made)
            if failed and self._failed is not None:
                self._failed(exchange, candidate, problem)
            if exchange.first_content or (
                attempt_send is not None and attempt_send.passed and not exchange.headers_sent_early
            ):
                raise
            capable = not candidate.instead_of and (len(exchange.attempts) > made or not made)
            step = state.next_step(exchange, problem, failed=failed, capable=capable)
            if step == "raise":
                raise
            if step == "retry":
                return False
        finally:
            exchange.health_report = None
            guard.end("none")
        raise state.take_failure()


class _AttemptSend:
    """`send` of one attempt: discards the answer of one that failed and is repeated.

    failed: the status is a failure. discards: nothing of the answer is sent. passed: its start has
    been sent.
    """

    __slots__ = (
        "_exchange",
        "_guard",
        "_send",
        "_state",
        "_statuses",
        "discards",
        "failed",
        "passed",
    )

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
        self.discards = False

    async def send(self, message: Message) -> None:
        if self.discards:
            return
        if message["type"] == "http.response.start":
            if message["status"] in self._statuses:
                self.failed = True
                wait: int | None = None
                for name, value in message.get("headers", ()):
                    if name == b"retry-after" and value.isdigit() and len(value) < 6:
                        wait = int(value)
                self._guard.end("bad", wait=wait)
                if self._state.plan_next(self._exchange):
                    self.discards = True
                    return
            self.passed = True
            if not self.failed and not self._exchange.headers_sent_early:
                self._guard.answered()
        await self._send(message)


async def _client_disconnects(receive: Receive, seconds: float) -> bool:
    """Wait for `seconds`; True as soon as the client disconnects."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive_or_disconnect(receive))["type"] != "http.disconnect":
                pass
            return True
    except TimeoutError:
        return False
