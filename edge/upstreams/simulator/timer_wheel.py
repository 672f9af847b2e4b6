"""Timer wheel: one loop timer for any number of schedules.

Theory of operation. Time is divided into ticks. An item is put in the bucket of the tick at or
after its due time. A heap holds the ticks that have a bucket, and the event loop holds one timer,
for the first of them. A turn calls all buckets that are due. A thousand streams with an event each
20 ms cost at most one wake-up per tick, and per event a list append and a call.
"""

import asyncio
from heapq import heappop, heappush
from typing import Protocol

TICK = 0.002
"""Seconds."""

_NEVER = 1 << 62


class Scheduled(Protocol):
    """An item that is called at its due time."""

    def due(self, now: float) -> float:
        """Run what is due at loop time `now`; returns the next due time, 0 for none."""
        ...


class TimerWheel:
    """Calls `Scheduled`s at or up to one tick after the loop time they ask for."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, list[Scheduled]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._armed = _NEVER  # the tick the timer stands for; 0 while a turn is running

    def add(self, item: Scheduled, when: float) -> None:
        """Call `item` at loop time `when`."""
        tick = -int(-when // TICK)
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.append(item)
            return
        self._buckets[tick] = [item]
        heappush(self._ticks, tick)
        if tick < self._armed:
            self._arm(tick)

    def remove(self, item: Scheduled, when: float) -> None:
        """Cancel `add(item, when)` if it was not called yet."""
        bucket = self._buckets.get(-int(-when // TICK))
        if bucket is not None and item in bucket:
            bucket.remove(item)

    def close(self) -> None:
        """Cancel all calls."""
        self._buckets.clear()
        self._ticks.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self, tick: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed = tick
        self._timer = self._loop.call_at(tick * TICK, self._turn)

    def _turn(self) -> None:
        now = self._loop.time()
        # A loop's timer may be early by its resolution, uvloop's clock counts milliseconds.
        last = max(self._armed, int(now / TICK))
        now = max(now, last * TICK)
        ticks, buckets = self._ticks, self._buckets
        self._armed = 0
        while ticks and ticks[0] <= last:
            for item in buckets.pop(heappop(ticks)):
                again = item.due(now)
                if again:
                    self.add(item, max(again, now + TICK / 2))
        self._armed = _NEVER
        if ticks:
            self._arm(ticks[0])
