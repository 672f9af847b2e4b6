"""Internals of prometheus_client: the only module that uses them.

prometheus_client has no public way to add more than one observation to a histogram, to keep values
anywhere but in files, or to sum the values of several processes that are not in files. Its version
has an upper bound in pyproject.toml for this module's sake, and
`tests/middlewares/test_prometheus_internals.py` names each internal used here.
"""

from bisect import bisect_left
from collections import Counter as Occurrences
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from prometheus_client import Counter, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector


class Value(Protocol):
    """One number of a metric, in memory or in a file."""

    def inc(self, amount: float) -> None: ...
    def set(self, value: float, timestamp: float | None = None) -> None: ...
    def get(self) -> float: ...
    def set_exemplar(self, exemplar: Any) -> None: ...
    def get_exemplar(self) -> Any: ...


def counter_value(counter: Counter, *labels: str) -> Value:
    """The value behind a counter with these labels."""
    value: Value = counter.labels(*labels)._value
    return value


class HistogramValues:
    """The values behind a histogram with these labels."""

    __slots__ = ("_bounds", "_buckets", "_sum")

    def __init__(self, histogram: Histogram, *labels: str) -> None:
        child = histogram.labels(*labels) if labels else histogram
        self._bounds: list[float] = child._upper_bounds
        self._buckets: list[Value] = child._buckets
        self._sum: Value = child._sum

    def bucket(self, value: float) -> int:
        """The bucket of an observation, counted from 0."""
        return bisect_left(self._bounds, value)

    def observe(self, observed: list[float]) -> dict[int, int]:
        """Add all of `observed`, with one addition per bucket. Returns the index of the last one in
        each bucket."""
        bounds = self._bounds
        found = [bisect_left(bounds, each) for each in observed]
        for bucket, count in Occurrences(found).items():
            self._buckets[bucket].inc(count)
        self._sum.inc(sum(observed))
        return dict(zip(found, range(len(found)), strict=True))


def set_value_class(value_class: type) -> None:
    """Make the values of all metrics created from now on instances of `value_class`.

    It is called with type, metric name, sample name, label names, label values and help, and for a
    gauge with `multiprocess_mode`. It has the methods of `Value`.
    """
    values.ValueClass = value_class


def set_multiprocess_mode(gauge: Metric, mode: str) -> None:
    """Say how `sum_of_processes` combines the samples of a gauge, as in `livesum`."""
    setattr(gauge, "_multiprocess_mode", mode)  # noqa: B010


def sum_of_processes(metrics: Mapping[str, Metric]) -> Iterable[Metric]:
    """Combine the samples that several processes have of one name and labels.

    Each sample of a gauge has the label `pid`; buckets of histograms are not cumulative yet.
    """
    combine: Any = MultiProcessCollector._accumulate_metrics
    combined: Iterable[Metric] = combine(metrics, True)
    return combined
