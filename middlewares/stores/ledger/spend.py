"""Spend: sums of the ledger's rows by key, team, owner, model, endpoint, tag and UTC day.

    Filters   which rows count
    Spend     the sums of a group of rows
    Grouped   a page of groups, and the total

A row with two tags counts in the groups of both, and once in the total. Rows without tags are in
the group of tag "", rows without a team or an owner in that of "". Credits are no use.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import msgspec

Dimension = Literal["key", "team", "owner", "model", "endpoint", "tag", "day"]

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

DAY = 86400
"""Seconds of a UTC day."""

GROUPS = 1000
"""Groups of a page, unless its caller wants another number."""

Cursor: TypeAlias = tuple[str | int, ...]
"""Values of the group that a page ended with, in the order of `ordered`; days as numbers. One that
is shorter stands behind all groups that begin with it."""

_FIRST = ("tag", "key", "owner")
"""Dimensions of many values come first in the order of groups, so that a page is a part of an
index."""
_LAST_DAY = 2_932_896
"""31 December 9999, as days since 1970."""


class Spend(msgspec.Struct, frozen=True):
    """Sums of a group of rows. errors: of them, requests that failed or were cut. cost: in
    nano-credits."""

    requests: int = 0
    errors: int = 0
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cost: int = 0
    images: int = 0
    audio_ms: int = 0
    characters: int = 0
    video_ms: int = 0
    jobs: int = 0


SUMS = Spend.__struct_fields__

FAILED = frozenset(("failed", "cut"))
"""How requests ended that count as errors."""


class Filters(msgspec.Struct, frozen=True):
    """Rows of this key, team, owner, model, endpoint and tag; None: of all. "" is a value: rows
    without a team, an owner or a tag."""

    key: str | None = None
    team: str | None = None
    owner: str | None = None
    model: str | None = None
    endpoint: str | None = None
    tag: str | None = None


EVERYTHING = Filters()


class Group(msgspec.Struct, frozen=True):
    """One group. A dimension by which rows are not grouped is None.

    day: "2026-11-21". key_name, team_name: current names of the key and the team, "" where there
    is none.
    """

    spend: Spend
    key: str | None = None
    team: str | None = None
    owner: str | None = None
    model: str | None = None
    endpoint: str | None = None
    tag: str | None = None
    day: str | None = None
    key_name: str = ""
    team_name: str = ""


class Grouped(msgspec.Struct, frozen=True):
    """A page of groups. total: of all groups of all pages, each row once; None on later pages.
    next: `after` of the next page, None on the last. A page may be short and not the last."""

    groups: list[Group]
    total: Spend | None
    next: Cursor | None


def ordered(by: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """The dimensions of `by` in the order in which groups are sorted."""
    first = [name for name in _FIRST if name in by]
    return (*first, *[name for name in by if name not in _FIRST])  # type: ignore[arg-type]


def is_after(by: Sequence[Dimension], after: object) -> bool:
    """Whether `after` can be the `next` of a page of groups by these dimensions."""
    if not isinstance(after, tuple) or not 0 < len(after) <= len(by):
        return False
    return all(
        (isinstance(value, int) and abs(value) <= _LAST_DAY)
        if name == "day"
        else isinstance(value, str)
        for name, value in zip(ordered(by), after, strict=False)
    )


def day_text(number: int) -> str:
    """Days since 1970 as a date; the last of the year 9999 for later ones."""
    number = max(0, min(number, _LAST_DAY))
    return datetime.fromtimestamp(number * DAY, UTC).strftime("%Y-%m-%d")


class Part(NamedTuple):
    """Times of one day. sign: 1 adds the rows of this time, -1 takes them off the whole day."""

    day: int
    since: float
    until: float
    sign: int = 1

    @property
    def seconds(self) -> float:
        return self.until - self.since


class Parts(NamedTuple):
    """A period as its first and last whole day, and parts of days. There is no whole day where the
    first is after the last."""

    first: int
    last: int
    rest: list[Part]


def parts_of(since: float, until: float) -> Parts:
    """A period as whole days and what is left at its ends."""
    begin, end = int(since // DAY), int(until // DAY)
    first = begin if since == begin * DAY else begin + 1
    rest = []
    if first > end:  # both within one day
        rest.append(Part(begin, since, until))
    else:
        if first > begin:
            rest.append(Part(begin, since, float(first * DAY)))
        if until > end * DAY:
            rest.append(Part(end, float(end * DAY), until))
    return Parts(first, end - 1, [part for part in rest if part.seconds > 0])


def shortest_parts(since: float, until: float, now: float) -> Parts:
    """`parts_of`, but a part of a day that has more rows than the rest of the day is the whole day
    less that rest: half a day is the longest part, and a period that ends now has none today.

    now: Unix seconds after which there are few rows or none.
    """
    first, last, rest = parts_of(since, until)
    kept: list[Part] = []
    for part in rest:
        begin, end = float(part.day * DAY), float((part.day + 1) * DAY)
        others = [Part(part.day, begin, part.since, -1), Part(part.day, part.until, end, -1)]
        seconds = sum(max(0.0, min(other.until, now) - other.since) for other in others)
        if seconds >= min(part.until, now) - part.since:
            kept.append(part)
            continue
        # The days of a period's ends are next to its whole days.
        if first > last:
            first = last = part.day
        first, last = min(first, part.day), max(last, part.day)
        kept += [other for other in others if other.seconds > 0]
    return Parts(first, last, kept)


def split_tags(tags: str) -> Iterator[str]:
    """The tags of a row, each once."""
    return (tag for tag in dict.fromkeys(tags.split(",")) if tag)


def added(spends: Iterable[Spend]) -> list[int]:
    """Sums of sums, in the order of `SUMS`; not saturated."""
    sums = [0] * len(SUMS)
    for spend in spends:
        for place, value in enumerate(msgspec.structs.astuple(spend)):
            sums[place] += value
    return sums


def group(
    by: Sequence[Dimension],
    values: Sequence[Any],
    spend: Spend,
    names: tuple[dict[str, str], dict[str, str]],
) -> Group:
    """The group of these values, which are in the order of `ordered(by)`. names: of keys, and of
    teams, by id."""
    found: dict[str, Any] = dict(zip(ordered(by), values, strict=True))
    if "day" in found:
        found["day"] = day_text(found["day"])
    keys, teams = names
    return Group(
        spend,
        **found,
        key_name=keys.get(found.get("key", ""), ""),
        team_name=teams.get(found.get("team", ""), ""),
    )
