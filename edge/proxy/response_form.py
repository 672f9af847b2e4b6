"""Detect answers in another form than requested: a stream for a body, or a body for a stream.

Most upstreams label an event stream as such. If the content type is another, or is missing, the
first bytes decide:

    a line of an event stream   it is an event stream
    a JSON object               an error, or a whole answer, which is read to its end and then
                                converted to a stream
    anything else               a failed attempt (most often HTML of a proxy)

An event stream that answers an unstreamed request is converted to a body.
"""

from collections.abc import Callable
from functools import partial

from edge.dialects.passthrough import UpstreamError
from edge.runtime.worker_thread import run_in_thread
from edge.upstreams import Header, Response, Sink, pump
from edge.upstreams.bodies import BOM, read_all
from middlewares.exchange import Dialect

from .answer_memory import LARGE, MAX_ANSWER
from .form_conversion import body_of_stream, stream_of_body

_EVENT_STREAM = b"text/event-stream"
_LINES = (b"data:", b"event:", b"id:", b"retry:", b":")
"""How a line of an event stream begins (WHATWG HTML section 9.2.5)."""


async def event_stream(
    response: Response,
    dialect: Dialect,
    limit: int,
    convert: Callable[[bytes, Dialect], bytes] = stream_of_body,
) -> Response:
    """`response` as an event stream of `dialect`; itself when its content type says that it is one.

    limit: bytes of a JSON answer that came instead; convert: makes a stream of it. Raises
    UpstreamError for anything else, and UpstreamFailure.
    """
    label = b""
    for name, value in response.headers:
        if name == b"content-type":
            label = value.strip()
            if label[: len(_EVENT_STREAM)].lower() == _EVENT_STREAM:
                return response
            break
    head = await _read_beginning(response)
    text = _text(head)
    if text.startswith(_LINES):
        return _PartlyReadResponse(response, head)
    if text.startswith(b"{"):
        body = await read_all(_PartlyReadResponse(response, head), min(limit, MAX_ANSWER))
        made = partial(convert, body, dialect)
        stream = await run_in_thread(made) if len(body) >= LARGE else made()
        return _PartlyReadResponse(response, stream, ended=True)
    raise UpstreamError(f"a stream was asked for and {label[:80]!r} came: {text[:200]!r}")


def whole_answer(body: bytes, dialect: Dialect) -> bytes:
    """`body`, converted if it is an event stream. Raises UpstreamError."""
    if body.startswith(b"{"):
        return body
    text = _text(body)
    return body_of_stream(text, dialect) if text.startswith(_LINES) else body


async def _read_beginning(response: Response) -> bytes:
    """The first bytes, enough to detect the form of the answer."""
    head = b""
    while more := await response.read():
        head += more
        if BOM.startswith(head):
            continue
        text = _text(head)
        if text and not any(line.startswith(text) and line != text for line in _LINES):
            break
        if len(head) > 1 << 16:
            break
    return head


def _text(head: bytes) -> bytes:
    return head.removeprefix(BOM).lstrip(b"\r\n\t ")


class _PartlyReadResponse:
    """A response whose `head` was read already. ended: nothing follows it."""

    def __init__(self, response: Response, head: bytes, *, ended: bool = False) -> None:
        self.status = response.status
        self.headers: list[Header] = response.headers
        self._response = response
        self._head = head
        self._ended = ended

    async def read(self) -> bytes:
        """See `Response.read`."""
        head, self._head = self._head, b""
        if head or self._ended:
            return head
        return await self._response.read()

    async def pump(self, sink: Sink) -> None:
        """See `edge.upstreams.pump`."""
        head, self._head = self._head, b""
        rest = sink(head) if head else None
        if rest is not None:
            await rest
        if not self._ended:
            await pump(self._response, sink)

    def close(self) -> None:
        """See `Response.close`."""
        self._response.close()
