"""Memory of unstreamed answers: large ones are read one at a time, and sent within a bound.

Theory of operation. The embeddings of ten thousand short texts take a hundred megabytes, so a
caller can request many large answers at once and not read them. Therefore:

    small     up to `FREE` bytes: not counted
    large     one at a time is read and translated (the turn); the others wait, and their sockets
              are not read. It is sent in pieces and counted until the last one is taken. The turn
              ends when sending begins
    no room   a large answer waits for those being sent. One whose client takes nothing, or too
              little, is cut, but only while another waits

Steps on large answers are done in a thread (`edge.runtime.worker_thread`).
"""

import asyncio

from middlewares.asgi import Send
from middlewares.shared import Shared

FREE = 1 << 20
"""Bytes up to which an answer is small."""
LARGE = 256 << 10
"""Bytes from which on an answer is translated in a thread."""
MAX_ANSWER = 32 << 20
"""Bytes of an unstreamed answer."""
MAX_VECTORS = 64 << 20
"""Bytes of the same at /v1/embeddings."""
LEAST_TAKEN = 256 << 10
"""Bytes a second at which a client must take a large answer while others wait for its room."""
STALLED = 5.0
"""Seconds in which it may take nothing meanwhile."""
_PIECE_BYTES = 256 << 10
_CHECK_SECONDS = 0.5
"""Seconds between two checks for slow clients, while an answer waits for room."""


class AnswerMemory(Shared):
    """The large answers of one worker. most: bytes of those that are being sent, together with the
    one that is read."""

    def __init__(self, most: int = MAX_VECTORS) -> None:
        self._most = most
        self._turn = asyncio.Lock()
        self._reading: HeldAnswer | None = None
        self._sending: dict[HeldAnswer, None] = {}

    @property
    def held(self) -> int:
        """Bytes that are being sent."""
        return sum(held.size for held in self._sending)

    async def _enter(self, held: "HeldAnswer") -> None:
        await self._turn.acquire()
        self._reading = held

    async def _wait_for_room(self, size: int) -> None:
        while self._sending and self.held + size > self._most:
            now = asyncio.get_running_loop().time()
            for sending in list(self._sending):
                if sending.is_slow(now):
                    sending.cut()
            await asyncio.sleep(_CHECK_SECONDS)

    def _leave(self, held: "HeldAnswer") -> None:
        if self._reading is held:
            self._reading = None
            self._turn.release()


ANSWER_MEMORY = AnswerMemory()
"""The memory of this process."""


class HeldAnswer:
    """One answer, from its first byte until its client has it. Close it then."""

    _task: asyncio.Task[object] | None = None
    _began = _moved = 0.0
    _cut = False
    size = 0
    """Bytes; 0 for a small answer."""

    def __init__(self, memory: AnswerMemory = ANSWER_MEMORY) -> None:
        self._memory = memory

    def close(self) -> None:
        """Release its memory."""
        if self.size:
            self._memory._leave(self)
            self._memory._sending.pop(self, None)

    async def grow(self, size: int) -> None:
        """Note that `size` bytes have come (see `read_all`). A large answer waits for its turn and
        room."""
        if size <= FREE:
            return
        if not self.size:
            await self._memory._enter(self)
        self.size = size
        await self._memory._wait_for_room(size)

    async def send(self, send: Send, body: bytes) -> bool:
        """Send a large `body` after its start. Returns whether all of it was sent."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self.size = len(body)
        self._began = self._moved = loop.time()
        self._memory._sending[self] = None
        self._memory._leave(self)
        try:
            view = memoryview(body)
            for at in range(0, len(body), _PIECE_BYTES):
                piece = bytes(view[at : at + _PIECE_BYTES])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                self._moved = loop.time()
            await send({"type": "http.response.body", "body": b""})
        except asyncio.CancelledError:
            if not self._cut or self._task is None or self._task.uncancel():
                raise
            return False  # the server closes the connection, since bytes are missing
        finally:
            self._task = None
        return True

    def is_slow(self, now: float) -> bool:
        """Whether its client takes too little. now: time of the event loop."""
        due = self._began + STALLED + self.size / LEAST_TAKEN
        return now > min(due, self._moved + STALLED)

    def cut(self) -> None:
        """Cancel the sending."""
        if self._task is not None and not self._cut:
            self._cut = True
            self._task.cancel()
