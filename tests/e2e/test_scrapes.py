"""Scrapes of four workers under load, one of which is killed: no counter goes back or is lost."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress

import psutil
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics_families,
)
from prometheus_client.parser import text_string_to_metric_families

from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Start, over_http
from .program import DEADLINE, Gateway, Program, Sample, until
from .wire import CHAT, Line, ask, chat, line, request

COUNTED = ("_total", "_count", "_sum", "_bucket")
TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2"
WORKERS = 4
CLIENTS = 8
ENDLESS = "[[sim tokens=9999 rate=5]]"


class Scrapes:
    """Scrapes of any worker, on new connections; each is compared with the one before.

    exemplars: request ids of all exemplars seen.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._last: dict[Sample, float] = {}
        self._number = 0
        self.exemplars: set[str] = set()

    def next(self) -> dict[Sample, float]:
        """The next scrape, by turns as text and as OpenMetrics. Asserts that nothing went back."""
        self._number += 1
        found = self._scrape(OPENMETRICS if self._number % 2 else TEXT)
        went_back = [
            (sample, value, found.get(sample))
            for sample, value in self._last.items()
            if sample[0].endswith(COUNTED) and found.get(sample, -1.0) < value
        ]
        assert not went_back
        self._last = found
        return found

    def _scrape(self, accept: str) -> dict[Sample, float]:
        gateway = self._gateway
        gateway.forget_connections()
        answer = gateway.get("/metrics", headers={"accept": accept})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(accept.partition(";")[0])
        read = openmetrics_families if accept == OPENMETRICS else text_string_to_metric_families
        samples = [sample for family in read(answer.text) for sample in family.samples]
        self.exemplars |= {
            sample.exemplar.labels["request_id"] for sample in samples if sample.exemplar
        }
        return {(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples}

    async def until(self, name: str, value: float, **labels: str) -> None:
        """Scrape until a sample has this value, which it must not pass if it is a counter."""
        sample = (name, tuple(sorted(labels.items())))

        def reached() -> bool:
            found = self.next().get(sample, 0.0)
            assert found <= value or not name.endswith(COUNTED)
            return found == value

        await asyncio.to_thread(until, reached, what=f"{name} {value:g}")

    async def until_completed(self, count: int) -> None:
        labels = {"endpoint": "chat.completions", "model": "sim-1", "status": "200"}
        await self.until("penstock_requests_total", count, **labels, outcome="completed")

    async def until_nothing_is_open(self) -> None:
        await self.until("penstock_streams_open", 0)
        await self.until("penstock_requests_in_flight", 0)


@pytest.fixture
def four_workers(start: Start, redis_server: RedisServer, simulator: Program) -> Gateway:
    document = over_http(simulator.url)
    document["server"] = {"workers": WORKERS}
    document["store"] = {"counters": redis_server.url()}
    return start(document)


async def load(gateway: Gateway, requests: int) -> set[str]:
    """Send requests, half of them streamed, by a few clients at once; their ids."""
    todo, ids = iter(range(requests)), set()

    async def client() -> None:
        for number in todo:
            body = chat(f"request {number}", stream=bool(number % 2))
            reply = await ask(gateway.url, CHAT, body, gateway.bearer)
            assert reply.status == 200
            ids.add(reply.header("x-request-id"))

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return ids


def held_by(worker: psutil.Process, streams: list[Line]) -> list[Line]:
    """Those of our connections whose other end a worker has."""
    ports = {there.raddr.port for there in worker.net_connections() if there.raddr}
    return [one for one in streams if one.writer.get_extra_info("sockname")[1] in ports]


def living(gateway: Gateway) -> Iterator[int]:
    for worker in gateway.workers:
        with suppress(psutil.NoSuchProcess):  # it ended just now
            if worker.status() != psutil.STATUS_ZOMBIE:
                yield worker.pid


async def test_scrapes_under_load_over_a_killed_worker_never_go_back_and_lose_nothing(
    four_workers: Gateway, full: bool
) -> None:
    gateway, requests, streams_wanted = four_workers, 4000 if full else 200, 12
    scrapes = Scrapes(gateway)
    ids: set[str] = set()
    loading = asyncio.create_task(load(gateway, requests))
    for _ in range(25):
        await asyncio.to_thread(scrapes.next)
    ids |= await loading
    await scrapes.until_completed(requests)
    await scrapes.until_nothing_is_open()
    await scrapes.until("penstock_worker_starts_total", WORKERS)
    async with AsyncExitStack() as stack:
        streams = [
            await stack.enter_async_context(line(gateway.url)) for _ in range(streams_wanted)
        ]
        for stream in streams:
            await stream.send(request(CHAT, chat(ENDLESS, stream=True), gateway.bearer))
            assert (await stream.head()).status == 200
        await scrapes.until("penstock_streams_open", streams_wanted)
        victim = max(gateway.workers, key=lambda worker: len(held_by(worker, streams)))
        lost = len(held_by(victim, streams))
        assert lost
        victim.kill()
        # Not before all of its threads have ended are its sockets closed.
        await asyncio.to_thread(victim.wait, DEADLINE)
        loading = asyncio.create_task(load(gateway, requests))
        for _ in range(25):
            await asyncio.to_thread(scrapes.next)
        ids |= await loading
        # What the dead worker had open is open no more, and what it counted stays.
        await scrapes.until("penstock_streams_open", streams_wanted - lost)
        await asyncio.to_thread(
            until, lambda: len(set(living(gateway))) == WORKERS, what="another worker"
        )
        await scrapes.until("penstock_worker_starts_total", WORKERS + 1)
        ids |= await load(gateway, CLIENTS)
        await scrapes.until_completed(2 * requests + CLIENTS)
    await scrapes.until_nothing_is_open()
    assert scrapes.exemplars
    last = await asyncio.to_thread(scrapes.next)
    for histogram in ("request_duration_seconds", "overhead_seconds"):
        count = (f"penstock_{histogram}_count", (("endpoint", "chat.completions"),))
        # The cut streams of the living workers have ended, too.
        assert last[count] == 2 * requests + CLIENTS + streams_wanted - lost
    assert last["penstock_process_cpu_seconds_total", ()] > 0
    assert last["penstock_process_resident_bytes", ()] > WORKERS * 10e6
