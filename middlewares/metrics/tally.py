"""What finished requests add up to, until it is written to the metrics."""

from time import time

from prometheus_client import Counter, Histogram

from middlewares import metric_table as table
from middlewares.exchange import Attempt, Exchange
from middlewares.metric_rows import HistogramRow
from middlewares.pricing import NANO
from middlewares.prometheus_internals import HistogramValues, Value, counter_value

from .exemplars import Exemplars, Seen
from .metric_set import MetricSet

_Kind = tuple[str, str, int, str, str]
"""Endpoint, model, status, outcome and problem of a request."""
_CREDIT_REFUSALS = ("budget_exceeded", "insufficient_credits", "rate_limited")


class _Sums:
    """Sums over requests of one kind.

    took: seconds of each; first: to its first content; over: of overhead; per_token: between two
    output tokens. ids: request ids, as `took`; first_ids: as `first`. traces, first_traces: ids of
    sampled traces, by the position there.
    """

    __slots__ = (
        *("cache_read", "cache_write", "cost", "input", "output"),
        *("first", "first_ids", "first_traces", "ids", "over", "per_token", "took", "traces"),
    )

    def __init__(self) -> None:
        self.took: list[float] = []
        self.first: list[float] = []
        self.over: list[float] = []
        self.per_token: list[float] = []
        self.ids: list[str] = []
        self.first_ids: list[str] = []
        self.traces: dict[int, int] = {}
        self.first_traces: dict[int, int] = {}
        self.input = self.output = self.cache_read = self.cache_write = 0
        self.cost = 0


