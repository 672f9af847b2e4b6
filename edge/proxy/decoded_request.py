"""Requests in the neutral form: decoded once per exchange, written once per target."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from edge.billing.token_estimate import TurnsWeight, Weight, weigh, weigh_turns
from edge.dialects.conversation import Conversation, Turn
from edge.dialects.passthrough import Fields
from edge.requests.known_turns import TurnMarks
from middlewares.exchange import Exchange

Decode = Callable[[Fields], Conversation]
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
    exchange: Exchange, decode: Decode, fields: Fields, turns: str | None = None
) -> DecodedRequest:
    """Decode `fields`, or return the result of an earlier attempt of `exchange`.

    turns: the member of which `decode` makes a turn of each entry (`ClientSide`).

    The result is kept only if another attempt may follow: it can take more memory than the body.
    Raises Problem, and RecursionError for a body that is nested too deeply.
    """
    kept = exchange.decoded
    if isinstance(kept, DecodedRequest) and kept.fields is fields:
        return kept
    conversation = decode(fields)
    conversation.stream = exchange.stream
    conversation.large = exchange.large and sum(map(len, fields.values())) > _LONG
    known = None
    marks = exchange.turn_marks
    if turns is not None and marks is not None and fields.get(turns) is marks.raw:
        known = _weight_of_turns(conversation.turns, marks, decode)
    decoded = DecodedRequest(fields, conversation, weigh(conversation, turns=known))
    if exchange.repeatable:
        exchange.decoded = decoded
    return decoded


def _weight_of_turns(turns: Sequence[Turn], marks: TurnMarks, decode: Decode) -> TurnsWeight:
    """The weight of `turns`, which `decode` made of what `marks` is of. Segments that were weighed
    with an earlier request are not weighed again."""
    weight = TurnsWeight()
    end = len(turns) - sum(segment.facts.turns for segment in marks.segments)
    for segment in marks.segments:
        start, end = end, end + segment.facts.turns
        known = segment.sums.get(decode)
        if known is None:  # instructions at the beginning are no turns: they stand before 0
            known = weigh_turns(turns[max(0, start) : max(0, end)])
            segment.sums[decode] = known
        weight += known
    return weight
