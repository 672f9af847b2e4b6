"""Render a run as Markdown: the verdicts and the table below what they were measured on."""

from collections.abc import Iterator, Mapping

from .figures import (
    COSTS,
    FIGURES,
    FOUNDATION,
    LIMITED,
    Result,
    Run,
    Spread,
    body,
    difference,
    gap,
    ratio,
    shape,
    spread,
)
from .tables import large_tables, row, spread_cell
from .targets import figure_text, verdicts

_MET = {True: "**met**", False: "**not met**", None: "not measured"}


def render(run: Run, hide: Mapping[str, str] | None = None) -> str:
    """The report. hide: texts and what to write in their place, such as paths of this machine."""
    text = "\n".join(_lines(run)) + "\n"
    for secret, shown in (hide or {}).items():
        text = text.replace(secret, shown)
    return text


def _lines(run: Run) -> Iterator[str]:
    machine = run.machine
    libraries = ", ".join(f"{name} {found}" for name, found in machine["libraries"].items())
    rounds = max((len(result.rounds) for result in run.subjects.values()), default=0)
    yield f"# Comparison of {run.date}"
    yield ""
    yield "What the figures mean and how they are measured: [README](../README.md)."
    yield ""
    yield f"- commit: `{run.commit}`{', with changes that are not committed' if run.dirty else ''}"
    yield f"- machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB"
    yield f"- system: {machine['kernel']}, {machine['python']}"
    yield f"- libraries: {libraries}"
    yield f"- command: `{run.command}`, {rounds} round{'s' * (rounds != 1)}; median (least to most)"
    for name, result in run.subjects.items():
        yield f"- {name}: {result.version or 'not run'}, {result.what}"
    yield ""
    yield from _table(run)
    yield from _limiting(run)
    yield from large_tables(run)
    yield from _other_benches(run)
    yield from _starts(run)
    yield from _direct(run)
    yield from _failures(run.subjects)
    yield from _targets(run)
    yield from _configurations(run.subjects)


def _table(run: Run) -> Iterator[str]:
    shown = {
        name: result
        for name, result in run.subjects.items()
        if any(spread(result, figure) for figure in FIGURES.values())
    }
    if not shown:
        return
    base = shown.get("nginx")
    yield row(["", *shown])
    yield row(["---", *["---:"] * len(shown)])
    for figure in FIGURES.values():
        cells = [spread_cell(spread(result, figure), figure.digits) for result in shown.values()]
        yield row([figure.title, *cells])
        if figure.ratio and base is not None:
            ratios = (ratio(result, base, figure) for result in shown.values())
            yield row(["… x nginx", *(spread_cell(one, 2) for one in ratios)])
    yield ""


def _limiting(run: Run) -> Iterator[str]:
    """What limits and money add."""
    base = run.subjects.get(FOUNDATION)
    subjects = {name: run.subjects[name] for name in LIMITED if name in run.subjects}
    if base is None or not subjects:
        return
    yield f"Limits, budget and ledger add, over {FOUNDATION} in the same round:"
    yield ""
    yield row(["", *subjects])
    yield row(["---", *["---:"] * len(subjects)])
    for figure in map(FIGURES.__getitem__, COSTS):
        found = (difference(result, base, figure) for result in subjects.values())
        yield row([figure.title, *(spread_cell(one, figure.digits) for one in found)])
    yield ""


def _other_benches(run: Run) -> Iterator[str]:
    """Results that other benches wrote."""
    for table in run.tables:
        yield f"{table.title}, by `{table.command}`:"
        yield ""
        yield from ([table.note, ""] if table.note else [])
        yield row(["", "found"])
        yield row(["---", "---:"])
        for one in table.rows:
            yield row([one.what, figure_text(one.found)])
        yield ""


def _starts(run: Run) -> Iterator[str]:
    if run.starts:
        found = ", ".join(f"{what} {took:.0f} ms" for what, took in run.starts.items())
        yield f"Started on an idle core, the median of several times: {found}."
        yield ""


def _direct(run: Run) -> Iterator[str]:
    if any(run.direct):
        rps = Spread.over([one["saturated_rps"] for one in run.direct if one])
        first = Spread.over([one["first_ms"]["p50"] for one in run.direct if one])
        yield (
            f"Straight to the simulator: {spread_cell(rps, 0)} requests/s, "
            f"first token p50 {spread_cell(first, 2)} ms."
        )
        yield ""


def _failures(subjects: Mapping[str, Result]) -> Iterator[str]:
    for name, result in subjects.items():
        fewer = {one["event_streams"] for one in result.rounds if "event_streams" in one}
        if fewer and min(fewer) < _most_streams(subjects):
            counts = " to ".join(str(count) for count in sorted({min(fewer), max(fewer)}))
            yield f"- {name}: events with {counts} streams, it cannot keep up with more"
        for failure in result.failed:
            words = " ".join(failure.replace("`", "").split())
            yield f"- {name}, not measured in a round: `{words}`"
    yield ""


def _most_streams(subjects: Mapping[str, Result]) -> int:
    every = (one.get("event_streams", 0) for result in subjects.values() for one in result.rounds)
    return max(every, default=0)


def _targets(run: Run) -> Iterator[str]:
    found = verdicts(run)
    if found:
        yield "## Targets"
        yield ""
        yield row(["target", "found", ""])
        yield row(["---", "---", "---"])
        for verdict in found:
            yield row([verdict.target, verdict.found, _MET[verdict.met]])
        yield ""


def _configurations(subjects: Mapping[str, Result]) -> Iterator[str]:
    yield "## Commands and configurations"
    for name, result in subjects.items():
        if not result.command:
            continue
        yield ""
        yield f"### {name}"
        yield ""
        if result.note:
            yield f"{result.note[0].upper()}{result.note[1:]}."
            yield ""
        yield f"    {' '.join(result.command)}"
        for file, text in result.files.items():
            yield ""
            yield f"`{file}`:"
            yield ""
            yield "```"
            yield text.rstrip()
            yield "```"


def summary(name: str, figures: Mapping[str, object]) -> str:
    """One line about a round, for people who wait."""
    parts: list[str] = []
    shown = [FIGURES[key] for key in ("plain", "event", "first50", "stream")]
    shown += [body("1 MB"), gap("most", "grown"), shape("chat: OpenAI"), shape("messages: text")]
    for figure in shown:
        value = figure.value(figures)
        if value is not None:
            parts.append(f"{figure.title} {value:.{figure.digits}f}")
    return f"{name}: {'; '.join(parts) or 'no result'}"
