"""Outcomes of attempts, as they are reported to circuit breakers."""

from typing import Literal

from middlewares.exchange import Target
from middlewares.stores.health.breakers import Breakers

Outcome = Literal["good", "bad", "none"]


def report(
    breakers: Breakers,
    place: Target,
    outcome: Outcome,
    mark: float,
    *,
    seconds: float = 0.0,
    retry_after: int | None = None,
) -> None:
    """Report an attempt: answered and over, failed, or of unknown outcome."""
    if outcome == "good":
        breakers.answered(place, mark, seconds=seconds)
        breakers.ended(place, "none", mark)
    else:
        breakers.ended(place, outcome, mark, retry_after=retry_after)
