"""Read a request body once, within bounds, and replay it as often as needed."""

import asyncio
from math import inf

from .asgi import BODILESS, Message, Receive, Scope, Send, header
from .disconnects import drop_closed, has_no_connections, receive_or_disconnect
from .exchange import exchange_of
from .problem import Problem
from .uploads import SMALL_BODY, Upload

FREE_PIECES = 4096
"""Messages in which any body may come, however small they are: each costs 50 us of CPU."""
LEAST_PIECE = 512
"""Least average bytes of further messages; the smallest TCP segment over IPv4 has 536."""


LEAST_RATE = 8 << 10
"""Least bytes per second of a body, after the silence that is allowed once."""


_AFTER_REFUSAL = 2.0
"""Seconds for which the body of a refused request is read and dropped."""
_AFTER_TIMEOUT = 1.0
"""Seconds for which a body that arrived too slowly is read and dropped."""


class BodyIncomplete(Problem):
    """The body broke off: it is malformed, or the client has disconnected.

    Servers report both in the same way, so both are answered.
    """

    def __init__(self, size: int) -> None:
        super().__init__(
            "invalid_request",
            message="The request body ended before it was complete, or its chunks are malformed.",
            reason=f"the body broke off after {size} bytes",
        )


async def read_body(
    scope: Scope,
    receive: Receive,
    *,
    limit: int,
    idle: float,
    longest: float = inf,
    upload: Upload | None = None,
) -> bytes:
    """Read the whole body, at most `limit` bytes.

    It must arrive within `longest` seconds, without a silence of more than `idle` seconds, and
    after the first `idle` seconds at `LEAST_RATE` on average.
    upload: counts the bytes; its creator closes it.
    It stops reading at `content-length` bytes, which saves one `receive`. A body in very many small
    messages is refused: see `FREE_PIECES`.
    Raises Problem: `request_too_large`, `invalid_request`, `request_timeout`, BodyIncomplete, and
    what `upload` raises.
    """
    if upload is None:  # with an upload, intake writes it
        exchange_of(scope).body_read = True
    expected = _announced(scope, limit, upload)
    parts: list[bytes] = []
    size = 0
    timeout = _BodyTimeout(idle, longest)
    try:
        while True:
            message = await receive()
            body = _piece(message, size, limit, upload)
            size += len(body)
            if size == expected or not message.get("more_body", False):
                if not parts:
                    return bytes(body)
                parts.append(body)
                return b"".join(parts)
            parts.append(body)
            timeout.received(size, len(parts))
    except asyncio.CancelledError:
        if not timeout.ended():
            raise
    except Problem:
        parts.clear()  # the traceback would keep them while the rest is discarded
        raise
    finally:
        timeout.end()
    raise timeout.problem(scope, size)


class BodyReader:
    """Reads a request body in pieces, within the bounds of `read_body`. Only the time in `read`
    counts.

    The constructor and `read` raise what `read_body` raises.
    """

    __slots__ = (
        *("_expected", "_idle", "_limit", "_longest", "_pieces", "_receive", "_scope", "_timeout"),
        "ended",
        "size",
    )

    def __init__(
        self, scope: Scope, receive: Receive, *, limit: int, idle: float, longest: float = inf
    ) -> None:
        exchange_of(scope).body_read = True
        self.size = 0
        """Bytes read so far."""
        self.ended = False
        """Whether the last piece has been read."""
        self._scope = scope
        self._receive = receive
        self._limit = limit
        self._expected = _announced(scope, limit, None)
        self._pieces = 0
        self._idle = idle
        self._longest = longest
        self._timeout: _BodyTimeout | None = None

    async def read(self) -> bytes:
        """The next piece; it may be empty. See `ended`."""
        timeout = self._timeout
        if timeout is None:
            self._timeout = timeout = _BodyTimeout(self._idle, self._longest)
        else:
            timeout.resume()
        try:
            message = await self._receive()
            body = _piece(message, self.size, self._limit, None)
            self.size += len(body)
            if self.size == self._expected or not message.get("more_body", False):
                self.ended = True
            else:
                self._pieces += 1
                timeout.received(self.size, self._pieces)
            return body
        except asyncio.CancelledError:
            if not timeout.ended():
                raise
        finally:
            timeout.end()
        raise timeout.problem(self._scope, self.size)


def _announced(scope: Scope, limit: int, upload: Upload | None) -> int:
    """The content-length, -1 if there is none. Raises Problem."""
    length = header(scope, b"content-length")
    if length is None:
        return -1
    if not length.isdigit() or len(length) > 20:
        raise Problem("invalid_request", message="The content-length header is not a number.")
    expected = int(length)
    if expected > limit:
        raise _too_large(limit)
    if upload is not None and expected > SMALL_BODY:
        upload.expect(expected)
    return expected


def _piece(message: Message, size: int, limit: int, upload: Upload | None) -> bytes:
    """The bytes of a message that follows `size` bytes. Raises Problem."""
    if message["type"] == "http.disconnect":
        raise BodyIncomplete(size)
    body: bytes = message.get("body", b"")
    if size + len(body) > limit:
        raise _too_large(limit)
    if upload is not None:
        upload.add(len(body))
    return body


