"""Sums over the ledger: what each account has spent in each period, and its credits.

A row of a key of a team counts for both accounts.

A store adds them up while it writes, so restoring an account reads a few rows and
not all of its requests of a month.
"""

from collections.abc import Iterable

from .base import Entry

CREDITS = ""
"""Stands where the name of a window would, for the balance of credits; its period never ends."""

_FOR_EVER = {CREDITS: 0.0}

Period = tuple[str, str, float]
"""Account, name of the window, Unix seconds at which the period began."""

Total = tuple[float, int]
"""Admission of the newest row that counts in the period, in Unix seconds, and nano-credits: spent,
or the balance."""


def totals(entries: Iterable[Entry]) -> dict[Period, Total]:
    """What `entries` add to the sums of each period they count in."""
    sums: dict[Period, Total] = {}
    account, starts, newest, spent = "", dict[str, float](), 0.0, 0
    team, team_starts, team_newest, team_spent = "", dict[str, float](), 0.0, 0
    for entry in entries:
        # Those who come one after the other mostly count in the same periods.
        if entry.account != account or entry.starts != starts:
            _add(sums, account, starts, newest, spent)
            account, starts, newest, spent = entry.account, entry.starts, entry.at, 0
        at = entry.at
        if at > newest:
            newest = at
        spent += entry.cost
        change = entry.granted - entry.from_credits
        if change:
            _add(sums, account, _FOR_EVER, at, change)
        if not entry.team:
            continue
        if entry.team != team or entry.team_starts != team_starts:
            _add(sums, team, team_starts, team_newest, team_spent)
            team, team_starts, team_newest, team_spent = entry.team, entry.team_starts, at, 0
        if at > team_newest:
            team_newest = at
        team_spent += entry.cost
        if entry.from_team_credits:
            _add(sums, team, _FOR_EVER, at, -entry.from_team_credits)
    _add(sums, account, starts, newest, spent)
    _add(sums, team, team_starts, team_newest, team_spent)
    return sums


def _add(
    sums: dict[Period, Total], account: str, starts: dict[str, float], at: float, amount: int
) -> None:
    for name, start in starts.items():
        period = (account, name, start)
        known, sum_ = sums.get(period, (at, 0))
        sums[period] = (max(known, at), sum_ + amount)
