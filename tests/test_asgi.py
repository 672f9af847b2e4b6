"""The test driver itself: what it records, and that it catches what it is there to catch."""

import asyncio
from typing import Any

import pytest

from middlewares.asgi import Message, Receive, Scope, Send

from .asgi import Call, ProtocolError, http_scope, lifespan, request

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    headers = [(b"x-length", str(len(body)).encode()), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Ticker:
    """Streams one chunk for every `tick`, and stops on request or when the client has left."""

    def __init__(self) -> None:
        self.ticks: asyncio.Queue[bytes] = asyncio.Queue()
        self.heard: list[str] = []
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        while tick := await self.ticks.get():
            await send({"type": "http.response.body", "body": tick, "more_body": True})
            self.sent += 1
        await send({"type": "http.response.body", "body": b""})


async def test_one_shot_records_status_headers_and_body() -> None:
    answer = await request(echo, "POST", "/x", json={"a": 1})
    assert (answer.status, answer.header("X-Length"), answer.json()) == (201, "8", {"a": 1})
    assert answer.header("absent") is None
    assert answer.scope["method"] == "POST"
    assert (b"content-length", b"8") in answer.scope["headers"]
    assert answer.began_at <= answer.started_at <= answer.chunks[0].at <= answer.ended_at
    assert answer.complete


async def test_a_body_in_pieces_and_by_hand() -> None:
    async with Call(echo, body=[b"ab", b"cd"]) as call:
        assert await call.rest() == b"abcd"
        await call.done()
    async with Call(echo, body=None) as call:
        first = call.feed(b"x", more=True)
        await call.received_all()
        assert call.received[0] is first
        assert not call.record.has_started
        call.feed(b"y")
        assert await call.chunk() == b"xy"
        assert await call.chunk() == b""
        await call.done()


async def test_chunks_are_seen_while_the_app_runs() -> None:
    app = Ticker()
    async with Call(app) as call:
        await call.started()
        app.ticks.put_nowait(b"1")
        assert await call.chunk() == b"1"
        assert call.running
        app.ticks.put_nowait(b"")
        assert await call.chunk() == b""
        assert (await call.done()).text == "1"


async def test_a_window_holds_send_back_until_the_test_reads() -> None:
    app = Ticker()
    for tick in (b"1", b"2", b"3", b""):
        app.ticks.put_nowait(tick)
    async with Call(app, window=1) as call:
        await call.stalled()
        assert (app.sent, len(call.chunks)) == (1, 2)
        assert await call.rest() == b"123"
        await call.done()


async def test_hang_up_frees_send_and_reaches_receive_after_what_was_fed() -> None:
    app = Ticker()
    app.ticks.put_nowait(b"1")
    app.ticks.put_nowait(b"2")
    async with Call(app, window=0) as call:
        await call.stalled()
        call.hang_up()
        app.ticks.put_nowait(b"")
        await call.done()
    async with Call(listen := Listener(), body=b"in") as call:
        await call.received_all()
        call.hang_up()
        await call.ended()
    assert listen.heard == ["http.request", "http.disconnect"]


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while "http.disconnect" not in self.heard:
            self.heard.append((await receive())["type"])


async def test_what_the_app_raises_is_never_lost() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("inside")

    with pytest.raises(LookupError):
        await request(broken)
    with pytest.raises(LookupError):
        async with Call(broken) as call:
            await call.started()
    with pytest.raises(LookupError):  # though none is awaited
        async with Call(broken) as call:
            while call.running:
                await asyncio.sleep(0)
    async with Call(broken) as call:
        assert isinstance(await call.ended(), LookupError)


async def test_cancel_is_seen_by_the_app() -> None:
    app = Ticker()
    async with Call(app) as call:
        await call.started()
        await call.cancel()
    assert isinstance(call.record.raised, asyncio.CancelledError)
    async with Call(app) as call:
        await call.started()
    assert isinstance(call.record.raised, asyncio.CancelledError)


async def test_waits_end_with_what_was_seen() -> None:
    app = Ticker()
    async with Call(app, timeout=0.01) as call:
        await call.started()
        with pytest.raises(AssertionError, match=r"for a chunk; sent: \['http.response.start'\]"):
            await call.chunk()
        with pytest.raises(AssertionError, match="did not end"):
            await call.ended()

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async with Call(silent) as call:
        with pytest.raises(AssertionError, match="ended without a response start"):
            await call.started()


def body(data: Any = b"", more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


@pytest.mark.parametrize(
    ("messages", "breach"),
    [
        ([START, START], "started twice"),
        ([body()], "before the start"),
        ([START, body(), body()], "after the last"),
        ([START, body(bytearray(b"x"))], "type bytearray"),
        ([{"type": "http.response.start", "status": "200"}], "status"),
        ([{**START, "headers": [(b"X-Up", b"")]}], "lower-case"),
        ([{**START, "headers": [("x", "y")]}], "lower-case bytes"),
        ([{**START, "headers": [(b"x", b"a\r\nb: c")]}], "line end"),
        ([{"type": "websocket.accept"}], "on an HTTP scope"),
    ],
)
async def test_breaches_fail_even_when_the_app_swallows_them(
    messages: list[Message], breach: str
) -> None:
    async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            try:
                await send(message)
            except ProtocolError:
                return

    with pytest.raises(ProtocolError, match=breach):
        await request(breaks)


async def test_a_start_changed_after_it_was_sent_is_a_breach() -> None:
    async def changes(scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]}
        await send(start)
        start["headers"].append((b"late", b"1"))  # type: ignore[attr-defined]
        await send(body())

    with pytest.raises(ProtocolError, match="changed"):
        await request(changes)


async def test_scopes() -> None:
    shared = {"pool": object()}
    scope = http_scope("GET", "/a", query="b=c", headers={"X-Key": "v"}, state=shared)
    assert scope["headers"] == [(b"x-key", b"v")]
    assert scope["query_string"] == b"b=c"
    assert scope["state"] == shared
    assert scope["state"] is not shared
    assert "state" not in http_scope(with_state=False)


async def test_lifespan_runs_around_the_block() -> None:
    said: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for name in ("startup", "shutdown"):
            assert (await receive())["type"] == f"lifespan.{name}"
            said.append(name)
            scope["state"]["ready"] = True
            await send({"type": f"lifespan.{name}.complete"})

    async with lifespan(app) as state:
        assert state == {"ready": True}
        assert said == ["startup"]
    assert said == ["startup", "shutdown"]


async def test_failed_startup_is_reported() -> None:
    async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no store"})

    async def raises(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no store")

    with pytest.raises(AssertionError, match="no store"):
        async with lifespan(refuses):
            pass
    with pytest.raises(LookupError, match="no store"):
        async with lifespan(raises):
            pass
