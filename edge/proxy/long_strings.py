"""Long JSON strings kept in temporary files while the rest of an answer is read and rewritten.

Theory of operation. An image in base64 has many megabytes, and an answer has up to ten. So the text
is passed through `LongStrings.shorten`, piece by piece, which replaces each long string by a short
one, a mark with a secret number. What is left has a few kilobytes, and is handled like any other
answer. `LongStrings.pieces` puts the strings back while the answer is sent, 256 KiB at a time. So
the memory of an answer does not depend on its size, and a failure before its end leaves no trace.

In a stream each event ends with a line, and no JSON string goes over one: a quotation mark in a
comment is text up to the end of its line. The strings of an event are dropped once it is sent, so
one event at most is held, and the beginning of the next.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from secrets import token_hex
from tempfile import SpooledTemporaryFile

from edge.dialects.passthrough import UpstreamError
from edge.upstreams import Header, Response, Sink, pump
from middlewares.asgi import Message, Send
from middlewares.problem import Problem
from middlewares.shared import Shared

LONGEST = 16 << 10
"""Bytes of a string that stays where it is."""
MOST_HELD = 512 << 20
"""Bytes of the long strings of one answer, and of one event."""
MOST_OF_ALL = 4 << 30
"""Bytes of the long strings that one process holds."""
_MOST_STRINGS = 64
"""Long strings of one answer, or of one event."""
_IN_MEMORY = 256 << 10
_PIECE = 256 << 10
_SHORTENED = 32 << 10
"""Bytes that are searched between two chances for other tasks."""
_escaped_text = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL).match
_QUOTE, _BACKSLASH = b'"\\'
_LINE_ENDS = (b"\n", b"\r")


class HeldBytes(Shared):
    """Bytes of all long strings in this process, with a bound."""

    def __init__(self, most: int = MOST_OF_ALL) -> None:
        self._most = most
        self.held = 0

    def add(self, size: int) -> None:
        """Count `size` bytes more. Raises Problem where there is no room."""
        if size > 0 and self.held + size > self._most:
            raise Problem("upstream_unavailable", reason="no room for long answers", held=False)
        self.held += size


HELD_BYTES = HeldBytes()
"""Those of this process."""


class _LongString:
    """One long string in a file, with its quotation marks."""

    def __init__(self, beginning: bytes | bytearray) -> None:
        try:
            self.file = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - it outlives this
        except OSError as error:
            raise _no_file(error) from None
        self.size = 0
        self.add(beginning)

    def add(self, piece: bytes | bytearray) -> None:
        HELD_BYTES.add(len(piece))
        self.size += len(piece)
        try:
            self.file.write(piece)
        except OSError as error:
            raise _no_file(error) from None

    def read(self) -> Iterator[bytes]:
        self.file.seek(0)
        while piece := self.file.read(_PIECE):
            yield piece

    def close(self) -> None:
        HELD_BYTES.add(-self.size)
        self.size = 0
        self.file.close()


class LongStrings:
    """The long strings of one answer. Close it at the end.

    lines: whether the text is an event stream. limit: bytes of all of them together.
    """

    def __init__(self, *, lines: bool = False, limit: int = MOST_HELD) -> None:
        self._lines = lines
        self._limit = limit
        token = token_hex(8).encode()
        self._mark = b'"@' + token + b':%d@"'
        self._find = re.compile(rb'"@' + token + rb':(\d+)@"').search
        self._token = token
        self._strings: dict[int, _LongString] = {}
        self._count = 0
        self._begun: bytearray | None = None
        """The string that is being read, while it is short; None outside of strings."""
        self._long: _LongString | None = None
        """The same once it is long."""
        self._escaped = False

    @property
    def held(self) -> int:
        """Bytes of the strings that are held."""
        long = self._long
        return sum(one.size for one in self._strings.values()) + (long.size if long else 0)

    def shorten(self, text: bytes) -> bytes:
        """`text` with each long string replaced by its mark. A string that is not complete is
        withheld. Raises UpstreamError beyond the limit, and Problem where there is no room."""
        out: list[bytes] = []
        at, size = 0, len(text)
        while at < size:
            if self._begun is None and self._long is None:
                quote = text.find(b'"', at)
                if quote < 0:
                    out.append(text[at:] if at else text)
                    break
                out.append(text[at:quote])
                self._begun = bytearray()
                at = quote
                self._take(text[at : at + 1])
                at += 1
                continue
            end = self._end_of_string(text, at)
            broken = self._end_of_line(text, at, size if end < 0 else end) if self._lines else -1
            if broken >= 0:
                out.append(self._give_up(text[at:broken]))
                at = broken
                continue
            self._take(text[at:] if end < 0 else text[at:end])
            if end < 0:
                break
            out.append(self._finish())
            at = end
        return b"".join(out)

    def rest(self) -> bytes:
        """The beginning of a string whose end has not come."""
        begun, self._begun = self._begun, None
        if self._long is not None:
            raise UpstreamError("the answer ends within a string")
        return bytes(begun or b"")

    def has_marks(self, text: bytes) -> bool:
        """Whether `text` has marks."""
        return text.find(self._token) >= 0

    def size_of(self, text: bytes) -> int:
        """Bytes of `text` with its long strings put back."""
        size, at = len(text), 0
        while found := self._find(text, at):
            size += self._strings[int(found[1])].size - len(found[0])
            at = found.end()
        return size

    def pieces(self, text: bytes) -> Iterator[bytes]:
        """`text` with its long strings put back, in pieces. Each string can be put back once."""
        at = 0
        while found := self._find(text, at):
            yield text[at : found.start()]
            at = found.end()
            string = self._strings.pop(int(found[1]))
            try:
                yield from string.read()
            finally:
                string.close()
        yield text[at:]

    def read(self, string: bytes) -> Iterator[bytes]:
        """The content of a JSON string as its bytes, which may be a mark, without the quotation
        marks, in pieces. Escapes stay."""
        found = self._find(string)
        if found is None:
            yield string[1:-1]
            return
        last = b""
        for piece in self._strings[int(found[1])].read():
            if last:
                yield last
                last = piece
            else:
                last = piece[1:]
        yield last[:-1]

    async def add(self, pieces: AsyncIterator[bytes]) -> bytes:
        """The mark of a JSON string that comes in `pieces`. Raises as `shorten`."""
        long = _LongString(b"")
        self._count += 1
        self._strings[self._count] = long
        async for piece in pieces:
            long.add(piece)
            if self.held > self._limit:
                raise UpstreamError(f"an answer is larger than {self._limit} bytes")
        return self._mark % self._count

    def drop(self, text: bytes) -> None:
        """Drop the long strings whose marks are in `text`."""
        at = 0
        while found := self._find(text, at):
            at = found.end()
            if (string := self._strings.pop(int(found[1]), None)) is not None:
                string.close()

    def close(self) -> None:
        """Drop all strings. Idempotent."""
        for string in self._strings.values():
            string.close()
        self._strings.clear()
        if self._long is not None:
            self._long.close()
            self._long = None

    def _end_of_string(self, text: bytes, at: int) -> int:
        """Index behind the quotation mark that ends the string, or -1."""
        if self._escaped:
            self._escaped = False
            at += 1
        quote = text.find(b'"', at)
        if text.find(b"\\", at, quote if quote >= 0 else len(text)) < 0:
            return quote + 1 if quote >= 0 else -1
        found = _escaped_text(text, at)
        assert found is not None
        stop = found.end()
        if stop == len(text):
            return -1
        if text[stop] == _QUOTE:
            return stop + 1
        self._escaped = True  # its backslash is the last byte
        return -1

    def _end_of_line(self, text: bytes, start: int, stop: int) -> int:
        found = [at for end in _LINE_ENDS if (at := text.find(end, start, stop)) >= 0]
        return min(found, default=-1)

    def _take(self, piece: bytes) -> None:
        long = self._long
        if long is None:
            begun = self._begun
            assert begun is not None
            begun += piece
            if len(begun) <= LONGEST:
                return
            if len(self._strings) >= _MOST_STRINGS:
                raise UpstreamError(f"more than {_MOST_STRINGS} long strings")
            self._long, self._begun = _LongString(begun), None
        else:
            long.add(piece)
        if self.held > self._limit:
            raise UpstreamError(f"an image or an answer is larger than {self._limit} bytes")

    def _finish(self) -> bytes:
        long, begun = self._long, self._begun
        self._long = self._begun = None
        if long is None:
            return bytes(begun or b"")
        self._count += 1
        self._strings[self._count] = long
        return self._mark % self._count

    def _give_up(self, piece: bytes) -> bytes:
        """The text of what is no string, since its line has ended."""
        self._escaped = False
        self._take(piece)
        if self._long is not None:
            raise UpstreamError("a line ends within a string")
        begun, self._begun = bytes(self._begun or b""), None
        return begun


class ShortenedResponse:
    """A `Response` whose long strings are in `strings`."""

    def __init__(self, response: Response, strings: LongStrings) -> None:
        self.status = response.status
        self.headers: list[Header] = response.headers
        self._response = response
        self._strings = strings

    async def read(self) -> bytes:
        """See `Response.read`."""
        while data := await self._response.read():
            if short := await self._shorten(data):
                return short
        return self._strings.rest()

    async def pump(self, sink: Sink) -> None:
        """See `edge.upstreams.pump`."""

        async def shortened(data: bytes) -> None:
            for at in range(0, len(data), _SHORTENED):
                short = self._strings.shorten(data[at : at + _SHORTENED])
                rest = sink(short) if short else None
                if rest is not None:
                    await rest
                elif at:
                    await asyncio.sleep(0)

        await pump(self._response, shortened)
        if rest := self._strings.rest():
            waiting = sink(rest)
            if waiting is not None:
                await waiting

    async def _shorten(self, data: bytes) -> bytes:
        if len(data) <= _SHORTENED:
            return self._strings.shorten(data)
        parts = []
        for at in range(0, len(data), _SHORTENED):
            parts.append(self._strings.shorten(data[at : at + _SHORTENED]))
            await asyncio.sleep(0)
        return b"".join(parts)

    def close(self) -> None:
        """See `Response.close`."""
        self._response.close()


def restoring(send: Send, strings: LongStrings) -> Send:
    """A `send` that puts long strings back. A message waits until the one before is sent: a ping
    must not come within an event."""
    turn = asyncio.Lock()

    async def send_restored(message: Message) -> None:
        async with turn:
            body = message.get("body", b"")
            if not body or not strings.has_marks(body):
                return await send(message)
            for piece in strings.pieces(body):
                if piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not message.get("more_body"):
                await send({"type": "http.response.body", "body": b""})

    return send_restored


def _no_file(error: OSError) -> Problem:
    return Problem(
        "upstream_unavailable", reason=f"a temporary file failed: {error.strerror}", held=False
    )
