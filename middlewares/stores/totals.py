"""Sums over the ledger: what each account has spent in each period, and its credits.

A store adds them up while it writes, so that to restore an account costs a look at a few rows and
not at all of its requests of a month.
"""

from collections.abc import Iterable

from .ledger import Entry

CREDITS = ""
"""Stands where the name of a window would, for the balance of credits; its period never ends."""

Period = tuple[str, str, float]
"""Account, name of the window, Unix seconds at which the period began."""

Total = tuple[float, int]
"""Admission of the newest row that counts in the period, in Unix seconds, and nano-credits: spent,
or the balance."""


def totals(entries: Iterable[Entry]) -> dict[Period, Total]:
    """What `entries` add to the sums of each period they count in."""
    sums: dict[Period, Total] = {}
    for entry in entries:
        for name, start in entry.starts.items():
            period = (entry.account, name, start)
            at, amount = sums.get(period, (entry.at, 0))
            sums[period] = (max(at, entry.at), amount + entry.cost)
        change = entry.granted - entry.from_credits
        if change:
            period = (entry.account, CREDITS, 0.0)
            at, amount = sums.get(period, (entry.at, 0))
            sums[period] = (max(at, entry.at), amount + change)
    return sums
