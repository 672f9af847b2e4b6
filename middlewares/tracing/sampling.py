"""Which requests are traced: decided before any span exists.

    ratio          the share of all requests
    parent_rate    requests per second whose caller has set the flag `sampled`
    failure_rate   failed requests per second that are traced although they were not chosen

The rates hold for one process. They exist because callers are strangers: coding agents send
`traceparent` with the flag set on each request, which must not switch on tracing of everything. For
the same reason a caller cannot choose an id that the ratio takes: the ids of callers are mixed with
a number of this process.
"""

import os
from collections.abc import Callable
from time import monotonic

LOW = (1 << 64) - 1
_ODD = 0x9E3779B97F4A7C15
_SALT = int.from_bytes(os.urandom(8))
"""Taken before workers are forked, so that they decide alike about one trace."""


class Bucket:
    """At most `rate` per second, and the whole of a second's (or one) at once."""

    __slots__ = ("_clock", "_left", "_most", "_rate", "_then")

    def __init__(self, rate: float, clock: Callable[[], float] = monotonic) -> None:
        self._rate = rate
        self._most = max(rate, 1.0) if rate else 0.0
        self._left = self._most
        self._clock = clock
        self._then = clock()

    def take(self) -> bool:
        """Whether there is one left, which is then taken."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._then) * self._rate)
        self._then = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Sampling:
    """The decision for each request. Raises ValueError for figures that are out of range."""

    __slots__ = ("_failures", "_parents", "threshold")

    def __init__(
        self,
        ratio: float = 0.01,
        *,
        parent_rate: float = 10.0,
        failure_rate: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if not 0.0 <= ratio <= 1.0:
            raise ValueError(f"ratio {ratio!r}: expected a number from 0 to 1")
        for name, rate in (("parent_rate", parent_rate), ("failure_rate", failure_rate)):
            if not 0.0 <= rate < float("inf"):
                raise ValueError(f"{name} {rate!r}: expected a number of at least 0")
        self.threshold = int(ratio * (1 << 64))
        """A trace that begins here is recorded if the low 64 bits of its id are below it."""
        self._parents = Bucket(parent_rate, clock)
        self._failures = Bucket(failure_rate, clock)

    def of_new(self, trace_id: int) -> bool:
        """Whether a trace that begins here is recorded."""
        return trace_id & LOW < self.threshold

    def of_parent(self, trace_id: int, *, flag: bool) -> bool:
        """Whether a trace is recorded that a caller has begun."""
        mixed = ((trace_id & LOW) ^ _SALT) * _ODD
        mixed = ((mixed ^ (mixed >> 32)) * _ODD ^ _SALT) & LOW
        return mixed < self.threshold or (flag and self._parents.take())

    def of_failure(self) -> bool:
        """Whether a failed request is recorded although it was not chosen before."""
        return self._failures.take()
