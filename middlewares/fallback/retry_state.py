"""The attempts of one exchange: how many, where, and when (`middlewares.fallback.middleware`)."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from middlewares.backoff import doubled
from middlewares.exchange import Candidate, Exchange, Target
from middlewares.problem import Problem
from middlewares.stores.health.base import Health, Verdict

FAILED = frozenset(
    (
        "model_not_found",  # by this candidate: another may have it
        "rate_limited",
        "upstream_error",
        "upstream_timeout",
        "upstream_unavailable",
    )
)
"""Kinds of Problem that say something of the candidate, and nothing of what was asked."""


Step = Literal["raise", "raise_failure", "again"]
"""Raise the problem at hand, raise the last failure of a candidate, or make another attempt."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and for how long a request is attempted again.

    max_attempts: of one request. deadline: seconds after which no attempt begins. retries: further
    rounds over the same candidates, each after a random pause of up to `backoff` seconds, doubled
    each time, at most `max_backoff`. retry_unanswered: also where a request was sent and no answer
    came, so that it may have been processed and be paid for twice.
    """

    max_attempts: int = 5
    deadline: float = 300.0
    retries: int = 0
    backoff: float = 0.5
    max_backoff: float = 8.0
    retry_unanswered: bool = True


class AttemptGuard:
    """One attempt, as the health of its candidate hears of it; what is said first counts."""

    __slots__ = ("_answered", "_clock", "_health", "_mark", "_over", "_since", "_target")

    def __init__(self, health: Health | None, target: Target, clock: Callable[[], float]) -> None:
        self._health = health
        self._target = target
        self._clock = clock
        self._answered = False
        self._over = health is None
        self._since = clock()
        self._mark = 0.0 if health is None else health.began(target)

    def answered(self, *, timed: bool = True) -> None:
        """Its answer has begun, which may go on for long. timed: whether the time that took tells
        how quick the candidate is."""
        if self._health is not None and not self._answered and not self._over:
            self._answered = True
            seconds = self._clock() - self._since if timed else 0.0
            self._health.answered(self._target, self._mark, seconds=seconds)

    def failed(self, problem: Problem, exchange: Exchange, made: int) -> bool:
        """Whether `problem` says something of the candidate. made: attempts before this one."""
        if problem.kind in FAILED:
            if problem.held:
                self.ends("bad", wait=problem.retry_after if problem.told else None)
            else:
                self.ends("none")
            return True
        if len(exchange.attempts) > made and exchange.attempts[-1].status:
            self.answered(timed=False)  # a refusal is an answer, unless it is our own
        return False

    def ends(self, verdict: Verdict, *, wait: int | None = None) -> None:
        """It is over, as far as the health of its candidate is concerned."""
        if self._health is not None and not self._over:
            self._over = True
            self._health.ended(self._target, verdict, self._mark, retry_after=wait)


class RetryState:
    """The attempts of one exchange.

    failure: the last that says something of a target. pause: seconds before the next attempt.
    """

    __slots__ = (
        "_began",
        "_candidates",
        "_clock",
        "_health",
        "_left",
        "_models",
        "_random",
        "_retry",
        "_rounds",
        "_tried",
        "failure",
        "pause",
    )

    def __init__(
        self,
        candidates: Sequence[Candidate],
        health: Health | None,
        retry: RetryPolicy,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self.failure: Problem | None = None
        self.pause = 0.0
        self._candidates = candidates
        self._left = list(candidates)
        self._health = health
        self._retry = retry
        self._clock = clock
        self._random = random
        self._began = clock()
        self._models: list[str] = []
        self._rounds = 0
        self._tried = 0

    @property
    def possible(self) -> bool:
        """Whether there could ever be a second attempt."""
        return self._retry.max_attempts > 1 and (
            len(self._candidates) > 1 or self._retry.retries > 0
        )

    @property
    def depth(self) -> int:
        """Models tried before the one that is tried now."""
        return len(self._models) - 1

    @property
    def repeatable(self) -> bool:
        """Whether another attempt may follow the one that was taken last."""
        retry = self._retry
        return self._tried < retry.max_attempts and bool(self._left or self._rounds < retry.retries)

    def take(self) -> Candidate:
        """The next candidate to try."""
        left, health = self._left, self._health
        at = 0
        if health is not None and len(left) > 1:
            for n, candidate in enumerate(left):
                if health.admits(candidate.target):
                    at = n
                    break
            else:
                waits = [health.wait(candidate.target) for candidate in left]
                at = waits.index(min(waits))
        candidate = left.pop(at)
        self._tried += 1
        if candidate.served in self._models:
            self._models.remove(candidate.served)
        self._models.append(candidate.served)
        return candidate

    def next_step(self, exchange: Exchange, problem: Problem, *, failed: bool, able: bool) -> Step:
        """What to do about `problem`, by which the last attempt ended.

        failed: whether it says something of the target. able: whether the candidate takes all that
        the first would have taken, so that its refusal is the caller's to put right.
        """
        if not failed and (able or self.failure is None):
            return "raise"
        if self.goes_on(exchange):
            if failed:
                self.failure = problem.with_traceback(None)
            return "again"
        return "raise" if failed else "raise_failure"

    def goes_on(self, exchange: Exchange) -> bool:
        """Whether there is another attempt, after `pause` seconds."""
        retry = self._retry
        self.pause = 0.0
        if self._tried >= retry.max_attempts:
            return False
        attempts = exchange.attempts
        if attempts and attempts[-1].unanswered and not retry.retry_unanswered:
            return False
        spent = self._clock() - self._began
        if self._left:
            return spent < retry.deadline
        if self._rounds >= retry.retries:
            return False
        most = doubled(retry.backoff, retry.max_backoff, self._rounds)
        pause = self._random() * most
        again = list(self._candidates)
        if self._health is not None:
            waits = [self._health.wait(candidate.target) for candidate in again]
            if min(waits) > retry.max_backoff:
                return False  # they have asked to be left alone for longer
            again = [
                candidate for candidate, wait in zip(again, waits, strict=True) if wait <= most
            ]
            pause = max(pause, min(waits))
            again = again or [self._candidates[waits.index(min(waits))]]
        if spent + pause >= retry.deadline:
            return False
        self._rounds += 1
        self._left = again
        self.pause = pause
        return True

    def take_failure(self) -> Problem:
        """The failure to tell, which is kept here no longer."""
        failure, self.failure = self.failure, None
        if failure is None:
            raise RuntimeError("nothing has failed")
        return failure
