"""One answer for one `Idempotency-Key`, however often the request is sent.

See `middlewares/idempotency/run.py` for what becomes of a key, and
`middlewares/idempotency/recording.py` for how its answer reaches all who asked for it.
"""

import asyncio
import re
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from uuid import uuid4

from middlewares.asgi import ASGIApp, Header, Message, Receive, Scope, Send, header
from middlewares.body import read_body, refuse
from middlewares.exchange import Exchange, client_of, exchange_of
from middlewares.problem import Problem
from middlewares.stores.replays.base import ReplayStore, RunMark

from .recording import Follower, RecordingMemory
from .run import IdempotentRun, ReplayShield

Fingerprint = Callable[[Scope, Exchange], bytes | None]

_NAME = b"idempotency-key"
_PARAM = "Idempotency-Key"
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_REPLAYED: tuple[Header, ...] = ((b"idempotent-replayed", b"true"),)
_CREDENTIALS = (b"authorization", b"x-api-key", b"cookie")

_IDLE = 60.0
_OFF_LOOP = 1 << 20


def members(_: Scope, exchange: Exchange) -> bytes | None:
    """A fingerprint of the members of a JSON body that has been read, in whatever order they came.

    None when none has been read.
    """
    if not exchange.fields:
        return None
    found = sha256()
    for name in sorted(exchange.fields):
        value = memoryview(exchange.fields[name])
        found.update(b"%d %d " % (len(name), len(value)))
        found.update(name.encode())
        found.update(value)
    for model in exchange.models:  # a member, too, but for upstreams
        found.update(b"%d " % len(model))
        found.update(model.encode(errors="replace"))
    return found.digest()


