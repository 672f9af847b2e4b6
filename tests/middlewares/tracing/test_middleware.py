"""TracingMiddleware in applications of others, with processors and exporters of the SDK."""

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from middlewares import Attempt, Exchange, Problem, Sampling, Target, TracingMiddleware, Usage
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.tracing.spans import Spans, UpstreamFacts
from middlewares.tracing.traceparent import context_headers
from tests.asgi import Call, http_scope, request

TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
RESOURCE = Resource({"service.name": "shop"})


class Traced:
    """An app around which every request is traced."""

    def __init__(self, app: ASGIApp, ratio: float = 1.0, **options: Any) -> None:
        self.exporter = InMemorySpanExporter()
        processor = SimpleSpanProcessor(self.exporter)
        spans = Spans(
            processor, resource=RESOURCE, upstreams={"near": UpstreamFacts("openai", "ai.test", 1)}
        )
        self.app = TracingMiddleware(app, spans=spans, sampling=Sampling(ratio), **options)

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self.exporter.get_finished_spans()

    @property
    def one(self) -> ReadableSpan:
        (span,) = self.spans
        return span


def of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def test_fastapi_route_is_the_name_of_the_span() -> None:
    app = FastAPI()

    @app.get("/models/{name}")
    async def model(name: str) -> str:
        return name

    traced = Traced(app)
    assert (await request(traced.app, "GET", "/models/small-1", headers=PARENT)).status == 200
    span = traced.one
    assert span.name == "GET /models/{name}"
    assert of(span)["http.route"] == "/models/{name}"
    assert of(span)["url.path"] == "/models/small-1"
    assert span.kind is SpanKind.SERVER
    assert span.context is not None
    assert span.parent is not None
    assert format_trace_id(span.context.trace_id) == TRACE
    assert format_span_id(span.parent.span_id) == CALLER
    assert span.parent.is_remote
    assert span.resource.attributes["service.name"] == "shop"


async def test_starlette_attempts_are_children_whose_context_the_app_can_send() -> None:
    sent: list[bytes] = []

    async def chat(request: Any) -> PlainTextResponse:
        exchange = Exchange.of(request.scope)
        exchange.endpoint = "chat.completions"
        attempt = Attempt(Target("near", "small-1"), perf_counter(), span_id=77)
        exchange.attempts.append(attempt)
        sent.extend(value for _, value in context_headers(exchange, attempt.span_id))
        exchange.usage = Usage(input=3, output=4)
        attempt.status, attempt.ended = 200, perf_counter()
        return PlainTextResponse("hi")

    traced = Traced(Starlette(routes=[Route("/chat", chat, methods=["POST"])]))
    assert (await request(traced.app, "POST", "/chat", headers=PARENT)).status == 200
    client, server = traced.spans
    assert client.kind is SpanKind.CLIENT
    assert client.parent == server.context
    assert sent == [f"00-{TRACE}-{77:016x}-01".encode()]
    assert of(client)["gen_ai.provider.name"] == "openai"
    assert of(client)["server.address"] == "ai.test"
    assert of(client)["gen_ai.usage.input_tokens"] == 3


async def test_an_exception_is_an_error_and_passes() -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("canary")

    traced = Traced(broken, ratio=0.0)
    with pytest.raises(ValueError, match="canary"):
        await request(traced.app, "GET", "/")
    assert traced.one.status.status_code is StatusCode.ERROR
    assert of(traced.one)["error.type"] == "internal"
    assert "canary" not in traced.one.to_json()
    with pytest.raises(ValueError, match="canary"):
        await request(traced.app, "GET", "/")
    assert len(traced.spans) == 1  # one in a second


async def test_a_problem_of_the_app_is_its_kind() -> None:
    async def refusing(scope: Scope, receive: Receive, send: Send) -> None:
        await Problem("upstream_timeout", reason="canary")(scope, receive, send)

    traced = Traced(refusing)
    assert (await request(traced.app, "GET", "/")).status == 504
    assert of(traced.one)["error.type"] == "upstream_timeout"
    assert "canary" not in traced.one.to_json()


