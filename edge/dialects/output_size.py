"""Bytes of text that a model generated: the measure of answers without reported usage.

    size_of_events  of decoded events: translated answers, and whole ones
    OutputSize      of the events of a passed-through stream, without decoding them

The text is what the model wrote: words, visible reasoning, names and arguments of tool calls.
Nothing around it counts, so an answer has the same size in every dialect and form.
"""

import re
from collections.abc import Iterable

import msgspec

from middlewares.sse import split

from .events import (
    Event,
    RefusalDelta,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
)
from .passthrough import BACKSLASH

_TEXTS = frozenset((TextDelta, ToolDelta, ThinkingDelta, RefusalDelta))
_decode = msgspec.json.Decoder(str).decode
TEXT = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|thinking|refusal|arguments|partial_json|name'
    rb'|input|delta)"\s*:\s*"([^"\\]*+(?:\\.[^"\\]*+)*+)"'
)
"""Members of a delta whose value is generated text, in every dialect.

No repetition gives back what it matched, here and below: otherwise each escape takes memory.
"""
_string = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+').match
is_string = re.compile(rb'[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+)*+').fullmatch
"""Whether bytes may be the inside of a JSON string."""


def size_of_events(events: Iterable[Event]) -> int:
    """Bytes of generated text in `events`."""
    size = 0
    for event in events:
        kind = type(event)
        if kind in _TEXTS:
            text = event.text  # type: ignore[union-attr]
        elif kind is ToolOpened:
            text = event.name  # type: ignore[union-attr]
        else:
            continue
        size += len(text) if text.isascii() else size_of(text)
    return size


def size_of(text: str) -> int:
    """Bytes of `text` in UTF-8; it may hold lone surrogates."""
    return len(text.encode("utf-8", "surrogatepass"))


def closing_quote(block: bytes, start: int) -> int:
    """The place of the quote that ends the JSON string whose inside begins at `start`; else -1."""
    end: int = _string(block, start).end()  # type: ignore[union-attr]
    return end if block.startswith(b'"', end) else -1


def unescaped(text: bytes) -> int:
    """Bytes of the text that the inside of a JSON string encodes."""
    escapes = text.count(b"\\")
    if not escapes:
        return len(text)
    if b"\\u" in text:
        try:
            return len(_decode(b'"%b"' % text).encode())
        except (
            msgspec.DecodeError,
            UnicodeError,
        ):  # half of a surrogate pair, split between two events
            pass
    return len(text) - escapes + text.count(b"\\\\")


class OutputSize:
    """Counts the text in the events of one passed-through stream.

    Theory of operation. Events of a stream differ mostly in the inside of one JSON string. The
    bytes that open it (`"content":"`) are learned from one event and searched for in the next. An
    event without them, with an empty text or with an escaped quote is searched for all members that
    hold text. A text that an event has twice (OpenRouter's `reasoning` and `reasoning_details`)
    counts once.
    """

    __slots__ = ("bytes", "length", "opening")

    def __init__(self) -> None:
        self.bytes = 0
        self.opening = b"\0"  # no event has it
        """The bytes before the text of the last counted event."""
        self.length = 1

    def expect(self, opening: bytes) -> None:
        """The bytes before the text of the last counted event are `opening`."""
        self.opening = opening
        self.length = len(opening)

    def add(self, block: bytes, events: int, bare: bool = False) -> None:
        """Count `block`, which holds `events` whole events. bare: it holds no backslash."""
        if events == 1 and (bare or BACKSLASH not in block):  # the usual case
            start = block.find(self.opening)
            if start >= 0:
                start += self.length
                end = block.find(b'"', start)
                if end > start:
                    self.bytes += end - start
                    return
        self._add(block, events)

    def _add(self, block: bytes, events: int) -> None:
        if BACKSLASH not in block:
            _, *parts = block.split(self.opening)
            sizes = [part.find(b'"') for part in parts]
            if len(sizes) == events and all(sizes):
                self.bytes += sum(sizes)
                return
        opening, length = self.opening, self.length
        end = size = 0
        for _ in range(events):
            start = block.find(opening, end)
            if start < 0:
                break
            start += length
            end = block.find(b'"', start)
            if block[end - 1] == BACKSLASH:
                end = closing_quote(block, start)
            if end <= start:
                break
            size += unescaped(block[start:end])
        else:
            self.bytes += size
            return
        for event in (block,) if events == 1 else split(block):
            self._event(event)

    def _event(self, event: bytes) -> None:
        found = list(TEXT.finditer(event))
        if len(found) == 1:
            self.bytes += unescaped(found[0][1])
            if found[0][1]:
                self.opening = event[found[0].start() : found[0].start(1)]
                self.length = len(self.opening)
        elif found:
            self.bytes += sum(map(unescaped, {match[1] for match in found}))
