"""What is counted, by label, once; and one scrape for several processes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from middlewares import Attempt, Exchange, Metrics, MetricsMiddleware, Target, Usage
from middlewares.asgi import Receive, Scope, Send
from middlewares.exchange import Outcome
from tests.asgi import Call, http_scope, request

pytestmark = pytest.mark.simulated_time


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    metrics.flush()
    return metrics.registry.get_sample_value(name, labels)


async def test_status_size_and_outcome() -> None:
    metrics = Metrics()
    exchanges = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        exchange = Exchange.of(scope)
        exchanges.append(exchange)
        exchange.endpoint, exchange.catalog_id, exchange.outcome = "chat", "m1", "completed"
        assert sample(metrics, "penstock_requests_in_flight") == 1
        await send({"type": "http.response.start", "status": 201, "headers": []})
        await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        await send({"type": "http.response.body", "body": b"de"})

    app_ = MetricsMiddleware(app, metrics=metrics)
    for _ in range(3):
        await request(app_)
    labels = {"endpoint": "chat", "model": "m1", "status": "201", "outcome": "completed"}
    assert sample(metrics, "penstock_requests_total", **labels) == 3
    assert sample(metrics, "penstock_request_duration_seconds_count", endpoint="chat") == 3
    assert sample(metrics, "penstock_requests_in_flight") == 0
    assert [(exchange.status, exchange.bytes_out) for exchange in exchanges] == [(201, 5)] * 3


async def test_crashes_and_cancellations_are_counted_and_pass() -> None:
    metrics = Metrics()
    waiting = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/crash":
            raise ZeroDivisionError
        waiting.set()
        await asyncio.Event().wait()

    app_ = MetricsMiddleware(app, metrics=metrics)
    with pytest.raises(ZeroDivisionError):
        await request(app_, path="/crash")
    async with Call(app_, http_scope()) as call:
        await waiting.wait()
        await call.cancel()
    labels = {"endpoint": "", "model": "", "status": "0", "outcome": ""}
    assert sample(metrics, "penstock_requests_total", **labels) == 2
    assert sample(metrics, "penstock_requests_in_flight") == 0


FIGURES = {"input": 105, "output": 207, "cache_read": 311, "cache_write": 413}


def test_figures_of_an_exchange() -> None:
    metrics = Metrics()
    exchange = Exchange(started=100.0)
    exchange.endpoint, exchange.catalog_id, exchange.stream = "messages", "m1", True
    exchange.first_content = 100.3
    exchange.problem = "upstream_error"
    exchange.usage = Usage(input=5, output=7, cache_read=11, cache_write=13, reasoning=3)
    exchange.attempts = [
        Attempt(Target("a", "x"), 0.0, status=503),
        Attempt(Target("a", "x"), 0.0, status=503, usage=Usage(100, 200, 300, 400)),
        Attempt(Target("b", "x"), 0.0),
    ]
    metrics.finished(exchange, 102.0)
    # The reported usage of a failed attempt counts too.
    for kind, tokens in FIGURES.items():
        assert sample(metrics, "penstock_tokens_total", model="m1", kind=kind) == tokens
    attempts = "penstock_upstream_attempts_total"
    assert sample(metrics, attempts, upstream="a", status="503") == 2
    assert sample(metrics, attempts, upstream="b", status="0") == 1
    assert sample(metrics, "penstock_problems_total", kind="upstream_error") == 1
    assert sample(metrics, "penstock_fallbacks_total", model="m1") is None
    exchange.fallback_from, exchange.outcome = "m0", "completed"
    metrics.finished(exchange, 102.0)
    assert sample(metrics, "penstock_fallbacks_total", model="m1") == 1
    first = "penstock_time_to_first_content_seconds"
    assert sample(metrics, f"{first}_sum", model="m1") == pytest.approx(0.6)
    assert sample(metrics, f"{first}_bucket", model="m1", le="0.25") == 0
    assert sample(metrics, f"{first}_bucket", model="m1", le="0.5") == 2
    assert sample(metrics, "penstock_request_duration_seconds_sum", endpoint="messages") == 4.0


def test_an_unstreamed_answer_has_no_time_to_first_content() -> None:
    metrics = Metrics()
    exchange = Exchange()
    exchange.catalog_id, exchange.first_content = "m1", exchange.started + 1
    metrics.finished(exchange, exchange.started + 2)
    assert sample(metrics, "penstock_time_to_first_content_seconds_count", model="m1") is None


def test_a_scrape_reads_as_prometheus_text() -> None:
    metrics = Metrics(CollectorRegistry())
    metrics.finished(Exchange(), 0.0)
    metrics.flush()
    text, kind = metrics.exposition()
    assert kind.startswith("text/plain")
    names = {family.name for family in text_string_to_metric_families(text.decode())}
    assert {"penstock_requests", "penstock_requests_in_flight", "penstock_tokens"} <= names


COUNT = """
import sys
from middlewares import Exchange, Metrics
metrics = Metrics()
for _ in range(int(sys.argv[1])):
    metrics.finished(Exchange(), 0.0)
