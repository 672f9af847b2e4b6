"""Listen for the client while an app waits, without taking from the app what it has yet to read."""

import asyncio
from collections import deque
from collections.abc import Callable

from .asgi import Message, Receive
from .disconnects import hear

BOUND = 1 << 20
"""Bytes of a body that are read ahead; with more of it coming, a hang-up is not noticed."""


class ReadAhead:
    """A `receive` that has listened before the app does.

    Messages that came are given to the app, as they are and in order. A `receive` of the server
    that has begun is never cancelled to be begun anew, as what it was about to return might be
    lost: the app waits for the one under way.

    receive: the server's; nobody else may call it. gone: called once, when the client hangs up.
    bound: bytes of body kept at most, and the message that passes it.
    """

    __slots__ = ("_bound", "_gone", "_kept", "_on", "_receive", "_task")

    def __init__(self, receive: Receive, gone: Callable[[], None], *, bound: int = BOUND) -> None:
        self._receive = receive
        self._gone = gone
        self._bound = bound
        self._kept: deque[Message] = deque()
        self._on = True
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        held = 0
        while self._on:
            message = await hear(self._receive)
            self._kept.append(message)
            if message["type"] == "http.disconnect":
                return self._gone()
            held += len(message.get("body", b""))
            if held > self._bound:
                return

    def enough(self) -> None:
        """From now on the app listens. What is under way is still taken."""
        self._on = False

    def close(self) -> None:
        """Nobody listens any more."""
        task, self._task = self._task, None
        if task is None:
            return
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # nobody wants to hear of it

    async def __call__(self) -> Message:
        if self._kept:
            return self._kept.popleft()
        task = self._task
        if task is None:
            return await self._receive()
        if not task.done():
            await asyncio.wait((task,))  # who cancels this does not cancel the task
            if self._kept:
                return self._kept.popleft()
        self._task = None
        task.result()
        return await self._receive()
