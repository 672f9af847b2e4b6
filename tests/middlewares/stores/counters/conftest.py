"""All counters, on a clock of the test's own."""

from collections.abc import AsyncIterator

import pytest

from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.counters.redis import RedisCounters

NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "redis"])
async def counters(
    request: pytest.FixtureRequest, clock: Clock
) -> AsyncIterator[MemoryCounters | RedisCounters]:
    made: MemoryCounters | RedisCounters
    if request.param == "memory":
        made = MemoryCounters(clock=clock)
    else:
        url = request.getfixturevalue("redis_url")
        made = RedisCounters(url, timeout=10.0, clock=clock, quarantine=0.0)
        await made.start()
    yield made
    await made.aclose()
