"""Shapes of a stream's events: an event like an earlier one passes without decoding.

Theory of operation. Events of a stream differ in a few values: text, a member of random letters,
counters. A relay decodes an event, finds it ordinary, and gives it to `EventShapes.learn` with its
answer. The shape of the event is the bytes between these values, the holes, and what the client
gets for them. `EventShape.answer` compares the bytes of an event, hole after hole: a value ends
where the bytes behind it begin, and must be the inside of one string or a number. Everything else
must be the same.

Holes are values that no relay acts on, so every event of a shape gets the answer that decoding
would give. If the answer differs in more than replaced names, it is learned from the answer to the
same event with marks in its holes. What a shape answers to its own event is compared with the
decoded answer before it is used.

The size of an event is that of its one text. A text that it has twice must be the same twice.
"""

import re
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

from middlewares import sse

from .output_size import TEXT, OutputSize, is_string, unescaped
from .passthrough import BACKSLASH, QUOTE
from .split_characters import may_have_lone

_LESSONS = 32
"""Events of a stream from which shapes are learned; one more for each shape that matches."""
_MOST_SHAPES = 4
_MOST_HOLES = 12
_LONGEST = 4096
"""Bytes of the largest event that is learned from."""
_VALUE = re.compile(
    rb'"(?P<name>obfuscation|created|sequence_number|[a-z_]*tokens)"\s*:\s*'
    rb'(?:"(?P<string>[^"\\]*)"|(?P<number>0|[1-9]\d{0,14})(?=[,}\s]))'
)
"""Members with a value that may change from event to event, besides texts."""
_is_valid = re.compile(
    rb'[^"\\\0-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\0-\x1f]*+)*+'
).fullmatch
_is_number = re.compile(rb"0|[1-9]\d{0,14}").fullmatch

Answer = Callable[[bytes], bytes]


_STRING, _TEXT, _NUMBER = 0, 1, 2
"""Kinds of values."""
_NO_NAMES: frozenset[bytes] = frozenset()
"""Of all streams: each `frozenset()` would be one more."""


class _Value(NamedTuple):
    """A value in an event that is learned from."""

    start: int
    end: int
    kind: int

    def mark(self, at: int) -> bytes:
        """Stands for the value with number `at`."""
        return b"%d" % (123454321000000 + at) if self.kind == _NUMBER else b"~hole%02d~" % at


_Hole = tuple[int, bytes, bool, bytes]
"""A value that changes: its kind, the bytes up to the next, whether the client gets the value, and
what the client gets behind it. A tuple without names, which is unpacked in half the time.
"""


class EventShape:
    """The bytes of similar events around their holes."""

    __slots__ = (
        "changed",
        "counts",
        "head",
        "holes",
        "opening",
        "ours",
        "strict",
        "used",
    )

    def __init__(self, head: bytes, ours: bytes, holes: tuple[_Hole, ...], opening: bytes) -> None:
        self.counts = False
        """Whether its events report usage."""
        self.strict = False
        """Whether decoding refuses or corrects a text that is no JSON."""
        self.head = head
        self.holes = holes
        self.opening = opening
        """The bytes before its only text; b"" with several."""
        self.ours = ours
        self.changed = any(not kept or behind != ours for _, behind, kept, ours in holes)
        """Whether the client gets other bytes behind the head."""
        self.used = False

    def ends(self) -> tuple[bytes, bytes, bytes, bytes] | None:
        """The bytes around its only hole, a text, and what the client gets for them; else None."""
        kind, behind, kept, ours = self.holes[0]
        if len(self.holes) > 1 or kind != _TEXT or not kept or self.counts or self.strict:
            return None
        return self.head, behind, self.ours, ours

    def answer(self, event: bytes, escaped: bool, output_size: OutputSize) -> bytes:
        """The client's bytes for `event`, whose text is counted; b"" if it has another shape.

        event: without a carriage return. escaped: it may have a backslash.
        """
        # Methods of bytes without places (`removeprefix`, `partition`) take a third of the others'
        # time.
        passed = rest = event.removeprefix(self.head)
        if len(rest) == len(event):
            return b""
        changed = self.changed
        out = [self.ours]
        text = None
        size = 0
        for kind, behind, kept, ours in self.holes:
            value, found, rest = rest.partition(behind)
            if not found:
                return b""
            if kind == _NUMBER:
                if not _is_number(value):
                    return b""
            elif kind == _STRING:
                if QUOTE in value or sse.LF in value or (escaped and BACKSLASH in value):
                    return b""
            elif text is not None:
                if value != text:
                    return b""
            else:
                text = value
                if escaped and BACKSLASH in value:
                    if not is_string(value) or may_have_lone(value):
                        return b""
                    size = unescaped(value)
                elif QUOTE in value or sse.LF in value:
                    return b""
                else:
                    size = len(value)
                if self.strict and not _is_valid(value):
                    return b""
            if changed:
                if kept:
                    out += value, ours
                else:
                    out.append(ours)
        if rest:
            return b""
        output_size.bytes += size
        if changed:
            return b"".join(out)
        return self.ours + passed