async def test_a_cancelled_request_has_its_span() -> None:
    async def waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    traced = Traced(waiting)
    task = asyncio.create_task(traced.app(http_scope(), _never, _nowhere))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert of(traced.one)["error.type"] == "internal"


async def _never() -> Any:
    await asyncio.Event().wait()


async def _nowhere(message: Any) -> None:
    return


async def test_interleaved_requests_share_nothing() -> None:
    gates = [asyncio.Event() for _ in range(20)]

    async def gated(scope: Scope, receive: Receive, send: Send) -> None:
        number = int(scope["path"][1:])
        Exchange.of(scope).attempts.append(
            Attempt(Target("near", f"m{number}"), perf_counter(), span_id=number + 1)
        )
        await gates[number].wait()
        await ok(scope, receive, send)

    traced = Traced(gated)
    calls = [Call(traced.app, http_scope("GET", f"/{number}")) for number in range(20)]
    for call in calls:
        await call.__aenter__()
    for number in (*range(0, 20, 2), *range(19, 0, -2)):
        gates[number].set()
        await calls[number].done()
    for call in calls:
        await call.__aexit__(None, None, None)
    by_id = {span.context.span_id: span for span in traced.spans if span.context is not None}
    clients = [span for span in traced.spans if span.kind is SpanKind.CLIENT]
    assert len(traced.spans) == 40
    assert len({span.context.trace_id for span in clients if span.context is not None}) == 20
    for span in clients:
        assert span.parent is not None
        assert span.context is not None
        assert by_id[span.parent.span_id].kind is SpanKind.SERVER
        assert span.context.trace_id == span.parent.trace_id


async def test_quiet_endpoints_have_no_span_and_watch_can_be_left_to_another_layer() -> None:
    async def probe(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.endpoint = "ops" if scope["path"] == "/livez" else "chat"
        exchange.status, exchange.queue_seconds = 418, 0.5
        await ok(scope, receive, send)

    traced = Traced(probe, watch=False)
    await request(traced.app, "GET", "/livez")
    assert not traced.spans
    await request(traced.app, "GET", "/")
    assert of(traced.one)["http.response.status_code"] == 418
    assert of(traced.one)["penstock.queue_seconds"] == 0.5


async def test_methods_and_paths_of_strangers_are_not_shown() -> None:
    traced = Traced(ok)
    await request(traced.app, "CANARY", "/canary/canary@example.com")
    assert traced.one.name == "HTTP"
    assert of(traced.one)["http.request.method"] == "_OTHER"
    assert "canary" not in traced.one.to_json().lower()


async def test_a_batch_processor_of_the_sdk_takes_the_spans() -> None:
    exporter = InMemorySpanExporter()
    processor = BatchSpanProcessor(exporter)
    app = TracingMiddleware(ok, spans=Spans(processor, resource=RESOURCE), sampling=Sampling(1.0))
    assert (await request(app, "GET", "/")).status == 204
    await asyncio.to_thread(processor.shutdown)
    assert [span.name for span in exporter.get_finished_spans()] == ["GET"]


async def test_a_request_made_to_serve_another_is_its_child() -> None:
    async def child(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchange.parent, exchange.purpose = "request-1", "describe"
        await ok(scope, receive, send)

    traced = Traced(child, ratio=0.0)
    scope = http_scope("POST", "/")
    exchange = Exchange.of(scope)
    exchange.trace_id, exchange.parent_span_id, exchange.sampled = 5, 6, True
    async with Call(traced.app, scope) as call:
        await call.done()
    span = traced.one
    assert (span.name, span.kind) == ("media.describe", SpanKind.INTERNAL)
    assert span.context is not None
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (5, 6)
    assert not span.parent.is_remote
    assert "http.request.method" not in of(span)


async def test_a_request_whose_spans_cannot_be_made_is_answered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fails(*_: object) -> str:
        raise KeyError("canary of a caller")

    spans = Spans(SimpleSpanProcessor(InMemorySpanExporter()), resource=RESOURCE, route=fails)
    app = TracingMiddleware(ok, spans=spans, sampling=Sampling(1.0))
    assert (await request(app, "GET", "/")).status == 204
    assert "KeyError" in caplog.text
    assert "canary" not in caplog.text
