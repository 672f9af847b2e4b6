"""One answer for one key: replayed, joined, or refused; and nothing left behind."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from middlewares import ErrorsMiddleware, Exchange, IdempotencyMiddleware, Principal, Problem
from middlewares._asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.idempotency import members
from middlewares.stores import StoreUnavailable
from middlewares.stores.memory_replays import MemoryReplays
from middlewares.stores.replays import Answer, Found, Mark, ReplayStore
from tests.asgi import Call, Recorded, http_scope, lifespan, request

KEY = {"idempotency-key": "k-1"}
EVENTS = [b"event: a\ndata: %d\n\n" % n for n in range(5)]


class App:
    """Answers in steps the test decides on. runs: how often it began."""

    def __init__(
        self,
        parts: list[bytes] | None = None,
        *,
        status: int = 200,
        media: bytes = b"text/event-stream",
        fails: BaseException | None = None,
        outcome: Any = "",
        reads: bool = True,
    ) -> None:
        self.reads = reads
        self.parts = EVENTS if parts is None else parts
        self.status = status
        self.media = media
        self.fails = fails
        self.outcome = outcome
        self.runs = 0
        self.ended = 0
        self.bodies: list[bytes] = []
        self.inside = asyncio.Event()
        self.steps: asyncio.Queue[None] | None = None

    def by_hand(self) -> "App":
        """Each message waits for `step`."""
        self.steps = asyncio.Queue()
        return self

    def step(self, count: int = 1) -> None:
        assert self.steps is not None
        for _ in range(count):
            self.steps.put_nowait(None)

    def finish(self) -> None:
        self.step(len(self.parts) + 1)

    async def _turn(self) -> None:
        if self.steps is not None:
            await self.steps.get()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs += 1
        mine = self.runs
        try:
            if self.reads:
                self.bodies.append((await receive()).get("body", b""))
            self.inside.set()
            await self._turn()
            headers = [(b"content-type", self.media), (b"x-run", b"%d" % mine)]
            start = {"type": "http.response.start", "status": self.status, "headers": headers}
            await send(start)
            for n, part in enumerate(self.parts):
                await self._turn()
                if self.fails is not None and n == len(self.parts) - 1:
                    raise self.fails
                more = n < len(self.parts) - 1
                if not more and self.outcome:
                    Exchange.of(scope).outcome = self.outcome
                await send({"type": "http.response.body", "body": part, "more_body": more})
        finally:
            self.ended += 1


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[MemoryReplays]:
    """Afterwards no task runs and nothing is marked as running."""
    store = MemoryReplays(clock=clock)
    yield store
    await quiet()
    assert not store._marks


async def quiet() -> None:
    """Until nothing runs but the test."""
    for _ in range(200):
        if asyncio.all_tasks() == {asyncio.current_task()}:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"still running: {asyncio.all_tasks()}")


def calling(
    app: ASGIApp, key: str = "k-1", body: bytes = b'{"n": 1}', path: str = "/v1/x", **rest: Any
) -> Call:
    headers = {"idempotency-key": key, **rest.pop("headers", {})}
    window = rest.pop("window", None)
    return Call(app, http_scope("POST", path, headers=headers, **rest), body=body, window=window)


async def answer(app: ASGIApp, *args: Any, **rest: Any) -> Recorded:
    async with calling(app, *args, **rest) as call:
        return await call.done()


def replayed(record: Recorded) -> bool:
    said = record.header("idempotent-replayed") == "true"
    assert said == Exchange.of(record.scope).replayed
    return said


# Replay


@pytest.mark.parametrize("media", [b"text/event-stream; charset=utf-8", b"application/json"])
async def test_the_same_answer_again(store: MemoryReplays, media: bytes) -> None:
    inner = App(media=media)
    app = IdempotencyMiddleware(inner, store=store)
    first = await answer(app)
    again = await answer(app)
    assert inner.runs == 1
    assert (first.status, first.body) == (again.status, again.body) == (200, b"".join(EVENTS))
    assert again.headers == [*first.headers, (b"idempotent-replayed", b"true")]
    assert (replayed(first), replayed(again)) == (False, True)
    assert Exchange.of(again.scope).outcome == "completed"


async def test_events_stay_whole_in_large_replays(store: MemoryReplays) -> None:
    events = [b"data: %d %s\n\n" % (n, b"x" * (n * 37 % 5000)) for n in range(200)]
    app = IdempotencyMiddleware(App(events), store=store)
    first, again = await answer(app), await answer(app)
    assert again.body == first.body == b"".join(events)
    assert len(again.chunks) > 5
    assert all(chunk.body.endswith(b"\n\n") for chunk in again.chunks)


async def test_an_empty_body_is_an_answer(store: MemoryReplays) -> None:
    inner = App([b""], status=204)
    app = IdempotencyMiddleware(inner, store=store)
    await answer(app)
    again = await answer(app)
    assert (inner.runs, again.status, again.body, again.complete) == (1, 204, b"", True)


async def test_an_app_that_uses_its_message_again(store: MemoryReplays) -> None:
    """What is recorded does not change when the app changes what it sent."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"x-a", b"1")]
        start: Message = {"type": "http.response.start", "status": 200, "headers": headers}
        await send(start)
        headers.clear()
        body = bytearray(b"0")
        message: Message = {"type": "http.response.body", "body": body, "more_body": True}
        for n in range(3):
            body[:] = b"%d" % n
            await send(message)
        await send({"type": "http.response.body"})

    app = IdempotencyMiddleware(inner, store=store)
    first, again = await answer(app), await answer(app)
    assert first.body == again.body == b"012"
    assert first.header("x-a") == again.header("x-a") == "1"


