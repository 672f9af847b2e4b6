"""What `penstock check` prints: a table of at most the terminal's width, or JSON."""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from textwrap import wrap
from typing import Any

import msgspec
import typer

from .finding import Finding, State

STATES: tuple[State, ...] = ("error", "warning", "note", "ok")
_COLOURS = {"error": "red", "warning": "yellow", "ok": "green"}
_NARROWEST, _WIDEST = 60, 120
_LONGEST_WHAT = 26
_STATE = 9
_HINT = "hint: "


def document(found: Sequence[Finding], file: Path, status: int) -> dict[str, Any]:
    """The JSON of findings. status: of the exit."""
    counts = Counter(finding.state for finding in found)
    return {
        "version": version("penstock"),
        "config": str(file),
        "exit": status,
        "counts": {state: counts[state] for state in STATES},
        "findings": [msgspec.structs.asdict(finding) for finding in found],
    }


def of_faults(faults: Iterable[str], file: Path) -> dict[str, Any]:
    """The JSON of a configuration that cannot be used."""
    found = []
    for fault in faults:
        what, colon, detail = fault.partition(": ")
        named = (what, detail) if colon else ("config", fault)
        found.append(Finding("error", *named, group="config"))
    return document(found, file, 2)


def print_findings(found: Sequence[Finding]) -> None:
    """Print the table, and a line with the number of rows of each state."""
    columns = shutil.get_terminal_size((80, 24)).columns
    coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for line in table(found, max(_NARROWEST, min(columns, _WIDEST))):
        state = line[:_STATE].strip()
        if coloured and state in _COLOURS:
            line = typer.style(state, fg=_COLOURS[state]) + line[len(state) :]
        typer.echo(printable(line))
    counts = Counter(finding.state for finding in found)
    typer.echo(f"\n{', '.join(_counted(state, counts[state]) for state in STATES)}")


def table(found: Sequence[Finding], width: int) -> Iterator[str]:
    """The lines of a table. A text that does not fit goes on below, and so does the hint."""
    longest = max((len(one.what) for one in found if len(one.what) <= _LONGEST_WHAT), default=4)
    column = _STATE + max(longest, 4) + 2
    yield f"{'state':{_STATE}}{'what':{column - _STATE}}detail"
    for one in found:
        lines = wrap(one.detail, width - column, break_on_hyphens=False) or [""]
        if one.hint:
            lines += wrap(
                _HINT + one.hint,
                width - column,
                subsequent_indent=" " * len(_HINT),
                break_on_hyphens=False,
            )
        what = one.what
        if len(what) > longest:  # on a line of its own
            yield f"{one.state:{_STATE}}{what[: width - _STATE]}"
            yield f"{'':{column}}{lines[0]}"
        else:
            yield f"{one.state:{_STATE}}{what:{column - _STATE}}{lines[0]}".rstrip()
        for line in lines[1:]:
            yield f"{'':{column}}{line}"


def printable(line: str) -> str:
    """`line` with "?" for what the terminal's encoding does not have."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return line.encode(encoding, "replace").decode(encoding)


def _counted(state: State, count: int) -> str:
    return f"{count} ok" if state == "ok" else f"{count} {state}{'s' * (count != 1)}"
