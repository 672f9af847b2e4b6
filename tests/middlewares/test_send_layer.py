"""Body messages of a stream go past the layers that need only its start and end."""

from collections.abc import Awaitable

import pytest

from middlewares import (
    ErrorsMiddleware,
    Exchange,
    HeaderStampMiddleware,
    Metrics,
    MetricsMiddleware,
    Problem,
    RequestIDMiddleware,
)
from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.send_layer import SendLayer, direct_send
from tests.asgi import Call, http_scope

SSE = (b"content-type", b"text/event-stream")


class Counting(SendLayer):
    passed: int = 0

    def passed_over(self, size: int) -> None:
        self.passed += size


async def _discard(message: Message) -> None: ...


def test_direct_send_without_layers_is_the_send() -> None:
    assert direct_send(_discard) == (_discard, ())


def test_direct_send_passes_over_layers_up_to_another_wrapper() -> None:
    outermost = Counting(_discard)

    def foreign(message: Message) -> Awaitable[None]:
        return outermost.send(message)

    outer = Counting(foreign)
    inner = Counting(outer.send)
    assert direct_send(inner.send) == (foreign, (inner, outer))


def streaming(raised: Exception | None = None, last: bytes = b"data: [DONE]\n\n") -> ASGIApp:
    """Sends what a sender that knows layers may: the middle of the stream past them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).stream = True
        await send({"type": "http.response.start", "status": 200, "headers": [SSE]})
        direct, layers = direct_send(send)
        for _ in range(3):
            await direct({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        for layer in layers:
            layer.passed_over(27)
        await send({"type": "http.response.body", "body": last, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        if raised is not None:
            raise raised

    return app


def around(app: ASGIApp) -> ASGIApp:
    app = ErrorsMiddleware(app)
    app = HeaderStampMiddleware(app, stamp=lambda exchange: [(b"x-stamp", b"1")])
    app = MetricsMiddleware(app, metrics=Metrics())
    return RequestIDMiddleware(app)


async def test_direct_messages_are_sent_and_counted_like_others() -> None:
    scope = http_scope()
    async with Call(around(streaming()), scope) as call:
        assert await call.ended() is None
    body = b"data: 1\n\n" * 3 + b"data: [DONE]\n\n"
    assert call.record.body == body
    assert Exchange.of(scope).bytes_out == len(body)
    assert (b"x-stamp", b"1") in call.record.headers
    assert b"x-request-id" in dict(call.record.headers)


@pytest.mark.parametrize("whole", [True, False])
async def test_a_failure_after_direct_messages_is_an_event_unless_the_answer_was_whole(
    whole: bool,
) -> None:
    last = b"data: [DONE]\n\n" if whole else b"data: 2\n\n"
    async with Call(around(streaming(Problem("internal"), last)), http_scope()) as call:
        assert await call.ended() is None
    assert (b'"error"' in call.record.body) is not whole


async def test_direct_send_in_a_single_layer_of_a_foreign_app_is_its_servers_send() -> None:
    async with Call(ErrorsMiddleware(streaming()), http_scope()) as call:
        assert await call.ended() is None
    assert call.record.body.count(b"data: 1") == 3
