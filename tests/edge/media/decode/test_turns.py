"""Slots: their number, the order of owners, the bounds of the queue, cancellation."""

import asyncio

import pytest

from edge.media.decode.turns import QueueFull, Turns


class Work:
    """Tasks that hold a slot until they are let go, in the order in which they got it."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.got: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def begin(self, name: str) -> None:
        self.ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._run(name))
        await asyncio.sleep(0)

    async def _run(self, name: str) -> None:
        await self.turns.take(name[0])
        try:
            self.got.append(name)
            await self.ends[name].wait()
        finally:
            self.turns.give()

    async def finish(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
            await asyncio.gather(self.tasks[name], return_exceptions=True)
            await asyncio.sleep(0)

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)
        await asyncio.sleep(0)


async def test_take_owners_get_slots_in_turn() -> None:
    work = Work(Turns(1, waiting=99, per_owner=99))
    for name in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        await work.begin(name)
    for _ in range(7):
        await work.finish(work.got[-1])
    assert work.got == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_take_no_more_than_the_slots_are_held() -> None:
    work = Work(Turns(2, waiting=99, per_owner=99))
    for name in ("a1", "a2", "a3", "a4"):
        await work.begin(name)
    assert work.got == ["a1", "a2"]
    await work.finish("a2")
    assert work.got == ["a1", "a2", "a3"]
    await work.finish("a1", "a3", "a4")
    await work.begin("b1")
    await work.begin("b2")
    assert work.got[-2:] == ["b1", "b2"]
    await work.finish("b1", "b2")


async def test_take_full_queue_refuses() -> None:
    turns = Turns(1, waiting=3, per_owner=2)
    work = Work(turns)
    for name in ("a1", "a2", "a3"):
        await work.begin(name)
    with pytest.raises(QueueFull):
        await turns.take("a")
    await work.begin("b1")
    with pytest.raises(QueueFull):
        await turns.take("c")
    await work.finish("a1", "a2", "b1", "a3")
    assert turns.waiting == 0


async def test_take_cancelled_waiter_leaves_the_queue() -> None:
    work = Work(Turns(1, waiting=9, per_owner=9))
    for name in ("a1", "b1", "c1"):
        await work.begin(name)
    await work.cancel("b1")
    await work.finish("a1", "c1")
    assert work.got == ["a1", "c1"]
    assert work.turns.waiting == 0


async def test_take_cancelled_with_its_slot_passes_it_on() -> None:
    turns = Turns(1, waiting=9, per_owner=9)
    work = Work(turns)
    for name in ("a1", "b1", "c1"):
        await work.begin(name)
    work.ends["a1"].set()
    while work.tasks["a1"].done() is False and turns.waiting == 2:
        await asyncio.sleep(0)
    await work.cancel("b1")  # it has been given the slot and may not have run since
    await work.finish("c1")
    assert work.got[-1] == "c1"
    await turns.take("d")


@pytest.mark.parametrize("bounds", [(0, 1, 1), (1, 0, 1), (1, 1, 0)])
def test_bounds_of_none_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Turns(bounds[0], waiting=bounds[1], per_owner=bounds[2])
