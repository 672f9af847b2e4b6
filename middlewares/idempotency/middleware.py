"""Idempotent requests: run a POST with an `Idempotency-Key` once, replay its answer to repeats.

`run.py` has the life of a key in this process, `recording.py` how one answer reaches many clients.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from uuid import uuid4

from middlewares.asgi import ASGIApp, Entered, Header, Message, Receive, Scope, Send, header
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
    """Fingerprint of the members of a JSON body, independent of their order, or of the fields and
    files of a form; None without a body.

    It reads `Exchange.fields` and `Exchange.form`.
    """
    if not exchange.fields:
        return None
    found = sha256()
    for name in sorted(exchange.fields):
        value = memoryview(exchange.fields[name])
        found.update(b"%d %d " % (len(name), len(value)))
        found.update(name.encode())
        found.update(value)
    for model in exchange.models:  # intake takes this member out of `fields`
        found.update(b"%d " % len(model))
        found.update(model.encode(errors="replace"))
    if exchange.form is not None:
        found.update(exchange.form.digest())
    return found.digest()


class IdempotencyMiddleware(Entered):
    """Run a POST with an `Idempotency-Key` once and replay its answer to every repeat.

    A key belongs to one principal (without one, to the caller's credentials and address), path and
    dialect. The first request runs detached from its client: a disconnect does not reach the app,
    so a client that lost its connection and sends the request again gets the answer under way. Its
    call returns when the app has, so outer layers see the true end. A repeat meanwhile joins the
    run: it gets what has been sent so far and the rest. In another process it waits until the
    answer is stored. Later repeats get the stored answer. All but the first carry
    `idempotent-replayed: true`. The same key with another body or query gets 422.

    An answer is stored if it is complete, its status is below 400 and its outcome is "completed"
    (or "", in an app that sets none). After any other end the key is free and the next request
    runs. An answer larger than `max_answer` is sent to the clients that already follow it, at the
    pace of the slowest, and is not stored. A repeat during it gets 409. The app gets the
    disconnect of its last client. So nothing runs twice at once, and a stored answer is not run
    again.

    While the store does not answer, requests run as if nothing was stored and join only within
    their process. A repeat that waits for another process waits until the other's mark has expired
    and then gets 409. A process that loses its mark (it was paused for longer than marks live, or
    the store was flushed) does not notice until its answer is made.

    store: stores the answers; its creator closes it.
    fingerprint: identifies a request, from a scope whose body has been read; None from it: the key
        is ignored. Without a function, the body is read here, up to `max_body` bytes.
    ttl: seconds for which an answer is stored. max_answer: largest body of a stored answer, bytes.
    max_memory: bytes of all answers in memory while they are made or replayed. An answer that does
        not fit is treated as one larger than `max_answer`.
    detached_timeout: seconds for which the app may continue after its last client disconnected,
        if no answer has begun: it holds the request's body. Then the app gets the disconnect, and
        the next repeat runs again.

    `aclose` and the shutdown of the lifespan cancel all runs.

    Reads:   principal, client, dialect, fields, form, models, outcome, request_id
    Writes:  replayed, served, problem, reason, outcome
    Rejects: idempotency_conflict, idempotency_mismatch, internal, invalid_request,
             request_timeout, request_too_large, upstream_unavailable
    Order:   inside authentication and what reads the body; outside what spends money
    Cost:    one scan of the headers of a POST; with a key two tasks, and the answer in memory
    """

    __slots__ = (
        "_detached_timeout",
        "_fingerprint",
        "_max_answer",
        "_max_body",
        "_runs",
        "_shield",
        "_ttl",
        "app",
        "memory",
        "memory",
    )

    def __init__(
        self,
        app: ASGIApp,
        *,
        store: ReplayStore,
        fingerprint: Fingerprint | None = None,
        ttl: float = 86400.0,
        max_answer: int = 8 << 20,
        max_memory: int = 256 << 20,
        max_body: int = 32 << 20,
        detached_timeout: float = 300.0,
    ) -> None:
        for what, seconds in (("ttl", ttl), ("detached_timeout", detached_timeout)):
            if seconds <= 0:
                raise ValueError(f"{what} {seconds}: expected seconds, more than 0")
        for name, size in (
            ("max_answer", max_answer),
            ("max_memory", max_memory),
            ("max_body", max_body),
        ):
            if size < 0:
                raise ValueError(f"{name} {size}: expected bytes, at least 0")
        self.app = app
        self._fingerprint = fingerprint
        self._ttl = ttl
        self._max_answer = max_answer
        self.memory = RecordingMemory(max_memory)
        self._max_body = max_body
        self._detached_timeout = detached_timeout
        self._shield = ReplayShield(store)
        self._runs: dict[str, IdempotentRun] = {}

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable for a request without a key, so it adds no frame."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                receive = self._until_shutdown(receive)
            return self.app(scope, receive, send)
        if scope["method"] != "POST":
            return self.app(scope, receive, send)
        key = header(scope, _NAME)
        if key is None:
            return self.app(scope, receive, send)
        return self._serve(key, scope, receive, send)

    async def _serve(self, key: bytes, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request with a key."""
        if not _KEY.fullmatch(key) or len({v for n, v in scope["headers"] if n == _NAME}) > 1:
            return await _malformed()(scope, receive, send)
        exchange = exchange_of(scope)
        messages: list[Message] = []
        if self._fingerprint is None:

            async def receive_noted() -> Message:
                messages.append(await receive())
                return messages[-1]

            try:
                body = await read_body(scope, receive_noted, limit=self._max_body, idle=_IDLE)
            except Problem as problem:
                messages.clear()
                return await refuse(problem, scope, receive, send)
            if messages[-1].get("more_body", False):
                # The body has its full length; the empty last message has not been read.
                messages[-1] = {**messages[-1], "more_body": False}
            body_digest = await _digest(body)
            del body
        else:
            found = await _fingerprint(self._fingerprint, scope, exchange)
            if found is None:
                return await self.app(scope, receive, send)
            body_digest = await _digest(found)
        query = scope.get("query_string", b"")
        fingerprint = sha256(body_digest + query).digest()
        name = _name(scope, exchange, key)
        follower = Follower(receive)
        try:
            while not await self._follow_run(name, fingerprint, follower, messages, scope, send):
                pass
        finally:
            follower.close()

    async def _follow_run(
        self,
        name: str,
        fingerprint: bytes,
        follower: Follower,
        messages: list[Message],
        scope: Scope,
        send: Send,
    ) -> bool:
        """Follow the run of this name; start it if there is none. False: call it again."""
        run = self._runs.get(name)
        first = run is None
        if run is None:
            mark = RunMark(name, fingerprint, uuid4().hex)
            run = IdempotentRun(
                mark,
                self._shield,
                follower,
                scope,
                self._max_answer,
                self.memory,
                self._detached_timeout,
            )
            self._runs[name] = run
            run.begin(self.app, messages, self._ttl, partial(self._runs.pop, name))
        recording = run.recording
        follower.follow(recording)
        try:
            if run.mark.fingerprint != fingerprint:
                return await self._refuse_mismatch(run, follower, scope, send)
            if recording.large:
                return await _refuse(_large(), scope, send)
            await follower.wait_until(
                lambda: (
                    recording.start is not None
                    or recording.ended
                    or (follower.disconnected and not (first and run.executed))
                )
            )
            if first and run.executed:
                return await self._serve_first(run, follower, scope, send)
            if run.restart and not follower.disconnected:
                return False
            return await self._serve_joined(run, follower, scope, send)
        finally:
            run.leave(follower)

    async def _serve_first(
        self, run: IdempotentRun, follower: Follower, scope: Scope, send: Send
    ) -> bool:
        """Serve the request that runs; return when its app has, even without its client."""
        recording = run.recording
        exchange_of(scope).replayed = False  # it may have joined a refused run before
        try:
            await recording.stream_to(follower, send)
        except Exception:
            follower.disconnect()
            await follower.wait_until(lambda: recording.ended)
            raise
        await follower.wait_until(lambda: recording.ended)
        if run.error is not None:
            raise run.error
        return await _end(run, scope, send)

    async def _serve_joined(
        self, run: IdempotentRun, follower: Follower, scope: Scope, send: Send
    ) -> bool:
        """Serve a request from the run of an earlier one."""
        start = run.recording.start
        exchange = exchange_of(scope)
        if start is not None:
            exchange.replayed = True
            exchange.served = run.served
            exchange.problem, exchange.reason = run.refused
            if await run.recording.stream_to(follower, send, _REPLAYED):
                ended = run.outcome or ("completed" if start["status"] < 400 else "failed")
                exchange.outcome = ended
                if ended == "refused":  # a second try with another body must not join this run
                    await follower.wait_until(lambda: run.recording.ended)
                return True
        if follower.disconnected:
            exchange.outcome = "hung_up"
            return True
        if isinstance(run.error, Exception):
            raise run.error
        if run.error is not None:
            raise Problem("internal", reason=f"the request it joined: {run.error!r}")
        return await _end(run, scope, send)

    async def _refuse_mismatch(
        self, run: IdempotentRun, follower: Follower, scope: Scope, send: Send
    ) -> bool:
        """Refuse a request whose key has another fingerprint; False: that run came to nothing."""
        recording = run.recording
        await follower.wait_until(
            lambda: run.executed or run.waiting or recording.ended or follower.disconnected
        )
        if follower.disconnected:
            exchange_of(scope).outcome = "hung_up"
            return True
        if recording.ended and not run.executed:
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
        """Cancel all runs and wait for them. Their clients get `upstream_unavailable`."""
        await asyncio.gather(*(run.stop() for run in tuple(self._runs.values())))


def _name(scope: Scope, exchange: Exchange, key: bytes) -> str:
    """The key in the store: a hash over principal, dialect, path and the client's key."""
    whole = sha256()
    principal = exchange.principal
    if principal is not None:
        identity = [b"principal", principal.id.encode()]
    else:
        client = client_of(exchange, scope)
        credentials = [n + b" " + v for n, v in scope["headers"] if n in _CREDENTIALS]
        identity = [b"caller", client.encode(), *credentials]
    for part in (*identity, exchange.dialect.encode(), scope["path"].encode(), key):
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
    """Refuse a follower whose run ended without a whole answer and without an error."""
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
    message = f"The {_PARAM} header must be one value of 1 to 255 visible ASCII characters."
    return Problem("invalid_request", message=message, param=_PARAM)


def _mismatch() -> Problem:
    return Problem("idempotency_mismatch", param=_PARAM)


def _large() -> Problem:
    message = (
        f"A request with this {_PARAM} is being answered, and the answer is too large to be given "
        "twice."
    )
    return Problem("idempotency_conflict", message=message, param=_PARAM, retry_after=1)