async def test_without_the_header_nothing_changes(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    for method in ("POST", "POST", "GET"):
        headers = KEY if method == "GET" else {}
        record = await request(app, method, "/", headers=headers)
        assert not replayed(record)
    assert inner.runs == 3
    assert not len(store)


async def test_messages_reach_the_app_by_identity(store: MemoryReplays) -> None:
    received: list[Message] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        received.extend([await receive(), await receive()])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        received.append(await receive())

    scope = http_scope("POST", "/", headers=KEY)
    app = IdempotencyMiddleware(inner, store=store)
    async with Call(app, scope, body=[b"1", b"2"]) as call:
        await call.done()
    assert received[0] is call.received[0] and received[1] is call.received[1]
    assert received[2] == {"type": "http.disconnect"}


@pytest.mark.parametrize("key", ["", "a b", "x" * 256, "\x7f", "é"])
async def test_a_key_that_is_none(store: MemoryReplays, key: str) -> None:
    inner = App()
    record = await answer(IdempotencyMiddleware(inner, store=store), key)
    assert record.status == 400
    assert "Idempotency-Key" in record.text
    assert record.json()["error"]["param"] == "Idempotency-Key"
    assert not inner.runs


async def test_two_keys_are_none(store: MemoryReplays) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
    record = await request(IdempotencyMiddleware(App(), store=store), "POST", "/", headers=headers)
    assert record.status == 400


async def test_the_longest_key(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    await answer(app, "~" * 255)
    assert replayed(await answer(app, "~" * 255))


async def test_a_body_too_large_to_be_read(store: MemoryReplays) -> None:
    inner = App()
    record = await answer(IdempotencyMiddleware(inner, store=store, body=3), body=b"1234")
    assert (record.status, inner.runs) == (413, 0)


async def test_a_client_that_leaves_before_its_body_is_there(store: MemoryReplays) -> None:
    inner = App()
    scope = http_scope("POST", "/", headers=KEY)
    async with Call(IdempotencyMiddleware(inner, store=store), scope, body=None) as call:
        call.feed(b"1", more=True)
        call.hang_up()
        await call.done()
    assert not inner.runs and not call.record.messages
    assert Exchange.of(scope).outcome == "hung_up"


@pytest.mark.parametrize("bad", [{"keep": 0}, {"largest": -1}, {"body": -1}])
def test_bad_configuration(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        IdempotencyMiddleware(App(), store=MemoryReplays(), **bad)


# Whose key, and which request


class Known:
    """Says who calls and what the body holds, as auth and intake do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        who = dict(scope["headers"])[b"x-who"].decode()
        exchange.principal = Principal(who)
        exchange.fields = msgspec.json.decode(
            (await receive())["body"], type=dict[str, msgspec.Raw]
        )
        await self.app(scope, receive, send)


async def test_two_tenants_never_meet(store: MemoryReplays) -> None:
    """The same key, body and path, at once and later."""

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        principal = Exchange.of(scope).principal
        assert principal is not None
        runs.append(principal.id)
        if len(runs) == 2:
            both.set()
        await both.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"canary of " + principal.id.encode()})

    runs: list[str] = []
    both = asyncio.Event()
    app = Known(IdempotencyMiddleware(inner, store=store, fingerprint=members))
    pair = [calling(app, headers={"x-who": who}) for who in ("ann", "bob")]
    async with pair[0], pair[1]:
        for call, name in zip(pair, (b"ann", b"bob"), strict=True):
            assert (await call.done()).body == b"canary of " + name
    for who in ("ann", "bob"):
        again = await answer(app, headers={"x-who": who})
        assert replayed(again) and again.text == f"canary of {who}"
    assert sorted(runs) == ["ann", "bob"]


async def test_nobody_is_not_everybody(store: MemoryReplays) -> None:
    """Without a principal, callers are told apart by their credentials and address."""
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    callers: list[dict[str, Any]] = [
        {},
        {"client": ("192.0.2.1", 1)},
        {"headers": {"authorization": "Bearer a"}},
        {"headers": {"authorization": "Bearer b"}},
        {"headers": {"x-api-key": "a"}},
        {"headers": {"cookie": "a"}},
    ]
    for caller in callers:
        assert not replayed(await answer(app, **caller))
    for n, caller in enumerate(callers):
        assert (await answer(app, **caller)).header("x-run") == str(n + 1)
    assert inner.runs == len(callers)


async def test_another_path_or_dialect_is_another_key(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    exchange = Exchange(dialect="anthropic")
    await answer(app, path="/a")
    assert not replayed(await answer(app, path="/b"))
    state = {"penstock.exchange": exchange}
    assert (await answer(app, path="/a", state=state)).header("x-run") == "3"


async def test_the_key_of_another_request_is_refused(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    await answer(app)
    for other in ({"body": b'{"n": 2}'}, {"query": "beta=true"}):
        record = await answer(app, **other)
        assert record.status == 422
        error = record.json()["error"]
        assert (error["code"], error["type"]) == ("idempotency_mismatch", "invalid_request_error")
    assert replayed(await answer(app))
    assert inner.runs == 1


async def test_the_key_of_a_running_request_is_refused(store: MemoryReplays) -> None:
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        await inner.inside.wait()
        assert (await answer(app, body=b"other")).status == 422
        inner.finish()
        assert (await first.done()).complete
    assert inner.runs == 1


async def test_members_are_the_request_however_they_are_ordered(store: MemoryReplays) -> None:
    inner = App(reads=False)
    app = Known(IdempotencyMiddleware(inner, store=store, fingerprint=members))
    who = {"x-who": "ann"}
    await answer(app, body=b'{"a": 1, "b": "' + b"x" * (2 << 20) + b'"}', headers=who)
    same = b'{"b": "' + b"x" * (2 << 20) + b'", "a": 1}'
    assert replayed(await answer(app, body=same, headers=who))
    for other in (b'{"a": 1}', b'{"a": 12}', b'{"a1": 2}'):
        assert (await answer(app, body=other, headers=who)).status == 422
    assert members({}, Exchange()) is None


async def test_a_body_that_nobody_read_is_left_alone(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store, fingerprint=members)
    for _ in range(2):
        assert not replayed(await answer(app, body=b"a file"))
    assert inner.bodies == [b"a file", b"a file"]


# Joining


async def test_who_joins_gets_all_of_it_as_it_comes(store: MemoryReplays) -> None:
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as early:
        inner.step(3)
        assert [await first.chunk(), await first.chunk()] == EVENTS[:2]
        async with calling(app) as late:
            assert [await late.chunk(), await late.chunk()] == EVENTS[:2]
            inner.step()
            for call in (first, late):
                assert await call.chunk() == EVENTS[2]
            inner.finish()
            records = [await call.done() for call in (first, early, late)]
    assert [[chunk.body for chunk in record.chunks] for record in records] == [EVENTS] * 3
    assert [replayed(record) for record in records] == [False, True, True]
    assert inner.runs == 1


async def test_a_hang_up_does_not_reach_the_app(store: MemoryReplays) -> None:
    """The client comes back, fifty times at once, and gets the answer that is being made."""
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        inner.step(2)
        assert await first.chunk() == EVENTS[0]
        first.hang_up()
        joiners = [calling(app) for _ in range(50)]
        async with asyncio.TaskGroup() as group:
            finished = [group.create_task(finish(call)) for call in joiners]
            await asyncio.sleep(0)
            assert first.running
            inner.finish()
        await first.done()
    assert all(task.result().body == b"".join(EVENTS) for task in finished)
    assert all(replayed(task.result()) for task in finished)
    assert replayed(await answer(app))
    assert (inner.runs, inner.ended) == (1, 1)


async def finish(call: Call) -> Recorded:
    async with call:
        return await call.done()


async def test_everybody_leaves_and_the_answer_is_there_later(store: MemoryReplays) -> None:
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        await inner.inside.wait()
        first.hang_up()
        second.hang_up()
        await second.done()
        assert Exchange.of(second.scope).outcome == "hung_up"
        inner.finish()
        await first.done()
    again = await answer(app)
    assert replayed(again) and again.body == b"".join(EVENTS)
    assert inner.runs == 1


async def test_a_slow_client_holds_nobody_up(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app, window=0) as slow:
        await slow.stalled()
        quick = await answer(app)
        assert quick.body == b"".join(EVENTS)
        assert len(slow.chunks) == 1
        assert await slow.rest() == b"".join(EVENTS)
    assert inner.runs == 1


async def test_a_send_that_fails_is_a_hang_up(store: MemoryReplays) -> None:
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    scope = http_scope("POST", "/v1/x", headers=KEY)
    asked = 0

    async def receive() -> Message:
        nonlocal asked
        asked += 1
        if asked > 1:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": b'{"n": 1}', "more_body": False}

    async def send(message: Message) -> None:
        raise OSError("gone")

    call = asyncio.ensure_future(app(scope, receive, send))
    inner.finish()
    with pytest.raises(OSError, match="gone"):
        await call
    assert (inner.runs, inner.ended) == (1, 1)
    assert replayed(await answer(app))


# Cancellation


@pytest.mark.parametrize("joined", [False, True])
async def test_a_call_is_cancelled_while_the_app_runs(store: MemoryReplays, joined: bool) -> None:
    """The run is nobody's: it goes on, and is the answer of the next."""
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        inner.step(2)
        assert await second.chunk() == EVENTS[0]
        gone, stays = (second, first) if joined else (first, second)
        await gone.cancel()
        assert isinstance(gone.record.raised, asyncio.CancelledError)
        inner.finish()
        assert (await stays.done()).body == b"".join(EVENTS)
    assert replayed(await answer(app))
    assert inner.runs == 1


class Held(MemoryReplays):
    """A store that lets the test decide when one of its methods answers."""

    def __init__(self, method: str) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self._method = method

    async def _hold(self, method: str) -> None:
        if method == self._method:
            self.asked.set()
            await self.go.wait()

    async def claim(self, mark: Mark) -> Found | None:
        found = await super().claim(mark)
        await self._hold("claim")
        return found

    async def keep(self, mark: Mark, answer: Answer, seconds: float) -> bool:
        await self._hold("keep")
        return await super().keep(mark, answer, seconds)

    async def find(self, key: str) -> Found | None:
        await self._hold("find")
        return await super().find(key)


@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_a_client_that_goes_before_the_app_is_asked(how: str) -> None:
    store = Held("claim")
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        await store.asked.wait()
        await leave(first, how)
        store.go.set()
        await quiet()
    assert not inner.runs
    assert not len(store)


async def leave(call: Call, how: str) -> None:
    if how == "cancel":
        await call.cancel()
    else:
        call.hang_up()
        await call.done()


@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_who_joined_a_client_that_goes_takes_its_place(how: str) -> None:
    store = Held("claim")
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        await store.asked.wait()
        await second.received_all()
        await leave(first, how)
        store.go.set()
        record = await second.done()
    assert record.body == b"".join(EVENTS) and not replayed(record)
    assert inner.runs == 1
    await quiet()


async def test_a_mistaken_key_does_not_spoil_the_right_one() -> None:
    """The wrong request comes first and waits for the store, the right one behind it."""
    store = Held("claim")
    store.go.set()
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    await answer(app)
    store.asked.clear()
    store.go.clear()
    async with calling(app, body=b"wrong") as wrong:
        await store.asked.wait()
        async with calling(app) as right:
            await right.received_all()
            store.go.set()
            assert replayed(await right.done())
        assert (await wrong.done()).status == 422
    assert inner.runs == 1
    await quiet()


async def test_a_call_is_cancelled_while_its_answer_is_kept() -> None:
    store = Held("keep")
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        await store.asked.wait()
        assert first.record.complete, "the client has waited for the store"
        await first.cancel()
        joined = await answer(app)
        assert replayed(joined) and joined.body == b"".join(EVENTS)
        store.go.set()
    await quiet()
    assert replayed(await answer(app)) and not store._marks
    await quiet()


@pytest.mark.parametrize("phase", ["claim", "running", "keep"])
async def test_the_end_of_the_program_ends_what_runs(phase: str) -> None:
    store = Held(phase)
    inner = App().by_hand()

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            return await inner(scope, receive, send)
        for name in ("startup", "shutdown"):
            assert await receive() == {"type": f"lifespan.{name}"}
            await send({"type": f"lifespan.{name}.complete"})

    app = ErrorsMiddleware(IdempotencyMiddleware(both, store=store))
    async with calling(app) as first, calling(app) as second:
        async with lifespan(app):
            if phase == "keep":
                inner.finish()
            await (inner.inside if phase == "running" else store.asked).wait()
        records = [await first.done(), await second.done()]
    assert [record.status for record in records] == [200 if phase == "keep" else 503] * 2
    assert inner.runs == inner.ended == (0 if phase == "claim" else 1)
    await quiet()
    assert not len(store)


async def test_a_stream_that_the_end_of_the_program_cuts_says_so(store: MemoryReplays) -> None:
    inner = App().by_hand()
    middle = IdempotencyMiddleware(inner, store=store)
    app = ErrorsMiddleware(middle)
    async with calling(app) as first, calling(app) as second:
        inner.step(2)
        assert await second.chunk() == await first.chunk() == EVENTS[0]
        await middle.aclose()
        for call in (first, second):
            record = await call.done()
            last = json.loads(record.chunks[-1].body.removeprefix(b"data: "))
            assert last["error"]["code"] == "upstream_unavailable"
    await middle.aclose()


# What is not kept


@pytest.mark.parametrize(
    "app",
    [
        lambda: App(status=400),
        lambda: App(status=500),
        lambda: App(outcome="cut"),
        lambda: App(outcome="hung_up"),
        lambda: App(fails=LookupError("inside")),
        lambda: App([b"x", b"y"], fails=Problem("upstream_error")),
    ],
)
async def test_what_did_not_end_well_runs_anew(
    store: MemoryReplays, app: Callable[[], App]
) -> None:
    inner = app()
    outer = IdempotencyMiddleware(inner, store=store)
    for _ in range(2):
        async with calling(outer) as call:
            assert (await call.ended()) is inner.fails
        assert not replayed(call.record)
    assert inner.runs == 2
    assert not len(store)


async def test_half_an_answer_is_not_kept(store: MemoryReplays) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})

    app = IdempotencyMiddleware(inner, store=store)
    record = await answer(app)
    assert record.body == b"half" and not record.complete
    assert not len(store)


@pytest.mark.parametrize("began", [False, True])
async def test_who_joined_gets_the_failure_too(store: MemoryReplays, began: bool) -> None:
    """In an envelope of its own; whoever comes later has the app run anew."""
    inner = App([b"data: 1\n\n", b""], fails=Problem("upstream_timeout", reason="slow")).by_hand()
    if not began:

        async def fails(scope: Scope, receive: Receive, send: Send) -> None:
            inner.inside.set()
            assert inner.steps is not None
            await inner.steps.get()
            raise Problem("upstream_timeout", reason="slow")

        app = ErrorsMiddleware(IdempotencyMiddleware(fails, store=store))
    else:
        app = ErrorsMiddleware(IdempotencyMiddleware(inner, store=store))
    calls = [calling(app) for _ in range(3)]
    async with calls[0], calls[1], calls[2]:
        await inner.inside.wait()
        for call in calls:
            await call.received_all()
        inner.finish()
        records = [await call.done() for call in calls]
    for record in records:
        assert record.status == (200 if began else 504)
        assert json.loads(record.chunks[-1].body.removeprefix(b"data: "))["error"]["code"] == (
            "upstream_timeout"
        )
        assert Exchange.of(record.scope).outcome == ("cut" if began else "refused")
    assert not len(store)


class Stop(BaseException):
    """Neither an error nor a cancellation."""


async def test_base_exceptions_reach_the_one_that_ran(store: MemoryReplays) -> None:
    inner = App(fails=Stop()).by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        await inner.inside.wait()
        await second.received_all()
        inner.finish()
        assert isinstance(await first.ended(), Stop)
        raised = await second.ended()
        assert isinstance(raised, Problem) and raised.kind == "internal"


async def test_a_failure_that_nobody_hears_is_logged(
    store: MemoryReplays, caplog: pytest.LogCaptureFixture
) -> None:
    inner = App(fails=LookupError("inside")).by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first:
        await inner.inside.wait()
        await first.cancel()
        inner.finish()
        await quiet()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert not len(store)


async def test_what_asgi_forbids_is_an_error(store: MemoryReplays) -> None:
    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        assert not scope["extensions"]
        await send(json.loads((await receive())["body"]))

    app = IdempotencyMiddleware(inner, store=store)
    for kind in ("http.response.body", "http.response.pathsend"):
        body = json.dumps({"type": kind, "path": "/"}).encode()
        offered: dict[str, Any] = {"http.response.pathsend": {}}
        async with calling(app, body=body, extensions=offered) as call:
            assert isinstance(await call.ended(), RuntimeError)


# Bounds


async def test_an_answer_expires(store: MemoryReplays, clock: Clock) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store, keep=60.0)
    await answer(app)
    clock.now += 59.0
    assert replayed(await answer(app))
    clock.now += 1.0
    assert not replayed(await answer(app))
    assert inner.runs == 2