metrics.began()
metrics.flush()
print(metrics.exposition()[0].decode())
"""


def test_one_scrape_is_right_for_all_processes(tmp_path: Path) -> None:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    totals = []
    for count in (3, 4):
        reported = subprocess.run(
            [sys.executable, "-c", COUNT, str(count)],
            env=env,
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        samples = {
            sample.name: sample.value
            for family in text_string_to_metric_families(reported)
            for sample in family.samples
        }
        totals.append(samples["penstock_requests_total"])
    assert totals == [3, 7]


async def test_what_was_gathered_is_written_without_being_asked() -> None:
    metrics = Metrics()
    metrics.began()
    async with asyncio.timeout(5):
        while metrics.registry.get_sample_value("penstock_requests_in_flight") != 1:
            await asyncio.sleep(0.02)
    metrics.finished(Exchange(endpoint="e"), 0.0)
    labels = {"endpoint": "e", "model": "", "status": "0", "outcome": ""}
    async with asyncio.timeout(5):
        while metrics.registry.get_sample_value("penstock_requests_total", labels) != 1:
            await asyncio.sleep(0.02)
    assert metrics.registry.get_sample_value("penstock_requests_in_flight") == 0


async def test_what_changes_by_itself_is_written_without_any_request() -> None:
    """Another worker is scraped, and this one may have nothing to do for hours."""
    metrics = Metrics()
    value = 0.0
    again = asyncio.Event()

    def at() -> float:
        if value:
            again.set()
        return value

    metrics.sample(metrics.counters_up, at)
    metrics.start()
    try:
        value = 1.0
        async with asyncio.timeout(30):
            await again.wait()
        assert metrics.registry.get_sample_value("penstock_counters_up") == 1
    finally:
        value = 2.0
        metrics.stop()
    assert metrics.registry.get_sample_value("penstock_counters_up") == 2


RELOADS = """
import os
from middlewares import Metrics
from edge.observability.reload_metrics import ReloadMetrics
reloads = ReloadMetrics()
reloads.record("applied", valid=True)
there, here = os.pipe()
if not os.fork():  # as a worker is, and it has files of its own from now on
    Metrics().flush()
    os.read(there, 1)
    print(Metrics().exposition()[0].decode(), flush=True)
    os._exit(0)
