"""Templates of text events: the text of similar events is read without decoding the rest."""

import re

import msgspec

from .passthrough import BACKSLASH, UNREADABLE

_decode = msgspec.json.Decoder(str).decode
_LESSONS = 64
_NO_EVENT = b'"\0'
_PADDED = re.compile(rb'"obfuscation"\s*:\s*"(?=[0-9A-Za-z]+("\}\n\n)\Z)')
"""The last member of OpenAI's events: letters at random, which hide how long the text is."""


class TextTemplate:
    """Reads events of one stream that differ from an earlier one only in their text.

    member: the name of the member that holds the text, with its quotes.

    Theory of operation. The decoder of a dialect decodes an event and finds a text and no other
    change. `learn` keeps the bytes around that text, and around OpenAI's padding behind it. An
    event with the same bytes around one JSON string is that string, as long as the decoder is in
    the same state: a block of text is open. A stream whose events differ in more is given up after
    some attempts.
    """

    __slots__ = ("_head", "_member", "_padding", "_start", "_stop", "_tail", "lessons")

    def __init__(self, member: bytes) -> None:
        self._head = self._tail = _NO_EVENT
        self._member = member
        self._padding = b""
        """The bytes between the text and the padding; b"" without one."""
        self._start = self._stop = 0
        self.lessons = _LESSONS
        """How many more templates are learned."""

    def text(self, event: bytes) -> str:
        """The text of one whole event that matches the template; "" for any other."""
        if event.startswith(self._head) and event.endswith(self._tail):
            text = event[self._start : self._stop]  # with both quotes
            if self._padding:
                text, _, padding = text.partition(self._padding)
                if not padding.isalnum():
                    return ""
            try:
                return _decode(text)
            except UNREADABLE:
                pass
        return ""

    def learn(self, event: bytes, text: str) -> None:
        """Learn a template from `event`, whose only content is `text`."""
        self.lessons -= 1
        if event.count(self._member) != 1 or BACKSLASH in event:
            return
        name = event.index(self._member) + len(self._member)
        start = event.find(b'"', name) + 1
        end = event.find(b'"', start)
        if event[name : start - 1].strip() == b":" and event[start:end] == text.encode():
            self._head, self._tail, self._padding = event[:start], event[end:], b""
            self._start = start - 1
            self._stop = 1 - len(self._tail)
            if padded := _PADDED.search(event, end):
                self._padding = event[end + 1 : padded.end()]
                self._tail = padded[1]
                self._stop = -len(self._tail)
