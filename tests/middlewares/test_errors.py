"""The answer to an exception, before the response starts and after."""

import asyncio
import logging
from typing import Any

import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from middlewares import ErrorsMiddleware, Exchange, Problem
from middlewares.asgi import Message, Receive, Scope, Send
from middlewares.body import read_body
from middlewares.exchange import Dialect
from middlewares.problem import expected
from tests.asgi import Call, Recorded, http_scope

SSE = (b"content-type", b"text/event-stream; charset=utf-8")


def fails(
    raised: Exception,
    *,
    start: tuple[bytes, bytes] | None = None,
    chunks: tuple[bytes, ...] = (),
    ended: bool = False,
    dialect: Dialect = "openai",
) -> ErrorsMiddleware:
    """An app that starts with `start`, sends `chunks`, perhaps ends, and then raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).dialect = dialect
        Exchange.of(scope).request_id = "r-1"
        if start is not None:
            await send({"type": "http.response.start", "status": 200, "headers": [start]})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if ended:
            await send({"type": "http.response.body", "body": b""})
        raise raised

    return ErrorsMiddleware(app, brand="Acme")


async def run(app: ErrorsMiddleware) -> tuple[Recorded, BaseException | None, Exchange]:
    scope = http_scope()
    async with Call(app, scope) as call:
        raised = await call.ended()
    return call.record, raised, Exchange.of(scope)


async def test_a_problem_answers_for_itself() -> None:
    answer, raised, exchange = await run(fails(Problem("not_found")))
    assert (answer.status, raised, exchange.problem) == (404, None, "not_found")


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_unknown_exception_is_internal_and_only_logged(
    dialect: Dialect, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answer, raised, exchange = await run(fails(KeyError("canary"), dialect=dialect))
    assert (answer.status, raised) == (500, None)
    assert "canary" not in answer.text and "Acme" in answer.text
    assert exchange.reason == "KeyError: 'canary'"
    (record,) = caplog.records
    assert "r-1" in record.getMessage()
    assert record.exc_info is not None


@pytest.mark.parametrize("raised", [Problem("upstream_error"), KeyError("canary")])
@pytest.mark.parametrize("chunks", [(), (b"data: 1\n\n",)])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_stream_that_has_begun_ends_with_an_error_event(
    dialect: Dialect, chunks: tuple[bytes, ...], raised: Exception
) -> None:
    answer, out, exchange = await run(fails(raised, start=SSE, chunks=chunks, dialect=dialect))
    assert out is None
    event = answer.body.removeprefix(b"".join(chunks))
    assert event.startswith(b"event: error\n" if dialect == "anthropic" else b'data: {"error"')
    assert event.endswith(b"\n\n") and event.count(b"\n\n") == 1
    assert b"canary" not in event
    assert answer.complete
    assert exchange.outcome == "cut"


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE]\n\n",
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    ],
)
async def test_a_stream_that_has_ended_well_stays_ended(end: bytes) -> None:
    answer, raised, _ = await run(fails(KeyError("x"), start=SSE, chunks=(b"1", end), ended=True))
    assert (answer.body, answer.complete, raised) == (b"1" + end, True, None)


async def test_text_like_the_end_of_a_stream_is_no_end() -> None:
    said = b'data: {"content":"[DONE] data: [DONE]"}\n\n'
    answer, _, _ = await run(fails(KeyError("x"), start=SSE, chunks=(said,), ended=True))
    assert answer.body.startswith(said + b'data: {"error"')


async def test_a_stream_whose_last_message_has_content_stays_ended() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        await send({"type": "http.response.body", "body": b"1"})
        raise KeyError("x")

    answer, raised, _ = await run(ErrorsMiddleware(app))
    assert (answer.body, answer.complete, raised) == (b"1", True, None)


async def test_the_empty_end_of_a_stream_leaves_once_the_app_has_returned() -> None:
    order: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        await send({"type": "http.response.body", "body": b"1", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        order.append("returned")

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                order.append("ended")
            await send(message)

        await ErrorsMiddleware(app)(scope, receive, send_noted)

    async with Call(outer, http_scope()) as call:
        await call.done()
    assert (call.record.body, call.record.complete) == (b"1", True)
    assert order == ["returned", "ended"]


async def test_a_stream_that_fails_inside_base_http_middleware_ends_with_an_error_event() -> None:
    """Starlette ends the body first and raises then, as if the answer had been whole."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        raise KeyError("x")

    class Passing(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
            return await call_next(request)

    answer, raised, _ = await run(ErrorsMiddleware(Passing(app)))
    begun, _, event = answer.body.partition(b"\n\n")
    assert (begun, raised, answer.complete) == (b"data: 1", None, True)
    assert b'"code":"internal"' in event


async def test_another_body_that_has_begun_is_broken_off() -> None:
    error = KeyError("x")
    json_type = (b"content-type", b"application/json")
    answer, raised, _ = await run(fails(error, start=json_type, chunks=(b"{",)))
    assert raised is error
    assert (answer.body, answer.complete) == (b"{", False)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
async def test_what_is_no_exception_passes(stop: type[BaseException]) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise stop

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError

    with pytest.raises(stop):
        await ErrorsMiddleware(app)(http_scope(), receive, send)
    assert sent == []


@pytest.mark.parametrize("dialect", ["openai", "responses", "anthropic"])
async def test_errors_are_branded_and_of_one_form_when_the_operator_asks(dialect: Any) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).dialect = dialect
        raise expected("model", "a string")

    one_form = ErrorsMiddleware(app, brand="Acme", branded=True, openai_members=True)
    answer, _, _ = await run(one_form)
    error = answer.json()["error"]
    assert error["message"] == "Acme: Invalid value for `model`: expected a string."
    assert (error["param"], error["code"]) == ("model", "invalid_request")
    assert error["type"] == "invalid_request_error"
    plain, _, _ = await run(ErrorsMiddleware(app, brand="Acme"))
    assert plain.json()["error"]["message"] == "Invalid value for `model`: expected a string."
    assert ("code" in plain.json()["error"]) == (dialect != "anthropic")


