"""Prometheus metrics of requests, counted once each.

A `Metrics` object creates its metrics on a given registry. With PROMETHEUS_MULTIPROC_DIR set before
prometheus_client is first imported, every worker process writes files there and `exposition` sums
them: one scrape of any worker covers all. `gather` is for another way to share values.
"""

import asyncio
import os
import re
from collections.abc import Awaitable, Callable
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

from .asgi import ASGIApp, Message, Receive, Scope, Send
from .exchange import Exchange, exchange_of
from .pricing import NANO
from .prometheus_internals import HistogramValues, Value, counter_value
from .shared import Shared

_GATHER_SECONDS = 0.2
_SAMPLE_SECONDS = 1.0
_DURATIONS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FIRST = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 120.0)


_Kind = tuple[str, str, int, str, str]
"""Endpoint, model, status, outcome and problem of a request."""


class _Tally:
    """Sums over requests of one kind. took: seconds of each; first: to its first content."""

    __slots__ = ("cache_read", "cache_write", "cost", "first", "input", "output", "took")

    def __init__(self) -> None:
        self.took: list[float] = []
        self.first: list[float] = []
        self.input = self.output = self.cache_read = self.cache_write = 0
        self.cost = 0


class Metrics(Shared):
    """The metrics of a gateway, collected by kind of request and written every 0.2 s.

    A counter that several processes share is a memory-mapped file; one write to it costs more than
    all other work of this layer, so a request makes none. The values behind counters and buckets
    come from inside prometheus_client, which has no public way to add more than one to both.

    Labels come only from configuration (endpoint, catalog id, status), never from a client, so
    their number is bounded.

    namespace: prefix of all names, as in `penstock_requests_total`.
    gather: returns the registry to scrape, where processes share values by other means than files.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        namespace: str = "penstock",
        gather: Callable[[], CollectorRegistry] | None = None,
    ) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(
                f"namespace {namespace!r}: expected letters, digits and _, a letter or _ first"
            )
        self.registry = registry = registry if registry is not None else CollectorRegistry()
        self._gather = gather
        self.requests = Counter(
            f"{namespace}_requests",
            "Finished requests.",
            ("endpoint", "model", "status", "outcome"),
            registry=registry,
        )
        self.problems = Counter(
            f"{namespace}_problems",
            "Requests answered with a problem.",
            ("kind",),
            registry=registry,
        )
        self.in_flight = Gauge(
            f"{namespace}_requests_in_flight",
            "Requests being served now.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.duration = Histogram(
            f"{namespace}_request_duration_seconds",
            "Seconds from the first byte of a request to the last byte of its response.",
            ("endpoint",),
            buckets=_DURATIONS,
            registry=registry,
        )
        self.first_content = Histogram(
            f"{namespace}_time_to_first_content_seconds",
            "Seconds from the first byte of a streamed request to the first content sent.",
            ("model",),
            buckets=_FIRST,
            registry=registry,
        )
        self.tokens = Counter(
            f"{namespace}_tokens",
            "Tokens reported by upstreams; the kinds do not overlap.",
            ("model", "kind"),
            registry=registry,
        )
        self.units = Counter(
            f"{namespace}_units",
            "What media requests are charged by beside tokens: images, characters, audio_seconds.",
            ("model", "kind"),
            registry=registry,
        )
        self.attempts = Counter(
            f"{namespace}_upstream_attempts",
            "Attempts by upstream and response status; 0 means no response.",
            ("upstream", "status"),
            registry=registry,
        )
        self.corrections = Counter(
            f"{namespace}_upstream_corrections",
            "Corrected requests sent after an upstream refused the first one, within an attempt.",
            ("upstream",),
            registry=registry,
        )
        self.fallbacks = Counter(
            f"{namespace}_fallbacks",
            "Requests answered by another model than the requested one.",
            ("model",),
            registry=registry,
        )
        self.broken = Gauge(
            f"{namespace}_target_broken",
            "1 while the circuit breaker of a target is open, 0 once a request to it was answered.",
            ("upstream", "target"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.answers_removed = Counter(
            f"{namespace}_answers_removed",
            "Stored responses deleted because the quota of their owner was full.",
            registry=registry,
        )
        self.answers_not_kept = Counter(
            f"{namespace}_answers_not_kept",
            "Responses that could not be stored.",
            registry=registry,
        )
        self.vendor_files = Counter(
            f"{namespace}_vendor_files",
            "Copies of files at upstreams, by outcome: uploaded, refused, lost or deleted.",
            ("upstream", "outcome"),
            registry=registry,
        )
        self.fetches = Counter(
            f"{namespace}_fetches",
            "Files fetched from URLs that callers and upstreams gave, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self.descriptions = Counter(
            f"{namespace}_descriptions",
            "Texts made from media for models that do not take them, by kind and outcome.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.description_hits = Counter(
            f"{namespace}_description_cache_hits",
            "Texts of media that were in the cache.",
            registry=registry,
        )
        self.stored_bytes = Gauge(
            f"{namespace}_stored_bytes",
            "Bytes of all files, with those being written, at the last sweep.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.files_swept = Counter(
            f"{namespace}_files_swept",
            "Files and parts removed by sweeps: expired, deleted or left by a process that died.",
            registry=registry,
        )
        self.sign_ins = Counter(
            f"{namespace}_sign_ins",
            "Attempts to sign in to the dashboard, by way (key, password, oidc) and result.",
            ("how", "result"),
            registry=registry,
        )
        self.credits = Counter(
            f"{namespace}_credits",
            "Credits charged, by the model that answered.",
            ("model",),
            registry=registry,
        )
        self.ledger_rows = Counter(
            f"{namespace}_ledger_rows",
            "Rows written to the ledger, of requests of this process or recovered from a dead one.",
            ("from",),
            registry=registry,
        )
        self.ledger_waiting = Gauge(
            f"{namespace}_ledger_waiting_rows",
            "Journal rows that are not in the SQL store yet.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.journal_up = Gauge(
            f"{namespace}_journal_up",
            "1 while the journal can be written, 0 while requests that cost credits are refused.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.sql_up = Gauge(
            f"{namespace}_sql_up",
            "1 while the SQL store is the expected one, answers and accepts rows, else 0.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.counters_up = Gauge(
            f"{namespace}_counters_up",
            "1 while the shared counters answer, 0 while the policy for their outage applies.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.counters_lost = Counter(
            f"{namespace}_counters_lost",
            "Times Redis lost its counters and accounts were restored from the ledger, once per "
            "worker that noticed.",
            registry=registry,
        )
        self.jobs = Gauge(
            f"{namespace}_jobs",
            "Video and music jobs by state; those in a final state until their webhook was taken.",
            ("state",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.jobs_overdue = Gauge(
            f"{namespace}_jobs_overdue_seconds",
            "Seconds that the oldest job has waited for a worker to go on with it.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self.job_steps = Gauge(
            f"{namespace}_job_steps",
            "Jobs that are being submitted, asked about or copied now.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.jobs_lost = Counter(
            f"{namespace}_jobs_lost",
            "Jobs that failed because no answer to their submission came and none was found.",
            registry=registry,
        )
        self.alerts = Counter(
            f"{namespace}_alerts",
            "Alerts about budgets: raised, sent, failed (a try that was not taken) and given_up.",
            ("result",),
            registry=registry,
        )
        self.body_bytes = Gauge(
            f"{namespace}_request_body_bytes",
            "Bytes of request bodies held in memory.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.throttled = Gauge(
            f"{namespace}_throttled_requests",
            "Requests waiting for a rate limit.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.media_decoded = Counter(
            f"{namespace}_media_decoded",
            "Tasks of the media sandbox by kind of media and outcome: done, invalid (broken media, "
            "or over a limit), unavailable, missing (no decoder installed) or cancelled.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.media_waiting = Gauge(
            f"{namespace}_media_waiting",
            "Tasks waiting for a process of the media sandbox.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self.descriptors_left = Gauge(
            f"{namespace}_descriptors_left",
            "File descriptors that a worker can still open; the lowest of all workers.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        self.refused_at_door = Counter(
            f"{namespace}_refused_at_door",
            "Requests refused because file descriptors were used up.",
            registry=registry,
        )
        self.config_hash = Gauge(
            f"{namespace}_config_hash",
            "Hash of the configuration file that a worker serves, as a number; label `pid` names "
            "the worker.",
            registry=registry,
            multiprocess_mode="liveall",
        )
        self.workers_wanted = Gauge(
            f"{namespace}_workers_wanted",
            "Configured worker processes.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.workers_alive = Gauge(
            f"{namespace}_workers_alive",
            "Worker processes that accept connections.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.workers_ready = Gauge(
            f"{namespace}_workers_ready",
            "Worker processes that accept connections and are ready.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.worker_ends = Gauge(
            f"{namespace}_worker_ends",
            "Unexpected ends of workers and failed starts.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.worker_start_failures = Gauge(
            f"{namespace}_worker_start_failures",
            "Workers that failed before they accepted connections; part of the worker ends.",
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.log_lines_dropped = Counter(
            f"{namespace}_log_lines_dropped",
            "Log lines dropped because they were not read fast enough.",
            registry=registry,
        )
        self._sampled: list[tuple[Gauge, Callable[[], float]]] = []
        self._counted: list[tuple[Counter, Callable[[], float], float]] = []
        self._counters: dict[tuple[object, ...], Value] = {}
        self._histograms: dict[tuple[Histogram, str], HistogramValues] = {}
        self._tallies: dict[_Kind, _Tally] = {}
        self._attempts: dict[tuple[str, int], int] = {}
        self._in_flight = 0
        self._due = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Write every second, with or without requests, since sampled values change by themselves.

        Call it on the event loop.
        """
        self.stop()
        self._timer = asyncio.get_running_loop().call_later(_SAMPLE_SECONDS, self.start)

    def stop(self) -> None:
        """Stop what `start` began, and write a last time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()

    def began(self) -> None:
        """Count a request that begins."""
        self._in_flight += 1
        if not self._due:
            self._plan()

    def finished(self, exchange: Exchange, now: float) -> None:
        """Count an exchange that ended at `now` (perf_counter seconds)."""
        self._in_flight -= 1
        kind = (
            exchange.endpoint,
            exchange.catalog_id,
            exchange.status,
            exchange.outcome,
            exchange.problem,
        )
        tally = self._tallies.get(kind)
        if tally is None:
            tally = self._tallies[kind] = _Tally()
        started = exchange.started
        tally.took.append(now - started)
        if exchange.stream and exchange.first_content:
            tally.first.append(exchange.first_content - started)
        usage = exchange.usage
        if usage is not None:
            tally.input += usage.input
            tally.output += usage.output
            if usage.cache_read or usage.cache_write:
                tally.cache_read += usage.cache_read
                tally.cache_write += usage.cache_write
            if usage.images or usage.characters or usage.audio_ms:
                self._add(usage.images, self.units, exchange.catalog_id, "images")
                self._add(usage.characters, self.units, exchange.catalog_id, "characters")
                self._add(usage.audio_ms / 1000, self.units, exchange.catalog_id, "audio_seconds")
        if exchange.cost:
            tally.cost += exchange.cost
        if exchange.fallback_from and exchange.outcome == "completed":
            self._add(1, self.fallbacks, exchange.catalog_id)
        attempts = self._attempts
        for attempt in exchange.attempts:
            counted = (attempt.target.upstream, attempt.status)
            attempts[counted] = attempts.get(counted, 0) + 1
            if attempt.corrections:
                self._add(attempt.corrections, self.corrections, counted[0])
            usage_before = attempt.usage
            if usage_before is not None:  # of an attempt before the last
                tally.input += usage_before.input
                tally.output += usage_before.output
                tally.cache_read += usage_before.cache_read
                tally.cache_write += usage_before.cache_write
        if not self._due:
            self._plan()

    def sample(self, gauge: Gauge, source: Callable[[], float]) -> None:
        """Set `gauge` to `source()` at each write."""
        self._sampled.append((gauge, source))

    def count_from(self, counter: Counter, source: Callable[[], float]) -> None:
        """Add the growth of `source()` to `counter` at each write."""
        self._counted.append((counter, source, 0.0))

    def _add(self, amount: float, metric: Counter, *labels: str) -> None:
        if amount:
            key = (metric, *labels)
            value = self._counters.get(key)
            if value is None:
                value = self._counters[key] = counter_value(metric, *labels)
            value.inc(amount)

    def _observe(self, observed: list[float], metric: Histogram, label: str) -> None:
        if not observed:
            return
        key = (metric, label)
        values = self._histograms.get(key)
        if values is None:
            values = self._histograms[key] = HistogramValues(metric, label)
        values.observe(observed)

    def _write(self, kind: _Kind, tally: _Tally) -> None:
        endpoint, model, status, outcome, problem = kind
        count = len(tally.took)
        self._add(count, self.requests, endpoint, model, str(status), outcome)
        if problem:
            self._add(count, self.problems, problem)
        self._observe(tally.took, self.duration, endpoint)
        self._observe(tally.first, self.first_content, model)
        self._add(tally.input, self.tokens, model, "input")
        self._add(tally.output, self.tokens, model, "output")
        self._add(tally.cache_read, self.tokens, model, "cache_read")
        self._add(tally.cache_write, self.tokens, model, "cache_write")
        self._add(tally.cost / NANO, self.credits, model)

    def _plan(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not asyncio: no timer, so write now
            return self.flush()
        self._due = True
        loop.call_later(_GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what was counted. Call it on the event loop: counting is not thread-safe."""
        self._due = False
        tallies, self._tallies = self._tallies, {}
        for kind, tally in tallies.items():
            self._write(kind, tally)
        attempts, self._attempts = self._attempts, {}
        for (upstream, status), count in attempts.items():
            self._add(count, self.attempts, upstream, str(status))
        self.in_flight.set(self._in_flight)
        for gauge, source in self._sampled:
            gauge.set(source())
        for n, (counter, source, before) in enumerate(self._counted):
            now = source()
            if now > before:
                counter.inc(now - before)
                self._counted[n] = (counter, source, now)

    def exposition(self) -> tuple[bytes, str]:
        """The text of a scrape and its content type, over all processes.

        CPU-bound and reads files: call it in a thread, after `flush` on the event loop. Other
        processes may lag by what they counted since their last flush, 0.2 s at most.
        """
        registry = self.registry
        if self._gather is not None:
            registry = self._gather()
        elif os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry), CONTENT_TYPE_LATEST


