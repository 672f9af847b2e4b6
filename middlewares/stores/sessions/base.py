"""Sessions of signed-in people: what one is, how long it lasts, and what a store must do. No I/O.

The browser holds a random id; the store holds its SHA-256 only. A session is bound to the secret
that opened it: the application checks at each request that this secret is still good.
"""

from secrets import token_urlsafe
from typing import Literal, Protocol

import msgspec

from middlewares.shared import Shared

How = Literal["key", "password", "oidc"]
Role = Literal["holder", "admin"]

_HOUR = 3600.0
IDLE: dict[Role, float] = {"holder": 12 * _HOUR, "admin": _HOUR}
"""Seconds without a request after which a session ends."""
LONGEST: dict[Role, float] = {"holder": 7 * 24 * _HOUR, "admin": 12 * _HOUR}
"""Seconds after which a session ends in any case."""
MOST = 50
"""Sessions of one identity; the one that was used least recently goes first."""
SEEN_EVERY = 60.0
"""Seconds between two writes of `seen_at`."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One session. Times are Unix seconds.

    digest: SHA-256 of its id. how: what opened it. subject: id of the key, "admin", or issuer and
        subject of an OIDC identity. bound_to: SHA-256 of the key's secret or of the password's
        hash; empty for OIDC.
    owner: whose keys an OIDC identity may see. name: shown to the visitor.
    address, agent: of the browser at sign-in.
    """

    digest: bytes
    how: How
    role: Role
    subject: str
    bound_to: bytes = b""
    owner: str = ""
    name: str = ""
    address: str = ""
    agent: str = ""
    created_at: float
    seen_at: float
    expires_at: float

    def ended(self, now: float) -> bool:
        """Whether it is over, by age or for want of requests."""
        return now >= self.expires_at or now - self.seen_at >= IDLE[self.role]


def new_id() -> str:
    """A new session id, with 256 bits from the system's randomness."""
    return token_urlsafe(32)


class SessionStore(Protocol):
    """Sessions, kept. Every method may raise StoreUnavailable and returns in a bounded time."""

    async def find(self, digest: bytes) -> Session | None:
        """The session with this digest, also one that has ended."""
        ...

    async def insert(self, session: Session) -> None:
        """Keep a new session, and of its identity the `MOST` last used ones."""
        ...

    async def seen(self, digest: bytes, at: float) -> None:
        """Set `seen_at`, if the session is there."""
        ...

    async def delete(self, digest: bytes) -> None:
        """Delete a session. One that is not there is no error."""
        ...

    async def of_subject(self, how: How, subject: str, limit: int = MOST) -> list[Session]:
        """The sessions of one identity, the last used first."""
        ...

    async def delete_of(self, how: How, subject: str) -> int:
        """Delete all sessions of one identity. Returns their number."""
        ...

    async def purge(self, now: float) -> int:
        """Delete sessions that have ended. Returns their number."""
        ...


class MemorySessionStore(Shared):
    """A `SessionStore` that forgets when the process ends."""

    def __init__(self) -> None:
        self.sessions: dict[bytes, Session] = {}

    async def find(self, digest: bytes) -> Session | None:
        return self.sessions.get(digest)

    async def insert(self, session: Session) -> None:
        self.sessions[session.digest] = session
        of_it = await self.of_subject(session.how, session.subject, len(self.sessions))
        for old in of_it[MOST:]:
            del self.sessions[old.digest]

    async def seen(self, digest: bytes, at: float) -> None:
        session = self.sessions.get(digest)
        if session is not None:
            self.sessions[digest] = msgspec.structs.replace(session, seen_at=at)

    async def delete(self, digest: bytes) -> None:
        self.sessions.pop(digest, None)

    async def of_subject(self, how: How, subject: str, limit: int = MOST) -> list[Session]:
        found = [one for one in self.sessions.values() if (one.how, one.subject) == (how, subject)]
        return sorted(found, key=lambda one: (-one.seen_at, one.digest))[:limit]

    async def delete_of(self, how: How, subject: str) -> int:
        found = await self.of_subject(how, subject, len(self.sessions))
        for session in found:
            del self.sessions[session.digest]
        return len(found)

    async def purge(self, now: float) -> int:
        ended = [one.digest for one in self.sessions.values() if one.ended(now)]
        for digest in ended:
            del self.sessions[digest]
        return len(ended)
