"""Write a translated request whose first turns were written with an earlier request.

Theory of operation. An agent repeats all earlier turns of its conversation byte for byte. The
segments of turns that an earlier body had too (`edge.requests.known_turns`) are written by
themselves when they come the second time, and kept beside the other facts of the segment. From then
on only the turns behind them are read and written:

    caller    [ segment │ segment │ turn, turn, … ]
    upstream  [  bytes  │  bytes  │ read and written ]

What a turn is written as depends on the tools, the settings and the target, so bytes are kept for
one reader, one target, and one digest of all other members. It must not depend on other turns. So
segments are kept apart only before a turn of the assistant that says something, where each call has
its result before, no history has to be repaired, and no note names a place. Where anything is
unusual, all turns are read and written as if nothing were known; errors always come from there.

The bytes of one caller are never found by another: they belong to segments, which are compared with
bodies of their caller only. All of a worker together are bounded (`LongBodies`); the least recently
used are written again when they are needed.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import msgspec
from msgspec.structs import replace

from edge.billing.token_estimate import weigh
from edge.dialects.codec import ClientSide, TargetModel, UpstreamSide, WrittenRequest, WrittenTurns
from edge.dialects.conversation import Conversation, ToolCall, Turn
from edge.dialects.history_repair import regular_turns, says_something_as
from edge.dialects.openai_chat.read_messages import NUMBERED
from edge.dialects.passthrough import UNREADABLE, Fields
from edge.requests.kept_values import Kept, KeptValues
from edge.requests.known_turns import Segment, TurnMarks
from middlewares.exchange import Exchange
from middlewares.problem import Problem

from .decoded_request import Decode, DecodedRequest, decoded_once, set_up, weight_of_turns

Write = Callable[[Conversation, TargetModel], WrittenRequest]

_ID, _PLACE = 80, 400
"""Bytes of memory that an id and a kept value take."""
_MOST_PIECES = 16
"""Pieces of a segment that are kept apart; more are joined."""
_MOST_KEYS = 4
"""Targets and sets of other members for which a segment is kept."""


class _Key(msgspec.Struct, frozen=True):
    """What the bytes of a segment depend on. others: a digest of all other members."""

    read: Decode
    write: Write
    target: TargetModel
    others: bytes


class _Written(msgspec.Struct, frozen=True, eq=False):
    """What a segment was written as, in some places. None if it cannot be written by itself."""

    places: tuple[Kept[WrittenTurns], ...] | None = None

    def __add__(self, other: "_Written") -> "_Written":
        """Both together."""
        if self.places is None or other.places is None:
            return _Written()
        return _Written(self.places + other.places)


def written_once(
    exchange: Exchange,
    fields: Fields,
    read: Decode,
    client: ClientSide,
    upstream: UpstreamSide,
    target: TargetModel,
) -> tuple[DecodedRequest, WrittenRequest]:
    """Read `fields` and write them for `target`; turns that were written before are not again.

    Raises Problem, and RecursionError for a body that is nested too deeply.
    """
    marks, turns = exchange.turn_marks, client.turns
    if (
        marks is not None
        and marks.known
        and turns is not None
        and fields.get(turns) is marks.raw
        and upstream.write_turns is not None
    ):
        known = _Known(exchange, fields, read, turns, upstream, target)
        found = known.written()
        if found is not None:
            return found
        if known.whole is not None:
            return known.whole, upstream.write(known.whole.conversation, target)
    decoded = decoded_once(exchange, read, fields, turns)
    return decoded, upstream.write(decoded.conversation, target)


class _Known:
    """A body that begins with the turns of an earlier one."""

    def __init__(
        self,
        exchange: Exchange,
        fields: Fields,
        read: Decode,
        turns: str,
        upstream: UpstreamSide,
        target: TargetModel,
    ) -> None:
        marks = exchange.turn_marks
        assert isinstance(marks, TurnMarks) and marks.written is not None
        self._exchange = exchange
        self._fields = fields
        self._read = read
        self._turns = turns
        self._upstream = upstream
        self._target = target
        self._marks = marks
        self._kept: KeptValues[WrittenTurns] = marks.written
        self._key = _Key(read, upstream.write, target, _digest(fields, turns))
        self._segments = marks.segments[: min(marks.known, len(marks.segments) - 1)]
        """Those that may be kept. The last turns of a body are always read."""
        self._used = 0
        """How many of them are written."""
        self.whole: DecodedRequest | None = None
        """The request with all turns, if that was read."""

    def written(self) -> tuple[DecodedRequest, WrittenRequest] | None:
        """See `written_once`. None: all turns have to be read."""
        head = self._known_head()
        if self._used:
            conversation, at = self._rest(), 0
            if conversation is None:
                return None
        elif self._may_write(0):
            self.whole = decoded_once(self._exchange, self._read, self._fields, self._turns)
            conversation = self.whole.conversation
            at = len(conversation.turns) - sum(
                segment.facts.turns for segment in self._marks.segments
            )
            if at:  # instructions at the beginning are no turns
                head = WrittenTurns(system=tuple(conversation.system))
        else:
            return None
        # Notes of other members have no path into the turns.
        noted = any(note.startswith(f"{self._turns}[") for note in conversation.dropped)
        if noted and self._used:
            return None
        head, at = self._extended(head, conversation, at, noted=noted)
        turns = conversation.turns[max(0, at) :]
        if not self._used or not turns or not says_something_as("assistant", turns[0]):
            return None
        weight = weight_of_turns(turns, self._marks, self._read, self._used)
        if weight is None:
            return None
        rest = replace(conversation, turns=turns, system=[*head.system] or conversation.system)
        decoded = DecodedRequest(
            self._fields, rest, weigh(rest, turns=weight), calls_before=head.calls
        )
        assert self._upstream.write_after is not None
        try:
            return decoded, self._upstream.write_after(rest, self._target, head)
        except Problem:  # is raised again, with the right path
            return None

    def _known_head(self) -> WrittenTurns:
        """What the first segments are known to be written as."""
        head = WrittenTurns()
        for segment in self._segments:
            known = segment.sums.get(self._key)
            if known is None or known.places is None:
                break
            pieces = [self._kept.use(place) for place in known.places]
            made = WrittenTurns()
            for piece in pieces:
                if piece is None:
                    return head
                made += piece
            if len(pieces) > _MOST_PIECES:
                made = replace(made, messages=(b",".join(made.messages),))
                self._keep(segment, made)
            head += made
            self._used += 1
        return head

    def _may_write(self, at: int) -> bool:
        """Whether there is a segment there that is not known to need others."""
        if at >= len(self._segments):
            return False
        known = self._segments[at].sums.get(self._key)
        return known is None or known.places is not None

    def _rest(self) -> Conversation | None:
        """What stands behind the segments that are written. None if it cannot be read alone."""
        size = sum(segment.size for segment in self._segments[: self._used])
        rest = memoryview(self._marks.raw)[1 + size :]
        if bytes(rest[:1]) != b",":
            return None
        fields = {**self._fields, self._turns: msgspec.Raw(b"[" + rest[1:])}
        try:
            conversation = self._read(fields)
        except (Problem, *UNREADABLE):  # is raised again, with the right path
            return None
        segments = self._marks.segments[self._used :]
        if len(conversation.turns) != sum(segment.facts.turns for segment in segments):
            return None
        set_up(conversation, self._exchange, self._fields)
        return conversation

    def _extended(
        self, head: WrittenTurns, conversation: Conversation, at: int, *, noted: bool
    ) -> tuple[WrittenTurns, int]:
        """`head` with further segments; and how many turns of `conversation` are in it.

        at: where the turns of the next segment begin; -1 if an instruction stands before them.
        noted: whether a note names a turn.
        """
        while self._may_write(self._used):
            segment = self._segments[self._used]
            end = at + segment.facts.turns
            turns, behind = conversation.turns[max(0, at) : max(0, end)], conversation.turns[end:]
            made = None if noted else self._alone(head, conversation, turns, behind)
            if made is None:
                self._set(segment, _Written())
                break
            if not self._used:
                made = replace(made, system=head.system)
                head = WrittenTurns()
            self._keep(segment, made)
            head, at = head + made, end
            self._used += 1
        return head, at

    def _alone(
        self,
        head: WrittenTurns,
        conversation: Conversation,
        turns: Sequence[Turn],
        behind: Sequence[Turn],
    ) -> WrittenTurns | None:
        """What `turns`, which stand between `head` and `behind`, are always written as."""
        if not (
            turns
            and behind
            and all(turn.role != "system" for turn in turns)
            and says_something_as("assistant" if self._used else "user", turns[0])
            and says_something_as("user", turns[-1])
            and says_something_as("assistant", behind[0])
        ):
            return None
        regular = regular_turns(turns, head.calls)
        if regular is None:
            return None
        calls = tuple(
            block.id for turn in regular for block in turn.blocks if isinstance(block, ToolCall)
        )
        if any(id_.startswith(NUMBERED) for id_ in calls):  # later ones count on
            return None
        assert self._upstream.write_turns is not None
        try:
            made = self._upstream.write_turns(conversation, self._target, regular)
        except Problem:
            return None
        return None if made is None else replace(made, calls=calls)

    def _keep(self, segment: Segment[Any], made: WrittenTurns) -> None:
        texts = sum(len(text.text) for text in made.system)
        size = sum(map(len, made.messages)) + texts + sum(map(len, made.calls))
        size += _PLACE + _ID * len(made.calls)
        place = self._kept.add(made, size)
        self._set(segment, _Written(None if place.value is None else (place,)))

    def _set(self, segment: Segment[Any], written: _Written) -> None:
        """Replace what is kept of `segment`, and what is kept for too many others."""
        others = [key for key in segment.sums if isinstance(key, _Key) and key != self._key]
        for key in (self._key, *others[: max(0, len(others) + 1 - _MOST_KEYS)]):
            old = segment.sums.pop(key, None)
            for place in (old.places if old is not None else None) or ():
                self._kept.drop(place)
        segment.sums[self._key] = written


def _digest(fields: Fields, turns: str) -> bytes:
    """A digest of all members but the turns."""
    digest = sha256()
    for name, raw in fields.items():
        if name != turns:
            digest.update(b"%d %d " % (len(name), len(raw)))
            digest.update(name.encode("utf-8", "surrogatepass"))
            digest.update(raw)
    return digest.digest()
