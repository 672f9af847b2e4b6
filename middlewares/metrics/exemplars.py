"""Exemplars: for each bucket of a histogram, one request that fell into it."""

from typing import NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

from middlewares.metric_rows import HistogramRow

LONGEST = 128
"""Characters of the names and values of an exemplar's labels, as OpenMetrics allows."""
_TRACED_FOR = 60.0
"""Seconds for which a request without a trace does not replace one with a trace."""


class Seen(NamedTuple):
    """A request that was observed. value: seconds. trace_id: 0 where there is no sampled trace.
    at: Unix seconds."""

    value: float
    request_id: str
    trace_id: int
    at: float

    def exemplar(self) -> Exemplar | None:
        """Its exemplar; None without anything to find it by."""
        labels = {}
        if self.trace_id:
            labels["trace_id"] = f"{self.trace_id:032x}"
        if self.request_id:
            labels["request_id"] = self.request_id
            if sum(map(len, (*labels, *labels.values()))) > LONGEST:
                del labels["request_id"]
        return Exemplar(labels, self.value, self.at) if labels else None


class Exemplars:
    """The newest request in each bucket of some histograms of this process.

    prometheus_client drops exemplars where several processes share values, so they are kept here
    and added to a scrape that asks for OpenMetrics: those of the worker that answers it. A request
    with a sampled trace stays for a minute, unless another with one comes.
    """

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], dict[int, Seen]] = {}

    def keep(self, row: HistogramRow, label: str, bucket: int, seen: Seen) -> None:
        """Keep a request of a bucket, counted from 0. label: the value of the row's one label."""
        buckets = self._seen.setdefault((row.name, label), {})
        before = buckets.get(bucket)
        if before is None or seen.trace_id or not before.trace_id or _is_old(before, seen.at):
            buckets[bucket] = seen

    def snapshot(self, rows: tuple[HistogramRow, ...], namespace: str) -> "ExemplarSnapshot":
        """What is kept now, for a scrape in another thread."""
        found = {}
        for row in rows:
            name = f"{row.exposed(namespace)}_bucket"
            for label, buckets in self._seen_of(row).items():
                bounds = (*row.buckets, float("inf"))
                found[name, label] = {bounds[n]: seen for n, seen in buckets.items()}
        return ExemplarSnapshot({row.exposed(namespace): row.labels[0] for row in rows}, found)

    def _seen_of(self, row: HistogramRow) -> dict[str, dict[int, Seen]]:
        return {label: seen for (name, label), seen in self._seen.items() if name == row.name}


def _is_old(seen: Seen, now: float) -> bool:
    return now - seen.at > _TRACED_FOR


class ExemplarSnapshot:
    """Adds exemplars to the samples of a scrape.

    labels: by name of a histogram, its label. seen: requests by sample name, label and bound.
    """

    def __init__(
        self, labels: dict[str, str], seen: dict[tuple[str, str], dict[float, Seen]]
    ) -> None:
        self._labels = labels
        self._seen = seen

    def requests(self) -> list[Seen]:
        """All of them."""
        return [seen for buckets in self._seen.values() for seen in buckets.values()]

    def added_to(self, metric: Metric) -> Metric:
        """`metric`, or a copy of it with exemplars."""
        label = self._labels.get(metric.name)
        if label is None:
            return metric
        copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
        copy.samples = [self._with_exemplar(sample, label) for sample in metric.samples]
        return copy

    def _with_exemplar(self, sample: Sample, label: str) -> Sample:
        buckets = self._seen.get((sample.name, sample.labels.get(label, "")))
        if buckets is None:
            return sample
        seen = buckets.get(float(sample.labels["le"]))
        if seen is None:
            return sample
        return Sample(sample.name, sample.labels, sample.value, sample.timestamp, seen.exemplar())
