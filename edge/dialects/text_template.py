"""Text of a stream's ordinary events, read without decoding what stands around it."""

import msgspec

from .passthrough import BACKSLASH, UNREADABLE

_decode = msgspec.json.Decoder(str).decode
_LESSONS = 64
_NO_EVENT = b'"\0'


class TextTemplate:
    """Reads the events of one stream that differ from an earlier one in one text only.

    member: the name of the member that holds the text, with its quotes.

    Theory of operation. The reader of a dialect decodes an event, and finds that it amounts to a
    text and changes nothing else. `learn` keeps the bytes around that text. An event with the same
    bytes around one JSON string amounts to that string, as long as the reader is in the same state:
    a block of text is open. A stream whose events all differ in more is given up after a while.
    """

    __slots__ = ("_head", "_member", "_start", "_stop", "_tail", "lessons")

    def __init__(self, member: bytes) -> None:
        self._head = self._tail = _NO_EVENT
        self._member = member
        self._start = self._stop = 0
        self.lessons = _LESSONS
        """How many more shapes it takes."""

    def text(self, event: bytes) -> str:
        """The text of one whole event, if it is like the one that was learned; otherwise ""."""
        if event.startswith(self._head) and event.endswith(self._tail):
            try:
                return _decode(event[self._start : self._stop])  # with both quotes
            except UNREADABLE:
                pass
        return ""

    def learn(self, event: bytes, text: str) -> None:
        """Take `event`, which amounts to `text` and to nothing else, for the shape of others."""
        self.lessons -= 1
        if event.count(self._member) != 1 or BACKSLASH in event:
            return
        name = event.index(self._member) + len(self._member)
        start = event.find(b'"', name) + 1
        end = event.find(b'"', start)
        if event[name : start - 1].strip() == b":" and event[start:end] == text.encode():
            self._head, self._tail = event[:start], event[end:]
            self._start = start - 1
            self._stop = 1 - len(self._tail)