async def test_an_answer_that_is_too_large_is_not_kept(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store, largest=sum(map(len, EVENTS)) - 1)
    for _ in range(2):
        record = await answer(app)
        assert record.body == b"".join(EVENTS) and not replayed(record)
    assert (inner.runs, len(store)) == (2, 0)
    largest = IdempotencyMiddleware(inner, store=store, largest=sum(map(len, EVENTS)))
    await answer(largest)
    assert replayed(await answer(largest))


async def test_past_the_bound_the_slowest_sets_the_pace(store: MemoryReplays) -> None:
    """Who follows already gets all of it; who comes now is refused; nothing runs twice."""
    parts = [b"%d" % n * 10 for n in range(10)]
    inner = App(parts)
    app = IdempotencyMiddleware(inner, store=store, largest=25)
    async with calling(app, window=0) as first, calling(app) as second:
        await first.stalled()
        await second.received_all()
        for n in range(3):
            assert await second.chunk() == parts[n]
        refused = await answer(app)
        assert refused.status == 409
        assert refused.json()["error"]["code"] == "idempotency_conflict"
        assert refused.header("retry-after") == "1"
        assert (await answer(app, body=b"other")).status == 422
        assert len(second.chunks) == 3, "the app went on though the first client is stalled"
        assert await first.rest() == b"".join(parts)
        assert (await second.done()).body == b"".join(parts)
    assert inner.runs == 1
    assert not replayed(await answer(app))
    assert inner.runs == 2