async def test_message_that_names_the_brand_is_not_branded_again() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise Problem("upstream_error")

    answer, _, _ = await run(ErrorsMiddleware(app, brand="Acme", branded=True))
    assert answer.json()["error"]["message"].startswith("Acme could not complete")


async def test_details_are_shown_when_the_operator_asks() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise Problem("invalid_request", param="model", issue="expected a string")

    answer, _, _ = await run(ErrorsMiddleware(app, details=True))
    assert answer.json()["error"]["details"] == {"field": "model", "issue": "expected a string"}
    answer, _, _ = await run(ErrorsMiddleware(app))
    assert "details" not in answer.json()["error"]


def test_a_brand_must_be_something() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    with pytest.raises(ValueError, match="brand"):
        ErrorsMiddleware(app, brand="")


async def test_answer_without_a_brand_names_none() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("inside")

    answer, _, _ = await run(ErrorsMiddleware(app))
    assert answer.json()["error"]["message"].startswith("This service made a mistake")


# Cancellation


def stops(*sent: Message, ours: bool = True) -> tuple[ErrorsMiddleware, list[int]]:
    """An app that sends these and then waits, in a service that ends it; and, one for each time,
    when the service was asked whether it does."""
    asked: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in sent:
            await send(message)
        await asyncio.Event().wait()

    def stopped() -> bool:
        asked.append(1)
        task = asyncio.current_task()
        assert task is not None
        return ours and task.uncancel() == 0

    return ErrorsMiddleware(app, brand="Acme", stopped=stopped), asked


def starting(content_type: bytes) -> Message:
    headers = [(b"content-type", content_type)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def piece(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def ended_by(
    app: ErrorsMiddleware, *, times: int = 1, block: bool = False
) -> tuple[list[Message], BaseException | None]:
    """What left, and what came out, of a request that is cancelled so many times."""
    left: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("it was read")

    async def send(message: Message) -> None:
        left.append(message)
        if block and times and len(left) > 2:
            await asyncio.Event().wait()

    task = asyncio.ensure_future(app(http_scope(), receive, send))
    for _ in range(times):
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait((task,))
    return left, asyncio.CancelledError() if task.cancelled() else task.exception()


async def test_stopped_request_without_an_answer_is_503() -> None:
    app, _ = stops()
    (start, body), raised = await ended_by(app)
    assert raised is None
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]
    assert b'"upstream_unavailable"' in body["body"]


async def test_stopped_stream_ends_with_an_error_event() -> None:
    app, _ = stops(starting(b"text/event-stream"), piece(b"data: 1\n\n"))
    left, raised = await ended_by(app)
    assert raised is None
    assert left[-1]["body"].startswith(b'data: {"error"')
    assert not left[-1].get("more_body")


async def test_stopped_body_of_another_kind_is_broken_off() -> None:
    app, _ = stops(starting(b"audio/mpeg"), piece(b"x"))
    left, raised = await ended_by(app)
    assert isinstance(raised, asyncio.CancelledError)
    assert len(left) == 2


async def test_stopped_twice_gives_up_on_a_caller_that_does_not_take_it() -> None:
    app, asked = stops(starting(b"text/event-stream"), piece(b"data: 1\n\n"))
    left, raised = await ended_by(app, times=2, block=True)
    assert raised is None
    assert len(asked) == 2
    assert len(left) == 3


async def test_cancellation_of_another_kind_passes() -> None:
    app, asked = stops(ours=False)
    left, raised = await ended_by(app)
    assert isinstance(raised, asyncio.CancelledError)
    assert (left, asked) == ([], [1])


# What a refused client still sends


@pytest.mark.parametrize(
    ("headers", "reads", "left"),
    [
        ({"transfer-encoding": "chunked"}, False, 1),
        ({"content-length": "30000"}, False, 1),
        ({"content-length": "3000"}, False, 4),  # the server has taken it
        ({}, False, 4),
        ({"transfer-encoding": "chunked"}, True, 1),
    ],
)
async def test_unread_body_of_a_refused_request_is_dropped(
    headers: dict[str, str], reads: bool, left: int
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if reads:
            await read_body(scope, receive, limit=1 << 20, idle=5)
        raise Problem("not_found")

    messages = [{"type": "http.request", "body": b"x", "more_body": more} for more in (1, 1, 0)]
    messages.append({"type": "http.disconnect"})

    async def receive() -> Message:
        return messages.pop(0)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await ErrorsMiddleware(app)(http_scope("POST", "/", headers=headers), receive, send)
    assert sent[0]["status"] == 404
    assert len(messages) == left
