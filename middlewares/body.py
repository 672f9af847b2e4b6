"""Read a request body once, within a bound, and hand it on as often as needed."""

import asyncio
from math import inf

from .asgi import BODILESS, Message, Receive, Scope, Send, header
from .disconnects import drop_closed, hear, over
from .exchange import exchange_of
from .problem import Problem
from .uploads import MOST_SMALL, Upload

FREE_PIECES = 4096
"""Pieces in which any body may come, however small they are: each costs 50 us of this process."""
LEAST_PIECE = 512
"""Bytes that further pieces must have on average; the smallest segment of TCP over IPv4 has 536."""


LEAST_RATE = 8 << 10
"""Bytes a second at which a body has to come, after the silence that is allowed once."""


_AFTER_REFUSAL = 2.0
"""Seconds for which a body that nobody wants is read."""
_AFTER_TIMEOUT = 1.0
"""Seconds for which a body that came too slowly is read on."""


class BodyIncomplete(Problem):
    """The body broke off before it was complete: it is malformed, or the client has left.

    Servers report both in the same way, so both are answered; a client that has left does not mind.
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
    """The whole body, at most `limit` bytes.

    It has to come within `longest` seconds, with no silence of more than `idle` seconds, and after
    the first `idle` seconds at `LEAST_RATE` on the average.
    upload: counts what comes; whoever made it closes it.
    Stops asking as soon as `content-length` bytes are there, which spares one `receive`. A body
    that comes in many very small pieces is refused: see `FREE_PIECES`.
    Raises Problem: `request_too_large`, `invalid_request`, `request_timeout`, Incomplete, and what
    `upload` has no room for.
    """
    if upload is None:  # whoever counts has said so
        exchange_of(scope).body_read = True
    expected = -1
    length = header(scope, b"content-length")
    if length is not None:
        if not length.isdigit() or len(length) > 20:
            raise Problem("invalid_request", message="The content-length header is not a number.")
        expected = int(length)
        if expected > limit:
            raise _too_large(limit)
        if upload is not None and expected > MOST_SMALL:
            upload.expect(expected)
    parts: list[bytes] = []
    size = 0
    patience = _Patience(idle, longest)
    try:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BodyIncomplete(size)
            body = message.get("body", b"")
            size += len(body)
            if size > limit:
                raise _too_large(limit)
            if upload is not None:
                upload.add(len(body))
            if size == expected or not message.get("more_body", False):
                if not parts:
                    return bytes(body)
                parts.append(body)
                return b"".join(parts)
            parts.append(body)
            if len(parts) > FREE_PIECES and len(parts) - FREE_PIECES > size // LEAST_PIECE:
                raise _too_many_pieces()
            patience.came(size)
    except asyncio.CancelledError:
        if not patience.ended():
            raise
    except Problem:
        parts.clear()  # the traceback would keep them while the rest is discarded
        raise
    finally:
        patience.end()
    if patience.over:
        raise BodyIncomplete(size)
    raise _too_slow(scope, patience.why, size)


class _Patience:
    """Cancels the running task when a body takes too long, as `asyncio.timeout` would, or when the
    server has no connection left (`over`).

    All bodies on their way in one event loop are looked at a few times a second: a timer for each
    would cost more than most bodies do.
    """

    why = ""
    over = False
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
        others = _on_the_way.get(loop)
        if others is None:
            others = _look_after(loop)
        self._others = others
        others.add(self)

    def came(self, size: int) -> None:
        """More has come; `size` bytes in all."""
        self._last = self._loop.time()
        self._size = size

    def look(self) -> None:
        """End the wait if the body is due. Its time begins with the first look."""
        now = self._loop.time()
        if self._began == -inf:
            self._began = now
        slow = self._began + self._idle + self._size / LEAST_RATE
        silent = max(self._began, self._last) + self._idle
        late = self._began + self._longest
        due = min(slow, silent, late)
        self.over = over(self._loop)
        if now < due and not self.over:
            return
        if due == late:
            self.why = f"did not arrive within {self._longest:g} seconds"
        elif due == silent:
            self.why = f"stopped arriving for {self._idle:g} seconds"
        else:
            self.why = f"arrived at less than {LEAST_RATE} bytes a second"
        self._expired = True
        self._others.discard(self)
        self._before = self._task.cancelling()
        self._task.cancel()

    def ended(self) -> bool:
        """Whether the task was cancelled by this and nobody else; then it is so no more."""
        ours, self._expired = self._expired, False
        return ours and self._task.uncancel() <= self._before

    def end(self) -> None:
        """There is nothing to wait for any more."""
        self._others.discard(self)
        if self._expired:
            self._task.uncancel()


_LOOK = 0.2
"""Seconds between two looks at the bodies on their way."""
_on_the_way: dict[asyncio.AbstractEventLoop, set[_Patience]] = {}


def _look_after(loop: asyncio.AbstractEventLoop) -> set[_Patience]:
    """The bodies on their way in `loop`, looked at for as long as there are any."""
    drop_closed(_on_the_way)
    bodies: set[_Patience] = set()
    _on_the_way[loop] = bodies

    def look() -> None:
        if not bodies:
            del _on_the_way[loop]
            return
        for each in list(bodies):
            each.look()
        loop.call_later(_LOOK, look)

    loop.call_later(_LOOK, look)
    return bodies


def _too_slow(scope: Scope, why: str, size: int) -> Problem:
    """RFC 9110, section 15.5.9: the connection is closed, which HTTP/2 says otherwise."""
    old = scope.get("http_version", "1.1").startswith("1")
    return Problem(
        "request_timeout",
        message=f"The request body {why}.",
        reason=f"{size} bytes came",
        headers=((b"connection", b"close"),) if old else (),
    )


def _too_large(limit: int) -> Problem:
    said = f"The request body is larger than {int(limit)} bytes."
    return Problem("request_too_large", message=said)


def _too_many_pieces() -> Problem:
    said = (
        f"The request body comes in too many small pieces: after the first {FREE_PIECES}, expected "
        f"{LEAST_PIECE} bytes or more in each on average. Send it in larger chunks."
    )
    return Problem("invalid_request", message=said)


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with what `read_body` raised, so that the client gets it, and see to the rest."""
    await problem(scope, receive, send)
    if isinstance(problem, BodyIncomplete):
        return
    if problem.kind == "request_timeout":
        return await discard(receive, seconds=_AFTER_TIMEOUT)
    await discard(receive)


async def discard(receive: Receive, *, seconds: float = 5.0) -> None:
    """Read and drop what the client still sends, for so long and in so many pieces at most.

    A server that answers early and closes with unread bytes makes the kernel reset the
    connection, and the client may lose the answer (RFC 9112, section 9.6).
    """
    try:
        async with asyncio.timeout(seconds):
            for _ in range(FREE_PIECES):
                message = await hear(receive)
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def discard_unread(scope: Scope, receive: Receive) -> None:
    """After a refusal: read and drop a body of which nobody has read anything, if it may be so
    large that the server has not taken it yet. Those refused may be strangers: not for long."""
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
    """A `receive` that gives `body` first and then goes on with the original."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
