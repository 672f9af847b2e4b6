"""Long steps of requests with large bodies, in one worker thread beside the event loop.

Such a step is pure: it reads a body and decides, and does no I/O. CPython gives the event loop its
turn when it has waited for a millisecond (5 ms otherwise: an answer takes a few turns), as long as
no single C call takes longer (see `edge.shape`). There is one thread, so that several large bodies
take no more than half of the processor from the loop.

Cycles are not looked for while a step runs: it makes hundreds of thousands of objects that all go
when it ends, and one pass of the collector over them takes 50 ms.
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
"""Seconds after which a step makes room for the event loop."""
_POOL = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-body")


async def aside(step: Callable[[], T]) -> T:
    """What `step` returns or raises. One that has begun is not interrupted by a cancellation."""
    return await asyncio.get_running_loop().run_in_executor(_POOL, _run, step)


async def completely(step: Callable[[], T]) -> T:
    """The same of a step whose effects are wanted also where the task is cancelled meanwhile: the
    cancellation waits for its end. A second one does not."""
    made = asyncio.ensure_future(aside(step))
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        await asyncio.wait((made,))
        if made.done() and not made.cancelled():
            made.exception()  # of no interest any more
        raise


def _run(step: Callable[[], T]) -> T:
    collecting, interval = gc.isenabled(), sys.getswitchinterval()
    gc.disable()
    sys.setswitchinterval(_TURN)
    try:
        return step()
    except BaseException as raised:
        traceback.clear_frames(raised.__traceback__)  # what they hold goes here, not in the loop
        raise
    finally:
        sys.setswitchinterval(interval)
        if collecting:
            gc.enable()
