"""What finished requests add up to, until it is written to the metrics."""

from prometheus_client import Counter, Histogram

from middlewares.exchange import Exchange
from middlewares.pricing import NANO
from middlewares.prometheus_internals import HistogramValues, Value, counter_value

from .metric_set import MetricSet

_Kind = tuple[str, str, int, str, str]
"""Endpoint, model, status, outcome and problem of a request."""


class _Sums:
    """Sums over requests of one kind. took: seconds of each; first: to its first content."""

    __slots__ = ("cache_read", "cache_write", "cost", "first", "input", "output", "took")

    def __init__(self) -> None:
        self.took: list[float] = []
        self.first: list[float] = []
        self.input = self.output = self.cache_read = self.cache_write = 0
        self.cost = 0


class Tally:
    """Counts finished requests by kind, and writes the sums to the metrics.

    A counter that several processes share is in shared memory; one write to it costs more than all
    other work of this layer, so a request makes none. The values behind counters and buckets come
    from inside prometheus_client, which has no public way to add more than one to both.
    """

    def __init__(self, metrics: MetricSet) -> None:
        self._metrics = metrics
        self._kinds: dict[_Kind, _Sums] = {}
        self._attempts: dict[tuple[str, int], int] = {}
        self._counters: dict[tuple[object, ...], Value] = {}
        self._histograms: dict[tuple[Histogram, str], HistogramValues] = {}

    def add(self, exchange: Exchange, now: float) -> None:
        """Count an exchange that ended at `now` (perf_counter seconds)."""
        kind = (
            exchange.endpoint,
            exchange.catalog_id,
            exchange.status,
            exchange.outcome,
            exchange.problem,
        )
        sums = self._kinds.get(kind)
        if sums is None:
            sums = self._kinds[kind] = _Sums()
        started = exchange.started
        sums.took.append(now - started)
        if exchange.stream and exchange.first_content:
            sums.first.append(exchange.first_content - started)
        usage = exchange.usage
        if usage is not None:
            sums.input += usage.input
            sums.output += usage.output
            if usage.cache_read or usage.cache_write:
                sums.cache_read += usage.cache_read
                sums.cache_write += usage.cache_write
            if usage.images or usage.characters or usage.audio_ms:
                metrics = self._metrics
                self._add(usage.images, metrics.units, exchange.catalog_id, "images")
                self._add(usage.characters, metrics.units, exchange.catalog_id, "characters")
                self._add(
                    usage.audio_ms / 1000, metrics.units, exchange.catalog_id, "audio_seconds"
                )
        if exchange.cost:
            sums.cost += exchange.cost
        if exchange.fallback_from and exchange.outcome == "completed":
            self._add(1, self._metrics.fallbacks, exchange.catalog_id)
        attempts = self._attempts
        for attempt in exchange.attempts:
            counted = (attempt.target.upstream, attempt.status)
            attempts[counted] = attempts.get(counted, 0) + 1
            if attempt.corrections:
                self._add(attempt.corrections, self._metrics.corrections, counted[0])
            usage_before = attempt.usage
            if usage_before is not None:  # of an attempt before the last
                sums.input += usage_before.input
                sums.output += usage_before.output
                sums.cache_read += usage_before.cache_read
                sums.cache_write += usage_before.cache_write

    def write(self) -> None:
        """Add the sums to the metrics, and begin again."""
        kinds, self._kinds = self._kinds, {}
        for kind, sums in kinds.items():
            self._write_kind(kind, sums)
        attempts, self._attempts = self._attempts, {}
        for (upstream, status), count in attempts.items():
            self._add(count, self._metrics.attempts, upstream, str(status))

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

    def _write_kind(self, kind: _Kind, sums: _Sums) -> None:
        metrics = self._metrics
        endpoint, model, status, outcome, problem = kind
        count = len(sums.took)
        self._add(count, metrics.requests, endpoint, model, str(status), outcome)
        if problem:
            self._add(count, metrics.problems, problem)
        self._observe(sums.took, metrics.duration, endpoint)
        self._observe(sums.first, metrics.first_content, model)
        self._add(sums.input, metrics.tokens, model, "input")
        self._add(sums.output, metrics.tokens, model, "output")
        self._add(sums.cache_read, metrics.tokens, model, "cache_read")
        self._add(sums.cache_write, metrics.tokens, model, "cache_write")
        self._add(sums.cost / NANO, metrics.credits, model)
