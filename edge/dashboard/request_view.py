"""A finished request as pages show it: outcome, fallback path and timings, in words.

Nothing here names an upstream; pages for operators read that from the row itself.
"""

from collections.abc import Sequence

import msgspec

from middlewares.exchange import ErrorStyle
from middlewares.stores.ledger.base import Ended, Entry

_SHORTEST = 0.6
"""Percent of a bar that is still seen."""
_LEAST_WAIT = 100.0
"""Milliseconds."""


class Outcome(msgspec.Struct, frozen=True):
    """How a request ended, in words. kind: class of its badge. about: what it means; "" where the
    name says all."""

    name: str
    kind: str
    about: str = ""


OUTCOMES: dict[Ended, Outcome] = {
    "completed": Outcome("completed", "good"),
    "failed": Outcome(
        "failed",
        "bad",
        "No model answered. The client got an error, and nothing was charged but what failed "
        "attempts had used.",
    ),
    "cut": Outcome(
        "broken off",
        "bad",
        "The answer broke off after it had begun. The client got what there was and an error; "
        "that much is charged.",
    ),
    "hung_up": Outcome(
        "client left",
        "warn",
        "The client closed the connection before the end. The model was stopped, and what it had "
        "produced is charged.",
    ),
    "drained": Outcome(
        "client left",
        "warn",
        "The client closed the connection before the end. The answer was read to its end, so the "
        "charge is what the model itself counted.",
    ),
    "lost": Outcome(
        "lost",
        "bad",
        "The process that served it ended before the request did. What had been set aside for it "
        "is charged.",
    ),
}


class Step(msgspec.Struct, frozen=True):
    """One attempt. start, length: percent of the whole duration, for its bar. problem: what went
    wrong, in public words; "" if it answered."""

    model: str
    ms: float
    problem: str
    kind: str
    start: float
    length: float


class RequestView(msgspec.Struct, frozen=True):
    """One request for its page. cost: with `included`, the rows made to serve it. problem: what
    was answered in place of an answer, in public words. waited: see `waited_ms`, and as percent for
    its bar."""

    entry: Entry
    outcome: Outcome
    waited: tuple[float, float]
    steps: Sequence[Step]
    first_content: float
    cost: int
    from_credits: int
    included: Sequence[Entry]
    problem: str


def request_view(entry: Entry, children: Sequence[Entry], style: ErrorStyle) -> RequestView:
    """Arrange a row of kind use."""
    steps = list(_steps(entry, style))
    failed = entry.ended in ("failed", "cut") and steps
    return RequestView(
        entry=entry,
        outcome=OUTCOMES.get(entry.ended, Outcome(entry.ended, "")),
        waited=(waited_ms(entry), _percent(waited_ms(entry), entry.duration_ms)),
        steps=steps,
        first_content=_percent(entry.first_content_ms or 0.0, entry.duration_ms),
        cost=entry.cost + sum(child.cost for child in children),
        from_credits=entry.from_credits + sum(child.from_credits for child in children),
        included=children,
        problem=steps[-1].problem if failed else "",
    )


def waited_ms(entry: Entry) -> float:
    """How long a request was not admitted yet, in milliseconds: while its body came, and while it
    waited for its turn under a rate (`on_excess = "throttle"`). 0 for less than is worth a word."""
    begun = entry.ended_at - entry.duration_ms / 1000
    waited = min((entry.at - begun) * 1000, entry.duration_ms)
    return waited if waited >= _LEAST_WAIT else 0.0


def public_problem(kind: str, style: ErrorStyle) -> str:
    """The public text of a kind of problem; "" for none."""
    row = style.kinds.get(kind)
    if row is None:
        return "It did not answer." if kind else ""
    return row.message.format(brand=style.brand, retry_after=row.retry_after)


def _steps(entry: Entry, style: ErrorStyle) -> Sequence[Step]:
    steps, before, whole = [], waited_ms(entry), entry.duration_ms
    for attempt in entry.attempts:
        start = min(_percent(before, whole), 100 - _SHORTEST)
        length = max(_SHORTEST, _percent(before + attempt.ms, whole) - start)
        steps.append(
            Step(
                model=attempt.served or entry.model,
                ms=attempt.ms,
                problem=public_problem(attempt.problem, style),
                kind=attempt.problem,
                start=start,
                length=length,
            )
        )
        before += attempt.ms
    return steps


def _percent(part: float, whole: float) -> float:
    return round(max(0.0, min(100.0, part * 100 / whole)), 2) if whole > 0 else 0.0
