"""The table that parent and workers share, and when a worker accepts connections."""

import asyncio
import os

from edge.runtime.worker_table import ALONE_SECONDS, Stage, WorkerSlot, WorkerTable


def test_fleet_combines_all_rows() -> None:
    table = WorkerTable(3)
    table.began(0, 10)
    table.began(1, 11)
    pid = os.fork()
    if not pid:
        table.report(0, Stage.READY)
        table.report(1, Stage.UNREADY)
        os._exit(0)
    os.waitpid(pid, 0)
    table.ended(2, accepted=False, failures=4, next_start=1_800_000_000.25)
    fleet = table.fleet()
    assert (fleet.wanted, fleet.alive, fleet.ready, fleet.whole) == (3, 2, 1, False)
    assert (fleet.failures, fleet.ends, fleet.failed) == (4, 1, 1)
    assert fleet.next_start == 1_800_000_000.25
    table.began(2, 12)
    assert table.fleet().next_start == 0
    table.reset_failures(2)
    assert table.fleet().failures == 0
    table.ended(0, accepted=True, failures=1, next_start=0)
    assert (table.fleet().ready, table.fleet().failed) == (0, 1)


class Ready:
    """Whether a worker is ready, and a clock that goes on with each question."""

    def __init__(self, step: float) -> None:
        self.now = 0.0
        self.step = step
        self.is_ready = False

    def clock(self) -> float:
        self.now += self.step
        return self.now

    def __call__(self) -> bool:
        return self.is_ready


async def test_wait_to_accept_ready_returns_at_once() -> None:
    place = WorkerSlot.alone()
    ready = Ready(0.0)
    ready.is_ready = True
    await place.wait_to_accept(ready, clock=ready.clock)
    assert place.fleet().ready == 1


async def test_wait_to_accept_only_worker_returns_at_once_unready() -> None:
    place = WorkerSlot.alone()
    ready = Ready(0.0)
    await place.wait_to_accept(ready, clock=ready.clock)
    assert (place.fleet().alive, place.fleet().ready) == (1, 0)
    place.report(ready=True, draining=False)
    assert place.fleet().ready == 1
    place.report(ready=True, draining=True)
    assert place.fleet().ready == 0


async def test_wait_to_accept_another_is_ready_waits_for_its_end() -> None:
    table = WorkerTable(2)
    table.began(0, 10)
    table.began(1, 11)
    table.report(0, Stage.READY)
    ready = Ready(ALONE_SECONDS)
    waiting = asyncio.create_task(WorkerSlot(table, 1).wait_to_accept(ready, clock=ready.clock))
    await asyncio.sleep(0.5)
    assert not waiting.done()
    assert table.stage(1) is Stage.HELD
    table.ended(0, accepted=True, failures=1, next_start=0)
    await waiting
    assert table.stage(1) is Stage.UNREADY


async def test_wait_to_accept_returns_when_ready_beside_another() -> None:
    table = WorkerTable(2)
    table.began(0, 10)
    table.began(1, 11)
    table.report(0, Stage.READY)
    ready = Ready(0.0)
    waiting = asyncio.create_task(WorkerSlot(table, 1).wait_to_accept(ready, clock=ready.clock))
    await asyncio.sleep(0)
    ready.is_ready = True
    await waiting
    assert table.fleet().ready == 2