class IdempotencyMiddleware:
    """Answer a POST that has an `Idempotency-Key` once, and give that answer again.

    A key belongs to one principal (where nobody has established one: to the caller's credentials
    and address), path and dialect. The first request with it runs detached from its client: a
    hang-up does not reach the app, so that a client which lost its connection and asks again gets
    the answer that is being made. Its call returns when the app has, so what stands outside sees
    the true end. Who asks again meanwhile joins: it gets all there is and what comes. In another
    process it waits until the answer is kept. Later the kept answer is given. All but the first
    carry `idempotent-replayed: true`. The same key with another body or query is refused, 422.

    Kept is what ended whole, with a status below 400 and the outcome "completed" (in an app that
    tells no outcome: any). After anything else the key is free, and the next request runs anew.
    An answer larger than `largest` goes on to those who get it already, at their pace, and is not
    kept. Who asks for it while it is made gets 409; once its last client has left, the app hears
    of that as ever. So nothing runs twice at once, and what was kept does not run again.

    Without an answer from the store requests run as if none was kept, and join only in their own
    process; who waits for another process then waits on, for as long as the other's mark lives,
    and gets 409. A process that loses its mark (it stood still for longer than marks live, or the
    store was flushed) does not notice until its answer is made.

    store: where answers are kept; whoever made it closes it.
    fingerprint: what tells one body from another, from a scope whose body has been read; None: not
        to be answered once. Without it the body is read here, up to `body` bytes.
    keep: seconds an answer is kept. largest: bytes of body an answer may have to be kept.
    together: bytes that answers may have in memory at once, while they are made or given again. One
        for which nothing is left is treated as one larger than `largest`.
    alone: seconds the app may go on after its last client has left, where no answer has begun: it
        holds the request's body. Then it hears of the hang-up, and who asks again begins anew.

    `aclose`, and the shutdown of the lifespan, end what runs.

    Reads:   principal, client, dialect, fields, models, outcome, request_id
    Writes:  replayed, served, problem, reason, outcome
    Rejects: idempotency_conflict, idempotency_mismatch, internal, invalid_request,
             request_timeout, request_too_large, upstream_unavailable
    Order:   inside what knows the principal and reads the body; outside what spends
    Cost:    one look at the headers of a POST; with a key two tasks, and the answer in memory
    """

    __slots__ = (
        *("_alone", "_body", "_fingerprint", "_keep", "_largest", "_runs", "_shelf", "memory"),
        "app",
    )

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: ReplayStore,
        fingerprint: Fingerprint | None = None,
        keep: float = 86400.0,
        largest: int = 8 << 20,
        together: int = 256 << 20,
        body: int = 32 << 20,
        alone: float = 300.0,
    ) -> None:
        for what, seconds in (("keep", keep), ("alone", alone)):
            if seconds <= 0:
                raise ValueError(f"{what} {seconds}: expected seconds, more than 0")
        for name, size in (("largest", largest), ("together", together), ("body", body)):
            if size < 0:
                raise ValueError(f"{name} {size}: expected bytes, at least 0")
        self.app = app
        self._fingerprint = fingerprint
        self._keep = keep
        self._largest = largest
        self.memory = RecordingMemory(together)
        self._body = body
        self._alone = alone
        self._shelf = ReplayShield(store)
        self._runs: dict[str, IdempotentRun] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                receive = self._until_shutdown(receive)
            return await self.app(scope, receive, send)
        if scope["method"] != "POST":
            return await self.app(scope, receive, send)
        key = header(scope, _NAME)
        if key is None:
            return await self.app(scope, receive, send)
        if not _KEY.fullmatch(key) or len({v for n, v in scope["headers"] if n == _NAME}) > 1:
            return await _malformed()(scope, receive, send)
        exchange = exchange_of(scope)
        messages: list[Message] = []
        if self._fingerprint is None:

            async def receive_noted() -> Message:
                messages.append(await receive())
                return messages[-1]

            try:
                body = await read_body(scope, receive_noted, limit=self._body, idle=_IDLE)
            except Problem as problem:
                messages.clear()
                return await refuse(problem, scope, receive, send)
            if messages[-1].get("more_body", False):
                # All of its length is there, and an empty end that was still to come is not read.
                messages[-1] = {**messages[-1], "more_body": False}
            given = await _digest(body)
            del body
        else:
            found = await _fingerprint(self._fingerprint, scope, exchange)
            if found is None:
                return await self.app(scope, receive, send)
            given = await _digest(found)
        query = scope.get("query_string", b"")
        fingerprint = sha256(given + query).digest()
        name = _name(scope, exchange, key)
        follower = Follower(receive)
        try:
            while not await self._attend(name, fingerprint, follower, messages, scope, send):
                pass
        finally:
            follower.close()

    async def _attend(
        self,
        name: str,
        fingerprint: bytes,
        follower: Follower,
        messages: list[Message],
        scope: Scope,
        send: Send,
    ) -> bool:
        """Follow the run that has this name, beginning one if there is none. False: once more."""
        run = self._runs.get(name)
        first = run is None
        if run is None:
            mark = RunMark(name, fingerprint, uuid4().hex)
            run = IdempotentRun(
                mark, self._shelf, follower, scope, self._largest, self.memory, self._alone
            )
            self._runs[name] = run
            run.begin(self.app, messages, self._keep, partial(self._runs.pop, name))
        recording = run.recording
        follower.follow(recording)
        try:
            if run.mark.fingerprint != fingerprint:
                return await self._differ(run, follower, scope, send)
            if recording.large:
                return await _refuse(_large(), scope, send)
            await follower.until(
                lambda: (
                    recording.start is not None
                    or recording.ended
                    or (follower.left and not (first and run.made))
                )
            )
            if first and run.made:
                return await self._own(run, follower, scope, send)
            if run.again and not follower.left:
                return False
            return await self._join(run, follower, scope, send)
        finally:
            run.leave(follower)

    async def _own(self, run: IdempotentRun, follower: Follower, scope: Scope, send: Send) -> bool:
        """The request that runs, to the end of its app whether its client is there or not."""
        recording = run.recording
        exchange_of(scope).replayed = False  # what it joined before may have been a refusal
        try:
            await recording.pass_on(follower, send)
        except Exception:
            follower.leave()
            await follower.until(lambda: recording.ended)
            raise
        await follower.until(lambda: recording.ended)
        if run.error is not None:
            raise run.error
        return await _end(run, scope, send)

    async def _join(self, run: IdempotentRun, follower: Follower, scope: Scope, send: Send) -> bool:
        """A request whose answer another makes, or has made."""
        start = run.recording.start
        exchange = exchange_of(scope)
        if start is not None:
            exchange.replayed = True
            exchange.served = run.served
            exchange.problem, exchange.reason = run.refused
            if await run.recording.pass_on(follower, send, _REPLAYED):
                ended = run.outcome or ("completed" if start["status"] < 400 else "failed")
                exchange.outcome = ended
                if ended == "refused":  # who tries something else must not join this run again
                    await follower.until(lambda: run.recording.ended)
                return True
        if follower.left:
            exchange.outcome = "hung_up"
            return True
        if isinstance(run.error, Exception):
            raise run.error
        if run.error is not None:
            raise Problem("internal", reason=f"the request it joined: {run.error!r}")
        return await _end(run, scope, send)

    async def _differ(
        self, run: IdempotentRun, follower: Follower, scope: Scope, send: Send
    ) -> bool:
        """A request whose key is another's, unless that one turns out to be mistaken itself."""
        recording = run.recording
        await follower.until(lambda: run.made or run.waiting or recording.ended or follower.left)
        if follower.left:
            exchange_of(scope).outcome = "hung_up"
            return True
        if recording.ended and not run.made:
            return False
        return await _refuse(_mismatch(), scope, send)

    def _until_shutdown(self, receive: Receive) -> Receive:
        async def receive_last() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                await self.aclose()
            return message

        return receive_last

    async def aclose(self) -> None:
        """Cancel what runs, and wait for it. Its clients are told that we are not available."""
        await asyncio.gather(*(run.stop() for run in tuple(self._runs.values())))


