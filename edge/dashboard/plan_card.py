"""A plan in words, as the page at / shows it."""

from collections.abc import Iterator

import msgspec

from edge.config.model import PlanConfig
from edge.config.units import Duration, RateSetting

from .formats import count, per


class PlanCard(msgspec.Struct, frozen=True):
    """A plan. texts: a phrase for each of its limits."""

    name: str
    texts: tuple[str, ...]


def plan_card(plan: PlanConfig, currency: str) -> PlanCard:
    """The card of a plan. currency: sign of one credit, "" for none."""
    return PlanCard(plan.id, tuple(_texts(plan, currency)))


def rate_text(rate: RateSetting, what: str, burst: int = 0) -> str:
    """A rate such as "60 requests per minute, and 10 more at once"."""
    text = f"{count(rate.count)} {what} per {per(str(Duration(rate.seconds)))}"
    return f"{text}, and {count(burst)} more at once" if burst else text


def _texts(plan: PlanConfig, currency: str) -> Iterator[str]:
    for window in plan.windows:
        length = "calendar month" if window.length.seconds is None else window.length
        amount = f"{currency}{window.credits}" if currency else f"{window.credits} credits"
        yield f"{amount} per {length}"
    if plan.overflow == "credits":
        yield "then from credits" if plan.windows else "paid from credits"
    if plan.requests is not None:
        yield rate_text(plan.requests, "requests", plan.burst)
    if plan.tokens is not None:
        yield rate_text(plan.tokens, "tokens")
    if plan.on_excess == "throttle":
        yield "beyond that requests wait for their turn"
    if plan.concurrency is not None:
        yield f"{count(plan.concurrency)} requests at the same time"
    if plan.storage is not None:
        yield f"{plan.storage} of files"