async def test_past_the_bound_the_last_hang_up_reaches_the_app(store: MemoryReplays) -> None:
    heard: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 11, "more_body": True})
        heard.append((await receive())["type"])

    app = IdempotencyMiddleware(inner, store=store, largest=10)
    async with calling(app) as first, calling(app) as second:
        assert await first.chunk() == await second.chunk() == b"x" * 11
        first.hang_up()
        await asyncio.sleep(0)
        assert first.running and not heard
        second.hang_up()
        await second.done()
        await first.done()
    assert heard == ["http.disconnect"]


async def test_large_bodies(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store)
    body = b"x" * (3 << 20)
    await answer(app, body=body)
    assert replayed(await answer(app, body=body))
    assert (await answer(app, body=body[:-1] + b"y")).status == 422


# Another process


async def test_who_waits_for_another_process_gets_its_answer() -> None:
    store = MemoryReplays()
    inner, idle = App().by_hand(), App()
    ours, theirs = (IdempotencyMiddleware(a, store=store) for a in (inner, idle))
    async with calling(ours) as first:
        await inner.inside.wait()
        waiting = [calling(theirs) for _ in range(3)]
        async with waiting[0], waiting[1], waiting[2]:
            for call in waiting:
                await call.received_all()
            assert (await answer(theirs, body=b"other")).status == 422
            inner.finish()
            records = [await call.done() for call in waiting]
        await first.done()
    assert all(record.body == b"".join(EVENTS) and replayed(record) for record in records)
    assert (inner.runs, idle.runs) == (1, 0)
    await quiet()


