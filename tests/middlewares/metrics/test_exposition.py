"""Scrapes: off the loop, gathered once a second, and never older than what another has shown."""

import asyncio
import gzip
import threading
from collections.abc import Callable, Iterable

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from middlewares import Exchange, Metrics, MetricsMiddleware
from middlewares.asgi import Receive, Scope, Send
from middlewares.metrics.exemplars import ExemplarSnapshot
from middlewares.metrics.exposition import Exposition, RegistrySource
from middlewares.metrics.negotiation import Form
from tests.asgi import request

OPENMETRICS = "application/openmetrics-text"


class Shared:
    """The values of two processes: a gauge, and marks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.gauge = Gauge("shown", "Help.", registry=self.registry)
        self.marks = 0
        self.gathered = 0
        self.threads: set[int] = set()
        self.between: Callable[[], None] = lambda: None
        """Called while values are gathered."""

    def mark(self) -> int:
        self.marks += 1
        return self.marks

    def collect(self) -> Iterable[Metric]:
        self.gathered += 1
        self.threads.add(threading.get_ident())
        found = list(self.registry.collect())
        self.between()
        return found


class Worker:
    """One process of several."""

    def __init__(self, shared: Shared) -> None:
        self.now = 100.0
        self.state = 0
        self.flushed = 0
        self.exposition = Exposition(
            shared,
            flush=self._flush,
            exemplars=lambda: ExemplarSnapshot({}, {}),
            state=lambda: self.state,
            clock=lambda: self.now,
        )

    def _flush(self) -> None:
        self.flushed += 1

    async def shown(self, form: Form = Form()) -> float:  # noqa: B008  it is immutable
        body, _ = await self.exposition.scrape(form)
        text = gzip.decompress(body) if form.gzip else body
        read = openmetrics_families if form.openmetrics else text_string_to_metric_families
        (family,) = read(text.decode())
        return family.samples[0].value


@pytest.fixture
def shared() -> Shared:
    return Shared()


async def test_scrape_within_a_second_uses_what_was_gathered(shared: Shared) -> None:
    worker = Worker(shared)
    shown = []
    for later, value in ((0.0, 1), (0.5, 2), (0.49, 3), (0.02, 4)):
        worker.now += later
        shared.gauge.set(value)
        shown.append(await worker.shown())
    assert shown == [1, 1, 1, 4]
    assert worker.flushed == shared.gathered == 2


async def test_scrape_after_a_request_is_gathered_afresh(shared: Shared) -> None:
    worker = Worker(shared)
    shared.gauge.set(1)
    assert await worker.shown() == 1
    shared.gauge.set(2)
    worker.state += 1
    assert await worker.shown() == 2


async def test_scrape_after_that_of_another_process_is_not_older(shared: Shared) -> None:
    one, other = Worker(shared), Worker(shared)
    shown = []
    for value, worker in enumerate((one, other, one, one, other)):
        shared.gauge.set(value)
        shown.append(await worker.shown())
    assert shown == [0, 1, 2, 2, 4]


async def test_scrape_that_overlapped_another_is_not_used_again(shared: Shared) -> None:
    """Both read, then the other is answered: which of them is newer cannot be known."""
    one = Worker(shared)
    shared.gauge.set(1)

    def other_scrapes() -> None:
        shared.mark()
        shared.gauge.set(2)
        shared.mark()

    shared.between = other_scrapes
    assert await one.shown() == 1
    shared.between = lambda: None
    assert await one.shown() == 2


async def test_scrapes_at_once_are_gathered_once_and_off_the_loop(shared: Shared) -> None:
    worker = Worker(shared)
    await asyncio.gather(*(worker.shown() for _ in range(20)))
    assert shared.gathered == 1
    assert threading.get_ident() not in shared.threads


async def test_forms_are_written_of_the_same_values(shared: Shared) -> None:
    worker = Worker(shared)
    shared.gauge.set(7)
    forms = [Form(version, compressed) for version in ("", "1.0.0") for compressed in (False, True)]
    assert [await worker.shown(form) for form in forms] == [7, 7, 7, 7]
    assert shared.gathered == 1
    _, headers = await worker.exposition.scrape(forms[-1])
    assert headers == {
        "content-type": "application/openmetrics-text; version=1.0.0; charset=utf-8",
        "content-encoding": "gzip",
        "vary": "accept, accept-encoding",
    }


async def test_failed_scrape_is_followed_by_another(shared: Shared) -> None:
    worker = Worker(shared)

    def fail() -> None:
        raise MemoryError

    shared.between = fail
    with pytest.raises(MemoryError):
        await worker.shown()
    shared.between = lambda: None
    assert await worker.shown() == 0


def test_files_of_several_processes_are_never_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    source = RegistrySource(CollectorRegistry())
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    began = source.mark()
    list(source.collect())
    assert source.mark() > began + 1


async def test_metrics_scrape_is_openmetrics_for_those_who_ask() -> None:
    metrics = Metrics()
    metrics.began()
    metrics.finished(Exchange(started=1.0, endpoint="e"), 2.0)
    body, headers = await metrics.scrape(OPENMETRICS)
    assert headers["content-type"].startswith(OPENMETRICS)
    families = openmetrics_families(body.decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"penstock_requests", "penstock_request_duration_seconds"} <= names


async def test_scrape_is_not_in_flight_itself() -> None:
    metrics = Metrics()
    shown: list[float] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, _ = await metrics.scrape()
        shown.extend(
            family.samples[0].value
            for family in text_string_to_metric_families(body.decode())
            if family.name == "penstock_requests_in_flight"
        )
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    metrics.began()
    await request(MetricsMiddleware(app, metrics=metrics))
    assert shown == [1]
    await metrics.scrape()  # outside the middleware
    metrics.flush()
    assert metrics.registry.get_sample_value("penstock_requests_in_flight") == 1
