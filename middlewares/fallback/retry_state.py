"""Retry decisions for one exchange: which candidate next, whether, and after which pause."""

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from middlewares.backoff import doubled
from middlewares.exchange import Candidate, Exchange, Target
from middlewares.problem import Problem
from middlewares.stores.health.base import Health, Verdict

FAILED = frozenset(
    (
        "model_not_found",  # this candidate does not have it; another may
        "rate_limited",
        "upstream_error",
        "upstream_signed_out",
        "upstream_timeout",
        "upstream_unavailable",
    )
)
"""Kinds of Problem that are a failure of the candidate, not of the request."""


Step = Literal["raise", "raise_failure", "retry"]
"""Raise the problem at hand, raise the last failure of a candidate, or make another attempt."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and for how long a request is attempted again.

    max_attempts: of one request. deadline: seconds after which no attempt begins. retries: further
    rounds over the same candidates, each after a random pause of up to `backoff` seconds, doubled
    each time, at most `max_backoff`. retry_unanswered: retry also if a request was sent but not
    answered. The upstream may have processed it, and then charges for both.
    """

    max_attempts: int = 5
    deadline: float = 300.0
    retries: int = 0
    backoff: float = 0.5
    max_backoff: float = 8.0
    retry_unanswered: bool = True


class AttemptGuard:
    """Reports one attempt to the health of its target; the first report of its end counts."""

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
        """Report that the answer has begun. timed: whether its time is the target's."""
        if self._health is not None and not self._answered and not self._over:
            self._answered = True
            seconds = self._clock() - self._since if timed else 0.0
            self._health.answered(self._target, self._mark, seconds=seconds)

    def failed(self, problem: Problem, exchange: Exchange, made: int) -> bool:
        """Report `problem`; whether the candidate failed. made: attempts before this one."""
        if problem.kind in FAILED:
            if problem.held:
                self.end("bad", wait=problem.retry_after if problem.retry_after_given else None)
            else:
                self.end("none")
            return True
        if len(exchange.attempts) > made and exchange.attempts[-1].status:
            self.answered(timed=False)  # a refusal by the upstream is an answer
        return False

    def end(self, verdict: Verdict, *, wait: int | None = None) -> None:
        """Report the end of the attempt."""
        if self._health is not None and not self._over:
            self._over = True
            self._health.ended(self._target, verdict, self._mark, retry_after=wait)


class RetryState:
    """The attempts of one exchange.

    failure: the last failure of a candidate. pause: seconds before the next attempt.
    """

    __slots__ = (
        "_attempts",
        "_began",
        "_candidates",
        "_clock",
        "_health",
        "_models",
        "_random",
        "_remaining",
        "_retry",
        "_rounds",
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
        self._remaining = list(candidates)
        self._health = health
        self._retry = retry
        self._clock = clock
        self._random = random
        self._began = clock()
        self._models: list[str] = []
        self._rounds = 0
        self._attempts = 0

    @property
    def may_retry(self) -> bool:
        """Whether there may be a second attempt."""
        return self._retry.max_attempts > 1 and (
            len(self._candidates) > 1 or self._retry.retries > 0
        )

    @property
    def depth(self) -> int:
        """Models tried before the current one."""
        return len(self._models) - 1

    @property
    def repeatable(self) -> bool:
        """Whether another attempt may follow the current one."""
        retry = self._retry
        return self._attempts < retry.max_attempts and bool(
            self._remaining or self._rounds < retry.retries
        )

    def next_candidate(self) -> Candidate:
        """Take the next candidate: the first that its health admits, else the one ready soonest."""
        remaining, health = self._remaining, self._health
        index = 0
        if health is not None and len(remaining) > 1:
            for n, candidate in enumerate(remaining):
                if health.admits(candidate.target):
                    index = n
                    break
            else:
                waits = [health.wait(candidate.target) for candidate in remaining]
                index = waits.index(min(waits))
        candidate = remaining.pop(index)
        self._attempts += 1
        if candidate.served in self._models:
            self._models.remove(candidate.served)
        self._models.append(candidate.served)
        return candidate

    def next_step(
        self, exchange: Exchange, problem: Problem, *, failed: bool, capable: bool
    ) -> Step:
        """What to do after `problem` ended the last attempt.

        failed: whether it is a failure of the candidate. capable: whether the candidate accepts
        all that the first would have accepted, so that its refusal is the caller's to fix.
        """
        if not failed and (capable or self.failure is None):
            return "raise"
        if self.plan_next(exchange):
            if failed:
                self.failure = problem.with_traceback(None)
            return "retry"
        return "raise" if failed else "raise_failure"

    def plan_next(self, exchange: Exchange) -> bool:
        """Plan the next attempt, after `pause` seconds; False if there is none."""
        retry = self._retry
        self.pause = 0.0
        if self._attempts >= retry.max_attempts:
            return False
        attempts = exchange.attempts
        if attempts and attempts[-1].unanswered and not retry.retry_unanswered:
            return False
        spent = self._clock() - self._began
        if self._remaining:
            return spent < retry.deadline
        if self._rounds >= retry.retries:
            return False
        most = doubled(retry.backoff, retry.max_backoff, self._rounds)
        pause = self._random() * most
        remaining = list(self._candidates)
        if self._health is not None:
            waits = [self._health.wait(candidate.target) for candidate in remaining]
            if min(waits) > retry.max_backoff:
                return False  # their retry-after is longer
            remaining = [
                candidate for candidate, wait in zip(remaining, waits, strict=True) if wait <= most
            ]
            pause = max(pause, min(waits))
            remaining = remaining or [self._candidates[waits.index(min(waits))]]
        if spent + pause >= retry.deadline:
            return False
        self._rounds += 1
        self._remaining = remaining
        self.pause = pause
        return True

    def take_failure(self) -> Problem:
        """Take the failure to raise; no reference to it stays here."""
        failure, self.failure = self.failure, None
        if failure is None:
            raise RuntimeError("nothing has failed")
        return failure
