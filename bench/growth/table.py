"""Costs by size as Markdown tables, and whether they stay flat."""

import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

FLAT = 1.5
"""A cost that grows by less than this over all sizes is flat: what grew is the processor's cache
misses."""
ROUNDS = 7


class Row(NamedTuple):
    """A size with its costs, one for each column; None: not measured."""

    size: int
    costs: Sequence[float | None]


class Table(NamedTuple):
    """Costs of one thing that grows. columns: what is measured, with its unit. linear: those that
    grow by their nature, as `docs/scaling.md` says."""

    title: str
    grows: str
    columns: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
    linear: Sequence[str] = ()

    def text(self) -> str:
        """Markdown."""
        lines = [f"### {self.title}", ""]
        lines.append(f"| {self.grows} | " + " | ".join(self.columns) + " |")
        lines.append("| ---: |" + " ---: |" * len(self.columns))
        lines += [
            f"| {row.size:,} | " + " | ".join(map(shown, row.costs)) + " |" for row in self.rows
        ]
        verdicts = [
            verdict([(row.size, row.costs[n]) for row in self.rows])
            for n in range(len(self.columns))
        ]
        lines.append("| | " + " | ".join(verdicts) + " |")
        lines += [""] + [f"* {note}" for note in self.notes] if self.notes else []
        return "\n".join(lines) + "\n"


def shown(cost: float | None) -> str:
    """A cost in a cell."""
    if cost is None:
        return ""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.1f}" if cost >= 10 else f"{cost:.2f}"


def verdict(costs: Sequence[tuple[int, float | None]]) -> str:
    """flat, or by which factor a cost grows, and the size from which on."""
    measured = [(size, cost) for size, cost in costs if cost is not None and cost > 0]
    if len(measured) < 2:
        return ""
    first = measured[0][1]
    if measured[-1][1] <= first * FLAT:
        return "flat"
    since = next(size for size, cost in measured if cost > first * FLAT)
    factor, sizes = measured[-1][1] / first, measured[-1][0] / measured[0][0]
    return f"{factor:.1f} times over {sizes:,.0f} times the size, from {since:,}"


async def least(ask: Callable[[int], Awaitable[Any]], count: int, rounds: int = ROUNDS) -> float:
    """Microseconds of process CPU time, all threads, of one of `count` calls: the minimum of the
    rounds. ask: called with the number of the call, which no two rounds share."""
    best = float("inf")
    for turn in range(rounds):
        gc.collect()
        began = time.process_time()
        for number in range(turn * count, (turn + 1) * count):
            await ask(number)
        best = min(best, (time.process_time() - began) / count)
    return best * 1e6


async def least_wall(
    ask: Callable[[int], Awaitable[Any]], count: int, rounds: int = ROUNDS
) -> float:
    """`least` by the clock, for what other processes do, too: the minimum of single calls."""
    best = float("inf")
    for number in range(count * rounds):
        began = time.perf_counter()
        await ask(number)
        best = min(best, time.perf_counter() - began)
    return best * 1e6


def resident() -> int:
    """Bytes of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
