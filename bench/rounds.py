"""One subject in one round: the groups of figures that it has."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from . import measure
from .client import Target
from .figures import upstream_of
from .growing import SIZES
from .measure import Failed, Plan, Running, load
from .provider import COMPACT
from .subjects import LARGE_ROWS, SMALL_ROWS, Ready, Subject

CONVERSATIONS: Mapping[str, int] = {"10 kB": 16, "100 kB": 8, "1 MB": 4, "4 MB": 2}
"""How many conversations of each size are under way at once."""
assert CONVERSATIONS.keys() == SIZES.keys()


class Prepared:
    """A subject that is installed and configured, before each of both upstreams.

    small: before the simulator, large: before `bench.provider`; with the folder it lives in.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.small: tuple[Ready, Path] | None = None
        self.large: tuple[Ready, Path] | None = None


class Add(Protocol):
    """Adds the figures of a phase to those of the round, or its failure. what: if not its name."""

    def __call__(self, part: Callable[[], dict[str, Any]], what: str = "") -> None: ...


def round_of(
    prepared: Prepared, plan: Plan, rows: frozenset[str]
) -> tuple[dict[str, Any], list[str]]:
    """The figures of a subject and what failed."""
    figures: dict[str, Any] = {}
    failures: list[str] = []
    subject = prepared.subject
    rows = rows & subject.rows

    def add(part: Callable[[], dict[str, Any]], what: str = "") -> None:
        try:
            figures.update(part())
        except Failed as error:
            failures.append(f"{what}: {error}" if what else str(error))

    try:
        if prepared.small and rows & SMALL_ROWS:
            _small(subject, *prepared.small, plan, rows, figures, add)
        if prepared.large and rows & LARGE_ROWS:
            _large(subject, *prepared.large, plan, rows, add)
    except Failed as error:
        failures.append(str(error))
    return figures, failures


def _small(
    subject: Subject,
    ready: Ready,
    folder: Path,
    plan: Plan,
    rows: frozenset[str],
    figures: dict[str, Any],
    add: Add,
) -> None:
    """Small requests and compact streams. Memory has a process of its own, where nothing that went
    before has left holes to fill."""
    if "memory" in rows:
        with measure.running(subject, ready, folder) as it:
            figures.update(start_ms=it.start_ms, rest_kib=it.rest_kib)
            add(lambda: measure.held(it.target, plan, it.pid))
    if not rows & {"requests", "firsts", "events"}:
        return
    with measure.running(subject, ready, folder) as it:
        if "requests" in rows:
            add(lambda: measure.saturated(it.target, plan, it.pid))
            if "saturated_rps" in figures:
                time.sleep(plan.rest)  # requests that saturation broke off are still worked on
                most = figures["saturated_rps"]
                add(lambda: measure.paced(it.target, plan, it.pid, most=most))
        if "firsts" in rows:
            add(lambda: measure.first_tokens(it.target, plan))
        if "events" in rows:
            add(lambda: measure.streamed(it.target, plan, it.pid))


def _large(
    subject: Subject,
    ready: Ready,
    folder: Path,
    plan: Plan,
    rows: frozenset[str],
    add: Add,
) -> None:
    """Large bodies, other streams beside them, and streams as real servers write them. Gaps have a
    process of their own. Bodies come before shapes: a subject that cannot keep up with
    streams works for them long after they were broken off."""
    found: dict[str, dict[str, Any]] = {"bodies": {}, "shapes": {}}
    if rows & {"bodies", "shapes"}:
        with measure.running(subject, ready, folder) as it:
            for size in SIZES if "bodies" in rows else ():
                add(partial(_body, it, plan, size, found["bodies"]), f"bodies of {size}")
            for shape in subject.shapes if "shapes" in rows else ():
                target = it.target
                if subject.any_dialect:
                    target = target.speaking(shape.partition(":")[0])
                add(partial(_shape, it, target, plan, shape, found["shapes"]), shape)
    if "gaps" in rows:
        with measure.running(subject, ready, folder) as it:
            add(lambda: _gaps(it, plan, COMPACT[upstream_of(subject.way)]))


def _body(it: Running, plan: Plan, size: str, into: dict[str, Any]) -> dict[str, Any]:
    run = load(
        it.target,
        "bodies",
        pid=it.pid,
        connections=CONVERSATIONS[size],
        size=size,
        window=plan.body,
    )
    if not run["laters"]:
        raise Failed("no answer")
    counts = {"firsts": run["firsts"], "laters": run["laters"]}
    into[size] = {"first_ms": run["first_us"] / 1000, "later_ms": run["later_us"] / 1000, **counts}
    return {"bodies": into}


def _shape(
    it: Running, target: Target, plan: Plan, shape: str, into: dict[str, Any]
) -> dict[str, Any]:
    for streams in (plan.streams, plan.streams // 4, plan.streams // 20):
        run = load(
            target,
            "streams",
            pid=it.pid,
            connections=streams,
            rate=plan.event_rate,
            window=plan.shape,
            shape=shape,
        )
        if not run["behind"]:
            into[shape] = {"event_us": run["cpu_us"] / run["events"], "streams": streams}
            return {"shapes": into}
        time.sleep(plan.rest)
    raise Failed(f"cannot keep up with {streams} streams")


def _gaps(it: Running, plan: Plan, shape: str) -> dict[str, Any]:
    run = load(
        it.target,
        "beside",
        pid=it.pid,
        connections=plan.gap_streams,
        rate=plan.event_rate,
        window=plan.gap,
        shape=shape,
    )
    if run["behind"]:
        raise Failed(f"gaps: cannot keep up with {plan.gap_streams} streams")
    return {"gaps": {name: run[name] for name in ("alone", "grown", "unseen")}}
