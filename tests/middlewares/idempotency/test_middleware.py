"""One answer for one key: whose it is, what is kept of it, and how much."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from middlewares import ErrorsMiddleware, Exchange, IdempotencyMiddleware, Principal, Problem
from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.idempotency.middleware import members
from middlewares.stores.replays.memory import MemoryReplays
from tests.asgi import Call, http_scope, request

from .replaying import EVENTS, KEY, App, Clock, answer, calling, quiet, replayed


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(clock: Clock) -> AsyncIterator[MemoryReplays]:
    """Afterwards no task runs and nothing is marked as running."""
    store = MemoryReplays(clock=clock)
    yield store
    await quiet()
    assert not store.running


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


async def test_a_server_that_has_not_said_that_the_body_is_over(store: MemoryReplays) -> None:
    """All of its length is there; the app is not left to wait for an end that was not read."""
    received: list[Message] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        received.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    scope = http_scope("POST", "/", headers={**KEY, "content-length": "2"})
    async with Call(IdempotencyMiddleware(inner, store=store), scope, body=None) as call:
        given = call.feed(b"12", more=True)
        await call.done()
    assert received == [{"type": "http.request", "body": b"12", "more_body": False}]
    assert given["more_body"] is True, "what the server sent is left as it is"


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
    record = await answer(IdempotencyMiddleware(inner, store=store, max_body=3), body=b"1234")
    assert (record.status, inner.runs) == (413, 0)


async def test_body_that_breaks_off_is_refused(store: MemoryReplays) -> None:
    inner = App()
    scope = http_scope("POST", "/", headers=KEY)
    async with Call(IdempotencyMiddleware(inner, store=store), scope, body=None) as call:
        call.feed(b"1", more=True)
        call.hang_up()
        await call.done()
    assert not inner.runs and call.record.status == 400
    assert Exchange.of(scope).outcome == "refused"


@pytest.mark.parametrize(
    "bad",
    [{"ttl": 0}, {"max_answer": -1}, {"max_memory": -1}, {"max_body": -1}, {"detached_timeout": 0}],
)
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


async def test_keys_of_callers_without_a_principal_are_not_replayed(store: MemoryReplays) -> None:
    """Without a principal, callers are distinguished by their credentials and address."""
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


def test_what_to_try_next_is_part_of_the_request() -> None:
    """Intake takes that member out of the others, as upstreams do not know it."""
    fields = {"model": msgspec.Raw(b'"a"')}
    found = [
        members({}, Exchange(fields=fields, models=models))
        for models in ((), ("a",), ("b",), ("a", "b"), ("ab",), ("a1 b",))
    ]
    assert len(set(found)) == len(found)


async def test_unread_body_is_left_alone(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store, fingerprint=members)
    for _ in range(2):
        assert not replayed(await answer(app, body=b"a file"))
    assert inner.bodies == [b"a file", b"a file"]


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
async def test_failed_answer_runs_again(store: MemoryReplays, app: Callable[[], App]) -> None:
    inner = app()
    outer = IdempotencyMiddleware(inner, store=store)
    for _ in range(2):
        async with calling(outer) as call:
            assert (await call.ended()) is inner.fails
        assert not replayed(call.record)
    assert inner.runs == 2
    assert not len(store)


async def test_half_an_answer_is_not_kept(store: MemoryReplays) -> None:
    """Who gets it sees that it is half, as without a key."""
    go = asyncio.Event()

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await go.wait()

    app = IdempotencyMiddleware(inner, store=store)
    async with calling(app) as first, calling(app) as second:
        assert await first.chunk() == await second.chunk() == b"half"
        go.set()
        for call in (first, second):
            record = await call.done()
            assert record.body == b"half" and not record.complete
    assert not len(store)


@pytest.mark.parametrize("began", [False, True])
async def test_who_joined_gets_the_failure_too(store: MemoryReplays, began: bool) -> None:
    """In an envelope of its own; a later request runs the app again."""
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


async def test_failure_without_a_listener_is_logged(
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
    app = IdempotencyMiddleware(inner, store=store, ttl=60.0)
    await answer(app)
    clock.now += 59.0
    assert replayed(await answer(app))
    clock.now += 1.0
    assert not replayed(await answer(app))
    assert inner.runs == 2


async def test_an_answer_that_is_too_large_is_not_kept(store: MemoryReplays) -> None:
    inner = App()
    app = IdempotencyMiddleware(inner, store=store, max_answer=sum(map(len, EVENTS)) - 1)
    for _ in range(2):
        record = await answer(app)
        assert record.body == b"".join(EVENTS) and not replayed(record)
    assert (inner.runs, len(store)) == (2, 0)
    largest = IdempotencyMiddleware(inner, store=store, max_answer=sum(map(len, EVENTS)))
    await answer(largest)
    assert replayed(await answer(largest))


async def test_answers_share_what_memory_there_is(store: MemoryReplays) -> None:
    """Who has no bound on requests at once must not fill the memory with what it has hung up on."""
    on = {"first": asyncio.Event(), "second": asyncio.Event(), "third": asyncio.Event()}

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 8, "more_body": True})
        await on[dict(scope["headers"])[b"idempotency-key"].decode()].wait()
        await send({"type": "http.response.body", "body": b"y"})

    app = IdempotencyMiddleware(inner, store=store, max_memory=12)

    async def whole(key: str) -> bool:
        on[key].set()
        record = await answer(app, key)
        assert record.body == b"x" * 8 + b"y"
        return replayed(record)

    async with calling(app, "first") as first:
        assert await first.chunk() == b"x" * 8
        first.hang_up()
        for _ in range(2):
            assert not await whole("second"), "it was kept although no room was left for it"
        on["first"].set()
        await first.done()
    assert await whole("first")
    assert not await whole("third")
    assert await whole("third")
    assert app.memory.left == 12


async def test_past_the_bound_the_slowest_sets_the_pace(store: MemoryReplays) -> None:
    """Who follows already gets all of it; who comes now is refused; nothing runs twice."""
    parts = [b"%d" % n * 10 for n in range(10)]
    inner = App(parts)
    app = IdempotencyMiddleware(inner, store=store, max_answer=25)
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


async def test_past_the_bound_the_last_disconnect_reaches_the_app(store: MemoryReplays) -> None:
    heard: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 11, "more_body": True})
        heard.append((await receive())["type"])

    app = IdempotencyMiddleware(inner, store=store, max_answer=10)
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
