"""The line in which requests wait for their turn, when a rate lets them wait.

Theory of operation. Requests of one principal wait in a queue of their own, first come first
served, and only the first of a queue asks the counters: when the last answer said that it may be
different, and at once when the one before it was let through. What is due is asked in the order it
fell due, so of many principals each gets its turn in rotation, however long the queue of one is.

    join        a place at the end of the principal's queue, or `QueueFull`
    turn        waits until the counters let the place's owner through; raises `QueueFull`,
    `ClientDisconnected` leave       the client has hung up
    freed       a slot was given back in this process: whoever waits for one asks at once

One loop timer serves the whole line; a request that waits costs a future and no task. A request
asks in its own task, so that whoever cancels it cancels all there is of it.

What bounds the line: places of one principal, places in total, bytes of bodies held, and time. Who
would wait too long, by what waits before it, is told at once. Where the line is full in total, the
principal that fills it most gives way, from the end of its queue, so that nobody is kept out by
somebody greedy.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush

from middlewares.shared import Shared
from middlewares.stores.counters.base import Check, Verdict

_GRAIN = 0.001
"""Seconds; timers of event loops are no finer."""
_LOOK = 1.0
"""Seconds after which one who waits for a slot asks again, as another process may have freed it."""
_SLACK = 64
"""Entries of the timetable that may be out of date before it is made anew."""

Ask = Callable[[], Awaitable[Verdict]]


class QueueFull(Exception):
    """No place in the line, or its end was not reached in time.

    wait: seconds after which it should work. verdict: the last that the principal got, if any.
    """

    def __init__(self, wait: float, verdict: Verdict | None) -> None:
        super().__init__(f"{wait:.3f} s")
        self.wait = wait
        self.verdict = verdict


class ClientDisconnected(Exception):
    """The client hung up while it waited."""


class _Queue:
    """Those of one principal that wait.

    due: loop time at which its first asks. free: loop time at which its first should be through.
    entry: number of its valid entry in the timetable; 0 while its first is asking.
    costs: of all in it, by name of the rate.
    """

    __slots__ = ("costs", "due", "entry", "free", "places", "size", "verdict", "who")

    def __init__(self, who: str, verdict: Verdict | None, now: float) -> None:
        self.who = who
        self.places: deque[QueueEntry] = deque()
        self.costs: dict[str, int] = {}
        self.size = 0
        self.entry = 0
        self.told(verdict, now)

    def add(self, place: "QueueEntry") -> None:
        self.places.append(place)
        self.size += place.size
        for check in place.checks:
            self.costs[check.name] = self.costs.get(check.name, 0) + check.cost

    def remove(self, place: "QueueEntry") -> None:
        self.places.remove(place)
        self.size -= place.size
        for check in place.checks:
            self.costs[check.name] -= check.cost

    def told(self, verdict: Verdict | None, now: float, *, again: bool = False) -> None:
        """An answer of the counters. again: it is out of date already."""
        self.verdict = verdict
        wait = 0.0 if verdict is None else _pause(verdict)
        self.free = now + wait
        self.due = now if again or verdict is None else now + wait + _GRAIN

    def predict(self, checks: Sequence[Check], now: float) -> float:
        """Seconds until one with these checks would be through, if it joined now."""
        longest = 0.0
        if self.places:
            first = {check.name: check.cost for check in self.places[0].checks}
            for check in checks:
                name, rate = check.name, check.rate
                cost = check.cost + self.costs.get(name, 0) - first.get(name, 0)
                longest = max(longest, cost * rate.seconds / rate.count)
        return max(0.0, self.free - now) + longest


class QueueEntry:
    """One request in the line. `left`: whether its client has hung up."""

    __slots__ = (
        "_asking",
        "_future",
        "_line",
        "_queue",
        "_refused",
        "_until",
        "checks",
        "left",
        "size",
    )

    def __init__(
        self, line: "ThrottleQueue", queue: _Queue, checks: Sequence[Check], size: int, until: float
    ) -> None:
        self.checks = checks
        self.size = size
        self.left = False
        self._line = line
        self._queue: _Queue | None = queue
        self._until = until
        self._asking = False
        self._refused: QueueFull | None = None
        self._future: asyncio.Future[None] | None = None

    async def turn(self, ask: Ask) -> Verdict:
        """Wait, and ask the counters with `ask`, until they let it through.

        Raises Full when that takes too long or the place had to be given up, Left, and what `ask`
        raises. The client may have left during the last question: then `left` is true.
        """
        line = self._line
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not (self._asking or self.left or self._refused):
                    self._future = loop.create_future()
                    await self._future
                if self.left:
                    raise ClientDisconnected
                if self._refused is not None:
                    raise self._refused
                since = line.releases
                verdict = await ask()
                if verdict.admitted:
                    return verdict
                line._again(self, verdict, since)
        finally:
            self._refused = None  # its traceback refers to this
            self.close()

    def leave(self) -> None:
        """The client has hung up."""
        self.left = True
        if not self._asking:
            self.close()  # the next one moves up now, not when this task runs
        self._wake()

    def close(self) -> None:
        """Give the place up. Idempotent."""
        if self._queue is not None:
            self._line._remove(self)

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class ThrottleQueue(Shared):
    """A line that several limiters may share.

    each: places of one principal. total: places. size: bytes of bodies that those in the line
    hold. patience: seconds that anybody waits at most.
    """

    __slots__ = (
        "_bytes",
        "_each",
        "_entries",
        "_patience",
        "_places",
        "_queues",
        "_size",
        "_timer",
        "_timetable",
        "_total",
        "releases",
    )

    def __init__(
        self,
        *,
        each: int = 100,
        total: int = 1000,
        size: int = 256 << 20,
        patience: float = 30.0,
    ) -> None:
        bounds = {"each": each, "total": total, "size": size, "patience": patience}
        for name, bound in bounds.items():
            if not bound > 0:
                raise ValueError(f"{name} {bound!r}: expected more than 0")
        self._each = each
        self._total = total
        self._size = size
        self._patience = patience
        self._queues: dict[str, _Queue] = {}
        self._places = 0
        self._bytes = 0
        self._timetable: list[tuple[float, int, _Queue]] = []
        self._entries = 0
        self._timer: asyncio.TimerHandle | None = None
        self.releases = 0
        """How often `freed` was called; see `join`."""

    def __len__(self) -> int:
        return self._places

    @property
    def size(self) -> int:
        """Bytes of bodies that those in the line hold."""
        return self._bytes

    def waits(self, who: str) -> bool:
        """Whether requests of this principal wait; another has to join them without asking."""
        return who in self._queues

    def join(
        self,
        who: str,
        checks: Sequence[Check],
        *,
        size: int = 0,
        verdict: Verdict | None = None,
        since: int = -1,
    ) -> QueueEntry:
        """A place in the line. Its `turn` must be awaited, or its `close` called.

        size: bytes that it holds while it waits. verdict: what the counters have told it, if it
        has asked, and `since` what `releases` was before it did. Raises Full.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        queue = self._queues.get(who)
        new = queue is None
        if queue is None:
            queue = _Queue(who, verdict, now)
            if _lacks_a_slot(verdict) and since not in (-1, self.releases):
                queue.due = now
        wait = queue.predict(checks, now)
        if (
            wait > self._patience
            or len(queue.places) >= self._each
            or not self._make_room(queue, size)
        ):
            raise QueueFull(wait, verdict or queue.verdict)
        place = QueueEntry(self, queue, checks, size, now + self._patience)
        queue.add(place)
        self._places += 1
        self._bytes += size
        if new:
            self._queues[who] = queue
            self._schedule(queue)
        return place

    def freed(self, who: str) -> None:
        """A slot of this principal was given back."""
        self.releases += 1
        queue = self._queues.get(who)
        if queue is not None and queue.entry and _lacks_a_slot(queue.verdict):
            self._call(queue)

    def _make_room(self, queue: _Queue, size: int) -> bool:
        """Have others give way until there is room, if they have more of it than `queue`."""
        if size > self._size:
            return False
        while self._places >= self._total:
            most = max(self._queues.values(), key=_places_of)
            if len(most.places) <= len(queue.places) + 1 or not self._give_way(most):
                return False
        while self._bytes + size > self._size:
            most = max(self._queues.values(), key=_bytes_of)
            if most.size <= queue.size + size or not self._give_way(most):
                return False
        return True

    def _give_way(self, queue: _Queue) -> bool:
        place = queue.places[-1]
        if place._asking:
            return False
        self._refuse(place, queue)
        return True

    def _refuse(self, place: QueueEntry, queue: _Queue) -> None:
        place.close()
        wait = queue.predict(place.checks, asyncio.get_running_loop().time())
        place._refused = QueueFull(wait, queue.verdict)
        place._wake()

    def _again(self, place: QueueEntry, verdict: Verdict, since: int) -> None:
        """The first of a queue has asked, and must wait on."""
        place._asking = False
        queue = place._queue
        if queue is not None:
            again = _lacks_a_slot(verdict) and since != self.releases
            queue.told(verdict, asyncio.get_running_loop().time(), again=again)
            self._schedule(queue)

    def _remove(self, place: QueueEntry) -> None:
        queue = place._queue
        if queue is None:
            return
        place._queue = None
        queue.remove(place)
        self._places -= 1
        self._bytes -= place.size
        if not queue.places:
            del self._queues[queue.who]
            queue.entry = 0
            if not self._queues:
                self._stop()
        elif place._asking:
            now = asyncio.get_running_loop().time()
            queue.due = now  # only asking tells when
            queue.free = now + max(map(_spacing, queue.places[0].checks), default=0.0)
            self._schedule(queue)

    def _schedule(self, queue: _Queue) -> None:
        """Put the first of a queue on the timetable."""
        self._entries += 1
        queue.entry = self._entries
        table = self._timetable
        if len(table) > 2 * len(self._queues) + _SLACK:
            table[:] = [entry for entry in table if entry[1] == entry[2].entry]
            heapify(table)
        heappush(table, (min(queue.due, queue.places[0]._until), queue.entry, queue))
        self._arm()

    def _arm(self) -> None:
        due = self._timetable[0][0]
        timer = self._timer
        if timer is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _stop(self) -> None:
        self._timetable.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        table = self._timetable
        now = asyncio.get_running_loop().time() + _GRAIN
        while table and table[0][0] <= now:
            _, entry, queue = heappop(table)
            if entry != queue.entry:
                continue
            first = queue.places[0]
            if queue.due <= now:
                self._call(queue)
            elif first._until <= now:
                self._refuse(first, queue)
                if queue.places:
                    self._schedule(queue)
            else:
                self._schedule(queue)
        if table:
            self._arm()

    @staticmethod
    def _call(queue: _Queue) -> None:
        """It is the turn of the first of a queue."""
        queue.entry = 0
        first = queue.places[0]
        first._asking = True
        first._wake()


def _pause(verdict: Verdict) -> float:
    return min(verdict.wait, _LOOK) if _lacks_a_slot(verdict) else verdict.wait


def _lacks_a_slot(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.lacking == "concurrency"


def _spacing(check: Check) -> float:
    return check.cost * check.rate.seconds / check.rate.count


def _places_of(queue: _Queue) -> int:
    return len(queue.places)


def _bytes_of(queue: _Queue) -> int:
    return queue.size
