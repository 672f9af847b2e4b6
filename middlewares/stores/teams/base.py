"""Teams: what a team is, and what a store of teams must do. No I/O."""

from collections.abc import Callable, Collection
from typing import Any, Protocol

import msgspec

from middlewares.exchange import Team


class TeamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One team as stored.

    Times are Unix seconds. `plan` and `limits` hold over all its keys together; `limits` has the
    form of a key's own. `metadata` is for people. The keys of a disabled team are refused.
    `revision` is given by the store and grows with each write to any team or key.
    """

    id: str
    created_at: float
    name: str = ""
    plan: str | None = None
    limits: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    disabled: bool = False
    revision: int = 0


def team_of(record: TeamRecord) -> Team:
    """What a principal has of its team."""
    return Team(id=record.id, name=record.name, plan=record.plan, limits=record.limits)


class UnknownTeam(LookupError):
    """No team has this id."""


class TeamStore(Protocol):
    """Teams, kept. Every method may raise StoreUnavailable and returns within a bounded time.

    Teams are never deleted: rows of the ledger name them. Changes of teams are read from the store
    of keys (`KeyStore.changes`), which counts one revision for both.
    """

    async def get(self, team_id: str) -> TeamRecord | None:
        """The team with this id."""
        ...

    async def get_many(self, ids: Collection[str]) -> list[TeamRecord]:
        """The teams with these ids, at most 500 of them, in any order."""
        ...

    async def match(self, text: str) -> list[TeamRecord]:
        """The teams whose id or name is exactly `text`, oldest first."""
        ...

    async def page(self, after: tuple[float, str] | None, limit: int) -> list[TeamRecord]:
        """Up to `limit` teams after `after`, oldest first by (created_at, id)."""
        ...

    async def insert(self, team: TeamRecord) -> TeamRecord:
        """Keep a new team; returns it with its revision. Raises ValueError where its id exists."""
        ...

    async def update(self, team_id: str, change: Callable[[TeamRecord], TeamRecord]) -> TeamRecord:
        """Replace a team by `change` of it, alone with it; returns it with its new revision.

        Raises UnknownTeam, and whatever `change` raises: then nothing is written.
        """
        ...
