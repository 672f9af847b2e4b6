"""Targets of the gateway, and whether a run meets them."""

from collections.abc import Iterator

import msgspec

from .figures import (
    FIGURES,
    GAP_KINDS,
    LIMITED,
    PASSED,
    Figure,
    Result,
    Run,
    body,
    gap,
    ratio,
    shape,
    spread,
)

STARTS = {"penstock --help": 250.0, "import middlewares": 60.0}
"""Most ms of what is started."""
_EVENT = 1.5
"""An event over one of nginx."""
_LARGE = "1 MB"
_BODY = {PASSED: 5.0, "messages": 5.0, "chat-over-messages": 15.0, "messages-over-chat": 15.0}
"""Most ms of CPU for a request of 1 MB, by way."""
_LIMITED = dict(zip(LIMITED, (6.5, 10.0), strict=True))
_GAP = 20.0


class Verdict(msgspec.Struct, frozen=True):
    """A target and what was found. met: None when it could not be measured."""

    target: str
    found: str
    met: bool | None


def verdicts(run: Run, gateway: str = "penstock") -> list[Verdict]:
    """Each target of the gateway, with the figure."""
    us = run.subjects.get(gateway)
    found = list(_of_limits(run))
    if us is not None and any(us.rounds):
        found = [*_of_gateway(run, us), *found]
    ours = {one.way: one for one in run.subjects.values() if one.product == gateway}
    if ours:
        found += [*_of_bodies(run, ours), *_of_gaps(ours), *_of_shapes(run, ours)]
    return [*found, *_of_tables(run)] if found else []


def _of_gateway(run: Run, us: Result) -> Iterator[Verdict]:
    yield _ratio(run, us, FIGURES["plain"], 6.5)
    yield _below(run, us, "tensorzero", FIGURES["plain"])
    yield _ratio(run, us, FIGURES["event"], _EVENT)
    yield _below(run, us, "envoy", FIGURES["event"])
    yield _below(run, us, "tensorzero", FIGURES["event"])
    for name in ("chat-over-messages", "messages-over-chat"):
        if name in run.subjects:
            other = run.subjects[name]
            yield _ratio(run, other, FIGURES["event"], _EVENT, of=f", {name}")
            yield _below(run, other, "envoy", FIGURES["event"], of=f", {name}")
    firsts, held = run.plan["firsts"], run.plan["held"]
    yield _most(us, FIGURES["first50"], 1.0, f", with {firsts} streams open at any time")
    yield _most(us, FIGURES["stream"], 40.0, f", with {held} streams open")
    yield _most(us, FIGURES["start"], 700.0)
    for what, limit in STARTS.items():
        if what in run.starts:
            took = run.starts[what]
            yield Verdict(f"{what} ≤ {limit:g} ms", f"{took:.0f} ms", took <= limit)


def _of_limits(run: Run) -> Iterator[Verdict]:
    for name, limit in _LIMITED.items():
        if name in run.subjects:
            yield _ratio(run, run.subjects[name], FIGURES["plain"], limit, of=f", {name}")


def _of_bodies(run: Run, ours: dict[str, Result]) -> Iterator[Verdict]:
    """A third of what the gateway took before is enough, where that was measured too."""
    before = {one.way: one for one in run.subjects.values() if one.product == "before"}
    figure = body(_LARGE)
    if not any("bodies" in one for result in ours.values() for one in result.rounds):
        return
    for way, limit in _BODY.items():
        if way not in ours:
            continue
        verdict = _most(ours[way], figure, limit, f", {way}")
        then = spread(before[way], figure) if way in before else None
        now = spread(ours[way], figure)
        if then is not None and now is not None:
            verdict = Verdict(
                f"{verdict.target}, or a third of before",
                f"{verdict.found}; before {then.median:.2f}",
                bool(verdict.met) or now.median <= then.median / 3,
            )
        yield verdict


def _of_gaps(ours: dict[str, Result]) -> Iterator[Verdict]:
    for way, result in ours.items():
        if any("gaps" in one for one in result.rounds):
            yield _most(result, gap("most", "grown"), _GAP, f", {way}, {GAP_KINDS['grown']}")


def _of_shapes(run: Run, ours: dict[str, Result]) -> Iterator[Verdict]:
    for way, result in ours.items():
        names = dict.fromkeys(name for one in result.rounds for name in one.get("shapes", ()))
        for name in names:
            yield _ratio(run, result, shape(name), _EVENT, of=f", {way}")
            yield _below(run, result, "envoy", shape(name), of=f", {way}")


def _of_tables(run: Run) -> Iterator[Verdict]:
    for table in run.tables:
        for row in table.rows:
            if row.target is not None:
                yield Verdict(
                    f"{row.what}: {figure_text(row.target)}", figure_text(row.found), row.met
                )


def figure_text(value: float | str) -> str:
    """A figure of another bench."""
    return value if isinstance(value, str) else f"{value:,.6g}"


def _ratio(run: Run, us: Result, figure: Figure, limit: float, of: str = "") -> Verdict:
    target = f"{figure.title}{of} ≤ {limit:g} x nginx"
    base = run.subjects.get("nginx")
    found = ratio(us, base, figure) if base else None
    if found is None:
        return Verdict(target, "was not measured", None)
    return Verdict(target, f"{found.median:.2f} x", found.median <= limit)


def _below(run: Run, us: Result, name: str, figure: Figure, of: str = "") -> Verdict:
    target = f"{figure.title}{of} below {name}"
    base = run.subjects.get(name)
    theirs, ours = spread(base, figure) if base else None, spread(us, figure)
    if theirs is None or ours is None:
        return Verdict(target, f"{name} was not measured", None)
    return Verdict(
        target, f"{ours.median:.1f} against {theirs.median:.1f}", ours.median < theirs.median
    )


def _most(us: Result, figure: Figure, limit: float, when: str = "") -> Verdict:
    found = spread(us, figure)
    target = f"{figure.title} ≤ {limit:g}{when}"
    if found is None:
        return Verdict(target, "was not measured", None)
    return Verdict(target, f"{found.median:.{figure.digits}f}", found.median <= limit)
