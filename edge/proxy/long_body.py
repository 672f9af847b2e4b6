"""Read a long body: its members, what is wrong with it, and what its tokens depend on.

The turns that the last body of the same caller began with are not checked and weighed again
(`edge.requests.known_turns`). They are cut out, and a number that no caller knows stands in their
place while the rest is decoded: it shows that they stood where the turns stand. Whatever is wrong
with the rest is found again in the whole body, so that errors name the right places.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from edge.billing.body_weight import BodyWeight, body_weight
from edge.endpoints import Endpoint
from edge.media.parts import has_media, may_have_media
from edge.proxy.attachments.named_files import check_with_files
from edge.requests.body_limits import (
    FEW,
    MOST_MESSAGES,
    Counts,
    check_all,
    check_few,
    counted,
    has_few_values,
)
from edge.requests.common_turns import check_turns
from edge.requests.dialect_signs import row_of
from edge.requests.json_body import members_of
from edge.requests.kept_values import KeptValues
from edge.requests.known_turns import KnownTurns, Match, Segment, TurnMarks
from edge.requests.member_names import check_names
from middlewares.asgi import Header
from middlewares.problem import Problem

Fields = dict[str, msgspec.Raw]

LEAST = 16 << 10
"""Bytes of turns from which they are kept."""
MOST_WRITTEN = 32 << 20
"""Bytes of translated turns that a worker keeps, see `edge.proxy.written_turns`."""
_CHANGING, _MOST_CHANGING = 4, 20
"""Turns at the end that clients change in the next request; with those before them, up to one of
the assistant."""
_BY_ASSISTANT = re.compile(rb'"role": ?"assistant"')
_ROLE_WITHIN = 64
_STAND_IN = str(10**15 + int.from_bytes(os.urandom(6)) % 10**15).encode()
"""A number that stands for the turns that are known."""
_OPENED = 1 << 20
"""Bytes in which the turns begin."""
_COMMA, _END, _LIST = b",]["
_NULL = msgspec.Raw(b"null")
_MEDIA = b'"media"\n'
"""Key of `may_have_media` among the marks of a segment: no text has these bytes."""

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class TurnFacts(msgspec.Struct, frozen=True):
    """Facts of some turns. brackets, commas: at least those outside of strings. common: whether all
    are of the common kinds (`edge.requests.common_turns`). walked: whether the names in them were
    checked one by one (`edge.requests.content_names`), and stayed as they are."""

    turns: int = 0
    brackets: int = 0
    commas: int = 0
    common: bool = True
    walked: bool = True
    weight: BodyWeight = BodyWeight(0, 0, 0, False, 0, 0, 0, 0)

    def __add__(self, other: "TurnFacts") -> "TurnFacts":
        return TurnFacts(
            self.turns + other.turns,
            self.brackets + other.brackets,
            self.commas + other.commas,
            self.common and other.common,
            self.walked and other.walked,
            self.weight + other.weight,
        )


class LongBody(msgspec.Struct):
    """A body that was read.

    row: the endpoint that it chose. whole: whether the size of all its input is known.
    problem: what is wrong with it; the row decides in which dialect that is said.
    weight: None if the body has to be weighed as one. media: whether it may have media parts; None
    if that is not known. marks: of its turns. common: whether its turns are of the common kinds, so
    that their names were not checked one by one.
    """

    row: Endpoint
    fields: Fields
    whole: bool = False
    problem: Problem | None = None
    weight: BodyWeight | None = None
    media: bool | None = None
    marks: TurnMarks | None = None
    common: bool = False
    counts: Counts = msgspec.field(default_factory=Counts)


class _Turns(msgspec.Struct, frozen=True):
    """The array of turns in a body. at: where its inside begins. match: what is known of it."""

    body: bytes
    name: str
    at: int
    match: Match[TurnFacts] = Match()

    @property
    def inside(self) -> memoryview:
        """The body from the first turn on."""
        return memoryview(self.body)[self.at :]

    @property
    def rest(self) -> int:
        """Where the turns end that are known."""
        return self.at + self.match.size


class LongBodies:
    """Reads long bodies, and keeps what they show of their turns.

    written: what turns were translated to, see `edge.proxy.written_turns`.
    """

    __slots__ = ("_known", "written")

    def __init__(self) -> None:
        self._known: KnownTurns[TurnFacts] = KnownTurns()
        self.written: KeptValues[Any] = KeptValues(MOST_WRITTEN)

    def read(
        self, row: Endpoint, headers: Iterable[Header], body: bytes, caller: str, *, large: bool
    ) -> LongBody:
        """Read `body`. Raises Problem for what is no JSON object.

        caller: whose bodies it is compared with. large: see `edge.requests.body_limits.is_large`.
        """
        turns = _turns_of(body, row.conversation)
        if turns is None:
            return _read_whole(row, headers, body, large)
        match = self._known.find(caller, turns.name, turns.inside)
        if match.size:
            turns = msgspec.structs.replace(turns, match=match)
            read = _read_rest(row, headers, turns, large)
            if read is not None:
                return self._described(read, turns, caller)
            turns = msgspec.structs.replace(turns, match=Match())
        read = _read_whole(row, headers, body, large)
        array = read.fields.get(turns.name)
        if read.problem is None and array is not None and _stands_at(array, body, turns.at - 1):
            read.common = read.whole or read.common or _are_common(bytes(array)[1:-1])
            return self._described(read, turns, caller)
        return read

    def _described(self, read: LongBody, turns: _Turns, caller: str) -> LongBody:
        """`read` with weight, media and marks. Its turns are those that are not known yet; all
        are in the result."""
        name, body, match = turns.name, turns.body, turns.match
        new = _segments(read.fields[name], read, turns)
        segments = [*match.segments, *new]
        size = sum(segment.size for segment in segments)
        if match.size:
            whole = memoryview(body)[turns.at - 1 : turns.at + size + 1]
            read.fields[name] = msgspec.Raw(whole)
        known = len(match.segments)
        read.marks = marks = TurnMarks(read.fields[name], segments, known, self.written)
        outside = body_weight(body[: turns.at] + body[turns.at + size :])
        weight = sum((segment.facts.weight for segment in segments), outside)
        read.weight = weight if weight.measured else None
        if size >= LEAST and not any(segment.facts.weight.file_ids for segment in new):
            self._known.keep(caller, name, turns.inside, match, new)
        if not read.whole:
            others = {each: raw for each, raw in read.fields.items() if each != name}
            read.media = has_media(others) or marks.found(_MEDIA, may_have_media)
        return read


def _turns_of(body: bytes, names: Iterable[str]) -> _Turns | None:
    """The array of turns, if it is written as most clients do. names: of its member."""
    for name in names:
        key = b'"%b":' % name.encode()
        at = body.find(key, 0, _OPENED) + len(key)
        if at >= len(key):
            at += body[at : at + 1] == b" "
            return _Turns(body, name, at + 1) if body[at : at + 1] == b"[" else None
    return None


def _stands_at(array: msgspec.Raw, body: bytes, at: int) -> bool:
    text = memoryview(array)
    return text[0] == _LIST and body[at : at + len(text)] == bytes(text)


def _read_whole(row: Endpoint, headers: Iterable[Header], body: bytes, large: bool) -> LongBody:
    """Read a body of which nothing is known."""
    fields = members_of(body)
    rules = row.rules
    common: dict[str, bool] = {}
    counts = Counts()
    if large:
        try:
            common = check_all(row, fields, counts)
        except Problem as problem:
            if rules is not None:  # by the names alone: the values may be too many to be decoded
                row = row_of(rules, headers, dict.fromkeys(fields, _NULL))
            return LongBody(row, fields, problem=problem)
    if rules is not None:
        row = row_of(rules, headers, fields)
    read = LongBody(row, fields, counts=counts)
    try:
        _check(read, common, large)
    except Problem as problem:
        read.problem = problem
    return read


def _read_rest(
    row: Endpoint, headers: Iterable[Header], turns: _Turns, large: bool
) -> LongBody | None:
    """Read the rest of a body whose first turns are known. None: all of it has to be read."""
    body, name = turns.body, turns.name
    text = memoryview(body)
    if text[turns.rest] not in (_COMMA, _END):
        return None
    known = sum((segment.facts for segment in turns.match.segments), TurnFacts())
    try:
        fields = members_of(b"".join((text[: turns.at], _STAND_IN, text[turns.rest :])))
        stood = memoryview(fields.get(name, _NULL))
        if stood[: len(_STAND_IN) + 1] != b"[" + _STAND_IN:
            return None
        rest = stood[len(_STAND_IN) + 1 :]
        array = msgspec.Raw(b"[" + rest[1:] if rest[0] == _COMMA else b"[]")
        fields[name] = array
        common: dict[str, bool] = {}
        if large:
            if not has_few_values(fields, known.brackets, known.commas):
                return None
            common = check_all(row, fields)
        if known.turns + len(_decode_list(array)) > MOST_MESSAGES:
            return None
        usual = common.get(name, False) or _are_common(bytes(array)[1:-1])
        if not usual or not known.common:
            if not known.walked:  # they might be encoded again
                return None
            usual = False
        common[name] = usual
        if row.rules is not None:
            whole = text[turns.at - 1 : turns.rest + len(rest)]
            row = row_of(row.rules, headers, {**fields, name: msgspec.Raw(whole)})
        read = LongBody(row, fields, common=usual)
        _check(read, common, large)
    except (Problem, msgspec.DecodeError, RecursionError):
        return None
    return read if fields[name] is array else None


def _check(read: LongBody, common: Mapping[str, bool], large: bool) -> None:
    """Check the members of a body, and set `whole`. Raises Problem."""
    fields = read.fields
    if not large and not FEW.isdisjoint(fields):
        check_few(fields)
    check_names(fields, read.row.codec)
    read.whole = check_with_files(read.row, fields, common)


def _segments(array: msgspec.Raw, read: LongBody, turns: _Turns) -> list[Segment[TurnFacts]]:
    """The segments of the turns that are not known yet."""
    items = _decode_list(array)
    if not items:
        return []
    text = turns.body
    start = turns.rest
    end = start + len(array) - 2 + (text[start] == _COMMA)
    parts = [(start, end, len(items))]
    count = _changing(items)
    if len(items) > count and (last := _last(items[-count:], array)):
        middle = end - last
        parts = [(start, middle, len(items) - count), (middle, end, count)]
    segments: list[Segment[TurnFacts]] = []
    counts = read.counts
    brackets, commas = counts.of.get(turns.name, (-1, -1))
    for begun, ended, count in reversed(parts):
        piece = text[begun:ended]
        if brackets < 0 or begun > start:
            if counts.exact:
                found = list(counted(msgspec.Raw(piece)))
                held = sum(one for one, _ in found), sum(two for _, two in found)
            else:
                held = piece.count(b"{") + piece.count(b"["), piece.count(b",")
            brackets, commas = brackets - held[0], commas - held[1]
        else:  # all others have been subtracted
            held = brackets, commas
        facts = TurnFacts(
            count,
            *held,
            read.common or _are_common(piece),
            not read.common,
            body_weight(piece),
        )
        segments.insert(0, Segment(len(piece), facts))
    return segments


def _changing(items: Sequence[msgspec.Raw]) -> int:
    """How many of the last items are a segment of their own. It begins with a turn of the assistant
    if there is one: then no call is cut off from its results."""
    for count in range(_CHANGING, min(_MOST_CHANGING, len(items) - 1) + 1):
        if _BY_ASSISTANT.search(bytes(memoryview(items[-count])[:_ROLE_WITHIN])):
            return count
    return _CHANGING


def _last(items: Sequence[msgspec.Raw], array: msgspec.Raw) -> int:
    """Bytes of the last items of an array, with a comma before each; 0 if it is not known where
    they begin. Nothing but a space may stand between them."""
    for between in (b",", b", "):
        text = between + between.join(map(bytes, items))
        if memoryview(array)[-1 - len(text) : -1] == text:
            return len(text)
    return 0


def _are_common(piece: bytes) -> bool:
    """Whether turns, which a comma may precede, are all of the common kinds."""
    try:
        check_turns(b"[%b]" % piece.removeprefix(b","))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
