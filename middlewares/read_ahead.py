"""Watch for a disconnect while an app waits, and keep the messages for the app."""

import asyncio
from collections import deque
from collections.abc import Callable

from .asgi import Message, Receive
from .disconnects import receive_or_disconnect

BOUND = 1 << 20
"""Bytes of a body that are read ahead; beyond them a disconnect is not noticed."""


class ReadAhead:
    """A `receive` that reads ahead until `stop`.

    The app gets the messages unchanged and in order. A `receive` of the server that has begun is
    never cancelled, since its message could be lost: the app waits for the one under way.

    receive: the server's; only this object may call it. disconnected: called once, when the client
    disconnects. bound: bytes of body kept at most, plus the message that exceeds it.
    """

    __slots__ = ("_bound", "_disconnected", "_kept", "_on", "_receive", "_task")

    def __init__(
        self, receive: Receive, disconnected: Callable[[], None], *, bound: int = BOUND
    ) -> None:
        self._receive = receive
        self._disconnected = disconnected
        self._bound = bound
        self._kept: deque[Message] = deque()
        self._on = True
        self._task: asyncio.Task[None] | None = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        held = 0
        while self._on:
            message = await receive_or_disconnect(self._receive)
            self._kept.append(message)
            if message["type"] == "http.disconnect":
                return self._disconnected()
            held += len(message.get("body", b""))
            if held > self._bound:
                return

    def stop(self) -> None:
        """Let the app read on; a message under way is still kept for it."""
        self._on = False

    def close(self) -> None:
        """Stop listening."""
        task, self._task = self._task, None
        if task is None:
            return
        if not task.done():
            task.cancel()
        elif not task.cancelled():
            task.exception()  # mark it as retrieved

    async def __call__(self) -> Message:
        if self._kept:
            return self._kept.popleft()
        task = self._task
        if task is None:
            return await self._receive()
        if not task.done():
            await asyncio.wait((task,))  # `wait` does not cancel the task
            if self._kept:
                return self._kept.popleft()
        self._task = None
        task.result()
        return await self._receive()
