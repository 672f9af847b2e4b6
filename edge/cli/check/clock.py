"""The group `clock`: the clock of this machine against those of stores and upstreams.

Limits, expiry times and breakers compare times of several machines.
"""

import time
from email.utils import parsedate_to_datetime

from .finding import Finding

WARNING, ERROR = 2.0, 30.0
"""Seconds."""
_HINT = "keep the clocks of all machines with NTP (chrony, systemd-timesyncd)"


def against(what: str, theirs: float, before: float, *, accuracy: float = 0.0) -> Finding:
    """A finding of the time that `what` said.

    theirs: Unix seconds, which stand for any moment until `accuracy` seconds later. before: when
        it was asked, by our clock; it said the time between then and now.
    """
    after = time.time()
    ahead = theirs - after  # they are at least this far ahead
    behind = before - (theirs + accuracy)
    skew = max(ahead, behind, 0.0)
    if skew <= WARNING:
        return Finding("ok", what, "agrees with the clock of this machine", group="clock")
    side = "ahead of" if ahead > behind else "behind"
    said = f"its clock is {_span(skew)} {side} that of this machine"
    return Finding("error" if skew > ERROR else "warning", what, said, _HINT, "clock")


def against_date(what: str, date: str, before: float) -> Finding | None:
    """The same of a `Date` header, which has whole seconds; None if it has no time."""
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return against(what, theirs, before, accuracy=1.0)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
