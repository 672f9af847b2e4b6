"""Exponential backoff: pauses between attempts that double up to a bound."""

_MOST_DOUBLINGS = 64
"""More would exceed any bound, and `2.0 ** n` could overflow."""


def doubled(first: float, longest: float, times: int) -> float:
    """`first` doubled `times` times, at most `longest`. Both in the same unit."""
    return min(first * 2.0 ** min(times, _MOST_DOUBLINGS), longest)


class Backoff:
    """Pauses of one retry loop, in seconds: the first is `first`, none exceeds `longest`.

    factor: how much longer each is than the one before.
    """

    __slots__ = ("_factor", "_first", "_longest", "_next")

    def __init__(self, first: float, longest: float, *, factor: float = 2.0) -> None:
        if not 0.0 < first <= longest:
            raise ValueError(f"first {first}, longest {longest}: expected 0 < first <= longest")
        self._first = self._next = first
        self._longest = longest
        self._factor = factor

    def pause(self) -> float:
        """Seconds to wait before the next attempt."""
        pause, self._next = self._next, min(self._factor * self._next, self._longest)
        return pause

    def reset(self) -> None:
        """Start again with the first pause, after a success."""
        self._next = self._first
