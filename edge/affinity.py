"""Which conversation an exchange belongs to, and where that was answered last."""

from typing import Protocol

import msgspec

from middlewares.exchange import Exchange, Target


class Bond(msgspec.Struct, frozen=True):
    """Where a conversation was answered last.

    target: "upstream/its-model"; maker: fingerprint of what answers there.
    since: the message from which on everything that only one maker can read is this one's.
    """

    target: str
    maker: str
    since: int = 0


class Conversation(msgspec.Struct, frozen=True):
    """What is known of the conversation of one exchange.

    key: of its beginning, and of who has it. messages: so many it has.
    bound: whether a turn has begun in it that only its maker can go on with.
    """

    key: str
    messages: int
    bound: bool
    bond: Bond | None

    def foreign(self, maker: str) -> int:
        """How many of its messages, from its beginning, may hold what `maker` cannot read."""
        if self.bond is None:
            return 0
        return self.bond.since if self.bond.maker == maker else self.messages


class Affinity(Protocol):
    """What is remembered of conversations."""

    async def find(self, exchange: Exchange) -> Conversation | None:
        """The conversation of a request whose body has been read; None where it has none."""
        ...

    def keep(self, conversation: Conversation, target: Target, maker: str) -> None:
        """It was answered there."""
        ...
