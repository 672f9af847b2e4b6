"""Steps in the worker thread."""

import asyncio
import gc
import sys
import threading
import weakref

import pytest

from edge.runtime.worker_thread import run_in_thread


class Held:
    """Something to see the end of."""


async def test_run_in_thread_leaves_the_loop_free() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def step() -> int:
        begun.set()
        assert go_on.wait(60)
        return threading.get_ident()

    running = asyncio.ensure_future(run_in_thread(step))
    while not begun.is_set():
        await asyncio.sleep(0)
    go_on.set()
    assert await running != threading.get_ident()


async def test_run_in_thread_exception_keeps_no_frames() -> None:
    seen: list[weakref.ref[Held]] = []

    def step() -> None:
        held = Held()
        seen.append(weakref.ref(held))
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as raised:
        await run_in_thread(step)
    assert raised.value and seen[0]() is None
    assert gc.isenabled()


async def test_run_in_thread_pauses_the_collector_and_shortens_the_switch_interval() -> None:
    before = sys.getswitchinterval()
    assert await run_in_thread(lambda: (gc.isenabled(), sys.getswitchinterval() < before)) == (
        False,
        True,
    )
    assert (gc.isenabled(), sys.getswitchinterval()) == (True, before)
