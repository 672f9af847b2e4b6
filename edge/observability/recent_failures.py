"""Failed attempts of a worker: the last ones, and how many there were of each upstream."""

from collections import Counter, deque
from collections.abc import Callable
from time import time

from edge.runtime.figures import MOST_ERRORS, FailedAttempt
from middlewares.exchange import Candidate, Exchange, Target
from middlewares.problem import Problem
from middlewares.shared import Shared

from .log_text import shown


class RecentFailures(Shared):
    """Called with each failed attempt, see `FallbackMiddleware`.

    knows: whether a target's name is of the configuration; else a client made it up.
    clock: Unix seconds.
    """

    def __init__(
        self, knows: Callable[[Target], bool], *, clock: Callable[[], float] = time
    ) -> None:
        self._knows = knows
        self._clock = clock
        self._last: deque[FailedAttempt] = deque(maxlen=MOST_ERRORS)
        self.counts: Counter[str] = Counter()
        """Failed attempts, by upstream."""

    def __call__(self, exchange: Exchange, candidate: Candidate, problem: Problem) -> None:
        target = candidate.target
        attempt = exchange.attempts[-1] if exchange.attempts else None
        self.counts[target.upstream] += 1
        self._last.appendleft(
            FailedAttempt(
                at=round(self._clock(), 3),
                upstream=target.upstream,
                model=target.model if self._knows(target) else "*",
                status=attempt.status if attempt is not None and attempt.target == target else 0,
                problem=problem.kind,
                request_id=shown(exchange.request_id),
            )
        )

    @property
    def last(self) -> tuple[FailedAttempt, ...]:
        """The last ones, newest first."""
        return tuple(self._last)
