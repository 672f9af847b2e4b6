"""Which conversation an exchange belongs to, and where that was answered last.

A conversation is known by a hash of how it began (`dialects.thread`), of who has it, and of the
model that is asked for: the same words to two models are two conversations, each with a prompt
cache of its own. Two that begin alike share what is remembered. That costs no more than a prompt
cache, or thinking that would still have been readable.
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
"""Bytes of a conversation's key; as many as nobody finds two of by trying."""


class ConversationKey(msgspec.Struct, frozen=True):
    """What is known of the conversation of one exchange.

    key: of its beginning, and of who has it. messages: so many it has.
    bound: whether a turn has begun in it that only its maker can go on with.
    """

    key: str
    messages: int
    bound: bool
    record: AffinityRecord | None

    def unreadable_messages(self, maker: str) -> int:
        """How many of its messages, from its beginning, may hold what `maker` cannot read."""
        if self.record is None:
            return 0
        return self.record.since if self.record.maker == maker else self.messages


class ConversationAffinity(Protocol):
    """What is remembered of conversations."""

    async def find(self, exchange: Exchange) -> ConversationKey | None:
        """The conversation of a request whose body has been read; None where it has none."""
        ...

    def keep(self, conversation: ConversationKey, target: Target, maker: str) -> None:
        """It was answered there."""
        ...


class StoredAffinity:
    """`ConversationAffinity` by what `store` knows. Whoever makes it starts and closes `store`."""

    __slots__ = ("_store",)

    def __init__(self, store: AffinityStore) -> None:
        self._store = store

    async def find(self, exchange: Exchange) -> ConversationKey | None:
        row: Endpoint = exchange.row
        if not row.conversation:
            return None
        fields = exchange.fields
        where = next((name for name in row.conversation if name in fields), row.conversation[0])
        if exchange.large:
            read = await run_in_thread(partial(conversation_key.read, fields, where))
        else:
            read = conversation_key.read(fields, where)
        if read is None:
            return None
        key = _key(exchange, read)
        return ConversationKey(key, read.messages, read.bound, await self._store.find(key))

    def keep(self, conversation: ConversationKey, target: Target, maker: str) -> None:
        """What only one maker can read is believed to be its own as long as nobody has seen another
        answer. When one has, all before its answer is foreign to it, and stays so: a history that
        was made shorter may be a branch, and the longer one come back.
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
