"""The rows that parent and workers share, and when a worker's turn has come."""

import asyncio
import os

from edge.runtime.worker_table import ALONE_SECONDS, Stage, WorkerSlot, WorkerTable


def test_fleet_counts_what_every_process_wrote() -> None:
    roster = WorkerTable(3)
    roster.began(0, 10)
    roster.began(1, 11)
    pid = os.fork()
    if not pid:
        roster.report(0, Stage.READY)
        roster.report(1, Stage.UNREADY)
        os._exit(0)
    os.waitpid(pid, 0)
    roster.ended(2, accepted=False, failures=4, next_start=1_800_000_000.25)
    fleet = roster.fleet()
    assert (fleet.wanted, fleet.alive, fleet.ready, fleet.whole) == (3, 2, 1, False)
    assert (fleet.failures, fleet.ends, fleet.failed) == (4, 1, 1)
    assert fleet.next_start == 1_800_000_000.25
    roster.began(2, 12)
    assert roster.fleet().next_start == 0
    roster.reset_failures(2)
    assert roster.fleet().failures == 0
    roster.ended(0, accepted=True, failures=1, next_start=0)
    assert (roster.fleet().ready, roster.fleet().failed) == (0, 1)


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


async def test_turn_ready_accepts_at_once() -> None:
    place = WorkerSlot.alone()
    ready = Ready(0.0)
    ready.is_ready = True
    await place.wait_to_accept(ready, clock=ready.clock)
    assert place.fleet().ready == 1


async def test_turn_only_worker_accepts_at_once_and_is_not_ready() -> None:
    place = WorkerSlot.alone()
    ready = Ready(0.0)
    await place.wait_to_accept(ready, clock=ready.clock)
    assert (place.fleet().alive, place.fleet().ready) == (1, 0)
    place.report(ready=True, draining=False)
    assert place.fleet().ready == 1
    place.report(ready=True, draining=True)
    assert place.fleet().ready == 0


async def test_turn_another_is_ready_waits_until_it_is_not() -> None:
    roster = WorkerTable(2)
    roster.began(0, 10)
    roster.began(1, 11)
    roster.report(0, Stage.READY)
    ready = Ready(ALONE_SECONDS)
    turn = asyncio.create_task(WorkerSlot(roster, 1).wait_to_accept(ready, clock=ready.clock))
    await asyncio.sleep(0.5)
    assert not turn.done()
    assert roster.stage(1) is Stage.HELD
    roster.ended(0, accepted=True, failures=1, next_start=0)
    await turn
    assert roster.stage(1) is Stage.UNREADY


async def test_turn_becomes_ready_while_another_is() -> None:
    roster = WorkerTable(2)
    roster.began(0, 10)
    roster.began(1, 11)
    roster.report(0, Stage.READY)
    ready = Ready(0.0)
    turn = asyncio.create_task(WorkerSlot(roster, 1).wait_to_accept(ready, clock=ready.clock))
    await asyncio.sleep(0)
    ready.is_ready = True
    await turn
    assert roster.fleet().ready == 2
