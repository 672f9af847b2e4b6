"""Slots that owners take in turn, with a bounded queue."""

import asyncio
from collections import deque

Waiter = asyncio.Future[None]


class QueueFull(Exception):
    """As many wait as may wait."""


class Turns:
    """`slots` slots. Each owner has a queue of its own; a free slot goes to the owner that has
    waited longest for one, so an owner with many waiting does not delay the others.

    waiting: most waiters. per_owner: most waiters of one owner.
    """

    def __init__(self, slots: int, *, waiting: int, per_owner: int) -> None:
        if min(slots, waiting, per_owner) < 1:
            raise ValueError("slots, waiting and per_owner: expected at least 1")
        self._free = slots
        self._most = waiting
        self._per_owner = per_owner
        self._queues: dict[str, deque[Waiter]] = {}
        """By owner, in the order of their turns. No queue is empty."""
        self.waiting = 0

    async def take(self, owner: str) -> None:
        """Wait for a slot; the caller must `give` it back. Raises QueueFull."""
        if self._free and not self.waiting:
            self._free -= 1
            return
        queue = self._queues.get(owner)
        if self.waiting >= self._most or (queue is not None and len(queue) >= self._per_owner):
            raise QueueFull
        turn: Waiter = asyncio.get_running_loop().create_future()
        if queue is None:
            queue = self._queues[owner] = deque()
        queue.append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._leave(owner, turn)
            else:  # it has a slot already
                self.give()
            raise

    def give(self) -> None:
        """Give a slot back, or to the next waiter. Never waits."""
        if not self._queues:
            self._free += 1
            return
        owner = next(iter(self._queues))
        queue = self._queues.pop(owner)
        turn = queue.popleft()
        if queue:
            self._queues[owner] = queue  # behind the others
        self.waiting -= 1
        turn.set_result(None)

    def _leave(self, owner: str, turn: Waiter) -> None:
        queue = self._queues[owner]
        queue.remove(turn)
        self.waiting -= 1
        if not queue:
            del self._queues[owner]
