"""Answers scrapes: gathers the values of all processes, and writes them as text."""

import asyncio
import gzip
import os
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from .exemplars import ExemplarSnapshot
from .negotiation import Form

_KEEP = 1.0
"""Seconds for which what was gathered is used again."""


class ScrapeSource(Protocol):
    """The values of all processes.

    Each process marks the start and the end of what it gathers. So each knows whether another has
    gathered since: what it has itself would then take counters back.
    """

    def collect(self) -> Iterable[Metric]:
        """The metrics now. Called in a thread."""
        ...

    def mark(self) -> int:
        """Add a mark: the number of marks of all processes, this one included."""
        ...

    @property
    def marks(self) -> int:
        """The number of marks of all processes."""
        ...


class RegistrySource:
    """The values of one process, or of processes that share files (PROMETHEUS_MULTIPROC_DIR)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._marks = 0

    def collect(self) -> Iterable[Metric]:
        registry = self._registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
            self.mark()  # other processes cannot be seen to gather: nothing is used again
        return registry.collect()

    def mark(self) -> int:
        self._marks += 1
        return self._marks

    @property
    def marks(self) -> int:
        return self._marks


class Scrape(NamedTuple):
    """An answer to a scrape."""

    body: bytes
    headers: dict[str, str]


class _Gathered(NamedTuple):
    """Metrics of one moment. mark: at their end, 0 if they must not be used again. until: clock
    time. state: of this process. texts: as written so far."""

    metrics: tuple[Metric, ...]
    exemplars: ExemplarSnapshot
    mark: int
    until: float
    state: object
    texts: dict[Form, bytes]


class Exposition:
    """Answers scrapes one at a time, off the event loop.

    What was gathered is used again for a second, until a process gathers after it or this process
    counts a request.

    flush: writes what this process has counted. exemplars: called after it, on the event loop.
    state: something that is equal while this process counts nothing. clock: seconds.
    """

    def __init__(
        self,
        source: ScrapeSource,
        *,
        flush: Callable[[], None],
        exemplars: Callable[[], ExemplarSnapshot],
        state: Callable[[], object],
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._source = source
        self._flush = flush
        self._exemplars = exemplars
        self._state = state
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: _Gathered | None = None

    async def scrape(self, form: Form) -> Scrape:
        """The answer to a scrape."""
        async with self._lock:
            last = self._last
            if last is None or not self._is_current(last):
                self._flush()
                exemplars, state = self._exemplars(), self._state()
                self._last = last = await asyncio.to_thread(self._gather, exemplars, state)
            body = last.texts.get(form)
            if body is None:
                body = last.texts[form] = await asyncio.to_thread(_write, last, form)
        headers = {"content-type": form.content_type, "vary": "accept, accept-encoding"}
        if form.gzip:
            headers["content-encoding"] = "gzip"
        return Scrape(body, headers)

    def text(self, form: Form) -> bytes:
        """The text of a scrape, gathered now. CPU-bound; does not flush."""
        return _write(self._gather(self._exemplars(), None), form)

    def _is_current(self, last: _Gathered) -> bool:
        return (
            self._clock() < last.until
            and last.mark == self._source.marks
            and last.state == self._state()
        )

    def _gather(self, exemplars: ExemplarSnapshot, state: object) -> _Gathered:
        until = self._clock() + _KEEP
        began = self._source.mark()
        metrics = tuple(self._source.collect())
        ended = self._source.mark()
        alone = ended == began + 1
        return _Gathered(metrics, exemplars, ended if alone else 0, until, state, {})


class _Collected(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _write(gathered: _Gathered, form: Form) -> bytes:
    metrics: Iterable[Metric] = gathered.metrics
    if form.openmetrics:
        collected = _Collected([gathered.exemplars.added_to(metric) for metric in metrics])
        text = openmetrics.generate_latest(collected)  # type: ignore[no-untyped-call]
    else:
        text = generate_latest(_Collected(metrics))
    return gzip.compress(text, compresslevel=1, mtime=0) if form.gzip else text
