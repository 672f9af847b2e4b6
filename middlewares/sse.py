"""Server-sent events without I/O: cut a byte stream at event boundaries, read events, write them.

Source: the event stream grammar of the WHATWG HTML standard, section 9.2. An event ends at a blank
line; a line ends with LF, CRLF or CR. The forwarder passes whole events on as the bytes they came
in, so nothing here re-encodes what it has read.

Theory of operation. `Splitter.split` takes chunks cut anywhere and gives back the longest prefix
that ends at a boundary; what is left waits for the next chunk. Nearly every chunk of a live stream
is exactly one event ending in LF LF: that case is one `endswith`. The tail grows in a bytearray
and only its new part is searched, so a large event in many small chunks costs linear time.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

LF, CR = b"\n\r"
"""As numbers: `in` looks for one at once, while of `bytes` CPython asks first whether it is one, by
an exception.
"""
_BLANK = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n|\r\n\r|\r\n\n|\n\r")
_LINE = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
_PASSED = frozenset({b"event", b"data"})
_COMMENTS = re.compile(rb"(?::[^\r\n]*(?:\r\n|\n|\r))*")


class Overflow(ValueError):
    """An event grew past the bound."""


class Event(NamedTuple):
    """One event: its `event:` name ("" when absent) and its data lines joined by LF."""

    name: str
    data: bytes


def last_boundary(buffer: bytes | bytearray, start: int = 0) -> int:
    """Index just past the last blank line at or after `start`, or -1.

    A trailing CR CR or LF CR LF counts. LF CR waits for the next boundary, as LF may follow.
    """
    found = -1
    for mark in (b"\n\n", b"\n\r\n", b"\r\r"):
        at = buffer.rfind(mark, start)
        if at >= 0:
            found = max(found, at + len(mark))
    return found


class Splitter:
    """Whole events out of chunks cut anywhere.

    limit: most bytes one unfinished event may have; Overflow past it. tail: an unfinished event.
    """

    __slots__ = ("_limit", "tail")

    def __init__(self, limit: int = 16 << 20) -> None:
        self._limit = limit
        self.tail = bytearray()

    def split(self, chunk: bytes) -> bytes:
        """The events completed by `chunk`, as one piece of whole events; b"" when none is."""
        tail = self.tail
        if not tail:
            if chunk.endswith(b"\n\n"):
                return chunk
            cut = last_boundary(chunk)
            if cut < 0:
                tail += chunk
                self._check()
                return b""
            tail += memoryview(chunk)[cut:]
            self._check()
            return chunk[:cut]
        start = max(0, len(tail) - 3)
        tail += chunk
        cut = last_boundary(tail, start)
        if cut < 0:
            self._check()
            return b""
        whole = bytes(memoryview(tail)[:cut])
        del tail[:cut]
        self._check()
        return whole

    def _check(self) -> None:
        if len(self.tail) > self._limit:
            raise Overflow(f"an event is larger than {self._limit} bytes")

    def rest(self) -> bytes:
        """What is left at the end of the stream: an event without its blank line, or b""."""
        rest = bytes(self.tail)
        self.tail.clear()
        return rest


def split(block: bytes) -> Iterator[bytes]:
    """The single events of a block of whole events, each with its blank line, bytes unchanged."""
    start = 0
    for match in _BLANK.finditer(block):
        if match.end() > start:
            yield block[start : match.end()]
        start = match.end()
    if start < len(block):
        yield block[start:]


def parse(event: bytes) -> Event | None:
    """Name and data of one event; None for a comment, or an event without data."""
    if (
        event.startswith(b"data: ")
        and event.endswith(b"\n\n")
        and event.find(b"\n") == (len(event) - 2)
        and CR not in event
    ):
        return Event("", event[6:-2])
    if event.startswith(b"event: ") and event.endswith(b"\n\n") and CR not in event:
        head, _, rest = event.partition(b"\ndata: ")
        if rest.find(b"\n") == len(rest) - 2 and LF not in head:
            return Event(head[7:].strip().decode("utf-8", "replace"), rest[:-2])
    name = ""
    data: list[bytes] = []
    for line in _LINE.split(event.removeprefix(_BOM)):
        if line.startswith(b"data"):
            if line == b"data":
                data.append(b"")
            elif line.startswith(b"data:"):
                data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip().decode("utf-8", "replace")
    return Event(name, b"\n".join(data)) if data else None


def encode(data: bytes, name: str = "") -> bytes:
    """One event. `data` must not contain line ends (JSON never does)."""
    if name:
        return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"


def bare(event: bytes) -> bytes:
    """`event` with its `event` and `data` lines only, as the bytes they came in.

    Comments, `id`, `retry`, unknown fields, a BOM and blank lines in front go. An event without
    data is given back whole.
    """
    lines = event.count(b"\n")
    if CR not in event and (
        (lines == 2 and event.startswith(b"data:"))
        or (lines == 3 and event.startswith(b"event:") and b"\ndata:" in event)
    ):
        return event  # as nearly all are
    kept: list[bytes] = []
    end = b"\n"
    data = False
    for line in event.removeprefix(_BOM).splitlines(keepends=True):
        field = line.rstrip(b"\r\n").partition(b":")[0]
        if field in _PASSED:
            kept.append(line)
            data = data or field == b"data"
        elif not field:
            end = line if not line.startswith(b":") else end
    if not data:
        return event
    if kept[-1].endswith(b"\r"):  # with a line feed behind it the two would be one line end
        end = b"\r"
    return b"".join(kept) + end


def comment(text: str) -> bytes:
    """A comment line, to stand between events or directly in front of one.

    No blank line follows: some clients take that for an event without data (openai/openai-go#556).
    """
    return b": " + text.encode() + b"\n"


def before_last(block: bytes, line: bytes) -> bytes:
    """`block` of whole events with `line`, a comment, directly in front of its last event."""
    *_, last = split(block)
    comments = _COMMENTS.match(last)
    at = len(block) - len(last) + (comments.end() if comments else 0)
    return block[:at] + line + block[at:]
