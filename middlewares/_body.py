"""Read a request body once, within a bound, and hand it on as often as needed."""

import asyncio

from ._asgi import Message, Receive, Scope, header
from .problem import Problem

FREE_PIECES = 4096
"""Pieces in which any body may come, however small they are: each costs 50 us of this process."""
LEAST_PIECE = 512
"""Bytes that further pieces must have on average; the smallest segment of TCP over IPv4 has 536."""


class ClientLeft(Exception):
    """The client hung up before its request was complete; there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, *, limit: int, idle: float) -> bytes:
    """The whole body, at most `limit` bytes, never waiting longer than `idle` seconds for more.

    Stops asking as soon as `content-length` bytes are there, which spares one `receive`. A body
    that comes in many very small pieces is refused: see `FREE_PIECES`.
    Raises Problem (`request_too_large`, `invalid_request`) and ClientLeft.
    """
    expected = -1
    length = header(scope, b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 20:
            raise Problem("invalid_request", message="The content-length header is not a number.")
        expected = int(length)
        if expected > limit:
            raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    patience = _Patience(idle)
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            body = message.get("body", b"")
            size += len(body)
            if size > limit:
                parts.clear()  # the traceback would keep them while the rest is discarded
                raise _too_large(limit)
            if size == expected or not message.get("more_body", False):
                if not parts:
                    return bytes(body)
                parts.append(body)
                return b"".join(parts)
            parts.append(body)
            if len(parts) > FREE_PIECES and len(parts) - FREE_PIECES > size // LEAST_PIECE:
                parts.clear()
                raise _too_many_pieces()
            patience.anew()
    except asyncio.CancelledError:
        if not patience.ended():
            raise
    finally:
        patience.end()
    raise Problem(
        "invalid_request",
        message=f"The request body stopped arriving for {idle:g} seconds.",
        reason=f"{size} bytes came",
    )


class _Patience:
    """Cancels the running task when it has waited too long: `asyncio.timeout`, at a third of what
    that costs each request."""

    __slots__ = ("_before", "_expired", "_loop", "_seconds", "_task", "_timer")

    def __init__(self, seconds: float) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._seconds = seconds
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a body is read in a task")
        self._task = task
        self._before = task.cancelling()
        self._expired = False
        self._timer = loop.call_later(seconds, self._expire)

    def anew(self) -> None:
        """Something has come."""
        self._timer.cancel()
        self._timer = self._loop.call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def ended(self) -> bool:
        """Whether the task was cancelled by this and nobody else; then it is so no more."""
        ours, self._expired = self._expired, False
        return ours and self._task.uncancel() <= self._before

    def end(self) -> None:
        """There is nothing to wait for any more."""
        self._timer.cancel()
        if self._expired:
            self._task.uncancel()


def _too_large(limit: int) -> Problem:
    said = f"The request body is larger than {int(limit)} bytes."
    return Problem("request_too_large", message=said)


def _too_many_pieces() -> Problem:
    said = (
        f"The request body comes in too many small pieces: after the first {FREE_PIECES}, expected "
        f"{LEAST_PIECE} bytes or more in each on average. Send it in larger chunks."
    )
    return Problem("invalid_request", message=said)


async def discard(receive: Receive, *, seconds: float = 5.0) -> None:
    """Read and drop what the client still sends, for so long and in so many pieces at most.

    A server that answers early and closes with unread bytes makes the kernel reset the
    connection, and the client may lose the answer (RFC 9112, section 9.6).
    """
    try:
        async with asyncio.timeout(seconds):
            for _ in range(FREE_PIECES):
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives `body` first and then goes on with the original."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
