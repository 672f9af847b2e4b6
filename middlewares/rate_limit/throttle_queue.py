"""Queue of throttled requests, fair between principals.

Theory of operation. Each subject (usually a principal) has a first-in, first-out queue, and only
its first request asks the counters: when the last verdict said that it may succeed, and at once
after the request before it was admitted. Requests that are due ask in the order they became due, so
subjects take turns, however long the queue of one is.

A queue whose first request lacks a limit of its team waits in the line of the team. Only the first
queue of a line asks. Once its request is admitted, it goes to the end of the line and the next one
asks at once: so the subjects of a team take turns too. A request that lacks a limit of its own
leaves the line, so that the others need not wait for it, and returns to the end of it.

    join            an entry at the end of the subject's queue, or `QueueFull`
    wait_turn       waits until the counters admit the entry; raises `QueueFull`,
                    `ClientDisconnected`
    disconnect      the client of an entry has disconnected
    slot_released   a slot of a subject, or of a team, was released in this process: a request that
                    lacks one asks at once

One loop timer serves all queues; a waiting request costs a future and no task. A request asks in
its own task, so cancelling that task cancels all of it.

Bounds: entries of one subject, entries in total, bytes of bodies held, and time. A request that
would wait too long, by what waits before it, is refused at once. When the total is reached, the
last entry of the longest queue is refused in favour of a shorter one, so that one greedy subject
does not shut out the others. The queues of a team count as one there, and its longest gives way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from middlewares.disconnects import ClientDisconnected
from middlewares.shared import Shared
from middlewares.stores.counters.base import Check, TeamClaim, Verdict

from .waiting import GRAIN, SubjectQueue, TeamLine, lacks_a_slot, seconds_for

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


class QueueEntry:
    """One waiting request.

    disconnected: whether its client has disconnected. until: loop time until which it waits.
    costs: what it takes of each rate, by its name. team: what it takes of its team's limits.
    """

    __slots__ = (
        "_asking",
        "_future",
        "_queue",
        "_refused",
        "_throttle",
        "checks",
        "costs",
        "disconnected",
        "size",
        "team",
        "until",
    )

    def __init__(
        self,
        throttle: "ThrottleQueue",
        queue: "_Queue",
        checks: Sequence[Check],
        team: TeamClaim | None,
        size: int,
        until: float,
    ) -> None:
        self.checks = checks
        self.team = team
        every = checks if team is None else (*checks, *team.checks)
        self.costs = {check.name: check.cost for check in every}
        self.size = size
        self.until = until
        self.disconnected = False
        self._throttle = throttle
        self._queue: _Queue | None = queue
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


_Queue: TypeAlias = SubjectQueue[QueueEntry]
_Line: TypeAlias = TeamLine[QueueEntry]


class ThrottleQueue(Shared):
    """Queue of throttled requests that several limiters may share.

    max_per_subject: entries of one subject. max_total: all entries. max_bytes: bodies held by
    waiting requests. max_wait: seconds.
    """

    __slots__ = (
        "_bytes",
        "_count",
        "_lines",
        "_max_bytes",
        "_max_per_subject",
        "_max_total",
        "_max_wait",
        "_queues",
        "_tickets",
        "_timer",
        "_timer_due",
        "_timetable",
        "refusals",
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
        self._lines: dict[str, _Line] = {}
        self._count = 0
        self._bytes = 0
        self._timetable: list[tuple[float, int, _Queue | _Line]] = []
        self._tickets = 0
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0
        self.releases = 0
        """Calls of `slot_released`; see `join`."""
        self.refusals = 0
        """Requests refused with `QueueFull`."""

    def __len__(self) -> int:
        return self._count

    @property
    def size(self) -> int:
        """Bytes of bodies that waiting requests hold."""
        return self._bytes

    def has_waiting(self, subject: str, team: str = "") -> bool:
        """Whether requests of this subject wait, or others wait for limits of its team; a new one
        must join them without asking."""
        if subject in self._queues:
            return True
        line = self._lines.get(team) if team else None
        return line is not None and bool(line.queues)

    def join(
        self,
        subject: str,
        checks: Sequence[Check],
        *,
        size: int = 0,
        verdict: Verdict | None = None,
        since: int = -1,
        team: TeamClaim | None = None,
    ) -> QueueEntry:
        """Add an entry. Its `wait_turn` must be awaited, or its `close` called.

        size: bytes that it holds while it waits. verdict: the answer of the counters if the request
        has asked, and `since` the value of `releases` before that. team: what it takes of its
        team's limits. Raises QueueFull.
        """
        now = asyncio.get_running_loop().time()
        queue = self._queues.get(subject)
        new = queue is None
        again = lacks_a_slot(verdict) and since not in (-1, self.releases)
        if queue is None:
            queue = self._new_queue(subject, team, verdict, now, again=again)
        line = queue.line
        wait = queue.predict(checks, now)
        if team is not None and line is not None and (queue.in_line or new):
            wait = max(wait, line.predict(queue, team.checks, now))
        if (
            wait > self._max_wait
            or len(queue.entries) >= self._max_per_subject
            or not self._make_room(queue, size)
        ):
            known = queue.verdict if line is None or not line.queues else line.verdict
            self.refusals += 1
            raise QueueFull(wait, verdict or known)
        entry = QueueEntry(self, queue, checks, team, size, now + self._max_wait)
        queue.add(entry)
        self._count += 1
        self._bytes += size
        if new:
            self._queues[subject] = queue
            self._enter(queue, verdict, now, again=again)
        return entry

    def _new_queue(
        self,
        subject: str,
        team: TeamClaim | None,
        verdict: Verdict | None,
        now: float,
        *,
        again: bool,
    ) -> _Queue:
        """A queue that is not among the others yet."""
        line = None
        if team is not None:
            line = self._lines.get(team.who) or _Line(team.who, now)
        own = None if verdict is not None and verdict.whose == "team" else verdict
        queue = _Queue(subject, line, own, now)
        if again:
            queue.due = now
        return queue

    def _enter(self, queue: _Queue, verdict: Verdict | None, now: float, *, again: bool) -> None:
        """Schedule the first request of a new queue, in the line of its team if it waits there."""
        line = queue.line
        if line is None:
            return self._schedule(queue)
        self._lines[line.team] = line
        line.members += 1
        lacks = verdict is not None and verdict.whose == "team"
        if not lacks and (verdict is not None or not line.queues):
            return self._schedule(queue)
        if not line.queues:
            line.update(verdict, now, again=again)
            queue.wait_in_line()
            self._schedule(line)
        queue.wait_in_line()
        self._schedule(queue)

    def slot_released(self, subject: str) -> None:
        """Record that a slot of this subject, or of this team, was released."""
        self.releases += 1
        turn = self._queues.get(subject) or self._lines.get(subject)
        if turn is not None and turn.ticket and lacks_a_slot(turn.verdict):
            self._let_ask(turn)

    def _make_room(self, queue: _Queue, size: int) -> bool:
        """Refuse entries of longer queues until there is room; False if there is none."""
        if size > self._max_bytes:
            return False
        while self._count >= self._max_total:
            if not self._refuse_largest(queue, 1, _count_of):
                return False
        while self._bytes + size > self._max_bytes:
            if not self._refuse_largest(queue, size, _bytes_of):
                return False
        return True

    def _refuse_largest(self, queue: _Queue, more: int, measure: Callable[[_Queue], int]) -> bool:
        """Refuse the last entry of the subject, or of the longest queue of the team, that has most;
        False if that of `queue` would have as much with `more`."""
        sums: dict[_Queue | _Line, int] = {}
        for one in self._queues.values():
            sums[one.line or one] = sums.get(one.line or one, 0) + measure(one)
        most = max(sums, key=sums.__getitem__)
        own = queue.line or queue
        if most is not own and sums[most] <= sums.get(own, 0) + more:
            return False
        # Of queues as long as each other, the newest.
        members = [one for one in reversed(self._queues.values()) if (one.line or one) is most]
        longest = max(members, key=measure)
        if most is own and measure(longest) <= measure(queue) + more:
            return False  # within one team, its subjects give way to each other
        return self._refuse_last(longest)

    def _refuse_last(self, queue: _Queue) -> bool:
        entry = queue.entries[-1]
        if entry._asking:
            return False
        self._refuse(entry, queue)
        return True

    def _refuse(self, entry: QueueEntry, queue: _Queue) -> None:
        verdict, line = queue.verdict, queue.line
        now = asyncio.get_running_loop().time()
        in_line = queue.in_line
        entry.close()
        wait = queue.predict(entry.checks, now)
        if line is not None and entry.team is not None and in_line:
            wait = max(wait, line.predict(queue, entry.team.checks, now))
            verdict = line.verdict
        self.refusals += 1
        entry._refused = QueueFull(wait, verdict)
        entry._wake()

    def _requeue(self, entry: QueueEntry, verdict: Verdict, since: int) -> None:
        """Schedule the first of a queue again after it asked in vain."""
        entry._asking = False
        queue = entry._queue
        if queue is None:
            return
        now = asyncio.get_running_loop().time()
        again = lacks_a_slot(verdict) and since != self.releases
        line, team = queue.line, entry.team
        # A key that has changed its team meanwhile does not wait in the line of the old one.
        of_line = line is not None and team is not None and team.who == line.team
        if line is not None and of_line and verdict.whose == "team":
            if queue.in_line or not line.queues:
                line.update(verdict, now, again=again)
                queue.wait_in_line()
                self._schedule(line)
            queue.wait_in_line()
        else:
            queue.update(verdict, now, again=again)
            if line is not None and queue.in_line:
                del line.queues[queue]
                self._next_of(line, now)
        self._schedule(queue)

    def _remove(self, entry: QueueEntry) -> None:
        queue = entry._queue
        if queue is None:
            return
        entry._queue = None
        first = queue.entries[0] is entry
        queue.remove(entry)
        self._count -= 1
        self._bytes -= entry.size
        line = queue.line
        if not queue.entries:
            del self._queues[queue.subject]
            queue.ticket = 0
            if line is not None:
                self._leave(queue, line)
            if not self._queues:
                self._stop()
        elif entry._asking:
            now = asyncio.get_running_loop().time()
            queue.expected = now + max(map(_spacing, queue.entries[0].checks), default=0.0)
            if line is not None and line.queues:
                if queue.in_line:
                    line.to_the_end(queue)
                    line.expected = now
                    self._next_of(line, now)
                queue.wait_in_line()
            else:
                queue.due = now  # only the counters know when
            self._schedule(queue)
        elif first and queue.ticket and entry.costs != queue.entries[0].costs:
            # The next one may need less, and need not wait as long.
            now = asyncio.get_running_loop().time()
            if line is not None and queue.in_line:
                if line.first is queue:
                    self._next_of(line, now)
            else:
                queue.due = now
            self._schedule(queue)

    def _leave(self, queue: _Queue, line: _Line) -> None:
        """Take an empty queue out of the line of its team."""
        line.members -= 1
        if not line.members:
            del self._lines[line.team]
            line.ticket = 0
        if queue.in_line:
            first = line.first is queue
            del line.queues[queue]
            if first:
                self._next_of(line, asyncio.get_running_loop().time())

    def _next_of(self, line: _Line, now: float) -> None:
        """Let the first queue of a line ask: only the counters know what is left for it."""
        line.ticket = 0
        if line.queues:
            line.due = now
            self._schedule(line)

    def _schedule(self, turn: _Queue | _Line) -> None:
        """Put the first entry of a queue, or of a line, on the timetable."""
        self._tickets += 1
        turn.ticket = self._tickets
        table = self._timetable
        if len(table) > 2 * (len(self._queues) + len(self._lines)) + _SLACK:
            table[:] = [ticket for ticket in table if ticket[1] == ticket[2].ticket]
            heapify(table)
        heappush(table, (turn.wakes, turn.ticket, turn))
        self._arm()

    def _arm(self) -> None:
        due = self._timetable[0][0]
        timer = self._timer
        if timer is not None:
            if self._timer_due <= due:
                return
            timer.cancel()
        self._timer_due = due  # uvloop's timers do not say it where they are due at once
        self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _stop(self) -> None:
        self._timetable.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        table = self._timetable
        now = asyncio.get_running_loop().time() + GRAIN
        while table and table[0][0] <= now:
            _, ticket, turn = heappop(table)
            if ticket != turn.ticket:
                continue
            if isinstance(turn, TeamLine) or turn.due <= now:
                self._let_ask(turn)
                continue
            first = turn.entries[0]
            if first.until <= now:
                self._refuse(first, turn)
            if turn.entries:
                self._schedule(turn)
        if table:
            self._arm()

    def _let_ask(self, turn: _Queue | _Line) -> None:
        """Let the first entry of a queue or of a line ask. A queue whose team has a line waits for
        its turn there instead."""
        if isinstance(turn, SubjectQueue):
            queue = turn
            if queue.line is not None and queue.line.queues:
                queue.wait_in_line()
                return self._schedule(queue)
        else:
            turn.ticket = 0
            queue = turn.first
        queue.ticket = 0
        first = queue.entries[0]
        first._asking = True
        first._wake()


def _spacing(check: Check) -> float:
    return seconds_for(check.rate, check.cost)


def _count_of(queue: _Queue) -> int:
    return len(queue.entries)


def _bytes_of(queue: _Queue) -> int:
    return queue.size