reloads.record("applied", valid=True)
reloads.record("refused", valid=False)
os.write(here, b"1")
os.wait()
"""


def test_a_worker_shows_what_its_parent_counted(tmp_path: Path) -> None:
    env = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RELOADS],
        env=env,
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    found = {
        (sample.name, sample.labels.get("result")): sample.value
        for family in text_string_to_metric_families(done.stdout)
        for sample in family.samples
    }
    assert found["penstock_config_reloads_total", "applied"] == 2
    assert found["penstock_config_reloads_total", "refused"] == 1
    assert found["penstock_config_valid", None] == 0


def test_names_begin_with_the_namespace() -> None:
    metrics = Metrics(namespace="shop")
    metrics.flush()
    names = [line.split()[2] for line in metrics.exposition()[0].decode().splitlines()
             if line.startswith("# TYPE")]  # fmt: skip
    assert "shop_requests_total" in names
    assert not [name for name in names if not name.startswith("shop_")]


@pytest.mark.parametrize("namespace", ["", "1x", "a-b", "a b"])
def test_a_namespace_that_prometheus_does_not_take_is_refused(namespace: str) -> None:
    with pytest.raises(ValueError, match="expected letters, digits and _"):
        Metrics(namespace=namespace)


def answered(**fields: Any) -> Exchange:
    """A streamed exchange that began at 100.0 and was answered by its second attempt."""
    attempts = [
        Attempt(Target("a", "x"), 100.5, status=503, problem="upstream_error"),
        Attempt(Target("b", "x"), 101.0, status=200),
    ]
    exchange = Exchange(started=100.0, attempts=attempts, upstream_seconds=1.5)
    exchange.endpoint, exchange.catalog_id, exchange.stream = "chat", "m1", True
    exchange.first_content = 102.0 + 0.004
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


OVERHEAD = "penstock_overhead_seconds_sum"


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({}, 0.504),  # until the first content of the stream
        ({"stream": False}, 2.5),  # until the end of the answer
        ({"upload_seconds": 0.3, "queue_seconds": 0.2}, 0.004),
        ({"upstream_seconds": 9.0}, 0.0),
        ({"media": True}, None),
        ({"attempts": []}, None),
    ],
)
def test_overhead_leaves_out_what_was_waited_for(
    fields: dict[str, Any], seconds: float | None
) -> None:
    metrics = Metrics()
    metrics.finished(answered(**fields), 104.0)
    found = sample(metrics, OVERHEAD, endpoint="chat")
    assert found == (None if seconds is None else pytest.approx(seconds))


def test_attempts_are_measured_by_upstream_and_model() -> None:
    metrics = Metrics()
    metrics.finished(answered(), 104.0)
    metrics.finished(answered(stream=False, upstream_seconds=3.5), 104.0)
    metrics.finished(answered(first_content=0.0, outcome="failed"), 104.0)
    name = "penstock_upstream_answer_seconds_sum"
    b = {"upstream": "b", "model": "m1"}
    assert sample(metrics, name, **b, stream="true") == pytest.approx(1.0)
    assert sample(metrics, name, **b, stream="false") == pytest.approx(3.0)
    assert sample(metrics, name, upstream="a", model="m1", stream="true") is None
    errors = "penstock_upstream_errors_total"
    assert sample(metrics, errors, upstream="a", kind="upstream_error") == 3
    assert sample(metrics, "penstock_upstream_attempts_total", upstream="b", status="200") == 3


def test_time_per_output_token_is_counted_once_for_a_stream() -> None:
    metrics = Metrics()
    per_token = "penstock_output_token_seconds"
    for fields in (
        {"usage": Usage(output=1)},
        {"usage": Usage(output=5), "stream": False},
        {"usage": None},
        {"usage": Usage(output=5), "first_content": 0.0},
    ):
        metrics.finished(answered(**fields), 104.0)
    assert sample(metrics, f"{per_token}_count", model="m1") is None
    metrics.finished(answered(usage=Usage(output=21)), 104.0)
    assert sample(metrics, f"{per_token}_count", model="m1") == 1
    assert sample(metrics, f"{per_token}_sum", model="m1") == pytest.approx(1.996 / 20)


def test_requests_that_waited_for_a_rate_limit_are_measured() -> None:
    metrics = Metrics()
    metrics.finished(answered(), 104.0)
    metrics.finished(answered(queue_seconds=0.75, outcome="refused"), 104.0)
    assert sample(metrics, "penstock_throttle_wait_seconds_count") == 1
    assert sample(metrics, "penstock_throttle_wait_seconds_sum") == 0.75


@pytest.mark.parametrize(
    ("outcome", "problem", "counted"),
    [
        ("refused", "budget_exceeded", 1),
        ("refused", "insufficient_credits", 1),
        ("refused", "rate_limited", 1),
        ("refused", "invalid_key", None),
        ("failed", "rate_limited", 0),  # by an upstream
    ],
)
def test_refusals_by_limits_and_credits_are_counted(
    outcome: Outcome, problem: str, counted: int | None
) -> None:
    metrics = Metrics()
    metrics.finished(Exchange(outcome=outcome, problem=problem), 0.0)
    assert sample(metrics, "penstock_credit_refusals_total", kind=problem) == counted


@pytest.mark.parametrize(
    ("stream", "status", "open_streams"), [(True, 200, 1), (True, 429, 0), (False, 200, 0)]
)
async def test_streams_are_open_from_their_head_to_their_end(
    stream: bool, status: int, open_streams: int
) -> None:
    metrics = Metrics()
    seen: list[float | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        Exchange.of(scope).stream = stream
        seen.append(sample(metrics, "penstock_streams_open"))
        await send({"type": "http.response.start", "status": status, "headers": []})
        seen.append(sample(metrics, "penstock_streams_open"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await request(MetricsMiddleware(app, metrics=metrics))
    assert seen == [0, open_streams]
    assert sample(metrics, "penstock_streams_open") == 0


def test_report_from_is_called_at_each_write() -> None:
    metrics = Metrics()
    metrics.report_from(lambda: metrics.pool_waiting.labels("up").set(4))
    assert sample(metrics, "penstock_pool_waiting", upstream="up") == 4
