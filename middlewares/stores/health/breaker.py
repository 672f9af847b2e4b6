"""The breaker of one place: its state, and how what came of the tries there is counted.

A ring of counters, so that no place takes more room for being used more.
"""

from math import inf

import msgspec

from .base import State

SLOTS = 10
"""Into which the window is divided: a try is forgotten a tenth of it early, at most."""


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
    """What is known of one place, and what came of the tries there within the window.

    calm: neither broken nor asked to be left alone. last: the newest mark. slot: number of the
    newest slot of the window. since: tries with an older mark are of a past that is forgotten.
    level: how often in a row it was opened. until: when a probe may be made. probe: its mark, 0.0
    when there is none. told: until when it asked to be left alone; asked: tries with an older mark
    cannot end that. mine: the probe is this process's to make.
    """

    __slots__ = (
        "asked",
        "bad",
        "calm",
        "flying",
        "good",
        "last",
        "latency",
        "level",
        "mine",
        "probe",
        "since",
        "slot",
        "state",
        "told",
        "until",
    )

    def __init__(self) -> None:
        self.calm = True
        self.flying = 0
        self.last = 0.0
        self.latency = 0.0
        self.state: State = "closed"
        self.level = 0
        self.until = 0.0
        self.probe = 0.0
        self.told = 0.0
        self.asked = 0.0
        self.mine = False
        self.slot = 0
        self.forget()

    def forget(self) -> None:
        """Begin anew, but for what is under way."""
        self.since = self.last
        self.good = [0] * SLOTS
        self.bad = [0] * SLOTS

    def set_back(self) -> None:
        """The clock was set back: nothing that was noted with a later time holds."""
        self.last = self.asked = 0.0
        self.slot = 0
        self.forget()

    def advance(self, slot: int) -> None:
        """Go on to a later slot; those between it and the last are empty."""
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