class EventShapes:
    """The shapes of one stream."""

    __slots__ = ("_changing", "_known", "_lessons", "_output_size", "_values", "current", "last")

    def __init__(self, output_size: OutputSize) -> None:
        self._known: list[EventShape] = []
        """The one that matched last is the first."""
        self._lessons = _LESSONS
        self._values: dict[bytes, bytes] = {}
        """Names and values of members that may change."""
        self._changing = _NO_NAMES
        """Names of those that did."""
        self._output_size = output_size
        self.current: EventShape | None = None
        """The shape of the last event; None if it is not known."""
        self.last = b""
        """The last matched event that reports usage."""

    @property
    def may_learn(self) -> bool:
        """Whether another shape is learned."""
        return self._lessons > 0

    def stop_learning(self) -> None:
        """Learn no more shapes."""
        self._lessons = 0

    def forget(self) -> None:
        """Forget all shapes, so that the next event is decoded."""
        self._known.clear()
        self.current = None

    def match_one(self, block: bytes, escaped: bool) -> bytes:
        """The client's bytes for `block`, if it is one event of the current shape; else b"".

        escaped, `block`: as for `match`.
        """
        shape = self.current
        if shape is None:
            return b""
        answer = shape.answer(block, escaped, self._output_size)
        if answer and shape.counts:
            self.last = block
        return answer

    def match(self, block: bytes, at: int, out: list[bytes], escaped: bool) -> int:
        """Match events of `block` from `at` on, in any known shapes; return their end.

        out: gets the client's bytes. escaped: `block` has a backslash. It has no carriage return.
        """
        known, size = self._known, self._output_size
        for data in block[at:].split(b"\n\n"):
            if not data:
                break
            event = data + b"\n\n"
            for shape in known:
                if answer := shape.answer(event, escaped, size):
                    break
            else:
                break
            out.append(answer)
            if shape is not self.current:
                self._take(shape)
            if shape.counts:
                self.last = event
            at += len(event)
        return at

    def _take(self, shape: EventShape) -> None:
        """Make a known shape the current one."""
        self.current = shape
        if shape.opening:
            self._output_size.expect(shape.opening)
        if not shape.used:
            shape.used = True
            self._lessons += 1
        self._known.remove(shape)
        self._known.insert(0, shape)

    def learn(
        self, event: bytes, answer: bytes, apply: Answer, relay: Answer | None = None
    ) -> EventShape | None:
        """Learn the shape of `event`, an ordinary one, whose `answer` the client got.

        apply: the answer to bytes without a hole. relay: the answer to an event that is ordinary
        too, without an effect. None if nothing was learned.
        """
        if not self._lessons or len(event) > _LONGEST:
            return None
        self._lessons -= 1
        values, opening = self._values_in(event)
        if not values:
            return None
        theirs = _around(event, values)
        pieces: list[bytes | None] = list(map(apply, theirs))
        if _filled(pieces, event, values) != answer:
            pieces = _marked_answer(event, values, relay) if relay is not None else []
            if not pieces or _filled(pieces, event, values) != answer:
                return None
        ours = [piece for piece in pieces if piece is not None]
        holes = []
        for value, behind, piece in zip(values, theirs[1:], pieces[1:], strict=True):
            kept = piece is not None
            holes.append((value.kind, behind, kept, piece or b""))
        shape = EventShape(theirs[0], ours[0], tuple(holes), opening)
        self._known.insert(0, shape)
        del self._known[_MOST_SHAPES:]
        self.current = shape
        return shape

    def _values_in(self, event: bytes) -> tuple[list[_Value], bytes]:
        """The values in `event` that are holes, and the bytes before its only text.

        None unless all its texts are the same: what other events amount to needs decoding.
        """
        texts = list(TEXT.finditer(event))
        said = [found for found in texts if found[1]]
        if len({found[1] for found in said}) != 1:
            return [], b""
        if any(found[0].startswith(b'"name"') for found in said):
            return [], b""
        values = [_Value(*found.span(1), _TEXT) for found in said]
        for found in _VALUE.finditer(event):
            group, kind = ("number", _NUMBER) if found["number"] else ("string", _STRING)
            if self._values.setdefault(found["name"], found[group]) != found[group]:
                self._changing |= {found["name"]}
            if found["name"] in self._changing:
                values.append(_Value(*found.span(group), kind))
        values.sort()
        overlap = any(one.end > other.start for one, other in pairwise(values))
        if overlap or len(values) > _MOST_HOLES:
            return [], b""
        alone = said[0] if len(texts) == 1 else None
        return values, event[alone.start() : alone.start(1)] if alone is not None else b""


def _around(event: bytes, values: Iterable[_Value]) -> list[bytes]:
    """The bytes before, between and behind `values`."""
    out = []
    start = 0
    for value in values:
        out.append(event[start : value.start])
        start = value.end
    return [*out, event[start:]]


def _filled(pieces: list[bytes | None], event: bytes, values: Iterable[_Value]) -> bytes:
    """The answer to `event`: `pieces`, with its values before all but the first; None drops one."""
    out = [pieces[0] or b""]
    for piece, value in zip(pieces[1:], values, strict=True):
        if piece is not None:
            out += event[value.start : value.end], piece
    return b"".join(out)


def _marked_answer(event: bytes, values: list[_Value], relay: Answer) -> list[bytes | None]:
    """The answer to `event` in pieces around its values, None for each that is dropped.

    [] if the values are not in the answer in their order.
    """
    marks = [value.mark(at) for at, value in enumerate(values)]
    if any(mark in event for mark in marks):
        return []
    parts = _around(event, values)
    marked = parts[0] + b"".join(mark + part for mark, part in zip(marks, parts[1:], strict=True))
    rest = relay(marked)
    out: list[bytes | None] = [None] * (len(values) + 1)
    last = 0
    for at, mark in enumerate(marks, 1):
        if rest.count(mark) > 1:
            return []
        before, found, behind = rest.partition(mark)
        if found:
            out[last] = before
            last, rest = at, behind
    out[last] = rest
    return out