class Tally:
    """Counts finished requests by kind, and writes the sums to the metrics.

    A counter that several processes share is in shared memory; one write to it costs more than all
    other work of this layer, so a request makes none. The values behind counters and buckets come
    from inside prometheus_client, which has no public way to add more than one to both.
    """

    def __init__(self, metrics: MetricSet, exemplars: Exemplars) -> None:
        self._metrics = metrics
        for kind in _CREDIT_REFUSALS:  # from 0 on, so that the first one shows as an increase
            metrics.credit_refusals.labels(kind)
        self._exemplars = exemplars
        self._kinds: dict[_Kind, _Sums] = {}
        self._attempts: dict[tuple[str, int, str], int] = {}
        self._answers: dict[tuple[str, str, bool], list[float]] = {}
        self._queued: list[float] = []
        self._counters: dict[tuple[object, ...], Value] = {}
        self._histograms: dict[tuple[object, ...], HistogramValues] = {}

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
        sums.ids.append(exchange.request_id)
        first = exchange.first_content if exchange.stream else 0.0
        if first:
            sums.first.append(first - started)
            sums.first_ids.append(exchange.request_id)
            if exchange.sampled:
                sums.first_traces[len(sums.first) - 1] = exchange.trace_id
        if exchange.sampled:
            sums.traces[len(sums.took) - 1] = exchange.trace_id
        if exchange.queue_seconds:
            self._queued.append(exchange.queue_seconds)
        usage = exchange.usage
        if usage is not None:
            sums.input += usage.input
            sums.output += usage.output
            if usage.cache_read or usage.cache_write:
                sums.cache_read += usage.cache_read
                sums.cache_write += usage.cache_write
            if first and usage.output > 1:
                sums.per_token.append((now - first) / (usage.output - 1))
            if usage.images or usage.characters or usage.audio_ms:
                self._add_units(exchange)
        if exchange.cost:
            sums.cost += exchange.cost
        if exchange.fallback_from and exchange.outcome == "completed":
            self._add(1, self._metrics.fallbacks, exchange.catalog_id)
        if exchange.attempts:
            self._add_attempts(exchange, sums, first or now)

    def _add_attempts(self, exchange: Exchange, sums: _Sums, end: float) -> None:
        """Count the attempts. end: of what counts as overhead."""
        attempts = exchange.attempts
        counts = self._attempts
        for attempt in attempts:
            counted = (attempt.target.upstream, attempt.status, attempt.problem)
            counts[counted] = counts.get(counted, 0) + 1
            if attempt.corrections:
                self._add(attempt.corrections, self._metrics.corrections, counted[0])
            if attempt.usage is not None:
                self._add_earlier(attempt, sums)
        waited = exchange.upstream_seconds
        if not exchange.media:  # else it waited for other models and for hosts of files, too
            elsewhere = waited + exchange.upload_seconds + exchange.queue_seconds
            sums.over.append(max(0.0, end - exchange.started - elsewhere))
        if exchange.first_content:
            answer = (attempt.target.upstream, exchange.catalog_id, exchange.stream)
            seconds = self._answers.get(answer)
            if seconds is None:
                seconds = self._answers[answer] = []
            seconds.append(attempts[0].started + waited - attempt.started)

    def _add_earlier(self, attempt: Attempt, sums: _Sums) -> None:
        """Count the usage of an attempt before the last."""
        usage = attempt.usage
        if usage is not None:
            sums.input += usage.input
            sums.output += usage.output
            sums.cache_read += usage.cache_read
            sums.cache_write += usage.cache_write

    def _add_units(self, exchange: Exchange) -> None:
        usage, units, model = exchange.usage, self._metrics.units, exchange.catalog_id
        if usage is not None:
            self._add(usage.images, units, model, "images")
            self._add(usage.characters, units, model, "characters")
            self._add(usage.audio_ms / 1000, units, model, "audio_seconds")

    def write(self) -> None:
        """Add the sums to the metrics, and begin again."""
        metrics = self._metrics
        kinds, self._kinds = self._kinds, {}
        now = time()
        for kind, sums in kinds.items():
            self._write_kind(kind, sums, now)
        attempts, self._attempts = self._attempts, {}
        for (upstream, status, problem), count in attempts.items():
            self._add(count, metrics.attempts, upstream, str(status))
            if problem:
                self._add(count, metrics.upstream_errors, upstream, problem)
        answers, self._answers = self._answers, {}
        for (upstream, model, stream), seconds in answers.items():
            labels = (upstream, model, "true" if stream else "false")
            self._observe(seconds, metrics.upstream_answer, *labels)
        queued, self._queued = self._queued, []
        self._observe(queued, metrics.throttle_wait)

    def _add(self, amount: float, metric: Counter, *labels: str) -> None:
        if amount:
            key = (metric, *labels)
            value = self._counters.get(key)
            if value is None:
                value = self._counters[key] = counter_value(metric, *labels)
            value.inc(amount)

    def _observe(self, observed: list[float], metric: Histogram, *labels: str) -> None:
        if observed:
            self._values(metric, *labels).observe(observed)

    def _observe_with_exemplars(
        self,
        observed: list[float],
        metric: Histogram,
        row: HistogramRow,
        label: str,
        ids: list[str],
        traces: dict[int, int],
        now: float,
    ) -> None:
        """Add observations, and keep the last of each bucket, rather one with a sampled trace."""
        if not observed:
            return
        values = self._values(metric, label)
        last = values.observe(observed)
        for n in traces:
            last[values.bucket(observed[n])] = n
        for bucket, n in last.items():
            seen = Seen(observed[n], ids[n], traces.get(n, 0), now)
            self._exemplars.keep(row, label, bucket, seen)

    def _values(self, metric: Histogram, *labels: str) -> HistogramValues:
        key = (metric, *labels)
        values = self._histograms.get(key)
        if values is None:
            values = self._histograms[key] = HistogramValues(metric, *labels)
        return values

    def _write_kind(self, kind: _Kind, sums: _Sums, now: float) -> None:
        metrics = self._metrics
        endpoint, model, status, outcome, problem = kind
        count = len(sums.took)
        self._add(count, metrics.requests, endpoint, model, str(status), outcome)
        if problem:
            self._add(count, metrics.problems, problem)
            if outcome == "refused" and problem in _CREDIT_REFUSALS:
                self._add(count, metrics.credit_refusals, problem)
        of_all = (table.DURATION, endpoint, sums.ids, sums.traces, now)
        self._observe_with_exemplars(sums.took, metrics.duration, *of_all)
        of_streams = (table.FIRST_CONTENT, model, sums.first_ids, sums.first_traces, now)
        self._observe_with_exemplars(sums.first, metrics.first_content, *of_streams)
        self._observe(sums.over, metrics.overhead, endpoint)
        self._observe(sums.per_token, metrics.output_token, model)
        self._add(sums.input, metrics.tokens, model, "input")
        self._add(sums.output, metrics.tokens, model, "output")
        self._add(sums.cache_read, metrics.tokens, model, "cache_read")
        self._add(sums.cache_write, metrics.tokens, model, "cache_write")
        self._add(sums.cost / NANO, metrics.credits, model)
