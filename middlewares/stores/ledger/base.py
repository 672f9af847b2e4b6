"""The ledger: one row for every request that was served, append-only, and the truth of money.

    Entry           a row
    LedgerStore     where rows are kept
    LedgerWriter    takes rows on the hot path and brings them to the store (module `writer`)

All money is in nano-credits, all times are Unix seconds.
"""

from collections.abc import Sequence
from math import isfinite
from typing import Any, Literal, Protocol, TypeAlias

import msgspec

from middlewares.stores.counters.base import Spent

from .spend import EVERYTHING, GROUPS, Cursor, Dimension, Filters, Group, Grouped

LARGEST = 2**63 - 1
"""The largest amount or count of a row, and of a sum of rows: what a column of 64 bits holds.
Sums end there (`saturated`), so that no row makes an account unreadable."""

MAX_COST = 10**15
"""The most that one request costs or has set aside, in nano-credits: a million credits. No price
and no answer comes near it; an upstream that counts as if it did is not believed further."""

Kind = Literal["use", "credit"]

Ended = Literal["completed", "failed", "cut", "hung_up", "drained", "lost"]
"""How a request ended. `failed` before its first byte, `cut` after it; `drained`: the client left
and the upstream was heard out; `lost`: the process died under it.
"""


class AttemptRecord(msgspec.Struct, frozen=True, gc=False):
    """A target that was tried, and what became of it. ms: how long it took; error: for operators,
    as all of it but `served` and `problem`."""

    upstream: str = ""
    model: str = ""
    status: int = 0
    served: str = ""
    problem: str = ""
    ms: float = 0.0
    error: str = ""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One row. Written once, never changed.

    Journals keep it without the names of its fields: a new one goes to the end, with a default.

    id: the request's id, or the credit's own. account: id of the principal that pays.
    at: when it was admitted; ended_at: when it was over.
    model: catalog id that served; asked: as the caller wrote it.
    measured: whether the upstream counted the usage, else it is an estimate.
    cost: what it costs. from_credits: the part of it that prepaid credits pay, 0 or all of it.
    reserved: what was set aside for it. starts: by window name, the period it counts in.
    attempts: in order.
    granted: of a credit, what was added (negative: taken away); note: why, by whom.
    parent: id of the row of the request that this one served, and purpose: what for ("describe").
    team: id of the team of the key, "" without; its account is charged beside `account`.
    team_starts: as `starts`, for the windows of the team. from_team_credits: as `from_credits`, for
    the prepaid credits of the team. tags: sorted, with commas between. key_name: of the key then.
    """

    id: str
    account: str
    at: float
    ended_at: float
    owner: str = ""
    plan: str = ""
    endpoint: str = ""
    model: str = ""
    asked: str = ""
    status: int = 0
    ended: Ended = "completed"
    on_hangup: str = ""
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0
    cost: int = 0
    from_credits: int = 0
    reserved: int = 0
    first_content_ms: float | None = None
    upstream_ms: float = 0.0
    duration_ms: float = 0.0
    # What databases have another form for.
    stream: bool = False
    measured: bool = True
    starts: dict[str, float] = {}
    attempts: list[AttemptRecord] = []
    # What few rows have.
    fallback_from: str = ""
    images: int = 0
    audio_ms: int = 0
    jobs: int = 0
    kind: Kind = "use"
    granted: int = 0
    note: str = ""
    characters: int = 0
    video_ms: int = 0
    parent: str = ""
    purpose: str = ""
    team: str = ""
    team_starts: dict[str, float] = {}
    from_team_credits: int = 0
    tags: str = ""
    # Every row has it; it came after the others.
    key_name: str = ""


_WHOLE = frozenset(
    field.name for field in msgspec.structs.fields(Entry) if field.type in (int, "int")
)
_NOTHING = {
    field.name: "" if field.default is msgspec.NODEFAULT else field.default
    for field in msgspec.structs.fields(Entry)
}


Place: TypeAlias = tuple[float, str]
"""(at, id) of a row. Pages continue with the rows before it."""

StatusClass = Literal[1, 2, 3, 4, 5]
"""The first digit of an HTTP status."""


class Wanted(msgspec.Struct, frozen=True):
    """Rows with all of these. None: any. "" is a value: rows without a team, an owner or a tag.

    since <= at < until, in Unix seconds. purpose: "" leaves out requests made to serve others.
    """

    account: str | None = None
    team: str | None = None
    owner: str | None = None
    model: str | None = None
    endpoint: str | None = None
    tag: str | None = None
    ended: Ended | None = None
    status: StatusClass | None = None
    kind: Kind | None = None
    purpose: str | None = None
    since: float | None = None
    until: float | None = None

    def matches(self, row: Entry) -> bool:
        """Whether a row has all of these."""
        return (
            all(getattr(self, name) in (None, getattr(row, name)) for name in EQUAL)
            and self.status in (None, row.status // 100)
            and (self.tag is None or self.tag in row.tags.split(","))
            and (self.since is None or row.at >= self.since)
            and (self.until is None or row.at < self.until)
        )


EQUAL = ("account", "team", "owner", "model", "endpoint", "ended", "kind", "purpose")
"""Fields of `Wanted` that a row has too."""


class Found(msgspec.Struct, frozen=True):
    """A page of rows, newest first. next: `before` of the next page, None on the last."""

    rows: list[Entry]
    next: Place | None


class Sum(msgspec.Struct, frozen=True):
    """Use of one account, or of all, on one day (UTC, "2026-11-21") of one model."""

    day: str
    model: str
    requests: int
    input: int
    output: int
    cache_read: int
    cache_write: int
    cost: int


def daily_sum(group: Group) -> Sum:
    """A group by day and model."""
    spend = group.spend
    return Sum(
        group.day or "",
        group.model or "",
        spend.requests,
        spend.input,
        spend.output,
        spend.cache_read,
        spend.cache_write,
        spend.cost,
    )


def saturated(amount: float) -> int:
    """`amount`, or the nearest that a column of 64 bits holds."""
    return int(max(-LARGEST, min(amount, LARGEST)))


class RowRejected(Exception):
    """A row says something that the store cannot keep, now or later."""


def storable(entry: Entry) -> Entry:
    """`entry` with what no database takes put right, so that its money is kept whatever it says.

    Texts lose NUL and lone surrogates, numbers outside of 64 bits become the nearest inside, parts
    of a token or nano-credit are left out, None where it has no place becomes what says nothing.
    """
    changes = {}
    for name, value in msgspec.structs.asdict(entry).items():
        mended = _NOTHING.get(name) if value is None else _mended(value)
        if name in _WHOLE and isinstance(mended, float):
            mended = saturated(mended)
        if mended != value:
            changes[name] = mended
    return msgspec.structs.replace(entry, **changes) if changes else entry


def _mended(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd").encode(errors="replace").decode()
        case bool():
            return value
        case int():
            return saturated(value)
        case float():
            return value if isfinite(value) else 0.0
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
        case list():
            return [_mended(item) for item in value]
        case AttemptRecord():
            return AttemptRecord(*map(_mended, msgspec.structs.astuple(value)))
    return value


class LedgerStore(Protocol):
    """Rows, kept. Every method may raise StoreUnavailable and returns within a bounded time."""

    async def append(self, entries: Sequence[Entry]) -> None:
        """Keep rows, in this order, all or none. One whose id is there already is left as it is.

        Raises Rejected when a row cannot be kept as it is, nor mended.
        """
        ...

    async def get(self, account: str | None, entry_id: str) -> Entry | None:
        """A row of this account; None: of whichever account has it."""
        ...

    async def children(self, account: str, entry_id: str) -> list[Entry]:
        """The rows of this account whose `parent` is `entry_id`, oldest first; 1,000 at most."""
        ...

    async def spent(
        self, account: str, now: float, ids: Sequence[str]
    ) -> tuple[Spent, tuple[str, ...]]:
        """What counters of the account must be restored to, and which of `ids` it has rows for.

        The periods are those of the account's newest row that names each window, less those that
        begin more than `AHEAD` after `now`. All of it as of one moment.
        """
        ...

    async def grants(self, since: int) -> tuple[int, list[str]]:
        """The current revision of credits, and the accounts that got any after revision `since`.

        Revisions become visible in their order, so a caller that asks with the last revision it got
        misses no grant.
        """
        ...

    async def sums(self, account: str | None, since: float, until: float) -> list[Sum]:
        """Use by day and model, oldest day first, of rows with since <= at < until. Credits are no
        use. account None: of all accounts together; else a row with a `purpose` counts under that
        in place of its model, which its caller did not name."""
        ...

    async def grouped(
        self,
        by: Sequence[Dimension],
        filters: Filters = EVERYTHING,
        *,
        since: float,
        until: float,
        after: Cursor | None = None,
        limit: int = GROUPS,
        purposes: bool = False,
    ) -> Grouped:
        """Spend by these dimensions, of rows with since <= at < until; see `spend`.

        Groups are sorted by tag, then key, then owner, then as `by` names the others. after: the
        `next` of the page before. purposes: a row with a `purpose` counts under that in place of
        its model, as in `sums` of an account; with a filter of a key only.
        """
        ...

    async def top_keys(self, at: float, limit: int = 10) -> list[Group]:
        """The keys that spent most on the UTC day of `at`, the first the most."""
        ...

    async def page(
        self,
        *,
        account: str | None = None,
        kind: Kind | None = None,
        since: float | None = None,
        until: float | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[Entry]:
        """Rows, newest first by (at, id); `before` continues after the last of a page."""
        ...

    async def search(
        self, wanted: Wanted, *, before: Place | None = None, limit: int = 50
    ) -> Found:
        """Rows that match, newest first by (at, id). A page reads a bounded part of the ledger, so
        it may be short, or empty, and not the last: `Found.next` says whether it is."""
        ...

    async def last_used(self, accounts: Sequence[str]) -> dict[str, float]:
        """When the newest request of each account was admitted; accounts without any are left
        out."""
        ...
