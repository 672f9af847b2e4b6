"""Count every request once, for Prometheus.

The metrics are made in one `Metrics` object on a registry that is handed in. With the environment
variable PROMETHEUS_MULTIPROC_DIR set before prometheus_client is first imported, every worker
process writes files there and `exposition` adds them up: one scrape of any worker is right for all.
"""

import os
from collections.abc import Awaitable
from time import perf_counter

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from ._asgi import ASGIApp, Message, Receive, Scope, Send
from .exchange import Exchange

_DURATIONS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_FIRST = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)


class Metrics:
    """The metrics of a gateway, with children kept by label so that counting is cheap.

    Labels come from configuration only (endpoint, catalog id, status), never from what a client
    wrote, so their number is bounded.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry if registry is not None else CollectorRegistry()
        self.requests = Counter(
            "penstock_requests",
            "Finished requests.",
            ("endpoint", "model", "status", "outcome"),
            registry=registry,
        )
        self.problems = Counter(
            "penstock_problems", "Requests answered with a problem.", ("kind",), registry=registry
        )
        self.in_flight = Gauge(
            "penstock_requests_in_flight",
            "Requests being served now.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.duration = Histogram(
            "penstock_request_duration_seconds",
            "From the first byte of a request to the last of its response.",
            ("endpoint",),
            buckets=_DURATIONS,
            registry=registry,
        )
        self.first_content = Histogram(
            "penstock_time_to_first_content_seconds",
            "From the first byte of a streamed request to the first content sent.",
            ("model",),
            buckets=_FIRST,
            registry=registry,
        )
        self.tokens = Counter(
            "penstock_tokens",
            "Tokens as upstreams reported them; the kinds are disjoint.",
            ("model", "kind"),
            registry=registry,
        )
        self.attempts = Counter(
            "penstock_upstream_attempts",
            "Attempts by upstream and the status it gave; 0 is none.",
            ("upstream", "status"),
            registry=registry,
        )
        self._children: dict[tuple[str, ...], Counter] = {}
        self._durations: dict[str, Histogram] = {}
        self._firsts: dict[str, Histogram] = {}

    def _count(self, metric: Counter, *labels: str) -> Counter:
        key = (metric._name, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def finished(self, exchange: Exchange, now: float) -> None:
        """Count one exchange that has ended at `now` (perf_counter seconds)."""
        model = exchange.entry
        endpoint = exchange.endpoint
        self._count(self.requests, endpoint, model, str(exchange.status), exchange.outcome).inc()
        if exchange.problem:
            self._count(self.problems, exchange.problem).inc()
        duration = self._durations.get(endpoint)
        if duration is None:
            duration = self._durations[endpoint] = self.duration.labels(endpoint)
        duration.observe(now - exchange.started)
        if exchange.stream and exchange.first_content:
            first = self._firsts.get(model)
            if first is None:
                first = self._firsts[model] = self.first_content.labels(model)
            first.observe(exchange.first_content - exchange.started)
        usage = exchange.usage
        if usage is not None:
            for kind, tokens in (
                ("input", usage.input),
                ("output", usage.output),
                ("cache_read", usage.cache_read),
                ("cache_write", usage.cache_write),
            ):
                if tokens:
                    self._count(self.tokens, model, kind).inc(tokens)
        for attempt in exchange.attempts:
            self._count(self.attempts, attempt.target.upstream, str(attempt.status)).inc()

    def exposition(self) -> tuple[bytes, str]:
        """The text for a scrape and its content type, over all processes where there are several.

        CPU-bound and reads files: call it off the event loop.
        """
        registry = self.registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


class MetricsMiddleware:
    """Count each request once when it has ended, crashes and cancellations included.

    Reads:   every field
    Writes:  status, bytes_out
    Rejects: never
    Order:   outside all but request_id, so that refusals and crashes are seen
    Cost:    wraps send; about six counters per request
    """

    __slots__ = ("_metrics", "app")

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = Exchange.of(scope)
        metrics = self._metrics
        metrics.in_flight.inc()

        def send_counted(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.body":
                exchange.bytes_out += len(message.get("body", b""))
            elif message["type"] == "http.response.start":
                exchange.status = message["status"]
            return send(message)

        try:
            await self.app(scope, receive, send_counted)
        finally:
            metrics.in_flight.dec()
            metrics.finished(exchange, perf_counter())
