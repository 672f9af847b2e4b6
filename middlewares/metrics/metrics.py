"""Prometheus metrics of requests, counted once each.

A `Metrics` object creates its metrics on a given registry. With PROMETHEUS_MULTIPROC_DIR set before
prometheus_client is first imported, every worker process writes files there and `exposition` sums
them: one scrape of any worker covers all. `gather` is for another way to share values.
"""

import asyncio
import os
import re
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from middlewares.exchange import Exchange
from middlewares.metric_rows import NAMESPACE

from .metric_set import MetricSet
from .tally import Tally

_GATHER_SECONDS = 0.2
_SAMPLE_SECONDS = 1.0
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Metrics(MetricSet):
    """The metrics of a gateway, collected by kind of request and written every 0.2 s.

    Labels come only from configuration (endpoint, catalog id, status), never from a client, so
    their number is bounded.

    namespace: prefix of all names, as in `penstock_requests_total`.
    gather: returns the registry to scrape, where processes share values by other means than files.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        namespace: str = NAMESPACE,
        gather: Callable[[], CollectorRegistry] | None = None,
    ) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(
                f"namespace {namespace!r}: expected letters, digits and _, a letter or _ first"
            )
        self.registry = registry if registry is not None else CollectorRegistry()
        super().__init__(self.registry, namespace)
        self._gather = gather
        self._tally = Tally(self)
        self._sampled: list[tuple[Gauge, Callable[[], float]]] = []
        self._counted: list[tuple[Counter, Callable[[], float], float]] = []
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
        self._tally.add(exchange, now)
        if not self._due:
            self._plan()

    def sample(self, gauge: Gauge, source: Callable[[], float]) -> None:
        """Set `gauge` to `source()` at each write."""
        self._sampled.append((gauge, source))

    def count_from(self, counter: Counter, source: Callable[[], float]) -> None:
        """Add the growth of `source()` to `counter` at each write."""
        self._counted.append((counter, source, 0.0))

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
        self._tally.write()
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
