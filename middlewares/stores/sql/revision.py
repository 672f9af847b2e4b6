"""The revision of keys and teams: one counter orders the writes of both."""

from sqlalchemy import select, update

from .tables import revisions

REVISION = select(revisions.c.value).where(revisions.c.name == "keys")
"""The revision of the latest write that is visible."""
NEXT_REVISION = (
    update(revisions)
    .where(revisions.c.name == "keys")
    .values(value=revisions.c.value + 1)
    .returning(revisions.c.value)
)
"""The revision of the write that follows in this transaction, which holds the counter until its
end."""
