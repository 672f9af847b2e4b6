"""Who changed what, and when: one row for each change that an operator makes. No I/O."""

from typing import Any, Protocol

import msgspec

from middlewares.shared import Shared


class AuditChange(msgspec.Struct, frozen=True, kw_only=True):
    """One row. Written once, never changed, and never with a secret in it.

    id: given by the store, growing; 0 before. at: Unix seconds. actor: who, e.g. "admin".
    action: what was done, e.g. "key.revoke"; with ".failed" at its end, that the change noted just
        before did not happen.
    subject: id of what it was done to. detail: what changed, as JSON data.
    """

    id: int = 0
    at: float
    actor: str
    action: str
    subject: str
    detail: dict[str, Any] = {}


class AuditStore(Protocol):
    """Changes, kept. Every method may raise StoreUnavailable and returns within a bounded time."""

    async def note(self, change: AuditChange) -> None:
        """Keep a row under an id of its own. It is there for good when this returns."""
        ...

    async def page(
        self,
        *,
        subject: str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditChange]:
        """Rows, newest first by id; `before` continues after the last of a page."""
        ...


class MemoryAuditStore(Shared):
    """An `AuditStore` that forgets when the process ends."""

    def __init__(self) -> None:
        self._changes: list[AuditChange] = []

    async def note(self, change: AuditChange) -> None:
        self._changes.append(msgspec.structs.replace(change, id=len(self._changes) + 1))

    async def page(
        self, *, subject: str | None = None, before: int | None = None, limit: int = 100
    ) -> list[AuditChange]:
        found = [
            change
            for change in reversed(self._changes)
            if (subject is None or change.subject == subject)
            and (before is None or change.id < before)
        ]
        return found[:limit]