@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_who_waits_for_another_process_may_leave(how: str) -> None:
    store = Held("find")
    inner, idle = App().by_hand(), App()
    ours, theirs = (IdempotencyMiddleware(a, store=store) for a in (inner, idle))
    async with calling(ours) as first:
        await inner.inside.wait()
        async with calling(theirs) as waiting:
            await store.asked.wait()
            await leave(waiting, how)
            after = calling(theirs)  # before the run has heard that nobody waits
            store.go.set()
            async with after:
                inner.finish()
                assert replayed(await after.done())
        await first.done()
    assert (inner.runs, idle.runs) == (1, 0)
    await quiet()


@pytest.mark.parametrize("largest", [0, 1 << 20])
async def test_what_another_process_could_not_keep(largest: int) -> None:
    """Too large is told at once; what failed is run anew here, once for all who waited."""
    store = MemoryReplays()
    inner, ours_then = App(status=500).by_hand(), App()
    theirs = IdempotencyMiddleware(inner, store=store, largest=largest)
    ours = IdempotencyMiddleware(ours_then, store=store)
    async with calling(theirs) as first:
        inner.step(2)
        await first.chunk()
        calls = [calling(ours) for _ in range(3)]
        async with calls[0], calls[1], calls[2]:
            for call in calls:
                await call.received_all()
            if largest == 0:
                records = [await call.done() for call in calls]
                assert [record.status for record in records] == [409] * 3
                assert ours_then.runs == 0
            inner.finish()
            await first.done()
            records = [await call.done() for call in calls]
    if largest:
        assert [record.status for record in records] == [200] * 3
        assert sorted(map(replayed, records)) == [False, True, True]
        assert ours_then.runs == 1
    await quiet()


