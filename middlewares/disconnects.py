"""Hear of a client also when the server that would tell has ended.

Theory of operation. Granian's thread ends as soon as its last connection has. A `receive` that is
asked after that never returns, nor does one that waits in that moment and has no turn any more: of
400 clients that leave together, 370 were not noticed, nor was one that left before anybody had
asked. Lifespan shutdown comes when no connection is left. Whoever listens by `hear` then, or later,
is told that its client has left. Only waits for a hang-up are such: an ordinary request pays
nothing.
"""

import asyncio
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .asgi import Message, Receive


class _Ears:
    """Who listens in one event loop. over: whether no connection is left; ended: who was told."""

    def __init__(self) -> None:
        self.over = False
        self.listening: set[asyncio.Task[object]] = set()
        self.ended: set[asyncio.Task[object]] = set()


_ears: dict[asyncio.AbstractEventLoop, _Ears] = {}
_apart: ContextVar[bool] = ContextVar("apart", default=False)


def listen_apart() -> None:
    """This task, and those it starts, have a `receive` that no server's end concerns."""
    _apart.set(True)


async def hear(receive: Receive) -> Message:
    """The next message of `receive`, or a disconnect when no connection is left."""
    loop = asyncio.get_running_loop()
    ears = _ears.get(loop) or _new(loop)
    task = asyncio.current_task()
    if task is None or _apart.get():
        return await receive()
    if ears.over:
        return {"type": "http.disconnect"}
    ears.listening.add(task)
    try:
        return await receive()
    except asyncio.CancelledError:
        if task not in ears.ended or task.uncancel():  # others have cancelled it
            raise
        return {"type": "http.disconnect"}
    finally:
        ears.listening.discard(task)
        ears.ended.discard(task)
        del task  # it refers to how it ended, and that to this frame


def over(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether the server of this loop has no connection left."""
    ears = _ears.get(loop)
    return ears is not None and ears.over


@contextmanager
def no_connections() -> Iterator[None]:
    """Within, whoever listens in the running loop hears that its client has left."""
    loop = asyncio.get_running_loop()
    ears = _ears.get(loop) or _new(loop)
    ears.over = True
    ears.ended |= ears.listening
    for task in ears.listening:
        task.cancel()
    try:
        yield
    finally:
        ears.over = False


def drop_closed(kept: MutableMapping[asyncio.AbstractEventLoop, Any]) -> None:
    """Forget what is kept of event loops that are closed."""
    for closed in [loop for loop in kept if loop.is_closed()]:
        del kept[closed]


def _new(loop: asyncio.AbstractEventLoop) -> _Ears:
    drop_closed(_ears)
    _ears[loop] = ears = _Ears()
    return ears
