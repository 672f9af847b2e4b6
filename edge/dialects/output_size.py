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
from .passthrough import BACKSLASH

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
        said += len(text) if text.isascii() else size_of(text)
    return said


def size_of(text: str) -> int:
    """Bytes of `text`, which may hold half a character."""
    return len(text.encode("utf-8", "surrogatepass"))


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


def _is_escaped(before: bytes) -> bool:
    """Whether what follows on `before` is escaped: an odd number of backslashes is in front."""
    return (len(before) - len(before.rstrip(b"\\"))) % 2 == 1


class OutputSize:
    """Counts the text in the events of one passed stream.

    Theory of operation. Events of a stream differ mostly in the inside of one JSON string. What
    opens it (`"content":"`) is learnt from one event, and looked for in those that follow. An event
    without it, with nothing in it or with an escaped quote is searched for all members that hold
    text. A text that stands twice in one event (OpenRouter's `reasoning` and `reasoning_details`)
    counts once.
    """

    __slots__ = ("bytes", "length", "opening")

    def __init__(self) -> None:
        self.bytes = 0
        self.opening = b"\0"  # in no event
        """What stands before the text of the event that was counted last."""
        self.length = 1

    def add(self, block: bytes, events: int, bare: bool = False) -> None:
        """Count `block`, which holds so many whole events. bare: it surely holds no backslash."""
        if events == 1 and (bare or BACKSLASH not in block):  # as nearly all are
            start = block.find(self.opening)
            if start >= 0:
                start += self.length
                end = block.find(b'"', start)
                if end > start:
                    self.bytes += end - start
                    return
        self._add(block, events)

    def around(self, event: bytes) -> tuple[bytes, bytes] | None:
        """What stands before and behind the text of `event`, which holds no backslash.

        It was counted, so that an event with the same around another text counts as that text.
        """
        start = event.find(self.opening) + self.length
        end = event.find(b'"', start)
        return None if start < self.length or end <= start else (event[:start], event[end:])

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
            while block[end - 1] == BACKSLASH and _is_escaped(block[start:end]):
                end = block.find(b'"', end + 1)
            if end <= start:
                break
            size += _unescaped(block[start:end])
        else:
            self.bytes += size
            return
        for event in (block,) if events == 1 else split(block):
            self._event(event)

    def _event(self, event: bytes) -> None:
        found = list(_TEXT.finditer(event))
        if len(found) == 1:
            self.bytes += _unescaped(found[0][1])
            if found[0][1]:
                self.opening = event[found[0].start() : found[0].start(1)]
                self.length = len(self.opening)
        elif found:
            self.bytes += sum(map(_unescaped, {match[1] for match in found}))
