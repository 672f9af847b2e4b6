"""Responses that callers may come back to: what is kept of one, and what a store of them must do.

Theory of operation. A response continues another one by naming it (`previous`), so conversations
are trees. A row holds what its own turn added: the new input items and the output. The whole
conversation is read by walking from a response to its root. So n turns cost n rows of their own
size; were each row to hold its whole conversation, they would cost n²/2, which hurts where turns
carry screenshots.

A response that was deleted or has expired cannot be read or continued. Its turn
stays for as long as a living response needs it, and goes with the last of those (`purge`).
"""

from collections.abc import Collection
from typing import Protocol

import msgspec


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One response as stored.

    owner: whose it is; ids are unique for one owner. previous: id of the response it continues.
    Times are Unix seconds. input, output: JSON arrays of items: those that the caller newly sent,
    and the model's. answer: the response object as JSON, with null for its `output`. items: ids of
    the items in `output`.
    """

    owner: str
    id: str
    previous: str | None
    model: str
    created_at: float
    expires_at: float
    input: bytes
    output: bytes
    answer: bytes
    items: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes it takes at most; a store may pack it."""
        return len(self.input) + len(self.output) + len(self.answer)


class Load(msgspec.Struct, frozen=True):
    """What one owner has in a store, ended and not yet removed included. size: bytes."""

    responses: int
    size: int


class KeptTurn(msgspec.Struct, frozen=True):
    """What the response `id` added to its conversation; fields as in `Kept`."""

    id: str
    input: bytes
    output: bytes


class ResponseStore(Protocol):
    """Responses, kept. Every method may raise StoreUnavailable and returns within a bounded time.

    `now` is in Unix seconds: what has expired by then is not there.
    """

    async def save(self, kept: Kept) -> None:
        """Store a response; it is committed when this returns.

        Raises ValueError when the owner has one with this id, or `previous` is not in the store.
        """
        ...

    async def get(self, owner: str, response_id: str, now: float) -> Kept | None:
        """A response, its `items` left out."""
        ...

    async def conversation(
        self, owner: str, response_id: str, now: float, most: int
    ) -> list[KeptTurn]:
        """The turns up to a response, oldest first: of more than `most` the latest.

        Empty when there is no such response. Turns before it may be of responses that are gone.
        """
        ...

    async def holding(self, owner: str, items: Collection[str], now: float) -> list[KeptTurn]:
        """The turns of the owner's responses whose output has any of `items`."""
        ...

    async def delete(self, owner: str, response_id: str, now: float) -> bool:
        """Delete a response. Whether there was one."""
        ...

    async def redate(self, now: float, keep: float) -> int:
        """Let responses that were stored more than `AHEAD` after `now`, before a clock was set
        back, last `keep` seconds from now; returns how many there were."""
        ...

    async def purge(self, before: float) -> int:
        """Remove for good what was deleted or expired at `before` or earlier and is not needed by
        a response that is left; returns how many. Responses that end meanwhile wait for the next.
        """
        ...

    async def load(self, owner: str) -> Load:
        """What an owner has."""
        ...

    async def forget(
        self, owner: str, *, responses: int, size: int, continued: str | None = None
    ) -> int:
        """Remove for good an owner's responses until at least so many, and so many bytes, are gone;
        returns how many are.

        Conversations go from their last turns backwards, those first that were continued longest
        ago. continued: one that stays, with what it continues. Fewer go when there are no others.
        """
        ...
