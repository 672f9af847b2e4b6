"""Spend of rows in memory, added up from all of them."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from .base import Entry, saturated
from .spend import (
    DAY,
    FAILED,
    Cursor,
    Dimension,
    Filters,
    Group,
    Grouped,
    Spend,
    added,
    group,
    ordered,
    split_tags,
)

_COUNTED = Spend.__struct_fields__[2:]


def grouped(
    rows: Iterable[Entry],
    by: Sequence[Dimension],
    filters: Filters,
    since: float,
    until: float,
    purposes: bool,
) -> list[Group]:
    """All groups, sorted."""
    names: dict[str, str] = {}
    sums = _sums(rows, ordered(by), filters, since, until, purposes, names)
    return [group(by, values, spend, (names, {})) for values, spend in sorted(sums.items())]


def page(
    rows: Iterable[Entry],
    by: Sequence[Dimension],
    filters: Filters,
    since: float,
    until: float,
    after: Cursor | None,
    limit: int,
    *,
    purposes: bool,
) -> Grouped:
    """A page of groups."""
    rows = list(rows)
    names: dict[str, str] = {}
    sums = _sums(rows, ordered(by), filters, since, until, purposes, names)
    values = sorted(sums)
    if after is not None:  # a cursor that is shorter stands behind all that begin with it
        values = [value for value in values if value[: len(after)] > after]
    total = None
    if after is None:
        once = _sums(rows, (), filters, since, until, purposes, {})
        total = once.get((), Spend())
    found = [group(by, value, sums[value], (names, {})) for value in values[:limit]]
    return Grouped(found, total, values[limit - 1] if len(values) > limit else None)


def _sums(
    rows: Iterable[Entry],
    by: tuple[Dimension, ...],
    filters: Filters,
    since: float,
    until: float,
    purposes: bool,
    names: dict[str, str],
) -> dict[Cursor, Spend]:
    found: dict[Cursor, list[Spend]] = {}
    wanted = {
        name: value for name, value in msgspec.structs.asdict(filters).items() if value is not None
    }
    for row in rows:
        if row.kind != "use" or not since <= row.at < until:
            continue
        names[row.account] = row.key_name
        one = Spend(1, int(row.ended in FAILED), *[getattr(row, name) for name in _COUNTED])
        tags = list(split_tags(row.tags)) or [""]
        if "tag" not in by:
            tags = [wanted["tag"]] if wanted.get("tag") in tags else tags[:1]
        for tag in tags:
            values: dict[str, Any] = {
                "key": row.account,
                "team": row.team,
                "owner": row.owner,
                "model": (row.purpose if purposes else "") or row.model,
                "endpoint": row.endpoint,
                "tag": tag,
                "day": int(row.at // DAY),
            }
            if all(values[name] == value for name, value in wanted.items()):
                found.setdefault(tuple(values[name] for name in by), []).append(one)
    return {values: Spend(*map(saturated, added(spends))) for values, spends in found.items()}
