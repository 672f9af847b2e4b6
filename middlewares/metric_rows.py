"""Rows of the table of metrics: a counter, a gauge or a histogram each.

Names have no prefix in a row, and those of counters no `_total`: `exposed` gives the whole name.
"""

from typing import ClassVar, Literal, TypeAlias

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NAMESPACE = "penstock"

Mode: TypeAlias = Literal["livesum", "livemax", "livemin", "liveall", "livemostrecent", "max"]
"""How the values of several processes become one. `live...`: of living processes only."""

Maker: TypeAlias = Literal["worker", "parent", "scrape"]
"""Who makes a metric: each worker, the parent process of the workers, or the scrape itself."""


class MetricRow(Struct, frozen=True):
    """A metric. name: without prefix and suffix. help: also its text in the documentation."""

    type: ClassVar[str]
    suffix: ClassVar[str] = ""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    maker: Maker = "worker"

    def exposed(self, namespace: str = NAMESPACE) -> str:
        """Its name in a scrape; a histogram's without `_bucket`, `_sum` or `_count`."""
        return f"{namespace}_{self.name}{self.suffix}"


class CounterRow(MetricRow, frozen=True):
    """A number that only grows."""

    type: ClassVar[str] = "counter"
    suffix: ClassVar[str] = "_total"

    def make(self, registry: CollectorRegistry, namespace: str) -> Counter:
        return Counter(f"{namespace}_{self.name}", self.help, self.labels, registry=registry)


class GaugeRow(MetricRow, frozen=True, kw_only=True):
    """A number that rises and falls."""

    type: ClassVar[str] = "gauge"

    mode: Mode

    def make(self, registry: CollectorRegistry, namespace: str) -> Gauge:
        return Gauge(
            f"{namespace}_{self.name}",
            self.help,
            self.labels,
            registry=registry,
            multiprocess_mode=self.mode,
        )


class HistogramRow(MetricRow, frozen=True, kw_only=True):
    """A distribution. buckets: upper bounds; `+Inf` is added."""

    type: ClassVar[str] = "histogram"

    buckets: tuple[float, ...]

    def make(self, registry: CollectorRegistry, namespace: str) -> Histogram:
        return Histogram(
            f"{namespace}_{self.name}",
            self.help,
            self.labels,
            buckets=self.buckets,
            registry=registry,
        )


Row: TypeAlias = CounterRow | GaugeRow | HistogramRow
