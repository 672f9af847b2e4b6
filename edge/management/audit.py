"""Audit of changes: a row is written before the change, or the change is not made."""

import logging
from collections.abc import Awaitable, Callable
from time import time
from typing import Any, TypeVar

import msgspec

from edge.billing.period import moment
from middlewares.stores.audit.base import AuditChange, AuditStore
from middlewares.stores.keys.base import Key, KeyStore
from middlewares.stores.teams.base import TeamRecord, TeamStore

T = TypeVar("T")

_log = logging.getLogger(__name__)

_TIMES = frozenset(("created_at", "expires_at", "revoked_at", "previous_until"))
_UNSAID = frozenset(("id", "digest", "previous_digest", "revision"))


class Audit:
    """Writes audit rows for one actor, such as "admin" or "cli".

    The row is written first: if that fails the change is not made. A change that fails after it
    gets a second row that says so, or a line in the log where that row cannot be written either.
    """

    def __init__(self, store: AuditStore, actor: str, *, clock: Callable[[], float] = time) -> None:
        self._store = store
        self._actor = actor
        self._clock = clock

    async def note(self, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Write a row. Raises StoreUnavailable."""
        await self._store.note(
            AuditChange(
                at=self._clock(),
                actor=self._actor,
                action=action,
                subject=subject,
                detail=detail,
            )
        )

    async def failed(self, action: str, subject: str, raised: Exception) -> None:
        """Write a row that says that the change noted last was not made, as far as is known."""
        try:
            await self.note(f"{action}.failed", subject, {"reason": type(raised).__name__})
        except Exception as again:
            _log.error(
                "%s of %s is in the audit but failed: %r; that could not be written: %r",
                action,
                subject,
                raised,
                again,
            )

    def keys(self, store: KeyStore, action: str) -> "AuditedKeys":
        """`store` with an audit row, named `action`, before each write."""
        return AuditedKeys(store, self, action)

    def teams(self, store: TeamStore, action: str) -> "AuditedTeams":
        """`store` with an audit row, named `action`, before each write."""
        return AuditedTeams(store, self, action)

    async def around(
        self, action: str, subject: str, detail: dict[str, Any], write: Callable[[], Awaitable[T]]
    ) -> T:
        """Note a change, then make it by `write`. A second row says that it failed, and why."""
        await self.note(action, subject, detail)
        try:
            return await write()
        except Exception as raised:
            await self.failed(action, subject, raised)
            raise


class AuditedKeys:
    """A `KeyStore` that writes an audit row before each change. A call that changes nothing or is
    refused gets no row."""

    def __init__(self, store: KeyStore, audit: Audit, action: str) -> None:
        self._store = store
        self._audit = audit
        self._action = action
        self.find = store.find
        self.find_with_team = store.find_with_team
        self.get = store.get
        self.match = store.match
        self.every = store.every
        self.page = store.page
        self.search = store.search
        self.revision = store.revision
        self.changes = store.changes

    @property
    def generation(self) -> int:
        return self._store.generation

    async def insert(self, key: Key) -> Key:
        return await self._audit.around(
            self._action, key.id, _new(key), lambda: self._store.insert(key)
        )

    async def update(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        before = await self._store.get(key_id)
        if before is None:
            return await self._store.update(key_id, change)  # raises UnknownKey
        after = change(before)
        if after == before:
            return before
        return await self._audit.around(
            self._action,
            key_id,
            _difference(before, after),
            lambda: self._store.update(key_id, change),
        )


class AuditedTeams:
    """A `TeamStore` that writes an audit row before each change, as `AuditedKeys`."""

    def __init__(self, store: TeamStore, audit: Audit, action: str) -> None:
        self._store = store
        self._audit = audit
        self._action = action
        self.get = store.get
        self.get_many = store.get_many
        self.match = store.match
        self.page = store.page

    async def insert(self, team: TeamRecord) -> TeamRecord:
        return await self._audit.around(
            self._action, team.id, _new(team), lambda: self._store.insert(team)
        )

    async def update(self, team_id: str, change: Callable[[TeamRecord], TeamRecord]) -> TeamRecord:
        before = await self._store.get(team_id)
        if before is None:
            return await self._store.update(team_id, change)  # raises UnknownTeam
        after = change(before)
        if after == before:
            return before
        return await self._audit.around(
            self._action,
            team_id,
            _difference(before, after),
            lambda: self._store.update(team_id, change),
        )


def _new(row: Key | TeamRecord) -> dict[str, Any]:
    """The fields of a new row, less those that are not set."""
    return {name: value for name, value in _public(row).items() if value not in (None, "")}


def _public(row: Key | TeamRecord) -> dict[str, Any]:
    """Fields of a key or team that may be shown: no secret, and no digest of one."""
    return {
        name: moment(value) if name in _TIMES else value
        for name, value in msgspec.structs.asdict(row).items()
        if name not in _UNSAID
    }


def _difference(before: Key | TeamRecord, after: Key | TeamRecord) -> dict[str, Any]:
    """The changed fields, each with its old and new value."""
    old, new = _public(before), _public(after)
    return {name: {"from": old[name], "to": new[name]} for name in new if old[name] != new[name]}
