"""Errors that every store of every kind raises."""


class StoreUnavailable(Exception):
    """The store did not answer, or not in time. Says nothing about the key that was asked for."""


class CountersUnavailable(Exception):
    """The counters do not answer, or not in time."""


class AnswerLost(CountersUnavailable):
    """The connection broke before the answer came, and there may be another one already. What was
    asked may have been carried out, and must not be twice."""


class CountersRefused(CountersUnavailable):
    """The counters answer, and cannot carry out this one: what was asked or what they hold for this
    principal is at fault. No outage: others are not affected."""


class AccountUnsettled(CountersRefused):
    """The counters have lost this account, and not every process has reported its holds yet.

    No outage: it ends by itself."""
