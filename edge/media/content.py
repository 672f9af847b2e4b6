"""The bytes of a file as an answer: whole, a range of them, or unchanged (RFC 9110).

A browser must not run what a caller uploaded, so the headers always make it a download of a type
that was read from the bytes, from an origin without scripts.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable

from middlewares.asgi import Header, Message, Receive, Scope, Send, header
from middlewares.disconnects import receive_or_disconnect
from middlewares.exchange import exchange_of
from middlewares.problem import Problem
from middlewares.stores.files.base import FileRecord

from .filenames import attachment

_RANGE = re.compile(rb"bytes=(\d{0,18})-(\d{0,18})")
_ETAGS = re.compile(rb'(?:W/)?"([^"]*)"')
_SAFE: tuple[Header, ...] = (
    (b"accept-ranges", b"bytes"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; sandbox"),
    (b"cache-control", b"private, no-store"),
)


async def send_file(
    record: FileRecord,
    read: Callable[[FileRecord, int, int], AsyncIterator[bytes]],
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    more: Iterable[Header] = (),
) -> None:
    """Answer a GET or HEAD with a file. read: its bytes from one place to before another. more:
    further headers.

    It ends when the client disconnects. Raises Problem, before the answer begins and, when a store
    fails, after it.
    """
    exchange = exchange_of(scope)
    etag = f'"{record.sha256}"'.encode()
    headers = [(b"etag", etag), *_SAFE, *more]
    if _is_known(scope, record):
        await send({"type": "http.response.start", "status": 304, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
        exchange.outcome = "completed"
        return
    start, end = 0, record.size
    span = _span(scope, record, etag)
    status = 200
    if span is not None:
        start, end = span
        status = 206
        place = b"bytes %d-%d/%d" % (start, end - 1, record.size)
        headers.append((b"content-range", place))
    headers += (
        (b"content-type", _content_type(record.mime)),
        (b"content-length", b"%d" % (end - start)),
        (b"content-disposition", attachment(record.filename)),
    )
    message = {"type": "http.response.start", "status": status, "headers": headers}
    if scope["method"] == "HEAD":
        await send(message)
        await send({"type": "http.response.body", "body": b""})
        exchange.outcome = "completed"
        return
    leaving = asyncio.create_task(_disconnected(receive), name="file-disconnect")
    try:
        whole = await _send_pieces(read(record, start, end), end - start, message, send, leaving)
        exchange.outcome = "completed" if whole else "hung_up"
    finally:
        leaving.cancel()


async def _send_pieces(
    pieces: AsyncIterator[bytes],
    left: int,
    message: Message,
    send: Send,
    leaving: "asyncio.Task[None]",
) -> bool:
    """Send the head and then `left` bytes. False: the client has disconnected."""
    piece = await anext(pieces)  # a store that fails now still gets its own status
    await send(message)
    while not leaving.done():
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})
        if left <= 0:
            return True
        piece = await anext(pieces)
    return False


async def _disconnected(receive: Receive) -> None:
    """Wait until the client disconnects: a server takes what is sent to it all the same."""
    while (await receive_or_disconnect(receive))["type"] != "http.disconnect":
        pass


def _content_type(mime: str) -> bytes:
    return b"text/plain; charset=utf-8" if mime == "text/plain" else mime.encode()


def _is_known(scope: Scope, record: FileRecord) -> bool:
    """Whether `if-none-match` names the file."""
    given = header(scope, b"if-none-match")
    if given is None:
        return False
    if given.strip() == b"*":
        return True
    return record.sha256.encode() in _ETAGS.findall(given)


def _span(scope: Scope, record: FileRecord, etag: bytes) -> tuple[int, int] | None:
    """The range asked for, from a start to before an end. None: the whole file, also for several
    ranges and for a malformed one. Raises Problem for a range that the file does not have."""
    given = header(scope, b"range")
    if given is None:
        return None
    condition = header(scope, b"if-range")
    if condition is not None and condition.strip() != etag:
        return None
    match = _RANGE.fullmatch(given.strip())
    if match is None or match[0] == b"bytes=-":
        return None
    first, last = match[1], match[2]
    if not first:
        start, end = record.size - int(last), record.size
        start = max(0, start)
    else:
        start = int(first)
        end = min(int(last) + 1, record.size) if last else record.size
        if last and int(last) < start:
            return None
    if start >= end:
        size = b"bytes */%d" % record.size
        raise Problem("range_not_satisfiable", headers=((b"content-range", size), *_SAFE))
    return start, end