class _BodyTimeout:
    """Cancels the running task when a body takes too long, as `asyncio.timeout` would, or when the
    server has no connection left (`has_no_connections`).

    One timer per event loop checks all bodies a few times a second: a timer for each would cost
    more than most bodies do.
    """

    _why = ""
    _over = False
    _size = 0
    _began = _last = -inf
    _before = 0
    _expired = False

    def __init__(self, idle: float, longest: float) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._idle = idle
        self._longest = longest
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a body is read in a task")
        self._task = task
        reads = _reads.get(loop)
        if reads is None:
            reads = _start_checks(loop)
        self._reads = reads
        reads.add(self)

    def resume(self) -> None:
        """Start the checks again, of the running task; the time since `end` does not count."""
        loop = self._loop
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("a body is read in a task")
        self._task = task
        outside = loop.time() - self._last
        self._began += outside
        self._last += outside
        reads = _reads.get(loop)
        if reads is None:
            reads = _start_checks(loop)
        self._reads = reads
        reads.add(self)

    def received(self, size: int, pieces: int) -> None:
        """Record an arrived message. size, pieces: bytes and messages so far. Raises Problem."""
        if pieces > FREE_PIECES and pieces - FREE_PIECES > size // LEAST_PIECE:
            raise _too_many_pieces()
        self._last = self._loop.time()
        self._size = size

    def check(self) -> None:
        """Cancel the read if it is too slow. Its time starts with the first check."""
        now = self._loop.time()
        if self._began == -inf:
            self._began = now
        slow = self._began + self._idle + self._size / LEAST_RATE
        silent = max(self._began, self._last) + self._idle
        late = self._began + self._longest
        due = min(slow, silent, late)
        self._over = has_no_connections(self._loop)
        if now < due and not self._over:
            return
        if due == late:
            self._why = f"did not arrive within {self._longest:g} seconds"
        elif due == silent:
            self._why = f"stopped arriving for {self._idle:g} seconds"
        else:
            self._why = f"arrived at less than {LEAST_RATE} bytes a second"
        self._expired = True
        self._reads.discard(self)
        self._before = self._task.cancelling()
        self._task.cancel()

    def ended(self) -> bool:
        """Whether only this object cancelled the task; undoes that cancellation."""
        ours, self._expired = self._expired, False
        return ours and self._task.uncancel() <= self._before

    def end(self) -> None:
        """Stop the checks, until `resume`."""
        self._reads.discard(self)
        if self._expired:
            self._task.uncancel()

    def problem(self, scope: Scope, size: int) -> Problem:
        """Why the checks cancelled the read after `size` bytes."""
        return BodyIncomplete(size) if self._over else _too_slow(scope, self._why, size)


_CHECK_SECONDS = 0.2
"""Seconds between two checks of all bodies."""
_reads: dict[asyncio.AbstractEventLoop, set[_BodyTimeout]] = {}


def _start_checks(loop: asyncio.AbstractEventLoop) -> set[_BodyTimeout]:
    """Start the checks of an event loop; they stop when no body is being read."""
    drop_closed(_reads)
    bodies: set[_BodyTimeout] = set()
    _reads[loop] = bodies

    def check_all() -> None:
        if not bodies:
            del _reads[loop]
            return
        for each in list(bodies):
            each.check()
        loop.call_later(_CHECK_SECONDS, check_all)

    loop.call_later(_CHECK_SECONDS, check_all)
    return bodies


def _too_slow(scope: Scope, why: str, size: int) -> Problem:
    """`request_timeout`. HTTP/1 closes the connection by a header (RFC 9110, section 15.5.9)."""
    old = scope.get("http_version", "1.1").startswith("1")
    return Problem(
        "request_timeout",
        message=f"The request body {why}.",
        reason=f"{size} bytes came",
        headers=((b"connection", b"close"),) if old else (),
    )


def _too_large(limit: int) -> Problem:
    message = f"The request body is larger than {int(limit)} bytes."
    return Problem("request_too_large", message=message)


def _too_many_pieces() -> Problem:
    message = (
        f"The request body comes in too many small pieces: after the first {FREE_PIECES}, expected "
        f"{LEAST_PIECE} bytes or more in each on average. Send it in larger chunks."
    )
    return Problem("invalid_request", message=message)


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what `read_body` raised, then drop the rest so that the client gets it."""
    await problem(scope, receive, send)
    if isinstance(problem, BodyIncomplete):
        return
    if problem.kind == "request_timeout":
        return await discard(receive, seconds=_AFTER_TIMEOUT)
    await discard(receive)


async def discard(receive: Receive, *, seconds: float = 5.0) -> None:
    """Read and drop the rest of a body, for `seconds` and `FREE_PIECES` messages at most.

    If a server closes a connection with unread bytes, the kernel resets it and the client may lose
    the answer (RFC 9112, section 9.6).
    """
    try:
        async with asyncio.timeout(seconds):
            for _ in range(FREE_PIECES):
                message = await receive_or_disconnect(receive)
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def discard_unread(scope: Scope, receive: Receive) -> None:
    """Read and drop the unread body of a refused request, if it may be large.

    A small one has already been taken by the server. The time is short: callers may be strangers.
    """
    if scope["method"] in BODILESS:
        return
    length = header(scope, b"content-length")
    if length is None:
        if header(scope, b"transfer-encoding") is None:
            return
    elif not length.isdigit() or len(length) <= 4:
        return
    await discard(receive, seconds=_AFTER_REFUSAL)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns `body` first and then continues with the original."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