# Outage


class Broken:
    """A store that can stop to answer."""

    lifetime = 0.2

    def __init__(self) -> None:
        self.inner = MemoryReplays()
        self.down = True
        self.asked = 0

    async def _ask(self) -> MemoryReplays:
        self.asked += 1
        if self.down:
            raise StoreUnavailable("gone")
        return self.inner

    async def claim(self, mark: Mark) -> Found | None:
        return await (await self._ask()).claim(mark)

    async def find(self, key: str) -> Found | None:
        return await (await self._ask()).find(key)

    async def renew(self, mark: Mark) -> bool:
        return await (await self._ask()).renew(mark)

    async def keep(self, mark: Mark, answer: Answer, seconds: float) -> bool:
        return await (await self._ask()).keep(mark, answer, seconds)

    async def release(self, mark: Mark) -> None:
        await (await self._ask()).release(mark)


async def test_without_the_store_requests_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joined in this process all the same; the store is left alone; one line when it goes, and
    one when it is back."""
    now = 100.0
    monkeypatch.setattr("middlewares._run.monotonic", lambda: now)
    store = Broken()
    inner = App().by_hand()
    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        inner.finish()
        assert not replayed(await first.done())
        assert replayed(await second.done())
    assert (inner.runs, store.asked) == (1, 1)
    inner.finish()
    assert not replayed(await answer(app))
    assert (inner.runs, store.asked, len(caplog.records)) == (2, 1, 1)

    store.down = False
    now += 5.0
    inner.finish()
    assert not replayed(await answer(app))
    assert replayed(await answer(app))
    assert (inner.runs, len(caplog.records)) == (3, 2)
    await quiet()


async def test_who_waits_when_the_store_goes_is_not_run() -> None:
    store = Broken()
    store.down = False
    inner, idle = App().by_hand(), App()
    ours, theirs = (IdempotencyMiddleware(a, store=store) for a in (inner, idle))
    async with calling(ours) as first:
        await inner.inside.wait()
        asked = store.asked
        async with calling(theirs) as waiting:
            while store.asked == asked:
                await asyncio.sleep(0)
            store.down = True
            assert (await waiting.done()).status == 409
        inner.finish()
        await first.done()
    assert (inner.runs, idle.runs) == (1, 0)
    await quiet()


async def test_a_store_that_says_nothing_is_waited_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("middlewares._run._PATIENCE", 0.01)
    store = Held("claim")
    inner = App()
    app: ASGIApp = IdempotencyMiddleware(inner, store=store)
    assert (await answer(app)).body == b"".join(EVENTS)
    assert inner.runs == 1
    await quiet()


def test_the_stores_are_stores() -> None:
    stores: list[ReplayStore] = [MemoryReplays(), Broken()]
    assert all(store.lifetime > 0 for store in stores)
