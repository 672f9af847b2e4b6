"""Usage by key, team, owner, model, endpoint, tag and day: as JSON-ready data, and as CSV.

Money is in decimal strings of credits, days are UTC days. A row with two tags counts in the groups
of both, and once in the total.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import msgspec

from middlewares.pricing import decimal
from middlewares.stores.ledger.base import LedgerStore
from middlewares.stores.ledger.spend import (
    DIMENSIONS,
    EVERYTHING,
    GROUPS,
    SUMS,
    Cursor,
    Dimension,
    Filters,
    Group,
    Spend,
    is_after,
)

from .csv_text import csv_text
from .period import Period, UsageRefused, moment

Data = dict[str, Any]

_TOKENS = ("input", "output", "cache_read", "cache_write", "reasoning")
_SHOWN = {name: f"{name}_tokens" if name in _TOKENS else name for name in SUMS if name != "cost"}
_NAMED: dict[Dimension, str] = {"key": "key_name", "team": "team_name"}
_cursor = msgspec.json.Decoder(tuple[str | int, ...])
_LONGEST = 4000
"""Characters of a cursor."""


class Grouping(msgspec.Struct, frozen=True):
    """Which groups are asked for. purposes: see `LedgerStore.grouped`."""

    by: tuple[Dimension, ...]
    period: Period
    filters: Filters = EVERYTHING
    purposes: bool = False


def read_by(text: str, among: Collection[Dimension] = DIMENSIONS) -> tuple[Dimension, ...]:
    """Dimensions with commas between them. Raises UsageRefused."""
    names = [name.strip() for name in text.split(",")]
    by = tuple(name for name in among if name in names)
    if not by or len(by) < len(names):  # an unknown one, or one twice
        raise UsageRefused("group_by", f"one or more of {', '.join(among)}, each once")
    return tuple(sorted(by, key=names.index))


def read_limit(text: str) -> int:
    """Groups of a page. Raises UsageRefused."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= GROUPS:
        raise UsageRefused("limit", f"a number from 1 to {GROUPS}")
    return int(text)


def read_after(text: str, by: Sequence[Dimension]) -> Cursor:
    """The `next` of a page of groups by these dimensions. Raises UsageRefused."""
    try:
        if len(text) <= _LONGEST:
            after = _cursor.decode(urlsafe_b64decode(text.encode()))
            if is_after(by, after):
                return after
    except (ValueError, msgspec.DecodeError):
        pass
    raise UsageRefused("after", "the `next` of a page of the same groups")


async def grouped_usage(
    ledger: LedgerStore, grouping: Grouping, *, after: Cursor | None = None, limit: int = GROUPS
) -> Data:
    """A page of groups. Raises StoreUnavailable."""
    period = grouping.period
    found = await ledger.grouped(
        grouping.by,
        grouping.filters,
        since=period.since,
        until=period.until,
        after=after,
        limit=limit,
        purposes=grouping.purposes,
    )
    columns = columns_of(grouping.by)
    following = None
    if found.next is not None:
        following = urlsafe_b64encode(msgspec.json.encode(found.next)).decode()
    return {
        "object": "list",
        "start": moment(period.since),
        "end": moment(period.until),
        "group_by": list(grouping.by),
        "data": [group_row(group, columns) for group in found.groups],
        "total": None if found.total is None else _sums(found.total),
        "next": following,
    }


async def groups_of(ledger: LedgerStore, grouping: Grouping) -> AsyncIterator[list[Group]]:
    """All groups, page by page. Raises StoreUnavailable."""
    after: Cursor | None = None
    while True:
        found = await ledger.grouped(
            grouping.by,
            grouping.filters,
            since=grouping.period.since,
            until=grouping.period.until,
            after=after,
            purposes=grouping.purposes,
        )
        yield found.groups
        after = found.next
        if after is None:
            return


async def total_of(ledger: LedgerStore, grouping: Grouping) -> Data:
    """The sums of all groups, each row once. Raises StoreUnavailable."""
    period = grouping.period
    found = await ledger.grouped(
        (),
        grouping.filters,
        since=period.since,
        until=period.until,
        purposes=grouping.purposes,
    )
    return _sums(found.total or Spend())


async def usage_csv(ledger: LedgerStore, grouping: Grouping) -> AsyncIterator[str]:
    """All groups as CSV, its head first. Raises StoreUnavailable."""
    columns = columns_of(grouping.by)
    text = csv_text([[*columns, *_SHOWN.values(), "credits"]])
    async for groups in groups_of(ledger, grouping):
        rows = [[*map(str, group_row(one, columns).values())] for one in groups]
        yield text + csv_text(rows)
        text = ""


def columns_of(by: Sequence[Dimension]) -> list[str]:
    """Names of the members that say which group it is."""
    return [name for dimension in by for name in (dimension, _NAMED.get(dimension, "")) if name]


def group_row(group: Group, columns: Sequence[str]) -> Data:
    """One group with its sums. columns: see `columns_of`."""
    return {**{name: getattr(group, name) for name in columns}, **_sums(group.spend)}


def _sums(spend: Spend) -> Data:
    return {
        **{shown: getattr(spend, name) for name, shown in _SHOWN.items()},
        "credits": decimal(spend.cost),
    }
