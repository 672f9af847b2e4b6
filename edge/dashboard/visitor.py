"""Who uses the dashboard, and which keys they may see."""

import msgspec

from middlewares.stores.keys.base import Key
from middlewares.stores.sessions.base import How, Role, Session


class Visitor(msgspec.Struct, frozen=True):
    """A signed-in person.

    key: the one that was signed in with; None for passwords and OIDC.
    owner: whose keys the visitor may see beside that; "" for none.
    """

    session: Session
    key: Key | None = None
    owner: str = ""

    @property
    def role(self) -> Role:
        """ "holder", or "admin", who may see every key."""
        return self.session.role

    @property
    def how(self) -> How:
        """What opened the session."""
        return self.session.how

    @property
    def actor(self) -> str:
        """Its name in the audit."""
        return f"dashboard:{self.session.subject}"

    @property
    def shown(self) -> str:
        """Its name for people: that of the key or identity."""
        return (self.key.name if self.key is not None else "") or self.session.name

    def may_see(self, key: Key) -> bool:
        """Whether the visitor may see a key and what it used."""
        return self.role == "admin" or self.holds(key)

    def holds(self, key: Key) -> bool:
        """Whether it is a key of the visitor: the one that was signed in with, or of the owner."""
        if self.key is not None and key.id == self.key.id:
            return True
        return bool(self.owner) and key.owner == self.owner
