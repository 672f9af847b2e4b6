"""How much text a model made, in bytes of UTF-8: what answers are charged by that nobody counted.

    said_by     of events of the neutral form: translated answers, and whole ones
    Said        of the events of a passed stream, without decoding them

The text is what the model wrote: words, reasoning that is told, names and arguments of tool calls.
What stands around it does not count, so an answer has the same size in every dialect and form.
"""

import re
from collections.abc import Iterable

import msgspec

from middlewares.sse import split

from .neutral import Event, RefusalDelta, TextDelta, ThinkingDelta, ToolDelta, ToolOpened

_TEXTS = frozenset((TextDelta, ToolDelta, ThinkingDelta, RefusalDelta))
_decode = msgspec.json.Decoder(str).decode
_TEXT = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|thinking|refusal|arguments|partial_json|name'
    rb'|input|delta)"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
)
"""Members of an event's delta whose value is text that the model made, in every dialect."""


def said_by(events: Iterable[Event]) -> int:
    """Bytes of text in `events`: words, reasoning, and tool calls with their arguments."""
    said = 0
    for event in events:
        kind = type(event)
        if kind in _TEXTS:
            text = event.text  # type: ignore[union-attr]
        elif kind is ToolOpened:
            text = event.name  # type: ignore[union-attr]
        else:
            continue
        said += len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return said


def _unescaped(text: bytes) -> int:
    """Bytes of what the inside of a JSON string stands for."""
    escapes = text.count(b"\\")
    if not escapes:
        return len(text)
    if b"\\u" in text:
        try:
            return len(_decode(b'"%b"' % text).encode())
        except (msgspec.DecodeError, UnicodeError):  # half of a character, of two events
            pass
    return len(text) - escapes + text.count(b"\\\\")


class Said:
    """Counts the text in the events of one passed stream.

    Theory of operation. Events of a stream differ mostly in the inside of one JSON string, so what
    stands around it is learnt from one event; a block of events that all begin and end as that one
    did is counted by its length. Any other event is searched for members that hold text. A text
    that stands twice in one event (OpenRouter's `reasoning` and `reasoning_details`) counts once.
    """

    __slots__ = ("_around", "_head", "_tail", "bytes")

    def __init__(self) -> None:
        self.bytes = 0
        self._head = self._tail = b"\0"  # in no event
        self._around = 0

    def add(self, block: bytes, events: int) -> None:
        """Count `block`, which holds so many whole events."""
        if block.count(self._head) == events == block.count(self._tail) and b"\\u" not in block:
            self.bytes += len(block) - events * self._around
            if b"\\" in block:
                self.bytes += block.count(b"\\\\") - block.count(b"\\")
        elif events == 1:
            self._event(block)
        else:
            for event in split(block):
                self._event(event)

    def _event(self, event: bytes) -> None:
        found = list(_TEXT.finditer(event))
        if not found:
            return
        if len(found) == 1:
            start, end = found[0].span(1)
            self._head, self._tail = event[:start], event[end:]
            self._around = len(event) - (end - start)
            self.bytes += _unescaped(found[0][1])
        else:
            self.bytes += sum(map(_unescaped, {match[1] for match in found}))
