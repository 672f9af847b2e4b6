"""The tables of a report whose rows are sizes, shapes or subjects; and the cells of all tables."""

from collections.abc import Iterator, Sequence

from .figures import (
    GAP_FIGURES,
    GAP_KINDS,
    WAYS,
    Figure,
    Result,
    Run,
    Spread,
    body,
    gap,
    ratio,
    shape,
    spread,
)
from .growing import SIZES


def large_tables(run: Run) -> Iterator[str]:
    """Large bodies, other streams, and shapes of streams; nothing of what was not measured."""
    yield from _bodies(run)
    yield from _gaps(run)
    yield from _shapes(run)


def _bodies(run: Run) -> Iterator[str]:
    ways = _ways(run, "bodies")
    if not ways:
        return
    columns = _products(ways)
    base = run.subjects.get("nginx")
    for which, title in (
        ("later", "CPU ms / request, a conversation that grows turn by turn"),
        ("first", "CPU ms / request, first turn: nothing of it was seen before"),
    ):
        yield f"{title} (x nginx that passes on as much):"
        yield ""
        yield row(["", *columns])
        yield row(["---", *["---:"] * len(columns)])
        for way, products in ways.items():
            for size in SIZES:
                figure = body(size, which)
                cells = [_with_ratio(products.get(name), base, figure) for name in columns]
                yield row([f"{size}, {way}", *cells])
        yield ""


def _gaps(run: Run) -> Iterator[str]:
    shown = {
        name: one for name, one in run.subjects.items() if any("gaps" in r for r in one.rounds)
    }
    if not shown:
        return
    yield (
        f"Other streams: {run.plan['gap_streams']} streams, and one caller with 1 MB five times a "
        "second. Gaps between events in ms: alone, and what the caller adds:"
    )
    yield ""
    titles = [f"alone {title}" for title in GAP_FIGURES.values()]
    titles += [
        f"adds to {title}, {GAP_KINDS[kind]}"
        for kind in GAP_KINDS
        for title in GAP_FIGURES.values()
    ]
    yield row(["", *titles, "requests/s"])
    yield row(["---", *["---:"] * (len(titles) + 1)])
    figures = [gap(which, kind) for kind in ("", *GAP_KINDS) for which in GAP_FIGURES]
    rate = Figure("requests/s", lambda r: r["gaps"]["grown"]["result"])
    for name, result in shown.items():
        cells = [spread_cell(spread(result, figure), 1) for figure in (*figures, rate)]
        yield row([name, *cells])
    yield ""


def _shapes(run: Run) -> Iterator[str]:
    ways = _ways(run, "shapes")
    if not ways:
        return
    columns = _products(ways)
    base = run.subjects.get("nginx")
    yield (
        "CPU µs / event of streams as servers write them (x nginx that passes on the same stream):"
    )
    yield ""
    yield row(["", *columns])
    yield row(["---", *["---:"] * len(columns)])
    plain = {name: one for name, one in run.subjects.items() if name in ("nginx", "envoy")}
    for way, products in ways.items():
        ours = [one for name, one in products.items() if name not in plain]
        names = (name for one in ours for r in one.rounds for name in r.get("shapes", ()))
        for name in dict.fromkeys(names):
            every = {**products, **plain}  # these pass on any stream
            cells = [_with_ratio(every.get(column), base, shape(name)) for column in columns]
            yield row([f"{name}, {way}", *cells])
    yield ""


def _ways(run: Run, group: str) -> dict[str, dict[str, Result]]:
    """Subjects with such figures, by way and product."""
    found: dict[str, dict[str, Result]] = {}
    for way in WAYS:
        for name, result in run.subjects.items():
            if result.way == way and any(group in one for one in result.rounds):
                found.setdefault(way, {})[result.product or name] = result
    return found


def _products(ways: dict[str, dict[str, Result]]) -> list[str]:
    return list(dict.fromkeys(name for products in ways.values() for name in products))


def _with_ratio(result: Result | None, base: Result | None, figure: Figure) -> str:
    found = spread(result, figure) if result else None
    if found is None or result is None:
        return "-"
    shown = f"{found.median:,.{figure.digits}f}"
    over = ratio(result, base, figure) if base else None
    return shown if over is None or result is base else f"{shown} ({over.median:.1f} x)"


def row(cells: Sequence[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


def spread_cell(found: Spread | None, digits: int) -> str:
    """A median with its least and most."""
    if found is None:
        return "-"
    shown = f"{found.median:,.{digits}f}"
    if found.low == found.high:
        return shown
    return f"{shown} ({found.low:,.{digits}f} to {found.high:,.{digits}f})"
