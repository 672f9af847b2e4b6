"""Rates of sign-in attempts: per address, and over all addresses."""

from math import ceil

from middlewares.asgi import subscriber
from middlewares.limits import Rate
from middlewares.problem import Problem
from middlewares.stores.counters.base import Check, RateCounters
from middlewares.stores.sessions.base import How

EACH = Rate(10, 60, 5)
"""Attempts of one address."""
ALL = Rate(60, 60)
"""Attempts of all addresses together, by each way to sign in."""


def _rates(how: How, client: str) -> tuple[tuple[str, Rate], ...]:
    address = subscriber(client) or "unknown"
    return ((f"sign-in:{how}:{address}", EACH), (f"sign-in:{how}", ALL))


async def take_attempt(counters: RateCounters, how: How, client: str, now: float) -> None:
    """Count an attempt before anything is computed for it.

    An address that is over its rate takes nothing from the rate of all. client: an address; that of
    IPv6 counts by its /64. Raises Problem `rate_limited`, CountersUnavailable.
    """
    for who, rate in _rates(how, client):
        verdict = await counters.admit(who, [Check("attempts", rate)], now=now)
        if not verdict.admitted:
            raise too_many(verdict.wait)


def give_back(counters: RateCounters, how: How, client: str, now: float) -> None:
    """Count an attempt no longer: it was right."""
    for who, rate in _rates(how, client):
        counters.charge(who, Check("attempts", rate, -1), now=now)


def too_many(wait: float) -> Problem:
    """The refusal of an attempt that may be repeated after `wait` seconds."""
    seconds = max(1, ceil(wait))
    said = f"Too many attempts to sign in. Try again in {seconds} s."
    return Problem("rate_limited", message=said, retry_after=seconds, reason="sign-in throttled")
