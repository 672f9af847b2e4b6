"""One request per bucket, in OpenMetrics only."""

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from middlewares import (
    Exchange,
    Metrics,
    MetricsMiddleware,
    RequestIDMiddleware,
    TracingMiddleware,
)
from middlewares.asgi import Receive, Scope, Send
from middlewares.metric_table import DURATION, FIRST_CONTENT
from middlewares.metrics.exemplars import LONGEST, Exemplars, Seen
from middlewares.tracing.sampling import Sampling
from middlewares.tracing.spans import Spans
from tests.asgi import request

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
BOTH = ["trace_id", "request_id"]
TRACE = 0xA3CE929D0E0E47364BF92F3577B34DA6


def exemplars_of(metrics: Metrics) -> dict[tuple[str, str, str], Exemplar]:
    """The exemplars of a scrape, by sample name, label value and bound."""
    metrics.flush()
    body, kind = metrics.exposition(OPENMETRICS)
    assert kind.startswith("application/openmetrics-text; version=1.0.0")
    found = {}
    families = text_string_to_metric_families(body.decode())  # type: ignore[no-untyped-call]
    for family in families:
        for sample in family.samples:
            if sample.exemplar is not None:
                (label,) = [value for name, value in sample.labels.items() if name != "le"]
                found[sample.name, label, sample.labels["le"]] = sample.exemplar
    return found


def finish(metrics: Metrics, seconds: float, request_id: str, first: float = 0.0) -> None:
    exchange = Exchange(started=100.0, request_id=request_id, endpoint="chat", catalog_id="m")
    exchange.stream, exchange.first_content = bool(first), 100.0 + first if first else 0.0
    metrics.finished(exchange, 100.0 + seconds)


def test_each_bucket_of_two_histograms_has_its_newest_request() -> None:
    metrics = Metrics()
    finish(metrics, 0.2, "req_1")
    finish(metrics, 0.21, "req_2")
    finish(metrics, 1.5, "req_3", first=0.04)
    finish(metrics, 1000.0, "req_4")
    found = exemplars_of(metrics)
    seen: Any = {key: (each.labels, each.value) for key, each in found.items()}
    assert seen == {
        ("penstock_request_duration_seconds_bucket", "chat", "0.25"): (
            {"request_id": "req_2"},
            pytest.approx(0.21),
        ),
        ("penstock_request_duration_seconds_bucket", "chat", "2.5"): (
            {"request_id": "req_3"},
            pytest.approx(1.5),
        ),
        ("penstock_request_duration_seconds_bucket", "chat", "+Inf"): (
            {"request_id": "req_4"},
            pytest.approx(1000.0),
        ),
        ("penstock_time_to_first_content_seconds_bucket", "m", "0.05"): (
            {"request_id": "req_3"},
            pytest.approx(0.04),
        ),
    }
    finish(metrics, 0.22, "req_5")
    found = exemplars_of(metrics)
    assert found["penstock_request_duration_seconds_bucket", "chat", "0.25"].labels == {
        "request_id": "req_5"
    }


def test_sampled_request_is_preferred_within_a_write() -> None:
    metrics = Metrics()
    for request_id, trace_id in (("req_1", 0), ("req_2", TRACE), ("", TRACE + 1), ("req_4", 0)):
        exchange = Exchange(started=100.0, request_id=request_id, endpoint="chat", catalog_id="m")
        exchange.stream, exchange.first_content = True, 100.02 if request_id else 100.2
        exchange.trace_id, exchange.sampled = trace_id or 5, bool(trace_id)
        metrics.finished(exchange, 100.2 if request_id else 101.0)
    found = exemplars_of(metrics)
    traced = {"trace_id": f"{TRACE:032x}", "request_id": "req_2"}
    without_id = {"trace_id": f"{TRACE + 1:032x}"}
    duration, first = (f"penstock_{row.name}_bucket" for row in (DURATION, FIRST_CONTENT))
    assert found[duration, "chat", "0.25"].labels == traced
    assert found[duration, "chat", "1.0"].labels == without_id
    assert found[first, "m", "0.05"].labels == traced
    assert found[first, "m", "0.25"].labels == without_id


def test_text_format_has_no_exemplars() -> None:
    metrics = Metrics()
    finish(metrics, 0.2, "req_1")
    metrics.flush()
    text, _ = metrics.exposition()
    assert b"req_1" not in text
    assert b" # {" not in text


def test_request_without_id_and_trace_is_no_exemplar() -> None:
    metrics = Metrics()
    finish(metrics, 0.2, "")
    assert exemplars_of(metrics) == {}


def test_exemplar_has_trace_and_request_within_the_limit() -> None:
    room = LONGEST - len("trace_idrequest_id") - 32
    for length, names in ((28, BOTH), (room, BOTH), (room + 1, ["trace_id"])):
        exemplar = Seen(1.0, "r" * length, TRACE, 5.0).exemplar()
        assert exemplar is not None
        assert list(exemplar.labels) == names
        assert exemplar.labels["trace_id"] == f"{TRACE:032x}"
        assert sum(map(len, (*exemplar.labels, *exemplar.labels.values()))) <= LONGEST
    assert Seen(1.0, "", 0, 5.0).exemplar() is None


def test_traced_request_stays_for_a_minute() -> None:
    exemplars = Exemplars()
    ids = []
    for at, trace_id in ((0.0, 7), (59.0, 0), (60.0, 8), (61.0, 0), (121.0, 0), (122.0, 0)):
        seen = Seen(0.2, str(at), trace_id, at)
        exemplars.keep(DURATION, "chat", 3, seen)
        (kept,) = exemplars.snapshot((DURATION,), "penstock").requests()
        ids.append(kept.request_id)
    assert ids == ["0.0", "0.0", "60.0", "60.0", "121.0", "122.0"]


def test_bounds_as_written_are_the_numbers_of_the_table() -> None:
    """Exemplars are found by the bound as a number, however it is written."""
    for bound in (*DURATION.buckets, *FIRST_CONTENT.buckets, float("inf")):
        written = floatToGoString(bound)  # type: ignore[no-untyped-call]
        assert float(written) == bound


async def test_exemplar_names_the_span_that_was_exported() -> None:
    """Through the layers in their order: its ids find the trace and the line of the log."""
    exporter, metrics = InMemorySpanExporter(), Metrics()
    spans = Spans(SimpleSpanProcessor(exporter), resource=Resource({}))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).endpoint = "chat"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    counted = MetricsMiddleware(app, metrics=metrics)
    traced = TracingMiddleware(counted, spans=spans, sampling=Sampling(1.0))
    answer = await request(RequestIDMiddleware(traced))
    (exemplar,) = exemplars_of(metrics).values()
    (span,) = exporter.get_finished_spans()
    assert span.context is not None
    assert exemplar.labels == {
        "trace_id": f"{span.context.trace_id:032x}",
        "request_id": answer.header("x-request-id"),
    }
