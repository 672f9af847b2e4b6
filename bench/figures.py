"""Medians, spreads, ratios and verdicts from the figures of rounds."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

Round = Mapping[str, Any]
"""What `measure.round_of` returns, with `added_ms` against the direct way in the same round."""


class Run(msgspec.Struct):
    """All that was measured in one call of the comparison; written as JSON beside the report.

    subjects: by name. direct: the simulator without anything before it, by round.
    """

    date: str
    commit: str
    dirty: bool
    machine: dict[str, Any]
    plan: dict[str, Any]
    command: str
    import_ms: float
    direct: list[dict[str, Any]]
    subjects: "dict[str, Result]"


class Result(msgspec.Struct):
    """One subject. A round lacks what failed in it; the reasons are in `failed`."""

    what: str
    version: str = ""
    command: list[str] = []
    note: str = ""
    files: dict[str, str] = {}
    failed: list[str] = []
    rounds: list[dict[str, Any]] = []


class Figure(msgspec.Struct, frozen=True):
    """A column of the table. of: reads it from a round. digits: after the point."""

    title: str
    of: Callable[[Round], float]
    digits: int = 1
    ratio: bool = False

    def value(self, one: Round) -> float | None:
        """None when the round has no such figure."""
        try:
            return self.of(one)
        except KeyError:
            return None


FIGURES: Mapping[str, Figure] = {
    "plain": Figure("CPU µs / plain request", lambda r: r["saturated_us"], ratio=True),
    "event": Figure("CPU µs / streamed event", lambda r: r["event_us"], ratio=True),
    "paced": Figure("CPU µs / request, paced", lambda r: r["paced_us"], ratio=True),
    "first50": Figure("added to first token p50, ms", lambda r: r["added_ms"]["p50"], 2),
    "first99": Figure("added to first token p99, ms", lambda r: r["added_ms"]["p99"], 2),
    "most": Figure("requests/s at saturation", lambda r: r["saturated_rps"], 0),
    "busy": Figure("of its core then, %", lambda r: r["saturated_busy"] * 100, 0),
    "rest": Figure("RSS at rest, MiB", lambda r: r["rest_kib"]["rss"] / 1024),
    "held": Figure("RSS with streams open, MiB", lambda r: r["held_kib"]["rss"] / 1024),
    "stream": Figure("RSS / open stream, KiB", lambda r: r["stream_kib"]),
    "start": Figure("start to first answer, ms", lambda r: r["start_ms"], 0),
}


TRANSLATING = ("chat-over-messages", "messages-over-chat")
"""Subjects that are the gateway between two dialects: caller, then upstream."""


FOUNDATION = "foundation"
"""The subject that is the gateway without limits, budget and ledger."""
LIMITED: Mapping[str, float] = {"limited": 35.0, "limited-redis": 90.0}
"""Subjects that have all of it, and the CPU µs that it may add to a plain request."""
COSTS = ("plain", "paced", "event")
"""The figures that tell what it adds."""


class Spread(msgspec.Struct, frozen=True):
    """Median, least and most over the rounds that gave a result."""

    median: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread | None":
        """None of no values."""
        if not values:
            return None
        return cls(statistics.median(values), min(values), max(values))


def spread(result: Result, figure: Figure) -> Spread | None:
    """A figure over the rounds of a subject."""
    values = (figure.value(one) for one in result.rounds)
    return Spread.over([value for value in values if value is not None])


def ratio(result: Result, base: Result, figure: Figure) -> Spread | None:
    """A figure relative to another subject's, each round against the same round."""
    pairs = zip(result.rounds, base.rounds, strict=True)
    values = ((figure.value(ours), figure.value(theirs)) for ours, theirs in pairs)
    return Spread.over([ours / theirs for ours, theirs in values if ours is not None and theirs])


def difference(result: Result, base: Result, figure: Figure) -> Spread | None:
    """A figure less another subject's, each round less the same round."""
    pairs = zip(result.rounds, base.rounds, strict=True)
    values = ((figure.value(ours), figure.value(theirs)) for ours, theirs in pairs)
    return Spread.over(
        [ours - theirs for ours, theirs in values if ours is not None and theirs is not None]
    )


def added(through: Mapping[str, float], direct: Mapping[str, float]) -> dict[str, float]:
    """Percentile by percentile, what the way through a subject takes longer, in ms."""
    return {name: through[name] - direct[name] for name in ("p50", "p90", "p99")}


class Verdict(msgspec.Struct, frozen=True):
    """A target and what was found. met: None when it could not be measured."""

    target: str
    found: str
    met: bool | None


def verdicts(run: Run, gateway: str = "penstock") -> list[Verdict]:
    """Each target of the gateway, with the figure."""
    return [*_of_gateway(run, gateway), *_of_limits(run)]


def _of_limits(run: Run) -> list[Verdict]:
    base = run.subjects.get(FOUNDATION)
    if base is None:
        return []
    figure = FIGURES["plain"]
    checks = []
    for name, most in LIMITED.items():
        if name not in run.subjects:
            continue
        found = difference(run.subjects[name], base, figure)
        target = f"{figure.title}, {name} ≤ {FOUNDATION} + {most:g}"
        if found is None:
            checks.append(Verdict(target, "was not measured", None))
        else:
            checks.append(Verdict(target, f"{found.median:+.1f}", found.median <= most))
    return checks


def _of_gateway(run: Run, gateway: str) -> list[Verdict]:
    us = run.subjects.get(gateway)
    if us is None or not any(us.rounds):
        return []
    checks = [
        _ratio(run, us, "nginx", "plain", 8.0),
        _below(run, us, "tensorzero", "plain"),
        _ratio(run, us, "nginx", "event", 1.9),
        _below(run, us, "tensorzero", "event"),
        _most(us, "first50", 1.0, f"with {run.plan['firsts']} streams open at any time"),
        _most(us, "stream", 40.0, f"with {run.plan['held']} streams open"),
    ]
    checks += [
        _ratio(run, run.subjects[name], "nginx", "event", 2.5, of=f", {name}")
        for name in TRANSLATING
        if name in run.subjects
    ]
    checks.append(
        Verdict("import of middlewares < 60 ms", f"{run.import_ms:.0f} ms", run.import_ms < 60)
    )
    return checks


def _ratio(run: Run, us: Result, name: str, key: str, limit: float, of: str = "") -> Verdict:
    figure = FIGURES[key]
    target = f"{figure.title}{of} ≤ {limit:g} x {name}"
    base = run.subjects.get(name)
    found = ratio(us, base, figure) if base else None
    if found is None:
        return Verdict(target, f"{name} was not measured", None)
    return Verdict(target, f"{found.median:.2f} x", found.median <= limit)


def _below(run: Run, us: Result, name: str, key: str) -> Verdict:
    figure = FIGURES[key]
    target = f"{figure.title} below {name}"
    base = run.subjects.get(name)
    theirs, ours = spread(base, figure) if base else None, spread(us, figure)
    if theirs is None or ours is None:
        return Verdict(target, f"{name} was not measured", None)
    return Verdict(
        target, f"{ours.median:.1f} against {theirs.median:.1f}", ours.median < theirs.median
    )


def _most(us: Result, key: str, limit: float, when: str) -> Verdict:
    figure = FIGURES[key]
    found = spread(us, figure)
    target = f"{figure.title} ≤ {limit:g}, {when}"
    if found is None:
        return Verdict(target, "was not measured", None)
    return Verdict(target, f"{found.median:.{figure.digits}f}", found.median <= limit)
