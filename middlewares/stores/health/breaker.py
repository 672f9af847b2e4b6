"""Circuit breaker of one target: its state and the results of attempts within a window.

Results are counted in a ring of slots, so a busy target takes no more memory than an idle one.
"""

from math import inf

import msgspec

from .base import State

SLOTS = 10
"""Slots of the window; a result is forgotten up to a tenth of the window early."""


class BreakerPolicy(msgspec.Struct, frozen=True):
    """When a breaker opens: at least `min_failures` attempts, and `failure_rate` percent of all,
    failed within `window` seconds. How long it stays open: `open_for` seconds, doubled by each
    probe that fails, at most `max_open_for`. That bounds a `retry-after` too.

    Raises ValueError for values out of range.
    """

    min_failures: int = 5
    failure_rate: int = 30
    window: float = 30.0
    open_for: float = 5.0
    max_open_for: float = 120.0

    def __post_init__(self) -> None:
        if self.min_failures < 1:
            raise ValueError(f"min_failures={self.min_failures}: expected 1 or more")
        if not 1 <= self.failure_rate <= 100:
            raise ValueError(
                f"failure_rate={self.failure_rate}: expected a percentage from 1 to 100"
            )
        for name in ("window", "open_for", "max_open_for"):
            if not 0.0 < getattr(self, name) < inf:
                raise ValueError(f"{name}={getattr(self, name)}: expected seconds, more than 0")


class Breaker:
    """State of one target and the results of attempts within the window.

    calm: closed, and no `retry-after` applies. last: the newest mark. slot: number of the newest
    slot. since: attempts with an older mark do not count. level: openings in a row. until: when a
    probe may be made. probe: mark of the probe, 0.0 if there is none. deferred_until: end of a
    `retry-after`; deferred_mark: attempts with an older mark cannot end it. mine: this process may
    make the probe.
    """

    __slots__ = (
        "bad",
        "calm",
        "deferred_mark",
        "deferred_until",
        "good",
        "in_flight",
        "last",
        "latency",
        "level",
        "mine",
        "probe",
        "since",
        "slot",
        "state",
        "until",
    )

    def __init__(self) -> None:
        self.calm = True
        self.in_flight = 0
        self.last = 0.0
        self.latency = 0.0
        self.state: State = "closed"
        self.level = 0
        self.until = 0.0
        self.probe = 0.0
        self.deferred_until = 0.0
        self.deferred_mark = 0.0
        self.mine = False
        self.slot = 0
        self.forget()

    def forget(self) -> None:
        """Forget all results; `in_flight` stays."""
        self.since = self.last
        self.good = [0] * SLOTS
        self.bad = [0] * SLOTS

    def set_back(self) -> None:
        """Forget what has a later time, after the clock was set back."""
        self.last = self.deferred_mark = 0.0
        self.slot = 0
        self.forget()

    def advance(self, slot: int) -> None:
        """Move to a later slot and clear those in between."""
        for passed in range(max(self.slot + 1, slot - SLOTS + 1), slot + 1):
            self.good[passed % SLOTS] = self.bad[passed % SLOTS] = 0
        self.slot = slot

    def counted_good(self, slot: int) -> None:
        if slot > self.slot:
            self.advance(slot)
        if self.slot - slot < SLOTS:
            self.good[slot % SLOTS] += 1

    def counted_bad(self, slot: int) -> None:
        if slot > self.slot:
            self.advance(slot)
        self.bad[self.slot % SLOTS] += 1