class ReloadMetrics:
    """Metrics of configuration reloads, in the parent process that makes them.

    Written at once: reloads are rare, and that process has no event loop. Forked processes have
    their own zeros, so the gauge takes the maximum.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry if registry is not None else CollectorRegistry()
        self.reloads = Counter(
            "penstock_config_reloads",
            "Configurations read while serving, by result: applied, refused or unchanged.",
            ("result",),
            registry=registry,
        )
        self.valid = Gauge(
            "penstock_config_valid",
            "1 while the configuration file is valid, 0 after it was refused.",
            registry=registry,
            multiprocess_mode="max",
        )
        self.valid.set(1)

    def record(self, result: str, *, valid: bool) -> None:
        """Count a reload. valid: whether the file is valid."""
        self.reloads.labels(result).inc()
        self.valid.set(float(valid))


class MetricsMiddleware:
    """Count each request once at its end, crashes and cancellations included.

    Reads:   every field
    Writes:  status, bytes_out
    Rejects: never
    Order:   outside all but request_id, so that it counts refusals and crashes
    Cost:    wraps send; about eight additions in a dict per request
    """

    __slots__ = ("_metrics", "app")

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        metrics = self._metrics
        metrics.began()

        def send_counted(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.body":
                exchange.bytes_out += len(message.get("body", b""))
            elif message["type"] == "http.response.start":
                exchange.status = message["status"]
            return send(message)

        try:
            await self.app(scope, receive, send_counted)
        finally:
            metrics.finished(exchange, perf_counter())
