"""kill -9 of the whole gateway under load: of whom a byte was seen is in the ledger, once."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from middlewares.pricing import decimal

from .conftest import SECRETS, Figures, shared_store
from .ledger import limits, paid, rows
from .program import DEADLINE, Gateway, Program
from .surfaces import SURFACES, Wish
from .wire import line, request

pytestmark = pytest.mark.timeout(900)

QUICK, FULL = 3, 30
CLIENTS = 12
FEW = 10
"""Answers that were begun before a kill."""
PLAN = {"id": "metered", "windows": [{"length": "5h", "credits": "1000000.00"}]}
WORDS = ("tokens=3", "tokens=20 rate=40", "first=0.2", "tokens=5", "fault=status:500")
MODELS = ("chat", "claude", "resp")


class Load:
    """Clients that ask all the time. `seen` has the id of every request that was answered."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.gateway = gateway
        self.key = key
        self.seen: list[str] = []
        self.statuses: Counter[int] = Counter()
        self._numbers = count()

    async def client(self) -> None:
        for number in self._numbers:
            surface = list(SURFACES.values())[number % 4]
            text = f"{number} [[sim {WORDS[number % len(WORDS)]}]]"
            body = surface.body(text, MODELS[number % 3], number % 7 < 4, Wish())
            headers = {"authorization": f"Bearer {self.key}", **surface.headers}
            async with line(self.gateway.url) as connection:
                await connection.send(request(surface.path, body, headers))
                reply = await connection.head()
                self.seen.append(reply.header("x-request-id"))
                self.statuses[reply.status] += 1
                async for _ in connection.parts(reply):
                    pass

    async def until_killed(self, seconds: float) -> None:
        """Ask for so long after some were answered, which takes as long as dead workers are waited
        for, and until everything of the gateway is dead; each request ends."""
        running = [asyncio.create_task(self.client()) for _ in range(CLIENTS)]
        async with asyncio.timeout(DEADLINE):
            while len(self.seen) <= FEW:
                await asyncio.sleep(0.01)
        await asyncio.sleep(seconds)
        assert self.gateway.process.poll() is None
        self.gateway.signal_group(SIGKILL)
        async with asyncio.timeout(DEADLINE):
            ends = await asyncio.gather(*running, return_exceptions=True)
        for end in ends:
            assert isinstance(end, ConnectionError | asyncio.IncompleteReadError), end
        self.gateway.kill()


@pytest.fixture(params=["embedded", "shared"])
async def settings(
    request: pytest.FixtureRequest, simulator: Program
) -> AsyncIterator[dict[str, Any]]:
    """Of a gateway by itself, or of one with workers, Redis and PostgreSQL."""
    document = paid(simulator.url, PLAN)
    if request.param == "shared":
        document["server"] = {"workers": 2}
        document["store"] = await shared_store(request)
    yield document


def _new_key(gateway: Gateway) -> str:
    """A key of a team, both under the plan."""
    team = gateway.new_team("t", plan="metered")
    return gateway.new_key("k", plan="metered", team=team)


@contextmanager
def closing_down(gateway: Gateway) -> Iterator[None]:
    """Nothing of it is left, however the test ends."""
    try:
        yield
    finally:
        gateway.kill()


async def test_every_request_of_which_a_byte_was_seen_has_a_row(
    settings: dict[str, Any], tmp_path: Path, full: bool, figures: Figures
) -> None:
    dice = random.Random(9)
    seen: list[str] = []
    statuses: Counter[int] = Counter()
    key = ""
    kills = FULL if full else QUICK
    for _ in range(kills):
        gateway = await asyncio.to_thread(Gateway, tmp_path, settings, env=SECRETS)
        with closing_down(gateway):
            key = key or await asyncio.to_thread(_new_key, gateway)
            load = Load(gateway, key)
            await load.until_killed(dice.uniform(0.3, 1.5))
            seen += load.seen
            statuses += load.statuses
    gateway = await asyncio.to_thread(Gateway, tmp_path, settings, env=SECRETS)
    with closing_down(gateway):
        async with asyncio.timeout(DEADLINE):
            while set(seen) - {row.id for row in await rows(gateway.sql)}:
                await asyncio.sleep(0.1)
        ledger = await rows(gateway.sql)
        found = Counter(row.id for row in ledger)
        assert len(seen) == len(set(seen)) > FEW * kills
        assert all(found[request_id] == 1 for request_id in seen)
        ended = Counter(row.ended for row in ledger)
        assert ended["lost"] > 0
        assert {200, 502} <= set(statuses)
        cost = sum(row.cost for row in ledger)
        shown = await limits(gateway, key)
        for level in (shown, shown["team"]):
            assert level["windows"][0]["used"] == decimal(cost)
        figures(
            f"{kills} kills, {len(seen)} answers begun {dict(statuses)}, {len(ledger)} rows "
            f"{dict(ended)}, none missing, none twice"
        )
        assert await asyncio.to_thread(gateway.stop) == 0, gateway.stderr
