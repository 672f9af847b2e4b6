"""Roll-ups: what rows of the ledger add to the tables of sums that usage is read from.

A store adds them up in the transaction of the rows, so a month of a million rows is read from some
thousand sums. Each table sums by UTC day of admission and by other columns:

    spend_days       team, model, endpoint
    spend_owners     owner, team, model, endpoint
    spend_keys       account, team, owner, model, endpoint, purpose
    spend_tags       tag, team, model, endpoint
    spend_key_tags   tag, account, team, owner, model, endpoint, purpose

The first three count every row once, apart by whether it has tags (`tagged`), the last two every
row with tags once under each.
"""

from collections.abc import Iterable
from typing import Any

from .base import Entry, saturated
from .spend import DAY, FAILED, split_tags

Table = dict[tuple[Any, ...], list[int]]
"""By the values of the key of a table, the sums in the order of `spend.SUMS`."""

TABLES: dict[str, tuple[str, ...]] = {
    "spend_keys": (*("account", "day", "team", "owner", "model", "endpoint", "purpose", "tagged"),),
    "spend_owners": ("owner", "day", "team", "model", "endpoint", "tagged"),
    "spend_key_tags": (
        *("tag", "account", "day", "team", "owner", "model", "endpoint", "purpose"),
    ),
    "spend_tags": ("tag", "day", "team", "model", "endpoint"),
    "spend_days": ("day", "team", "model", "endpoint", "tagged"),
}
"""Columns of each table's primary key. The table that all writers share comes last, so that its
rows are locked for the shortest time."""


def rollups(entries: Iterable[Entry]) -> dict[str, Table]:
    """What `entries` add to each table."""
    rows: dict[tuple[Any, ...], list[Entry]] = {}
    for entry in entries:
        if entry.kind == "use":
            key = (
                entry.account,
                entry.at // DAY,
                entry.team,
                entry.owner,
                entry.model,
                entry.endpoint,
                entry.purpose,
                entry.tags,
            )
            known = rows.get(key)
            if known is None:
                rows[key] = [entry]
            else:
                known.append(entry)
    tables: dict[str, Table] = {name: {} for name in TABLES}
    keys, owners, key_tags, tags, days = tables.values()
    for key, counted in rows.items():
        account, moment, team, owner, model, endpoint, purpose, text = key
        day = saturated(moment)
        sums = _sums(counted)
        tagged = False
        for tag in split_tags(text):
            tagged = True
            _add(tags, (tag, day, team, model, endpoint), sums)
            _add(key_tags, (tag, account, day, team, owner, model, endpoint, purpose), sums)
        _add(keys, (account, day, team, owner, model, endpoint, purpose, tagged), sums)
        _add(owners, (owner, day, team, model, endpoint, tagged), sums)
        _add(days, (day, team, model, endpoint, tagged), sums)
    return tables


def _sums(rows: list[Entry]) -> list[int]:
    # Most rows have no units, and a list of one attribute is the fastest loop there is.
    units = [0, 0, 0, 0, 0]
    for row in rows:
        if row.images or row.audio_ms or row.characters or row.video_ms or row.jobs:
            counts = (row.images, row.audio_ms, row.characters, row.video_ms, row.jobs)
            units = [sum_ + count for sum_, count in zip(units, counts, strict=True)]
    return [
        len(rows),
        sum([row.ended in FAILED for row in rows]),
        sum([row.input for row in rows]),
        sum([row.output for row in rows]),
        sum([row.cache_read for row in rows]),
        sum([row.cache_write for row in rows]),
        sum([row.reasoning for row in rows]),
        sum([row.cost for row in rows]),
        *units,
    ]


def _add(table: Table, key: tuple[Any, ...], sums: list[int]) -> None:
    known = table.get(key)
    table[key] = sums if known is None else [*map(int.__add__, known, sums)]
