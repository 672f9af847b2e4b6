"""Conversation affinity: the conversation of an exchange, and the target that answered it last.

A conversation is identified by a hash of its beginning (`conversation_key`), its principal and the
requested model: two models have two prompt caches. Conversations with the same beginning share a
record, which costs at most a prompt cache, or thinking that was still readable.
"""

from functools import partial
from hashlib import blake2b
from typing import Protocol

import msgspec

from edge.endpoints import Endpoint
from edge.runtime.worker_thread import run_in_thread
from middlewares.exchange import Exchange, Target
from middlewares.stores.affinity.base import AffinityRecord, AffinityStore

from . import conversation_key

_KEY = 16
"""Bytes of a conversation's key, enough to prevent collisions."""


class ConversationKey(msgspec.Struct, frozen=True):
    """The conversation of one exchange.

    key: hash of its beginning, principal and model. messages: number of its messages.
    bound: whether it is in a turn that only the maker of the previous answer can continue.
    record: what is remembered of it, if anything.
    """

    key: str
    messages: int
    bound: bool
    record: AffinityRecord | None

    def unreadable_messages(self, maker: str) -> int:
        """Messages from its beginning that may hold signatures which `maker` cannot read."""
        if self.record is None:
            return 0
        return self.record.since if self.record.maker == maker else self.messages


class ConversationAffinity(Protocol):
    """Memory of conversations."""

    async def find(self, exchange: Exchange) -> ConversationKey | None:
        """The conversation of a request whose body has been read; None where it has none."""
        ...

    def keep(self, conversation: ConversationKey, target: Target, maker: str) -> None:
        """Remember that `target` answered."""
        ...


class StoredAffinity:
    """`ConversationAffinity` over a store, which the owner starts and closes."""

    __slots__ = ("_store",)

    def __init__(self, store: AffinityStore) -> None:
        self._store = store

    async def find(self, exchange: Exchange) -> ConversationKey | None:
        row: Endpoint = exchange.row
        if not row.conversation:
            return None
        fields = exchange.fields
        where = next((name for name in row.conversation if name in fields), row.conversation[0])
        marks = exchange.turn_marks
        if exchange.large:
            read = await run_in_thread(partial(conversation_key.read, fields, where, marks))
        else:
            read = conversation_key.read(fields, where, marks)
        if read is None:
            return None
        key = _key(exchange, read)
        return ConversationKey(key, read.messages, read.bound, await self._store.find(key))

    def keep(self, conversation: ConversationKey, target: Target, maker: str) -> None:
        """Remember that `target` answered.

        Once another maker answers, it cannot read the signatures before its own answer. That does
        not change when the history gets shorter: it may be a branch, and the longer history may
        return.
        """
        before = conversation.record
        since = 0 if before is None else conversation.unreadable_messages(maker)
        self._store.keep(conversation.key, AffinityRecord(target.name, maker, since))


def _key(exchange: Exchange, read: conversation_key.ConversationStart) -> str:
    who = exchange.principal.id if exchange.principal is not None else exchange.client
    key = blake2b(who.encode(errors="replace"), digest_size=32).digest()
    digest = blake2b(key=key, digest_size=_KEY, person=b"conversation")
    for text in (exchange.model, *read.beginning):
        encoded = text.encode(errors="replace")
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return digest.hexdigest()
