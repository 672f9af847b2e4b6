"""What a request hears of its client when the server has ended its connections.

Theory of operation. Granian's thread ends as soon as its last connection has. A `receive` that is
asked after that never returns, nor does one that waits in that moment and has no turn any more; so
a client that left within the first tick of `edge.watch`, or among hundreds, was waited for until
the drain ended. Lifespan shutdown comes when no connection is left: whoever still listens then, and
whoever asks later, is told that its client has left.
"""

import asyncio

from middlewares._asgi import Message, Receive


class Hearing:
    """The `receive` of one request. Nobody may ask while another waits, as servers want it.

    over: whether the server had ended its connections before.
    """

    __slots__ = ("_over", "_receive", "_waiting")

    def __init__(self, receive: Receive, *, over: bool = False) -> None:
        self._receive = receive
        self._over = over
        self._waiting: asyncio.Task[object] | None = None

    async def __call__(self) -> Message:
        if self._over:
            return {"type": "http.disconnect"}
        self._waiting = task = asyncio.current_task()
        try:
            return await self._receive()
        except asyncio.CancelledError:
            if not self._ended(task):
                raise
            return {"type": "http.disconnect"}
        finally:
            if self._waiting is task:
                self._waiting = None

    def _ended(self, task: asyncio.Task[object] | None) -> bool:
        """Whether `end` has cancelled this task, and nobody else."""
        ours = self._over and task is not None and self._waiting is task
        return ours and task is not None and task.uncancel() == 0

    def end(self) -> None:
        """No connection is left."""
        if self._over:
            return
        self._over = True
        if self._waiting is not None:
            self._waiting.cancel()
