"""The metrics of a process: what is counted, when it is written, and how it is scraped.

With PROMETHEUS_MULTIPROC_DIR set before prometheus_client is first imported, every worker process
writes files there and a scrape sums them: one scrape of any worker covers all. `source` is for
another way to share values.
"""

import asyncio
import re
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from middlewares import metric_table as table
from middlewares.exchange import Exchange
from middlewares.metric_rows import NAMESPACE

from .exemplars import Exemplars
from .exposition import Exposition, RegistrySource, Scrape, ScrapeSource
from .metric_set import MetricSet
from .negotiation import negotiate
from .tally import Tally

_GATHER_SECONDS = 0.2
_SAMPLE_SECONDS = 1.0
_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WITH_EXEMPLARS = (table.DURATION, table.FIRST_CONTENT)


class Metrics(MetricSet):
    """The metrics of a gateway, collected by kind of request and written every 0.2 s.

    Labels come only from configuration (endpoint, catalog id, upstream) and closed sets, never from
    a client, so their number is bounded.

    namespace: prefix of all names, as in `penstock_requests_total`.
    source: of scrapes, where processes share values by other means than files.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        namespace: str = NAMESPACE,
        source: ScrapeSource | None = None,
    ) -> None:
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(
                f"namespace {namespace!r}: expected letters, digits and _, a letter or _ first"
            )
        self.registry = registry if registry is not None else CollectorRegistry()
        super().__init__(self.registry, namespace)
        exemplars = Exemplars()
        self._tally = Tally(self, exemplars)
        self._exposition = Exposition(
            source or RegistrySource(self.registry),
            flush=self.flush,
            exemplars=lambda: exemplars.snapshot(_WITH_EXEMPLARS, namespace),
            state=self._state,
        )
        self._sampled: list[tuple[Gauge, Callable[[], float]]] = []
        self._counted: list[tuple[Counter, Callable[[], float], float]] = []
        self._reporters: list[Callable[[], None]] = []
        self._in_flight = 0
        self._finished = 0
        self._streams = 0
        self._scraping = 0
        self._scraped = 0
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

    @property
    def streams(self) -> int:
        """Streamed answers of this process that have begun and not ended."""
        return self._streams

    def stream_began(self) -> None:
        """Count a streamed answer that begins. `stream_ended` must follow."""
        self._streams += 1

    def stream_ended(self) -> None:
        """Count a streamed answer as ended."""
        self._streams -= 1

    def finished(self, exchange: Exchange, now: float) -> None:
        """Count an exchange that ended at `now` (perf_counter seconds)."""
        self._in_flight -= 1
        self._finished += 1
        self._tally.add(exchange, now)
        if not self._due:
            self._plan()

    def sample(self, gauge: Gauge, source: Callable[[], float]) -> None:
        """Set `gauge` to `source()` every second and at each scrape."""
        self._sampled.append((gauge, source))

    def count_from(self, counter: Counter, source: Callable[[], float]) -> None:
        """Add the growth of `source()` to `counter` every second and at each scrape."""
        self._counted.append((counter, source, 0.0))

    def report_from(self, reporter: Callable[[], None]) -> None:
        """Call `reporter`, which sets metrics itself, every second and at each scrape."""
        self._reporters.append(reporter)

    def _plan(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # not asyncio: no timer, so write now
            return self._write()
        self._due = True
        loop.call_later(_GATHER_SECONDS, self._write)

    def _write(self) -> None:
        """Write what requests have counted."""
        self._due = False
        self._tally.write()
        self.in_flight.set(max(0, self._in_flight - self._scraping))
        self.streams_open.set(self._streams)

    def flush(self) -> None:
        """Write what was counted and sampled. Call it on the event loop: counting is not
        thread-safe."""
        self._write()
        for report in self._reporters:
            report()
        for gauge, source in self._sampled:
            gauge.set(source())
        for n, (counter, source, before) in enumerate(self._counted):
            now = source()
            if now > before:
                counter.inc(now - before)
                self._counted[n] = (counter, source, now)

    async def scrape(self, accept: str = "", accept_encoding: str = "") -> Scrape:
        """The answer to a scrape with these headers, over all processes.

        The work is done in a thread. The request for it is not counted as in flight. Other
        processes may lag by what they counted since their last write, 0.2 s at most.
        """
        self._scraping += 1
        try:
            return await self._exposition.scrape(negotiate(accept, accept_encoding))
        finally:
            self._scraping -= 1
            self._scraped += 1

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The text of a scrape and its content type, without asyncio: see `scrape`.

        CPU-bound and reads files: call it in a thread, after `flush` on the event loop.
        """
        form = negotiate(accept)
        return self._exposition.text(form), form.content_type

    def _state(self) -> tuple[int, int]:
        """Equal while nothing but scrapes is counted."""
        return self._in_flight - self._scraping, self._finished - self._scraped
