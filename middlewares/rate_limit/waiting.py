"""Waiting requests by subject and by team: when the first of them may ask, and how long a new one
would wait. Without timers."""

from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Generic, Protocol, TypeVar

from middlewares.limits import Rate
from middlewares.stores.counters.base import Check, Verdict

GRAIN = 0.001
"""Seconds; timers of event loops are no finer."""
_POLL = 1.0
"""Seconds between two questions for a slot: other processes release slots too."""


class Entry(Protocol):
    """One waiting request. costs: what it takes of each rate, by its name."""

    @property
    def checks(self) -> Sequence[Check]: ...
    @property
    def costs(self) -> dict[str, int]: ...
    @property
    def size(self) -> int: ...
    @property
    def until(self) -> float: ...


E = TypeVar("E", bound=Entry)


class Turn:
    """Something whose first request asks the counters when it is due.

    due: loop time at which it asks. expected: loop time at which it should be admitted.
    verdict: the last one. ticket: its valid ticket in the timetable; 0 while its first is asking.
    """

    __slots__ = ("due", "expected", "ticket", "verdict")

    def __init__(self, verdict: Verdict | None, now: float) -> None:
        self.ticket = 0
        self.update(verdict, now)

    def update(self, verdict: Verdict | None, now: float, *, again: bool = False) -> None:
        """Take a verdict of the counters. again: it is out of date already."""
        self.verdict = verdict
        wait = 0.0 if verdict is None else _wait_of(verdict)
        self.expected = now + wait
        self.due = now if again or verdict is None else now + wait + GRAIN


class SubjectQueue(Turn, Generic[E]):
    """Waiting requests of one subject. costs: sums over all entries, by name of the rate."""

    __slots__ = ("costs", "entries", "line", "size", "subject")

    def __init__(
        self, subject: str, line: "TeamLine[E] | None", verdict: Verdict | None, now: float
    ) -> None:
        super().__init__(verdict, now)
        self.subject = subject
        self.line = line
        self.entries: deque[E] = deque()
        self.costs: dict[str, int] = {}
        self.size = 0

    @property
    def in_line(self) -> bool:
        """Whether its first request waits for its turn in the line of the team."""
        return self.line is not None and self in self.line.queues

    @property
    def wakes(self) -> float:
        """Loop time at which something has to be done about it."""
        return min(self.due, self.entries[0].until)

    def add(self, entry: E) -> None:
        self.entries.append(entry)
        self.size += entry.size
        for name, cost in entry.costs.items():
            self.costs[name] = self.costs.get(name, 0) + cost

    def remove(self, entry: E) -> None:
        self.entries.remove(entry)
        self.size -= entry.size
        for name, cost in entry.costs.items():
            self.costs[name] -= cost

    def wait_in_line(self) -> None:
        """Wait behind the others of the team that wait for its limits."""
        if self.line is not None:
            self.line.queues.setdefault(self)
            self.due = inf

    def predict(self, checks: Sequence[Check], now: float) -> float:
        """Seconds until a request with these checks would be admitted, if it joined now."""
        longest = 0.0
        if self.entries:
            first = self.entries[0].costs
            for check in checks:
                ahead = self.costs.get(check.name, 0) - first.get(check.name, 0)
                longest = max(longest, seconds_for(check.rate, check.cost + ahead))
        return max(0.0, self.expected - now) + longest


class TeamLine(Turn, Generic[E]):
    """The queues of one team's subjects.

    queues: those whose first request waits for the limits of the team, in the order of their turns;
    only the first of them asks. members: how many queues the team has in all.
    """

    __slots__ = ("members", "queues", "team")

    def __init__(self, team: str, now: float) -> None:
        super().__init__(None, now)
        self.team = team
        self.queues: dict[SubjectQueue[E], None] = {}
        self.members = 0

    @property
    def wakes(self) -> float:
        """Loop time at which its first request asks."""
        return self.due

    @property
    def first(self) -> SubjectQueue[E]:
        return next(iter(self.queues))

    def to_the_end(self, queue: SubjectQueue[E]) -> None:
        """Let the other queues have their turns first."""
        del self.queues[queue]
        self.queues[queue] = None

    def predict(self, own: SubjectQueue[E], checks: Sequence[Check], now: float) -> float:
        """Seconds until the limits of the team would admit a request with these checks, if it
        joined the queue `own` now. Each other queue has as many turns before it as `own` has
        entries, and one more."""
        if not self.queues:
            return 0.0
        turns = len(own.entries) + 1
        first = self.first.entries[0].costs
        longest = 0.0
        for check in checks:
            name = check.name
            ahead = own.costs.get(name, 0) - first.get(name, 0)
            for queue in self.queues:
                if queue is not own:
                    share = min(1.0, turns / len(queue.entries))
                    ahead += int(share * queue.costs.get(name, 0))
            longest = max(longest, seconds_for(check.rate, check.cost + ahead))
        return max(0.0, self.expected - now) + longest


def lacks_a_slot(verdict: Verdict | None) -> bool:
    return verdict is not None and verdict.lacking == "concurrency"


def seconds_for(rate: Rate, cost: int) -> float:
    """Seconds in which a rate gives so much."""
    return cost * rate.seconds / rate.count


def _wait_of(verdict: Verdict) -> float:
    return min(verdict.wait, _POLL) if lacks_a_slot(verdict) else verdict.wait
