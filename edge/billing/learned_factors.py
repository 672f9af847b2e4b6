"""Factors for token estimates, learned from the counts of upstreams per model and principal."""

from collections import deque
from collections.abc import Callable
from statistics import median_high
from typing import Generic, TypeVar

from middlewares.bounded_map import BoundedMap

PER_BYTE = 0.6
"""Tokens per byte of body before any observation."""
_MIN_PER_BYTE, _MAX_PER_BYTE = 0.15, 1.5
_DECAY = 0.02
"""Share of the way down that one observation moves the factor."""
_MIN_FACTOR, _MAX_FACTOR = 0.5, 2.0
_MARGIN = 1.05
_WINDOW = 128
_ABOVE_SHARE = 0.04
"""Share of the observations that may exceed the factor before the margin."""
_MAX_PRINCIPALS = 64
"""Principals of a model whose factors are kept for the median."""
_MIN_PRINCIPALS = 4
"""Principals with observations that the median needs."""


class ByteFactor:
    """Tokens per byte of body; rises at once and falls slowly."""

    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def observe(self, ratio: float) -> None:
        """Update with `ratio`: counted tokens per byte of body."""
        ratio *= _MARGIN
        if ratio > self.factor:
            self.factor = min(_MAX_PER_BYTE, ratio)
        else:
            self.factor += (max(_MIN_PER_BYTE, ratio) - self.factor) * _DECAY


class WeightFactor:
    """Tokens per unit of text weight: a high percentile of the observations.

    The window starts with an assumed ratio, which keeps the factor high until there are enough.
    """

    __slots__ = ("_ratios", "factor")

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._ratios: deque[float] = deque((factor / _MARGIN,), _WINDOW)

    def observe(self, ratio: float) -> None:
        """Update with `ratio`: counted tokens per unit of weight."""
        self._ratios.append(ratio)
        ranked = sorted(self._ratios, reverse=True)
        factor = ranked[int(len(ranked) * _ABOVE_SHARE)] * _MARGIN
        self.factor = min(_MAX_FACTOR, max(_MIN_FACTOR, factor))


_Learner = TypeVar("_Learner", ByteFactor, WeightFactor)


class LearnedFactors(Generic[_Learner]):
    """Learned factors per model and principal.

    A principal's factor comes from its own texts. A principal without observations gets the median
    of all others' factors once there are `_MIN_PRINCIPALS` of them, else `first`. So no principal
    can move another's factor beyond what half of them have.

    most: pairs of model and principal; the least recently used are dropped.
    """

    def __init__(self, make: Callable[[float], _Learner], first: float, most: int) -> None:
        self._first = first
        self._make: Callable[[float], _Learner] = make
        self._own: BoundedMap[tuple[str, str], _Learner] = BoundedMap(most)
        self._factors: BoundedMap[str, BoundedMap[str, float]] = BoundedMap(most)

    def factor(self, entry: str, principal: str) -> float:
        """The factor of `principal` for the model's catalog entry."""
        own = self._own.get((entry, principal))
        return own.factor if own is not None else self._common(entry)

    def observe(self, entry: str, principal: str, ratio: float) -> None:
        """Record counted tokens per byte, or per unit of weight, of a text."""
        own = self._own.get((entry, principal)) or self._make(self._common(entry))
        own.observe(ratio)
        self._own.put((entry, principal), own)
        factors = self._factors.get(entry)
        if factors is None:
            factors = BoundedMap(_MAX_PRINCIPALS)
        factors.put(principal, own.factor)
        self._factors.put(entry, factors)

    def _common(self, entry: str) -> float:
        factors = self._factors.get(entry)
        if factors is None or len(factors) < _MIN_PRINCIPALS:
            return self._first
        return median_high(factors.values())
