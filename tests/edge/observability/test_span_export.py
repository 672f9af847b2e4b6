"""Spans on their way to a collector that takes them, is away, or hangs."""

import socket
import threading
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, TraceFlags
from structlog.testing import capture_logs

from edge.config.load import parse
from edge.config.model import TracingConfig
from edge.config.secrets import HttpUrl
from edge.observability.span_export import (
    QUEUE,
    CountedExporter,
    SpanExport,
    facts_of,
    open_export,
    resource_of,
)
from middlewares import Exchange
from tests.otlp_receiver import receiver
from tests.waiting import DEADLINE

UPSTREAMS: list[dict[str, Any]] = [
    {"name": "a", "dialect": "openai", "base_url": "https://api.example.com/v1"},
    {"name": "b", "dialect": "anthropic", "base_url": "http://10.0.0.1:8000"},
    {"name": "c", "dialect": "responses", "base_url": "https://x.test", "provider_name": "groq"},
    {"name": "d", "dialect": "claude-cli"},
    {"name": "e", "dialect": "simulator"},
]


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """No thread of an export outlives its test: its warnings would be another test's."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
        assert not thread.is_alive(), thread


def span() -> ReadableSpan:
    context = SpanContext(1, 2, False, TraceFlags(TraceFlags.SAMPLED))
    return ReadableSpan("x", context=context, resource=Resource({}), start_time=1, end_time=2)


class Scripted(SpanExporter):
    """Answers exports with `result`, once `open` is set."""

    def __init__(self, result: Any = SpanExportResult.SUCCESS) -> None:
        self.result = result
        self.open = threading.Event()
        self.began = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.began.set()
        assert self.open.wait(DEADLINE)
        if isinstance(self.result, Exception):
            raise self.result
        result: SpanExportResult = self.result
        return result

    def shutdown(self) -> None:
        return


def test_a_full_queue_drops_and_counts_and_memory_stays_bounded() -> None:
    collector = Scripted()
    export = SpanExport(collector)
    for _ in range(QUEUE + 500):
        export.on_end(span())
    assert collector.began.wait(DEADLINE)
    assert export.dropped == 500
    for _ in range(500):
        export.on_end(span())
    assert export.dropped == 1000
    collector.open.set()
    export.close()
    assert (export.exported, export.failed, export.dropped) == (QUEUE, 0, 1000)


@pytest.mark.parametrize("result", [SpanExportResult.FAILURE, ValueError("canary")])
def test_failures_are_counted_and_make_room(result: Any) -> None:
    collector = Scripted(result)
    collector.open.set()
    export = SpanExport(collector)
    for _ in range(10):
        export.on_end(span())
    export.close()
    assert (export.exported, export.failed, export.dropped) == (0, 10, 0)


@pytest.mark.parametrize("most", [60.0, 0.1, -1.0])
def test_closing_does_not_wait_for_a_collector_that_hangs(most: float) -> None:
    collector = Scripted()
    export = SpanExport(collector)
    export.on_end(span())
    began = monotonic()
    export.close(most)
    took = monotonic() - began
    assert export.exported == 0
    assert took < DEADLINE / 2  # it returned without the collector
    collector.open.set()


def test_closing_does_not_wait_for_a_collector_that_is_away() -> None:
    with socket.socket() as kept:
        kept.bind(("127.0.0.1", 0))  # and nothing listens
        url = f"http://127.0.0.1:{kept.getsockname()[1]}"
        export = open_export(TracingConfig(endpoint=HttpUrl(url)), {})
        assert export is not None
        export.on_end(span())
        export.close()
        assert export.exported == 0


def test_failures_are_logged_once_a_minute_without_a_word_of_the_collector() -> None:
    now = [0.0]
    collector = Scripted(ValueError("canary"))
    collector.open.set()
    exporter = CountedExporter(collector, clock=lambda: now[0])
    with capture_logs() as lines:
        for second in range(0, 125, 5):
            now[0] = float(second)
            exporter.export([span()])
    assert [line["failed"] for line in lines] == [1, 13, 25]
    assert "canary" not in str(lines)


def test_open_export_sends_to_the_endpoint_with_its_headers() -> None:
    with receiver() as collector:
        settings = parse(
            {
                "tracing": {
                    "endpoint": collector.url,
                    "headers": {"x-key": "env:KEY"},
                    "service_name": "edge",
                    "resource": {"deployment.environment.name": "test"},
                },
                "upstreams": UPSTREAMS,
            },
            env={"KEY": "secret-of-tracing"},
        )
        export = open_export(settings.tracing, {})
        assert export is not None
        exchange = Exchange(trace_id=1, span_id=2, sampled=True)
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": []}
        spans = export.spans(settings, lambda scope, exchange: "/x")
        spans.write(exchange, scope, status=200, raised=False)
        export.close()
        (sent,) = collector.spans()
        assert sent.name == "GET /x"
        assert sent.resource["service.name"] == "edge"
        assert sent.resource["deployment.environment.name"] == "test"
        assert collector.headers[0]["x-key"] == "secret-of-tracing"
        assert export.exported == 1


def test_without_an_endpoint_there_is_no_export() -> None:
    assert open_export(TracingConfig(), {}) is None


@pytest.mark.parametrize(
    ("tracing", "env", "expected"),
    [
        ({}, {}, "penstock"),
        ({}, {"OTEL_SERVICE_NAME": "by-name"}, "by-name"),
        ({}, {"OTEL_RESOURCE_ATTRIBUTES": "service.name=by-attributes"}, "by-attributes"),
        ({"service_name": "own"}, {"OTEL_SERVICE_NAME": "by-name"}, "own"),
        ({"resource": {"service.name": "own"}}, {"OTEL_SERVICE_NAME": "by-name"}, "own"),
    ],
)
def test_the_name_of_the_service(
    monkeypatch: pytest.MonkeyPatch,
    tracing: dict[str, Any],
    env: dict[str, str],
    expected: str,
) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    attributes = resource_of(TracingConfig(**tracing), env).attributes
    assert attributes["service.name"] == expected
    assert attributes["service.version"]
    assert attributes["service.instance.id"]


def test_facts_of_upstreams() -> None:
    settings = parse({"upstreams": UPSTREAMS})
    facts = [facts_of(config) for config in settings.upstreams]
    assert [(one.provider, one.address, one.port) for one in facts] == [
        ("openai", "api.example.com", 443),
        ("anthropic", "10.0.0.1", 8000),
        ("groq", "x.test", 443),
        ("anthropic", "", 0),
        ("penstock", "", 0),
    ]
