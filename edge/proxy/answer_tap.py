"""A response of an upstream whose beginning and end are kept for the span of its attempt.

Only requests that are traced have one, so others pay nothing for it.
"""

from collections import deque
from collections.abc import Awaitable

from edge.upstreams import Header, Response, Sink, pump
from middlewares.exchange import Attempt
from middlewares.tracing import genai
from middlewares.tracing.answer_attributes import answer_attributes
from middlewares.tracing.answer_content import output_messages

from .spared import spared

_WHOLE = 256 << 10
"""Bytes of an unstreamed answer that are read for its id, model and reason."""
_HEAD = 4 << 10
_TAIL = 8 << 10
"""Bytes of both ends of a stream."""
_CONTENT = 128 << 10
"""Bytes of a stream of which the content is shown."""


class TappedResponse:
    """`response`, whose attributes are put into the notes of `record` when it is closed.

    stream: whether a stream was requested. content: whether to show what the model wrote.
    """

    __slots__ = (
        *("_closed", "_content", "_head", "_limit", "_record", "_response", "_size", "_tail"),
        *("_tail_size", "headers", "status"),
    )

    def __init__(self, response: Response, record: Attempt, *, stream: bool, content: bool) -> None:
        self.status = response.status
        self.headers: list[Header] = response.headers
        self._response = response
        self._record = record
        self._content = content
        self._limit = (_CONTENT if content else _HEAD) if stream else _WHOLE
        self._head: list[bytes] = []
        self._size = 0
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._closed = False

    def _keep(self, piece: bytes) -> None:
        if self._size < self._limit:
            kept = piece[: self._limit - self._size]
            self._head.append(kept)
            self._size += len(kept)
            piece = piece[len(kept) :]
            if not piece:
                return
        self._tail.append(piece[-_TAIL:])
        self._tail_size += len(self._tail[-1])
        while self._tail_size - len(self._tail[0]) >= _TAIL:
            self._tail_size -= len(self._tail.popleft())

    async def read(self) -> bytes:
        """See `Response.read`."""
        piece = await self._response.read()
        if piece:
            self._keep(piece)
        return piece

    async def pump(self, sink: Sink) -> None:
        """See `edge.upstreams.pump`."""
        keep = self._keep

        def tapped(piece: bytes) -> Awaitable[None] | None:
            keep(piece)
            return sink(piece)

        await pump(self._response, tapped)

    def close(self) -> None:
        """See `Response.close`."""
        self._response.close()
        if self._closed:
            return
        self._closed = True
        head, tail = b"".join(self._head), b"".join(self._tail)
        self._head, self._tail = [], deque()
        notes = self._record.notes = {**(self._record.notes or {})}
        with spared("of the answer"):
            notes |= answer_attributes(head, tail)
            if self._content and (messages := output_messages(head)):
                notes[genai.OUTPUT_MESSAGES] = messages
