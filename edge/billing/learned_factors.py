"""Factors of the input, learnt from what upstreams count, for each model and each principal."""

from collections import deque
from collections.abc import Callable
from statistics import median_high
from typing import Generic, TypeVar

from middlewares.bounded_map import BoundedMap

PER_BYTE = 0.6
"""Tokens for a byte of body before anything is known."""
_MIN_PER_BYTE, _MAX_PER_BYTE = 0.15, 1.5
_DECAY = 0.02
"""How much of the way down one observation leads."""
_MIN_FACTOR, _MAX_FACTOR = 0.5, 2.0
_MARGIN = 1.05
_WINDOW = 128
_ABOVE_SHARE = 0.04
"""Part of the observations that may lie above the factor, before the margin."""
_MAX_PRINCIPALS = 64
"""Principals of a model whose factors are remembered for those that are new."""
_MIN_PRINCIPALS = 4
"""So many must have taught something before it says anything of others."""


class ByteFactor:
    """Tokens for a byte of body: up at once, down slowly."""

    __slots__ = ("factor",)

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def observe(self, ratio: float) -> None:
        """Tokens that were counted, over the bytes of the body."""
        ratio *= _MARGIN
        if ratio > self.factor:
            self.factor = min(_MAX_PER_BYTE, ratio)
        else:
            self.factor += (max(_MIN_PER_BYTE, ratio) - self.factor) * _DECAY


class WeightFactor:
    """The factor of texts. A first ratio, which was not observed, keeps it up until there are
    enough."""

    __slots__ = ("_ratios", "factor")

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._ratios: deque[float] = deque((factor / _MARGIN,), _WINDOW)

    def observe(self, ratio: float) -> None:
        """Tokens that were counted, over the weight of the text."""
        self._ratios.append(ratio)
        ranked = sorted(self._ratios, reverse=True)
        factor = ranked[int(len(ranked) * _ABOVE_SHARE)] * _MARGIN
        self.factor = min(_MAX_FACTOR, max(_MIN_FACTOR, factor))


_Learner = TypeVar("_Learner", ByteFactor, WeightFactor)


class LearnedFactors(Generic[_Learner]):
    """What the answers of each model have taught, apart for each principal.

    A principal's factor comes from its own texts. A principal without observations gets the median
    of all others' factors once there are `_MIN_PRINCIPALS` of them, else `first`. So no principal
    can move another's factor beyond what half of them have.

    most: pairs of model and principal; those longest unheard of are forgotten.
    """

    def __init__(self, make: Callable[[float], _Learner], first: float, most: int) -> None:
        self._first = first
        self._make: Callable[[float], _Learner] = make
        self._own: BoundedMap[tuple[str, str], _Learner] = BoundedMap(most)
        self._factors: BoundedMap[str, BoundedMap[str, float]] = BoundedMap(most)

    def factor(self, entry: str, principal: str) -> float:
        """What the texts of `principal` count with, for the model's catalog entry."""
        own = self._own.get((entry, principal))
        return own.factor if own is not None else self._common(entry)

    def observe(self, entry: str, principal: str, ratio: float) -> None:
        """An upstream has counted: tokens over the bytes, or over the weight, of a text."""
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
