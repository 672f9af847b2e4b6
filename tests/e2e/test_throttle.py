"""Ten keys that wait their turn, one of them greedy: the others do not notice."""

import asyncio
from collections import Counter
from statistics import quantiles
from time import perf_counter

import pytest

from .conftest import Figures, Start
from .program import Gateway, Program
from .wire import CHAT, bearer, chat, line, once

pytestmark = pytest.mark.timeout(600)

NEIGHBOURS = 9
RATE = 2.0
"""Requests a second of each neighbour, of the 4 that its plan gives it; the greedy one sends 50
times as many."""
GREED = 50
PLAN = {"id": "patient", "requests": "240/min", "burst": 4, "on_excess": "throttle"}

BODY = chat("Hi [[sim first=0.05]]", "chat")


class Customer:
    """One key that asks so many times a second, whether or not it is answered."""

    def __init__(self, gateway: Gateway, key: str, rate: float) -> None:
        self.gateway = gateway
        self.headers = bearer(key)
        self.rate = rate
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    async def ask(self) -> None:
        async with line(self.gateway.url) as connection:
            started = perf_counter()
            reply = await once(
                connection, CHAT, chat("Hi [[sim first=0.05]]", "chat"), self.headers
            )
            self.seconds.append(perf_counter() - started)
            self.statuses[reply.status] += 1

    async def run(self, seconds: float) -> None:
        """For so long, at an even pace."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * self.rate)):
                await asyncio.sleep(start + number / self.rate - loop.time())
                group.create_task(self.ask())


def _shown(seconds: list[float]) -> tuple[float, float]:
    """Median and 95th percentile, in milliseconds."""
    cuts = quantiles(seconds, n=20)
    return cuts[9] * 1000, cuts[18] * 1000


async def test_a_greedy_key_is_no_matter_to_its_neighbours(
    start: Start, simulator: Program, full: bool, figures: Figures
) -> None:
    upstream = {"name": "far", "dialect": "openai", "base_url": f"{simulator.url}/v1"}
    document = {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [upstream],
        "models": [{"id": "chat", "targets": ["far/far-model"]}],
        "plans": [PLAN],
        "limits": {"throttle_max_wait": "5s"},
    }
    gateway = await asyncio.to_thread(start, document)
    names = [f"key-{number}" for number in range(NEIGHBOURS + 1)]
    keys = [await asyncio.to_thread(gateway.new_key, name, plan="patient") for name in names]
    seconds = 60.0 if full else 4.0

    async def neighbours() -> list[Customer]:
        customers = [Customer(gateway, key, RATE) for key in keys[1:]]
        await asyncio.gather(*(customer.run(seconds) for customer in customers))
        return customers

    unloaded = await neighbours() if full else []
    greedy = Customer(gateway, keys[0], RATE * GREED)
    started = perf_counter()
    _, beside = await asyncio.gather(greedy.run(seconds), neighbours())
    elapsed = perf_counter() - started
    asked = int(seconds * RATE)
    for customer in beside:
        assert customer.statuses == {200: asked}
    assert set(greedy.statuses) == {200, 429}
    # What its rate gives it while it asks and while the last of its requests wait, and the burst.
    most = 240 + 4 + (elapsed + 2) * 4
    assert greedy.statuses[200] <= most
    assert greedy.statuses[200] >= seconds * 4
    if full:
        quiet, loaded = (
            _shown([each for customer in customers for each in customer.seconds])
            for customers in (unloaded, beside)
        )
        figures(
            f"{NEIGHBOURS} neighbours: 0 x 429, median {quiet[0]:.1f} -> {loaded[0]:.1f} ms, "
            f"p95 {quiet[1]:.1f} -> {loaded[1]:.1f} ms; greedy {dict(greedy.statuses)}"
        )
        assert loaded[0] < 2 * quiet[0]
        assert loaded[1] < 2 * quiet[1]
