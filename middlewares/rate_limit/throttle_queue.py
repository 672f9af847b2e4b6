"""Queue of throttled requests, fair between principals.

Theory of operation. Each subject (usually a principal) has a first-in, first-out queue, and only
its first request asks the counters: when the last verdict said that it may succeed, and at once
after the request before it was admitted. Requests that are due ask in the order they became due, so
subjects take turns, however long the queue of one is.

    join            an entry at the end of the subject's queue, or `QueueFull`
    wait_turn       waits until the counters admit the entry; raises `QueueFull`,
                    `ClientDisconnected`
    disconnect      the client of an entry has disconnected
    slot_released   a slot was released in this process: a request that lacks one asks at once

One loop timer serves all queues; a waiting request costs a future and no task. A request asks in
its own task, so cancelling that task cancels all of it.

Bounds: entries of one subject, entries in total, bytes of bodies held, and time. A request that
would wait too long, by what waits before it, is refused at once. When the total is reached, the
last entry of the longest queue is refused in favour of a shorter one, so that one greedy subject
does not shut out the others.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush

from middlewares.disconnects import ClientDisconnected
from middlewares.shared import Shared
from middlewares.stores.counters.base import Check, Verdict

_GRAIN = 0.001
"""Seconds; timers of event loops are no finer."""
_POLL = 1.0
"""Seconds between two questions for a slot: other processes release slots too."""
_SLACK = 64
"""Stale tickets that the timetable may hold before it is rebuilt."""

Ask = Callable[[], Awaitable[Verdict]]


class QueueFull(Exception):
    """The queue is full, or the wait would be too long.

    wait: seconds after which to try again. verdict: the last one of the subject, if any.
    """

    def __init__(self, wait: float, verdict: Verdict | None) -> None:
        super().__init__(f"{wait:.3f} s")
        self.wait = wait
        self.verdict = verdict


class _Queue:
    """Waiting requests of one subject.

    due: loop time at which its first asks. expected: loop time at which its first should be
    admitted. ticket: its valid ticket in the timetable; 0 while its first is asking.
    costs: sum over all entries, by name of the rate.
    """

    __slots__ = ("costs", "due", "entries", "expected", "size", "subject", "ticket", "verdict")

    def __init__(self, subject: str, verdict: Verdict | None, now: float) -> None:
        self.subject = subject
        self.entries: deque[QueueEntry] = deque()
        self.costs: dict[str, int] = {}
        self.size = 0
        self.ticket = 0
        self.update(verdict, now)

    def add(self, entry: "QueueEntry") -> None:
        self.entries.append(entry)
        self.size += entry.size
        for check in entry.checks:
            self.costs[check.name] = self.costs.get(check.name, 0) + check.cost

    def remove(self, entry: "QueueEntry") -> None:
        self.entries.remove(entry)
        self.size -= entry.size
        for check in entry.checks:
            self.costs[check.name] -= check.cost

    def update(self, verdict: Verdict | None, now: float, *, again: bool = False) -> None:
        """Take a verdict of the counters. again: it is out of date already."""
        self.verdict = verdict
        wait = 0.0 if verdict is None else _wait_of(verdict)
        self.expected = now + wait
        self.due = now if again or verdict is None else now + wait + _GRAIN

    def predict(self, checks: Sequence[Check], now: float) -> float:
        """Seconds until a request with these checks would be admitted, if it joined now."""
        longest = 0.0
        if self.entries:
            first = {check.name: check.cost for check in self.entries[0].checks}
            for check in checks:
                name, rate = check.name, check.rate
                cost = check.cost + self.costs.get(name, 0) - first.get(name, 0)
                longest = max(longest, cost * rate.seconds / rate.count)
        return max(0.0, self.expected - now) + longest


class QueueEntry:
    """One waiting request. disconnected: whether its client has disconnected."""

    __slots__ = (
        "_asking",
        "_future",
        "_queue",
        "_refused",
        "_throttle",
        "_until",
        "checks",
        "disconnected",
        "size",
    )

    def __init__(
        self,
        throttle: "ThrottleQueue",
        queue: _Queue,
        checks: Sequence[Check],
        size: int,
        until: float,
    ) -> None:
        self.checks = checks
        self.size = size
        self.disconnected = False
        self._throttle = throttle
        self._queue: _Queue | None = queue
        self._until = until
        self._asking = False
        self._refused: QueueFull | None = None
        self._future: asyncio.Future[None] | None = None

    async def wait_turn(self, ask: Ask) -> Verdict:
        """Wait and ask the counters with `ask` until they admit the request.

        Raises QueueFull when that takes too long or the entry was refused in favour of another,
        ClientDisconnected, and what `ask` raises. If the client disconnected during the last
        question, it returns and `disconnected` is true.
        """
        throttle = self._throttle
        loop = asyncio.get_running_loop()
        try:
            while True:
                while not (self._asking or self.disconnected or self._refused):
                    self._future = loop.create_future()
                    await self._future
                if self.disconnected:
                    raise ClientDisconnected
                if self._refused is not None:
                    raise self._refused
                since = throttle.releases
                verdict = await ask()
                if verdict.admitted:
                    return verdict
                throttle._requeue(self, verdict, since)
        finally:
            self._refused = None  # its traceback refers to this
            self.close()

    def disconnect(self) -> None:
        """Record that the client disconnected."""
        self.disconnected = True
        if not self._asking:
            self.close()  # the next entry moves up now, not when this task runs
        self._wake()

    def close(self) -> None:
        """Leave the queue. Idempotent."""
        if self._queue is not None:
            self._throttle._remove(self)

    def _wake(self) -> None:
        if self._future is not None and not self._future.done():
            self._future.set_result(None)


class ThrottleQueue(Shared):
    """Queue of throttled requests that several limiters may share.

    max_per_subject: entries of one subject. max_total: all entries. max_bytes: bodies held by
    waiting requests. max_wait: seconds.
    """

    __slots__ = (
        "_bytes",
        "_count",
        "_max_bytes",
        "_max_per_subject",
        "_max_total",
        "_max_wait",
        "_queues",
        "_tickets",
        "_timer",
        "_timetable",
        "releases",
    )

    def __init__(
        self,
        *,
        max_per_subject: int = 100,
        max_total: int = 1000,
        max_bytes: int = 256 << 20,
        max_wait: float = 30.0,
    ) -> None:
        bounds = {
            "max_per_subject": max_per_subject,
            "max_total": max_total,
            "max_bytes": max_bytes,
            "max_wait": max_wait,
        }
        for name, bound in bounds.items():
            if not bound > 0:
                raise ValueError(f"{name} {bound!r}: expected more than 0")
        self._max_per_subject = max_per_subject
        self._max_total = max_total
        self._max_bytes = max_bytes
        self._max_wait = max_wait
        self._queues: dict[str, _Queue] = {}
        self._count = 0
        self._bytes = 0
        self._timetable: list[tuple[float, int, _Queue]] = []
        self._tickets = 0
        self._timer: asyncio.TimerHandle | None = None
        self.releases = 0
        """Calls of `slot_released`; see `join`."""

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Bytes of bodies that waiting requests hold."""
        return self._bytes

    def has_waiting(self, subject: str) -> bool:
        """Whether requests of this subject wait; a new one must join them without asking."""
        return subject in self._queues

    def join(
        self,
        subject: str,
        checks: Sequence[Check],
        *,
        size: int = 0,
        verdict: Verdict | None = None,
        since: int = -1,
    ) -> QueueEntry:
        """Add an entry. Its `wait_turn` must be awaited, or its `close` called.

        size: bytes that it holds while it waits. verdict: the answer of the counters if the request
        has asked, and `since` the value of `releases` before that. Raises QueueFull.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        queue = self._queues.get(subject)
        new = queue is None
        if queue is None:
            queue = _Queue(subject, verdict, now)
            if _lacks_a_slot(verdict) and since not in (-1, self.releases):
                queue.due = now
        wait = queue.predict(checks, now)
        if (
            wait > self._max_wait
            or len(queue.entries) >= self._max_per_subject
            or not self._make_room(queue, size)
        ):
            raise QueueFull(wait, verdict or queue.verdict)
        entry = QueueEntry(self, queue, checks, size, now + self._max_wait)
        queue.add(entry)
        self._count += 1
        self._bytes += size
        if new:
            self._queues[subject] = queue
            self._schedule(queue)
        return entry

    def slot_released(self, subject: str) -> None:
        """Record that a slot of this subject was released."""
        self.releases += 1
        queue = self._queues.get(subject)
        if queue is not None and queue.ticket and _lacks_a_slot(queue.verdict):
            self._wake_first(queue)

    def _make_room(self, queue: _Queue, size: int) -> bool:
        """Refuse entries of longer queues until there is room; False if there is none."""
        if size > self._max_bytes:
            return False
        while self._count >= self._max_total:
            most = max(self._queues.values(), key=_count_of)
            if len(most.entries) <= len(queue.entries) + 1 or not self._refuse_last(most):
                return False
        while self._bytes + size > self._max_bytes:
            most = max(self._queues.values(), key=_bytes_of)
            if most.size <= queue.size + size or not self._refuse_last(most):
                return False
        return True

    def _refuse_last(self, queue: _Queue) -> bool:
        entry = queue.entries[-1]
        if entry._asking:
            return False
        self._refuse(entry, queue)
        return True

    def _refuse(self, entry: QueueEntry, queue: _Queue) -> None:
        entry.close()
        wait = queue.predict(entry.checks, asyncio.get_running_loop().time())
        entry._refused = QueueFull(wait, queue.verdict)
        entry._wake()

    def _requeue(self, entry: QueueEntry, verdict: Verdict, since: int) -> None:
        """Schedule the first of a queue again after it asked in vain."""
        entry._asking = False
        queue = entry._queue
        if queue is not None:
            again = _lacks_a_slot(verdict) and since != self.releases
            queue.update(verdict, asyncio.get_running_loop().time(), again=again)
            self._schedule(queue)

    def _remove(self, entry: QueueEntry) -> None:
        queue = entry._queue
        if queue is None:
            return
        entry._queue = None
        queue.remove(entry)
        self._count -= 1
        self._bytes -= entry.size
        if not queue.entries:
            del self._queues[queue.subject]
            queue.ticket = 0
            if not self._queues:
                self._stop()
        elif entry._asking:
            now = asyncio.get_running_loop().time()
            queue.due = now  # only the counters know when
            queue.expected = now + max(map(_spacing, queue.entries[0].checks), default=0.0)
            self._schedule(queue)

    def _schedule(self, queue: _Queue) -> None:
        """Put the first entry of a queue on the timetable."""
        self._tickets += 1
        queue.ticket = self._tickets
        table = self._timetable
        if len(table) > 2 * len(self._queues) + _SLACK:
            table[:] = [ticket for ticket in table if ticket[1] == ticket[2].ticket]
            heapify(table)
        heappush(table, (min(queue.due, queue.entries[0]._until), queue.ticket, queue))
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
            _, ticket, queue = heappop(table)
            if ticket != queue.ticket:
                continue
            first = queue.entries[0]
            if queue.due <= now:
                self._wake_first(queue)
            elif first._until <= now:
                self._refuse(first, queue)
                if queue.entries:
                    self._schedule(queue)
            else:
                self._schedule(queue)
        if table:
            self._arm()

    @staticmethod
    def _wake_first(queue: _Queue) -> None:
        """Let the first entry of a queue ask."""
        queue.ticket = 0
        first = queue.entries[0]
        first._asking = True
        first._wake()


def _wait_of(verdict: Verdict) -> float:
    return min(verdict.wait, _POLL) if _lacks_a_slot(verdict) else verdict.wait


def _lacks_a_slot(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.lacking == "concurrency"


def _spacing(check: Check) -> float:
    return check.cost * check.rate.seconds / check.rate.count


def _count_of(queue: _Queue) -> int:
    return len(queue.entries)


def _bytes_of(queue: _Queue) -> int:
    return queue.size
