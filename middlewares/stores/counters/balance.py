"""Where the money of an account stands, wherever it is counted."""

from collections.abc import Iterable
from math import inf

from msgspec.structs import replace

from middlewares.limits import Budget, Window

from .base import AHEAD, AccountStatus, InsufficientFunds, Source, WindowLevel
from .decision import Room, in_the_way


class Balance:
    """What counters know of one account, in nano-credits.

    windows: start and spent, by name. held: by what pays. tight: id of the tight hold, or "".
    """

    __slots__ = ("credits", "held", "tight", "windows")

    def __init__(self) -> None:
        self.windows: dict[str, tuple[float, int]] = {}
        self.credits = 0
        self.held: dict[Source, int] = {"windows": 0, "credits": 0}
        self.tight = ""

    def current(self, window: Window, now: float) -> tuple[float | None, int]:
        """When the period of `now` began, and what was spent in it; None: not begun."""
        known = self.windows.get(window.name)
        if not window.aligned and window.seconds is not None:  # by far the most
            if known is not None and now < known[0] + window.seconds:
                return known
            return None, 0
        begins = window.boundary(now)
        if known is not None and (begins is None or known[0] >= begins):
            return known
        return begins, 0

    def ahead(self, budget: Budget, now: float) -> bool:
        """Whether a window begins where no clock can be yet: then the clock was set back, and only
        the ledger knows the period of `now`."""
        latest = now + AHEAD
        known = self.windows
        return any(
            window.name in known and known[window.name][0] > latest for window in budget.windows
        )

    def needed(self, amount: int, least: int) -> int:
        """What has to be left. One tight hold at a time: so the caps are passed by one at most."""
        return amount if self.tight else min(amount, max(least, 1))

    def room(self, amount: int, least: int, budget: Budget, now: float) -> Room:
        """What is left for a request under `budget`."""
        left: float = -inf if budget.credits and not budget.windows else inf
        for window in budget.windows:
            left = min(left, window.cap - self.current(window, now)[1] - self.held["windows"])
        prepaid = self.credits - self.held["credits"] if budget.credits else -inf
        return Room(left, prepaid, self.needed(amount, least))

    def short(self, amount: int, least: int, budget: Budget, now: float) -> InsufficientFunds:
        """Why `amount` is refused by this account, which it must be."""
        standing = [(window, *self.current(window, now)) for window in budget.windows]
        enough = min(amount, max(least, 1))
        held = budget.credits and self.credits >= enough
        if not standing:
            return InsufficientFunds("", max(0, self.credits - self.held["credits"]), None, held)
        held = held or all(window.cap - spent >= enough for window, _, spent in standing)
        lacking = [
            (window.end(now if start is None else start), window.name, left)
            for window, start, spent in standing
            if (left := window.cap - spent - self.held["windows"]) < self.needed(amount, least)
        ]
        reset, name, left = max(lacking)
        return InsufficientFunds(name, max(0, left), reset, held)

    def status(self, budget: Budget, now: float, holds: Iterable[str]) -> AccountStatus:
        levels = []
        for window in budget.windows:
            start, spent = self.current(window, now)
            reset = None if start is None else window.end(start)
            levels.append(WindowLevel(window.name, window.cap, spent, start, reset))
        return AccountStatus(tuple(levels), self.credits, dict(self.held), tuple(holds))


def short_of_both(
    amount: int,
    least: int,
    key: Balance,
    budget: Budget,
    team: Balance,
    team_budget: Budget,
    now: float,
) -> InsufficientFunds:
    """Why `amount` is refused by the accounts of a key and its team, which it must be.

    Where both lack it, the one that has it later; credits have it when somebody adds to them. Of
    two that lack credits, the one with more of them, which would pay first.
    """
    by_key, by_team = in_the_way(
        key.room(amount, least, budget, now), team.room(amount, least, team_budget, now)
    )
    found = []
    if by_key:
        found.append(key.short(amount, least, budget, now))
    if by_team:
        found.append(replace(team.short(amount, least, team_budget, now), whose="team"))
    return max(found, key=lambda one: (inf, one.remaining) if one.reset is None else (one.reset, 0))
