"""The worker loop: claims, leases that are kept, and the end of a process."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from edge.media.jobs.engine import JobEngine
from edge.media.jobs.steps import Steps
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.jobs.base import Job
from middlewares.stores.jobs.sql import SqlJobStore
from middlewares.stores.ledger.base import Entry
from middlewares.stores.sql.database import Database
from tests.middlewares.stores.sqlite_files import new_sqlite
from tests.waiting import DEADLINE


class HeldSteps:
    """Steps that last until they are released."""

    def __init__(self) -> None:
        self.begun: list[Job] = []
        self.ended: list[str] = []
        self.release = asyncio.Event()
        self.fault: Exception | None = None

    async def take(self, job: Job) -> None:
        self.begun.append(job)
        if self.fault is not None:
            raise self.fault
        await self.release.wait()
        self.ended.append(job.id)


def job(number: int, **changes: Any) -> Job:
    entry = Entry(f"r{number}", "alice", 1.0, 1.0)
    return Job(
        id=f"video_{number}",
        owner="alice",
        kind="video",
        model="m",
        created_at=1.0,
        reservation=entry,
        due=1.0,
        **changes,
    )


@pytest.fixture
async def store(tmp_path: Any) -> AsyncIterator[SqlJobStore]:
    database = await Database.open(new_sqlite(tmp_path / "jobs.db"))
    yield SqlJobStore(database)
    await database.aclose()


async def until(look: Any) -> None:
    async with asyncio.timeout(DEADLINE):
        while not look():
            await asyncio.sleep(0.01)


def engine_of(store: SqlJobStore, steps: Any, **options: Any) -> JobEngine:
    taken: Steps = steps
    return JobEngine(store, taken, idle=0.02, **options)


async def test_due_jobs_are_claimed_up_to_the_bound(store: SqlJobStore) -> None:
    steps = HeldSteps()
    engine = engine_of(store, steps, at_once=2)
    for number in range(3):
        await store.create(job(number), limit=None)
    engine.start()
    await until(lambda: len(steps.begun) == 2)
    await asyncio.sleep(0.1)
    assert engine.busy == 2
    steps.release.set()
    await until(lambda: len(steps.ended) == 3)
    await engine.aclose()


async def test_lease_is_renewed_while_a_step_lasts(store: SqlJobStore) -> None:
    steps = HeldSteps()
    engine = engine_of(store, steps, lease=3.0)
    await store.create(job(1), limit=None)
    engine.start()
    await until(lambda: steps.begun)
    other = engine_of(store, HeldSteps())
    end = time.monotonic() + 3.5
    async with asyncio.timeout(DEADLINE):
        while time.monotonic() < end:
            assert not await other.run_one("video_1")
            await asyncio.sleep(0.1)
    assert len(steps.begun) == 1
    steps.release.set()
    await engine.aclose()


async def test_stop_leaves_what_can_be_repeated_and_waits_for_submissions(
    store: SqlJobStore,
) -> None:
    steps = HeldSteps()
    engine = engine_of(store, steps)
    await store.create(job(1, state="running"), limit=None)
    await store.create(job(2, state="queued"), limit=None)
    engine.start()
    await until(lambda: len(steps.begun) == 2)
    engine.stop()
    await until(lambda: engine.busy == 1)
    claimed = None
    async with asyncio.timeout(DEADLINE):
        while claimed is None:
            claimed = await store.claim("other", 1e12 - 1, 30.0, "video_1")
            await asyncio.sleep(0.01)
    await store.create(job(3), limit=None)
    closing = asyncio.create_task(engine.aclose(DEADLINE))
    await asyncio.sleep(0.05)
    assert not closing.done()
    steps.release.set()
    await closing
    assert steps.ended == ["video_2"]
    assert [one.id for one in steps.begun if one.id == "video_3"] == []


async def test_store_that_is_away_stops_no_engine(store: SqlJobStore) -> None:
    steps = HeldSteps()
    steps.fault = StoreUnavailable("away")
    engine = engine_of(store, steps, lease=0.2)
    await store.create(job(1), limit=None)
    engine.start()
    await until(lambda: len(steps.begun) >= 2)  # again, once its lease has ended
    steps.fault = RuntimeError("a bug")
    await until(lambda: len(steps.begun) >= 4)
    steps.fault = None
    steps.release.set()
    await until(lambda: steps.ended)
    await engine.aclose()


async def test_figures_are_counted(store: SqlJobStore) -> None:
    await store.create(job(1), limit=None)
    steps = HeldSteps()
    engine = engine_of(store, steps, at_once=1)
    engine.start()
    await until(lambda: engine.count("queued") == 1)
    await engine.aclose()
    await engine.aclose()
