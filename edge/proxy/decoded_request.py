"""Requests in the neutral form: decoded once per exchange, written once per target."""

from collections.abc import Callable

from msgspec import Struct

from edge.billing.token_estimate import Weight, weigh
from edge.dialects.conversation import Conversation
from edge.dialects.passthrough import Fields
from middlewares.exchange import Exchange

_LONG = 4 << 20
"""Bytes of a body whose texts are written in pieces: a text of this size is escaped in 5 ms."""


class DecodedRequest(Struct, frozen=True, eq=False):
    """One decoded request. Nothing changes it: it is written for every target.

    fields: the members that it was decoded from.
    weight: the basis of its token estimate.
    """

    fields: Fields
    conversation: Conversation
    weight: Weight


def decoded_once(
    exchange: Exchange, decode: Callable[[Fields], Conversation], fields: Fields
) -> DecodedRequest:
    """Decode `fields`, or return the result of an earlier attempt of `exchange`.

    The result is kept only if another attempt may follow: it can take more memory than the body.
    Raises Problem, and RecursionError for a body that is nested too deeply.
    """
    kept = exchange.decoded
    if isinstance(kept, DecodedRequest) and kept.fields is fields:
        return kept
    conversation = decode(fields)
    conversation.stream = exchange.stream
    conversation.large = exchange.large and sum(map(len, fields.values())) > _LONG
    decoded = DecodedRequest(fields, conversation, weigh(conversation))
    if exchange.repeatable:
        exchange.decoded = decoded
    return decoded
