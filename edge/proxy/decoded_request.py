"""Requests in the neutral form: decoded once per exchange, written once per target."""

from collections.abc import Callable, Iterator, Sequence

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
    weight: the basis of its token estimate, of all turns.
    calls_before: ids of calls in turns that were written before and are not in `conversation`.
    """

    fields: Fields
    conversation: Conversation
    weight: Weight
    calls_before: tuple[str, ...] = ()

    def calls(self) -> Iterator[str]:
        """The id of each call of the history."""
        yield from self.calls_before
        for call in self.conversation.calls():
            yield call.id


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
    set_up(conversation, exchange, fields)
    known = None
    marks = exchange.turn_marks
    if turns is not None and marks is not None and fields.get(turns) is marks.raw:
        known = weight_of_turns(conversation.turns, marks, decode)
    decoded = DecodedRequest(fields, conversation, weigh(conversation, turns=known))
    if exchange.repeatable:
        exchange.decoded = decoded
    return decoded


def set_up(conversation: Conversation, exchange: Exchange, fields: Fields) -> None:
    """Set what a conversation has of its exchange."""
    conversation.stream = exchange.stream
    conversation.large = exchange.large and sum(map(len, fields.values())) > _LONG


def weight_of_turns(
    turns: Sequence[Turn], marks: TurnMarks, decode: Decode, before: int = 0
) -> TurnsWeight | None:
    """The weight of all turns that `marks` is of. Segments that were weighed with an earlier
    request are not weighed again.

    turns: those that `decode` made of the segments behind the first `before`. None if one before
    was not weighed.
    """
    weight = TurnsWeight()
    for segment in marks.segments[:before]:
        known = segment.sums.get(decode)
        if known is None:
            return None
        weight += known
    segments = marks.segments[before:]
    end = len(turns) - sum(segment.facts.turns for segment in segments)
    for segment in segments:
        start, end = end, end + segment.facts.turns
        known = segment.sums.get(decode)
        if known is None:  # instructions at the beginning are no turns: they stand before 0
            known = weigh_turns(turns[max(0, start) : max(0, end)])
            segment.sums[decode] = known
        weight += known
    return weight
