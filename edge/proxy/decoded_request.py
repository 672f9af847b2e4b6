"""Requests in the neutral form: decoded once per exchange, written once per target."""

from collections.abc import Callable

from msgspec import Raw, Struct

from edge.billing.token_estimate import TurnsWeight, Weight, weigh, weigh_turns
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
    exchange: Exchange,
    decode: Callable[[Fields], Conversation],
    fields: Fields,
    turns: str | None = None,
) -> DecodedRequest:
    """Decode `fields`, or return the result of an earlier attempt of `exchange`.

    turns: the member of which `decode` makes a turn of each entry, but instructions of those at
    the beginning; None if there is none.

    The result is kept only if another attempt may follow: it can take more memory than the body.
    Raises Problem, and RecursionError for a body that is nested too deeply.
    """
    kept = exchange.decoded
    if isinstance(kept, DecodedRequest) and kept.fields is fields:
        return kept
    conversation = decode(fields)
    conversation.stream = exchange.stream
    conversation.large = exchange.large and sum(map(len, fields.values())) > _LONG
    raw = None if turns is None else fields.get(turns)
    known = _weight_of_turns(conversation, raw, exchange)
    decoded = DecodedRequest(fields, conversation, weigh(conversation, turns=known))
    if exchange.repeatable:
        exchange.decoded = decoded
    return decoded


def _weight_of_turns(
    conversation: Conversation, raw: Raw | None, exchange: Exchange
) -> TurnsWeight | None:
    """The weight of the turns that `raw` was decoded to. Segments that were weighed with an earlier
    request are not weighed again. None if the segments are not known."""
    marks = exchange.turn_marks
    if raw is None or marks is None or marks.raw is not raw:
        return None
    name = f"weight of {exchange.row.codec}"
    turns, weight = conversation.turns, TurnsWeight()
    end = len(turns) - sum(segment.facts.turns for segment in marks.segments)
    for segment in marks.segments:
        start, end = end, end + segment.facts.turns
        known = segment.sums.get(name)
        if known is None:
            known = weigh_turns(turns[max(0, start) : max(0, end)])
            segment.sums[name] = known
        weight += known
    return weight
