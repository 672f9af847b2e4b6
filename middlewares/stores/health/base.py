"""Which places answer: what is known of them, for whoever chooses among them.

Everything here is asked on the request path and never waits. What other processes know comes in
from the side.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from middlewares.exchange import Target

Verdict = Literal["bad", "none"]
"""Of one try: it failed; nothing can be said (the client left), or it was said before."""

State = Literal["closed", "open", "half_open"]


class Condition(msgspec.Struct, frozen=True):
    """What is known of one place. until: Unix seconds at which it is tried again, 0.0 if it is not
    kept from that. flying: tries under way in this process. latency: seconds to an answer's begin,
    averaged over the last ones; 0.0 as long as there was none.
    """

    state: State
    until: float
    flying: int
    latency: float


class Health(Protocol):
    """What is known of places. Each `began` is followed by one `ended`."""

    def admits(self, place: Target) -> bool:
        """Whether `place` should be tried now, while there is another: it is neither broken nor has
        it asked to be left alone; or it is time to see, and nobody else is looking."""
        ...

    def wait(self, place: Target) -> float:
        """Seconds until it is to be tried again; 0.0 when it may be."""
        ...

    def flying(self, place: Target) -> int:
        """Tries of this process that are under way there."""
        ...

    def latency(self, place: Target) -> float:
        """Seconds to the begin of an answer there, averaged; 0.0 where that is not known."""
        ...

    def began(self, place: Target) -> float:
        """A try begins. Gives its mark, which is to be handed to `ended`."""
        ...

    def answered(self, place: Target, mark: float, *, seconds: float = 0.0) -> None:
        """Its answer has begun, which may go on for long. seconds: that took; 0.0 where that is no
        measure."""
        ...

    def ended(
        self, place: Target, verdict: Verdict, mark: float, *, retry_after: int | None = None
    ) -> None:
        """A try is over: it failed, or there is nothing more to say. retry_after: seconds for which
        the place asked to be left alone."""
        ...

    def conditions(self) -> Mapping[Target, Condition]:
        """Every place that was ever tried, for operators."""
        ...
