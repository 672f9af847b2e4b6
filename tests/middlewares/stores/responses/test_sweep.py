"""Ended responses are removed, whatever happens to the store."""

import asyncio
import logging

import pytest

from middlewares.stores import MemoryResponseStore, StoreUnavailable
from middlewares.stores.responses.sweep import Sweeper

pytestmark = pytest.mark.simulated_time


class Clockwork:
    """Sleeps end when the test says so; purges are played from a script."""

    def __init__(self, *script: BaseException | None) -> None:
        self.store = Store(self)
        self.slept: list[float] = []
        self.purged: asyncio.Queue[float] = asyncio.Queue()
        self.script = list(script)
        self.ticks: asyncio.Queue[None] = asyncio.Queue()
        self.now = 10_000.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.ticks.get()

    def sweeper(self) -> Sweeper:
        return Sweeper(
            self.store,
            period=100.0,
            grace=1_000.0,
            clock=lambda: self.now,
            sleep=self.sleep,
            random=lambda: 0.25,
        )

    async def tick(self) -> float:
        self.ticks.put_nowait(None)
        return await asyncio.wait_for(self.purged.get(), 10)


class Store(MemoryResponseStore):
    def __init__(self, works: Clockwork) -> None:
        super().__init__()
        self._works = works

    async def purge(self, before: float) -> int:
        self._works.purged.put_nowait(before)
        failure = self._works.script.pop(0) if self._works.script else None
        if failure is not None:
            raise failure
        return 0


async def test_it_sweeps_now_and_then_and_leaves_a_grace() -> None:
    works = Clockwork()
    sweeper = works.sweeper()
    sweeper.start()
    assert await works.tick() == 9_000.0
    works.now += 100
    assert await works.tick() == 9_100.0
    assert set(works.slept) == {75.0}
    await sweeper.aclose()
    await sweeper.aclose()


async def test_it_redates_what_a_clock_left_ahead() -> None:
    works = Clockwork()
    asked: list[tuple[float, float]] = []

    async def redate(now: float, keep: float) -> int:
        asked.append((now, keep))
        return 0

    works.store.redate = redate  # type: ignore[method-assign]
    sweeper = Sweeper(
        works.store, period=1.0, keep=60.0, clock=lambda: works.now, sleep=works.sleep
    )
    sweeper.start()
    await works.tick()
    assert asked == [(10_000.0, 60.0)]
    await sweeper.aclose()


async def test_it_outlives_failures_and_tells_of_an_outage_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gone = StoreUnavailable("gone")
    works = Clockwork(gone, gone, ValueError("continued"), RuntimeError("odd"), None, gone)
    sweeper = works.sweeper()
    sweeper.start()
    for _ in range(7):
        await works.tick()
    await sweeper.aclose()
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 3
    assert sum("gone" in error for error in errors) == 2


async def test_it_is_started_once_and_with_sense() -> None:
    works = Clockwork()
    sweeper = works.sweeper()
    sweeper.start()
    with pytest.raises(RuntimeError, match="twice"):
        sweeper.start()
    await sweeper.aclose()
    for period, grace in ((0.0, 1.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="expected more than 0"):
            Sweeper(works.store, period=period, grace=grace)
