"""One worker thread beside the event loop, for long steps of requests with large bodies.

Such a step is pure: it reads a body and decides, without I/O. While it runs, CPython switches to
the event loop after a millisecond instead of 5 (an answer needs a few switches), unless a single C
call takes longer (see `edge.requests.body_limits`). There is one thread, so that large bodies take
at most half of the processor from the loop.

The garbage collector is off while a step runs: the step creates hundreds of thousands of objects
that are freed at its end, and one collection over them takes 50 ms.
"""

import asyncio
import gc
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_TURN = 0.001
"""Seconds after which the interpreter switches from a step to the event loop."""
_POOL = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-body")


async def run_in_thread(step: Callable[[], T]) -> T:
    """Run `step` in the thread. A cancellation does not interrupt a step that has begun."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, _run, step)


async def run_to_completion(step: Callable[[], T]) -> T:
    """Run a step whose effects are needed even when the task is cancelled: a cancellation waits for
    its end. A second cancellation does not."""
    made = asyncio.ensure_future(run_in_thread(step))
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        await asyncio.wait((made,))
        if made.done() and not made.cancelled():
            made.exception()  # retrieved, so that asyncio does not log it
        raise


def _run(step: Callable[[], T]) -> T:
    collecting, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(_TURN)
    try:
        return step()
    except BaseException as raised:
        traceback.clear_frames(raised.__traceback__)  # frees their objects here, not in the loop
        raise
    finally:
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()
