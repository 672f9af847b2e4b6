"""Health of targets: what attempts report, and whether a target may be tried now.

Everything here is called on the request path and never waits. State of other processes arrives in
the background.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from middlewares.exchange import Target

Verdict = Literal["bad", "none"]
"""End of one attempt: it failed; no verdict (the client disconnected), or one already given."""

State = Literal["closed", "open", "half_open"]


_ORDER: Mapping[State, int] = {"closed": 0, "half_open": 1, "open": 2}


class Condition(msgspec.Struct, frozen=True):
    """State of one target. until: Unix seconds at which it may be tried, 0.0 if it may be now.
    in_flight: attempts of this process. latency: average seconds to the start of an answer; 0.0 if
    unknown.
    """

    state: State
    until: float
    in_flight: int
    latency: float


class UpstreamHealth(msgspec.Struct, frozen=True):
    """State of the targets of one upstream.

    state: the worst of them. broken: how many are not closed. until: Unix seconds at which the
    first broken one may be tried, 0.0 if one may be now. in_flight: attempts of this process.
    """

    state: State
    broken: int
    until: float
    in_flight: int

    def plus(self, other: "UpstreamHealth") -> "UpstreamHealth":
        """With further targets."""
        worst: State = self.state if _ORDER[self.state] >= _ORDER[other.state] else other.state
        if self.broken and other.broken:
            until = min(self.until, other.until)
        else:
            until = self.until or other.until
        return UpstreamHealth(
            worst, self.broken + other.broken, until, self.in_flight + other.in_flight
        )


class Health(Protocol):
    """State of targets. Each `began` is followed by one `ended`."""

    def admits(self, target: Target) -> bool:
        """Whether to try `target` while there is another: its breaker is closed and no
        `retry-after` applies, or a probe is due and none is under way."""
        ...

    def wait(self, target: Target) -> float:
        """Seconds until it may be tried again; 0.0 if it may be now."""
        ...

    def in_flight(self, target: Target) -> int:
        """Attempts of this process that are under way."""
        ...

    def latency(self, target: Target) -> float:
        """Average seconds to the start of an answer; 0.0 if unknown."""
        ...

    def began(self, target: Target) -> float:
        """Record the start of an attempt; returns its mark, an argument of `ended`."""
        ...

    def answered(self, target: Target, mark: float, *, seconds: float = 0.0) -> None:
        """Record the start of its answer. seconds: time to it; 0.0 if that is no measure."""
        ...

    def ended(
        self, target: Target, verdict: Verdict, mark: float, *, retry_after: int | None = None
    ) -> None:
        """Record the end of an attempt. retry_after: seconds that the target asked to wait."""
        ...

    def conditions(self) -> Mapping[Target, Condition]:
        """Every target that was tried, for operators."""
        ...

    def by_upstream(self) -> Mapping[str, UpstreamHealth]:
        """Upstreams with attempts under way or broken targets, for operators."""
        ...