def _name(scope: Scope, exchange: Exchange, key: bytes) -> str:
    """What the store knows a key by: nobody can make it that of another principal."""
    whole = sha256()
    principal = exchange.principal
    if principal is not None:
        who = [b"principal", principal.id.encode()]
    else:
        client = client_of(exchange, scope)
        given = [n + b" " + v for n, v in scope["headers"] if n in _CREDENTIALS]
        who = [b"caller", client.encode(), *given]
    for part in (*who, exchange.dialect.encode(), scope["path"].encode(), key):
        whole.update(b"%d " % len(part))
        whole.update(part)
    return whole.hexdigest()


async def _digest(content: bytes) -> bytes:
    if len(content) > _OFF_LOOP:
        return (await asyncio.to_thread(sha256, content)).digest()
    return sha256(content).digest()


async def _fingerprint(of: Fingerprint, scope: Scope, exchange: Exchange) -> bytes | None:
    if sum(len(memoryview(value)) for value in exchange.fields.values()) > _OFF_LOOP:
        return await asyncio.to_thread(of, scope, exchange)
    return of(scope, exchange)


async def _end(run: IdempotentRun, scope: Scope, send: Send) -> bool:
    """What is left to say when a run has ended without a whole answer and without an error."""
    match run.refusal:
        case "stopped":
            problem = Problem("upstream_unavailable", reason="stopped before it was answered")
            if run.recording.start is not None:
                raise problem
        case "mismatch":
            problem = _mismatch()
        case "large":
            problem = _large()
        case "lost":
            problem = Problem("idempotency_conflict", param=_PARAM, retry_after=1)
        case "":
            return True
    return await _refuse(problem, scope, send)


async def _refuse(problem: Problem, scope: Scope, send: Send) -> bool:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await problem(scope, receive, send)
    return True


def _malformed() -> Problem:
    said = f"The {_PARAM} header must be one value of 1 to 255 visible ASCII characters."
    return Problem("invalid_request", message=said, param=_PARAM)


def _mismatch() -> Problem:
    return Problem("idempotency_mismatch", param=_PARAM)


def _large() -> Problem:
    said = (
        f"A request with this {_PARAM} is being answered, and the answer is too large to be given "
        "twice."
    )
    return Problem("idempotency_conflict", message=said, param=_PARAM, retry_after=1)
