"""Roll-ups written to SQLite or PostgreSQL, in the transaction of the rows that they count."""

import asyncio
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from .base import LARGEST, Entry, RowRejected, saturated
from .rollups import TABLES, Table, rollups
from .spend import SUMS

_AT_ONCE = 25
"""Rows for which SQLite holds up the loop, for up to half a millisecond."""
_ENTRIES = 200
"""Entries that are added up at once, which takes up to two milliseconds."""
Rows = list[tuple[str, list[tuple[Any, ...]]]]
"""Rows to add, by table."""

_ARRAYS = {"day": "int8[]", "tagged": "bool[]", **dict.fromkeys(SUMS, "int8[]")}
"""Types of PostgreSQL; the others are text."""


def _sqlite(name: str, key: tuple[str, ...]) -> str:
    columns = (*key, *SUMS)
    sums = [f"{one} = max(-{LARGEST}, min({LARGEST}, {one} + excluded.{one}))" for one in SUMS]
    return (
        f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(sums)}"
    )


def _postgres(name: str, key: tuple[str, ...]) -> str:
    columns = (*key, *SUMS)
    arrays = [f"${n}::{_ARRAYS.get(one, 'text[]')}" for n, one in enumerate(columns, 1)]
    sums = [
        f"{one} = greatest(-{LARGEST}, least({LARGEST}, kept.{one}::numeric + excluded.{one}))"
        for one in SUMS
    ]
    return (
        f"INSERT INTO {name} AS kept ({', '.join(columns)})"  # noqa: S608
        f" SELECT * FROM unnest({', '.join(arrays)})"
        f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {', '.join(sums)}"
    )


SQLITE = {name: _sqlite(name, key) for name, key in TABLES.items()}
POSTGRES = {name: _postgres(name, key) for name, key in TABLES.items()}


def rollup_rows(entries: Iterable[Entry]) -> Rows:
    """The rows to add, by table; tables without any are left out. Raises RowRejected."""
    try:
        tables = rollups(entries)
        return [(name, _rows(table)) for name, table in tables.items() if table]
    except (TypeError, ValueError, OverflowError, AttributeError) as raised:
        raise RowRejected(str(raised).partition("\n")[0]) from raised


def _rows(table: Table) -> list[tuple[Any, ...]]:
    # In one order, so that no two transactions wait for each other.
    rows = []
    for key, sums in sorted(table.items()):
        if max(sums) > LARGEST or min(sums) < -LARGEST:
            sums = [*map(saturated, sums)]
        rows.append((*key, *sums))
    return rows


async def add_sqlite(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Add `entries` to the roll-ups. Raises RowRejected, and what the driver raises."""
    for begin in range(0, len(entries), _ENTRIES):
        for name, rows in rollup_rows(entries[begin : begin + _ENTRIES]):
            for start in range(0, len(rows), _AT_ONCE):
                connection.executemany(SQLITE[name], rows[start : start + _AT_ONCE])
                await asyncio.sleep(0)


async def rollup_rows_in_thread(entries: Sequence[Entry]) -> Rows:
    """`rollup_rows`, beside the loop where there are many: all are in one order."""
    if len(entries) <= _ENTRIES:
        return rollup_rows(entries)
    return await asyncio.to_thread(rollup_rows, entries)
