"""The tables of `penstock status`, in 80 columns."""

from collections.abc import Sequence
from typing import Any

WIDTH = 80
_WORKERS = ("pid", "state", "digest", "generation", "requests", "streams", "queued")
_UPSTREAMS = ("upstream", "state", "broken", "in_flight", "failures", "retry_at")
_ERRORS = ("at", "upstream", "model", "status", "problem")
_NAMES = ("upstream", "model")
"""Columns that are cut where a line is too long."""
_SHORTEST = 6


def status_lines(found: dict[str, Any], url: str) -> list[str]:
    """The lines of the answer of GET /status, of this version or another."""
    lines: list[str] = []
    if "pid" in found:
        lines.append(
            f"Penstock {found['version']} at {url}, pid {found['pid']}, {found['state']}, "
            f"up {span(found['uptime_seconds'])}"
        )
    tables = found.get("tables", {})
    if tables.get("version", "") > tables.get("program", ""):
        lines.append(
            f"the tables are of version {tables['version']}, newer than this program "
            f"({tables['program']}), which works with them"
        )
    if last := found.get("last_reload"):
        lines.append(
            f"last reload: {last['result']} at {_time(last['at'])}, {last['digest'] or 'no file'}"
        )
    if ledger := found.get("ledger"):
        said = f"{found['requests']} requests, {found['streams']} streams, "
        said += f"{found['queued']} queued; {ledger['rows']} ledger rows wait"
        if ledger["rows"]:
            said += f", the oldest for {ledger['oldest_seconds']:g} s"
        lines.append(said)
    lines += _table(_WORKERS, found["workers"])
    if upstreams := found.get("upstreams"):
        rows = [
            {
                **one,
                "upstream": one["name"],
                "broken": one["broken_targets"],
                "retry_at": _time(one["retry_at"]),
            }
            for one in upstreams
        ]
        lines += ["", *_table(_UPSTREAMS, rows)]
    if errors := found.get("errors"):
        last = [{**one, "at": _time(one["at"]), "status": one["status"] or ""} for one in errors]
        lines += ["", "last errors", *_table(_ERRORS, last)]
    return lines


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of at most `WIDTH` characters: names are cut, the widest first."""
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    names = [n for n, column in enumerate(columns) if column in _NAMES]
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and names:
        widest = max(names, key=lambda n: widths[n])
        if widths[widest] <= _SHORTEST:
            break
        widths[widest] -= 1
    return [
        "  ".join(
            f"{_cut(cell, width):{width}}" for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in cells
    ]


def _text(value: object) -> str:
    text = "" if value is None else str(value)
    return text if text.isprintable() and text else ascii(text)[1:-1] or "-"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."


def _time(text: str | None) -> str:
    """A moment of the status, shorter: "2026-11-21T17:52:53Z"."""
    return (text or "").replace("+00:00", "Z")


def span(seconds: float) -> str:
    """A duration in its two largest units: "3 d 4 h"."""
    whole = int(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min")]
    said = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join([*said, f"{whole % 60} s"][:2])
