"""Changes of keys that leave a row in the audit, or do not happen."""

import logging
from collections.abc import Callable
from time import time
from typing import Any

import msgspec

from middlewares.stores.audit import AuditStore, Change
from middlewares.stores.keys import Key, KeyStore

from .period import moment

_log = logging.getLogger(__name__)

_TIMES = frozenset(("created_at", "expires_at", "revoked_at", "previous_until"))
_UNSAID = frozenset(("id", "digest", "previous_digest", "revision"))


class Audit:
    """Takes notes for one actor, e.g. "admin" or "cli".

    Audit first, then the change: if the row cannot be written the change is not made. A change
    that then fails leaves a second row that says so, or, where that cannot be written either, a
    line in the log.
    """

    def __init__(self, store: AuditStore, actor: str, *, clock: Callable[[], float] = time) -> None:
        self._store = store
        self._actor = actor
        self._clock = clock

    async def note(self, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Keep a row. Raises StoreUnavailable."""
        await self._store.note(
            Change(
                at=self._clock(),
                actor=self._actor,
                action=action,
                subject=subject,
                detail=detail,
            )
        )

    async def failed(self, action: str, subject: str, raised: Exception) -> None:
        """Say that the change noted last did not happen, as far as one can tell."""
        try:
            await self.note(f"{action}.failed", subject, {"reason": type(raised).__name__})
        except Exception as again:
            _log.error("%s of %s was noted and failed: %r; and %r", action, subject, raised, again)

    def keys(self, store: KeyStore, action: str) -> "AuditedKeys":
        """`store`, each of whose writes is noted as `action`."""
        return AuditedKeys(store, self, action)


class AuditedKeys:
    """A `KeyStore` that notes what it writes before it does. A write that changes nothing, or that
    is refused, is not noted."""

    def __init__(self, store: KeyStore, audit: Audit, action: str) -> None:
        self._store = store
        self._audit = audit
        self._action = action
        self.find = store.find
        self.get = store.get
        self.match = store.match
        self.every = store.every
        self.page = store.page
        self.revision = store.revision
        self.changes = store.changes

    @property
    def generation(self) -> int:
        return self._store.generation

    async def insert(self, key: Key) -> Key:
        detail = {name: value for name, value in _told(key).items() if value not in (None, "")}
        await self._audit.note(self._action, key.id, detail)
        try:
            return await self._store.insert(key)
        except Exception as raised:
            await self._audit.failed(self._action, key.id, raised)
            raise

    async def update(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        before = await self._store.get(key_id)
        if before is None:
            return await self._store.update(key_id, change)  # which says so
        after = change(before)
        if after == before:
            return before
        await self._audit.note(self._action, key_id, _difference(before, after))
        try:
            return await self._store.update(key_id, change)
        except Exception as raised:
            await self._audit.failed(self._action, key_id, raised)
            raise


def _told(key: Key) -> dict[str, Any]:
    """All of a key that may be read by everybody: no secret, and no digest of one."""
    return {
        name: moment(value) if name in _TIMES else value
        for name, value in msgspec.structs.asdict(key).items()
        if name not in _UNSAID
    }


def _difference(before: Key, after: Key) -> dict[str, Any]:
    """By field: what it was and what it is."""
    old, new = _told(before), _told(after)
    return {name: {"from": old[name], "to": new[name]} for name in new if old[name] != new[name]}
