"""Medians, spreads, ratios and verdicts from the figures of rounds."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

Round = Mapping[str, Any]
"""What `measure.round_of` returns, with `added_ms` against the direct way in the same round."""


PASSED = "passed"
WAYS = (PASSED, "messages", "responses", "chat-over-messages", "messages-over-chat")
"""How a subject of the tables of large bodies and shapes works: Chat passed on, Messages passed on,
Responses passed on, or translated; caller, then upstream."""


class Run(msgspec.Struct):
    """All that was measured in one call of the comparison; written as JSON beside the report.

    subjects: by name. direct: the simulator without anything before it, by round. starts: ms of
    programs and imports, by what they are. tables: results of other benches of the same commit.
    """

    date: str
    commit: str
    dirty: bool
    machine: dict[str, Any]
    plan: dict[str, Any]
    command: str
    starts: dict[str, float]
    direct: list[dict[str, Any]]
    subjects: "dict[str, Result]"
    tables: "list[Table]" = []


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A figure of another bench. target, met: if it has one."""

    what: str
    found: float | str
    target: float | str | None = None
    met: bool | None = None


class Table(msgspec.Struct, frozen=True):
    """The result of another bench, which it wrote as JSON."""

    title: str
    command: str
    commit: str
    rows: list[Row]
    note: str = ""


class Result(msgspec.Struct):
    """One subject. A round lacks what failed in it; the reasons are in `failed`.

    product, way: its column and rows in the tables of large bodies, gaps and shapes.
    """

    what: str
    product: str = ""
    way: str = PASSED
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


def upstream_of(way: str) -> str:
    """The dialect of the upstream: chat, messages or responses."""
    return "chat" if way == PASSED else way.rpartition("-over-")[2]


FOUNDATION = "foundation"
"""The subject that is the gateway without limits, budget and ledger."""
LIMITED = ("limited", "limited-redis")
"""Subjects that have all of it."""
COSTS = ("plain", "paced", "event")
"""The figures that tell what it adds."""


GAP_KINDS = {"grown": "a conversation that grows", "unseen": "a new conversation each time"}
"""What the caller sends whose large bodies the other streams may feel."""
GAP_FIGURES = {"p50": "p50", "p99": "p99", "most": "longest"}


def body(size: str, which: str = "later") -> Figure:
    """CPU time of a request with a large body. which: "first" or "later"."""
    title = f"CPU ms / {size}{', first turn' if which == 'first' else ''}"
    return Figure(title, lambda r: r["bodies"][size][f"{which}_ms"], 2, ratio=True)


def shape(name: str) -> Figure:
    """CPU time of an event of a stream in this shape."""
    return Figure(f"CPU µs / event, {name}", lambda r: r["shapes"][name]["event_us"], ratio=True)


def gap(which: str, kind: str = "") -> Figure:
    """A figure of the gaps of streams alone, or what the caller of this kind adds to it."""
    title = GAP_FIGURES[which]
    if not kind:
        return Figure(f"{title} gap, ms", lambda r: r["gaps"]["alone"][which])
    return Figure(
        f"added to the {title} gap, ms",
        lambda r: r["gaps"][kind][which] - r["gaps"]["alone"][which],
    )


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
