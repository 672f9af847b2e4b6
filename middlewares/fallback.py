"""Try one place after another until one answers, and let the client see only that one.

Theory of operation. `places` says where an exchange may be answered, best first. Each try is one
call inward with `exchange.place` set. What came of it:

    answered          whatever was answered, a refusal of what was asked included: over
    failed            nothing the client could have seen has left, and another place, or the same
                      one later, may do better: the next try
    failed for good   content has left, or nothing is left to try: the failure goes outward

A try has failed when `Problem` of a kind in `FAILED` is raised inside, or the inner app answers
with a status in `statuses`. A head that left early with nothing but signs of life behind it
(`exchange.early`) does not end the search; whatever is sent after it is up to the inner app.

Another model that refuses what the model asked for would have taken, because it is less able, is
passed over, and its refusal is not told: what is told is the last failure.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import random
from time import perf_counter

import msgspec

from ._asgi import ASGIApp, Message, Receive, Scope, Send
from ._body import ClientLeft, discard, read_body, replay
from .exchange import Exchange, Place, Target
from .problem import Problem
from .stores.health import Health, Verdict

Places = Callable[[Exchange], Sequence[Place] | Awaitable[Sequence[Place]]]
"""Where an exchange may be answered, best first. Nowhere: it is passed on without a place."""

FAILED = frozenset(("rate_limited", "upstream_error", "upstream_timeout", "upstream_unavailable"))
"""Kinds of Problem that say something of the place, and nothing of what was asked."""

STATUSES = frozenset((408, 409, 429, 500, 502, 503, 504, 529))
"""Of an answer, the same."""

_IDLE = 60.0
_LINGER = 5.0


class Retry(msgspec.Struct, frozen=True):
    """How long to go on.

    attempts: tries of one exchange, at most. seconds: after which none is begun any more.
    again: how often a place is tried again, once each was tried. Before that, a pause: at random
    up to `pause` seconds, twice as much each time, at most `longest`.
    unanswered: whether to go on where a request was sent and nothing came back, so that it may
    have been worked on, and be paid for twice.
    """

    attempts: int = 5
    seconds: float = 300.0
    again: int = 0
    pause: float = 0.5
    longest: float = 8.0
    unanswered: bool = True


class FallbackMiddleware:
    """Try one place after another.

    places: see `Places`. health: what is known of places; those that are broken are passed over
        while there is another. None: each is tried in its turn.
    served: called with the place that has answered.
    statuses: of an inner app that answers failures itself; none where it raises `Problem`, sets
        `exchange.first_content` and calls `exchange.on_content` when content begins. Then nothing
        is put around `send`.
    body: bytes of a request body to keep for further tries; None where nothing inside reads one.

    Reads:   attempts, early, first_content, outcome
    Writes:  place, fallback_from, fallback_depth, on_content, outcome
    Rejects: invalid_request, request_too_large, upstream_unavailable
    Order:   inside what pays, so that one reservation is for all tries; right around the app
    Cost:    one look at the places of a model; with `statuses` wraps send, with `body` holds it
    """

    __slots__ = ("_body", "_clock", "_health", "_places", "_random", "_retry", "_served",
                 "_statuses", "app")  # fmt: skip

    def __init__(
        self,
        app: ASGIApp,
        *,
        places: Places,
        health: Health | None = None,
        retry: Retry | None = None,
        served: Callable[[Exchange, Place], None] = lambda exchange, place: None,
        statuses: frozenset[int] = STATUSES,
        body: int | None = 32 << 20,
        clock: Callable[[], float] = perf_counter,
        random: Callable[[], float] = random,
    ) -> None:
        self.app = app
        self._places = places
        self._health = health
        self._retry = retry or Retry()
        self._served = served
        self._statuses = statuses
        self._body = body
        self._clock = clock
        self._random = random

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = Exchange.of(scope)
        places = self._places(exchange)
        if type(places) is not tuple and not isinstance(places, Sequence):
            places = await places
        if not places:
            return await self.app(scope, receive, send)
        search = _Search(places, self._health, self._retry, self._clock, self._random)
        body: bytes | None = None
        if self._body is not None and search.possible:
            try:
                body = await read_body(scope, receive, limit=self._body, idle=_IDLE)
            except ClientLeft:
                exchange.outcome = "hung_up"
                return
            except Problem as problem:
                await problem(scope, receive, send)
                return await discard(receive, seconds=_LINGER)
        # What a layer further out has changed stays changed.
        origin, depth = exchange.fallback_from, exchange.fallback_depth
        while True:
            place = search.take()
            exchange.place = place
            exchange.fallback_from = origin or place.instead_of
            exchange.fallback_depth = depth
            if exchange.fallback_from:
                exchange.fallback_depth = max(1, depth + search.depth)
            again = receive if body is None else replay(body, receive)
            if await self._try(exchange, place, search, scope, again, send):
                return
            if search.pause and await _left(receive, search.pause):
                exchange.outcome = "hung_up"
                return

    async def _try(
        self,
        exchange: Exchange,
        place: Place,
        search: "_Search",
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> bool:
        """One try; False when another is to be made. Raises what goes outward."""
        gate = _Gate(send, self._statuses, exchange, search) if self._statuses else None
        made = len(exchange.attempts)
        search.begins(place)
        exchange.on_content = search.answered
        try:
            await self.app(scope, receive, send if gate is None else gate.send)
            if gate is not None and gate.failed:
                return not gate.shut
            left = exchange.outcome == "hung_up"
            if not left or exchange.first_content:
                search.answered()
            if not left:
                self._served(exchange, place)
            return True
        except Problem as problem:
            # No second name for what is raised on from here: its traceback holds this frame, and
            # the two would stay until the next garbage collection.
            if gate is not None and gate.shut:
                return False
            failed = problem.kind in FAILED
            if failed:
                search.ends("bad", wait=problem.retry_after if problem.told else None)
            elif len(exchange.attempts) > made and exchange.attempts[-1].status:
                search.answered(timed=False)  # a refusal is an answer, unless it is our own
            if exchange.first_content or (gate is not None and gate.passed and not exchange.early):
                raise
            if not failed and (not place.instead_of or search.failure is None):
                raise  # it is the caller's to put right
            if search.goes_on(exchange):
                if failed:
                    search.failure = problem.with_traceback(None)
                return False
            if failed:
                raise
        finally:
            exchange.on_content = None
            search.ends("none")
        raise search.told()


class _Search:
    """The tries of one exchange.

    failure: the last that says something of a place. pause: seconds to wait before the next try.
    """

    __slots__ = (
        "_answered",
        "_began",
        "_clock",
        "_health",
        "_left",
        "_mark",
        "_models",
        "_places",
        "_random",
        "_retry",
        "_rounds",
        "_since",
        "_target",
        "_tried",
        "failure",
        "pause",
    )

    def __init__(
        self,
        places: Sequence[Place],
        health: Health | None,
        retry: Retry,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.failure: Problem | None = None
        self.pause = 0.0
        self._places = places
        self._left = list(places)
        self._health = health
        self._retry = retry
        self._clock = clock
        self._random = random
        self._began = self._since = clock()
        self._answered = False
        self._target: Target | None = None
        self._mark = 0.0
        self._models: list[str] = []
        self._rounds = 0
        self._tried = 0

    @property
    def possible(self) -> bool:
        """Whether there could ever be a second try."""
        return self._retry.attempts > 1 and (len(self._places) > 1 or self._retry.again > 0)

    @property
    def depth(self) -> int:
        """Models tried before the one that is tried now."""
        return len(self._models) - 1

    def take(self) -> Place:
        """The next place to try."""
        left, health = self._left, self._health
        at = 0
        if health is not None and len(left) > 1:
            for n, place in enumerate(left):
                if health.admits(place.target):
                    at = n
                    break
            else:
                waits = [health.wait(place.target) for place in left]
                at = waits.index(min(waits))
        place = left.pop(at)
        self._tried += 1
        if place.served in self._models:
            self._models.remove(place.served)
        self._models.append(place.served)
        return place

    def begins(self, place: Place) -> None:
        """A try begins there."""
        self._since = self._clock()
        self._answered = False
        if self._health is not None:
            self._target = place.target
            self._mark = self._health.began(place.target)

    def answered(self, *, timed: bool = True) -> None:
        """Its answer has begun, which may go on for long; what is said first counts. timed: whether
        the time that took tells how quick the place is."""
        if self._target is not None and self._health is not None and not self._answered:
            self._answered = True
            seconds = self._clock() - self._since if timed else 0.0
            self._health.answered(self._target, self._mark, seconds=seconds)

    def ends(self, verdict: Verdict, *, wait: int | None = None) -> None:
        """It is over, as far as the health of its place is concerned; what is said first counts."""
        target, self._target = self._target, None
        if target is not None and self._health is not None:
            self._health.ended(target, verdict, self._mark, retry_after=wait)

    def goes_on(self, exchange: Exchange) -> bool:
        """Whether there is another try, after `pause` seconds."""
        retry = self._retry
        self.pause = 0.0
        if self._tried >= retry.attempts:
            return False
        attempts = exchange.attempts
        if attempts and attempts[-1].unanswered and not retry.unanswered:
            return False
        spent = self._clock() - self._began
        if self._left:
            return spent < retry.seconds
        if self._rounds >= retry.again:
            return False
        most = min(retry.pause * 2**self._rounds, retry.longest)
        pause = self._random() * most
        again = list(self._places)
        if self._health is not None:
            waits = [self._health.wait(place.target) for place in again]
            if min(waits) > retry.longest:
                return False  # they have asked to be left alone for longer
            again = [place for place, wait in zip(again, waits, strict=True) if wait <= most]
            pause = max(pause, min(waits))
            again = again or [self._places[waits.index(min(waits))]]
        if spent + pause >= retry.seconds:
            return False
        self._rounds += 1
        self._left = again
        self.pause = pause
        return True

    def told(self) -> Problem:
        """The failure to tell, which is kept here no longer."""
        failure, self.failure = self.failure, None
        return failure or Problem("upstream_unavailable", reason="nothing was tried")


class _Gate:
    """`send` for an app that answers failures itself: one that is not to be seen ends here.

    failed: the status says so. shut: nothing of it leaves. passed: its head has left.
    """

    __slots__ = ("_exchange", "_search", "_send", "_statuses", "failed", "passed", "shut")

    def __init__(
        self, send: Send, statuses: frozenset[int], exchange: Exchange, search: _Search
    ) -> None:
        self._send = send
        self._statuses = statuses
        self._exchange = exchange
        self._search = search
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
                self._search.ends("bad", wait=wait)
                if self._search.goes_on(self._exchange):
                    self.shut = True
                    return
            self.passed = True
            if not self.failed and not self._exchange.early:
                self._search.answered()
        await self._send(message)


async def _left(receive: Receive, seconds: float) -> bool:
    """Wait so long; True as soon as the client has left."""
    try:
        async with asyncio.timeout(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
            return True
    except TimeoutError:
        return False
