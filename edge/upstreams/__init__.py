"""The upstream protocol: `open(request)` returns a response head and an async read of its bytes.

Everything that answers model requests implements `Upstream`: the native HTTP transport, httpx, the
Claude CLI, the in-process simulator. All failures are raised as `UpstreamFailure`.

    UpstreamFailure
    ├── ConnectFailed      no connection: refused, DNS, TLS, pool exhausted
    │   ├── SignedOut          the upstream's own program is not signed in
    │   └── OutOfDescriptors   this process or machine has no file descriptor left
    ├── Disconnected       the connection broke before the response was complete
    ├── Malformed          not HTTP, or larger than a limit
    └── TimedOut           `phase` says which limit: connect | first_byte | idle | total
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Literal, Protocol, runtime_checkable

import msgspec

Header = tuple[bytes, bytes]
Phase = Literal["connect", "first_byte", "idle", "total"]


class Request(msgspec.Struct, frozen=True):
    """One request to an upstream.

    target: path and query as sent, e.g. b"/v1/chat/completions".
    headers: lower-case names. The transport sets `host`, `content-length` and
        `transfer-encoding`; they must not be given.
    body: bytes, or a body of known length that can be sent again, or an async iterator of bytes
        that is sent chunked, or None for no body.
    """

    method: bytes
    target: bytes
    headers: tuple[Header, ...] = ()
    body: "RequestBody" = None


@runtime_checkable
class RepeatableBody(Protocol):
    """A body that each iteration yields from its beginning, so that every attempt can send it.

    length: bytes of one iteration; the body is sent with `content-length`.
    """

    length: int

    def __aiter__(self) -> AsyncIterator[bytes]: ...


RequestBody = bytes | RepeatableBody | AsyncIterator[bytes] | None


def is_repeatable(body: RequestBody) -> bool:
    """Whether `body` can be sent again from its beginning after some of it was sent."""
    if body is None or isinstance(body, bytes):
        return True
    return isinstance(body, RepeatableBody) and not isinstance(body, AsyncIterator)


FRAMING = frozenset((b"content-length", b"transfer-encoding"))
"""Headers of a response that say where its body ends, which its connection still needs."""
CHUNKED: list[Header] = [(b"transfer-encoding", b"chunked")]
"""Those of most responses that stream."""


class Response(Protocol):
    """A response whose head has arrived."""

    status: int
    headers: list[Header]
    """Lower-case names, in the order received."""

    async def read(self) -> bytes:
        """The bytes received since the last read, at least one; b"" at the end.

        Raises UpstreamFailure. A caller that does not read slows the upstream down.
        """
        ...

    def close(self) -> None:
        """Release the response. One that was read to its end returns its connection to the
        pool, any other closes it. Idempotent, never raises, never waits."""
        ...


Sink = Callable[[bytes], Awaitable[None] | None]
"""Takes a piece of a body; returns an awaitable to wait for before the next piece, or None."""


@runtime_checkable
class Pumping(Protocol):
    """A response that can call a sink from the callback in which its bytes arrive."""

    async def pump(self, sink: Sink) -> None:
        """See `pump`."""
        ...


def pump(response: Response, sink: Sink) -> Awaitable[None]:
    """Pass every piece of the body to `sink` as it arrives; return at the end.

    A `Pumping` response calls `sink` from the event loop, so a piece costs no future and no task
    switch. While `sink` waits, nothing is read. Raises UpstreamFailure, and what `sink` raises.
    """
    if isinstance(response, Pumping):
        return response.pump(sink)
    return _read_all(response, sink)


async def _read_all(response: Response, sink: Sink) -> None:
    while data := await response.read():
        rest = sink(data)
        if rest is not None:
            await rest


class Upstream(Protocol):
    """A service that answers requests."""

    async def open(self, request: Request) -> Response:
        """Send `request`; return when the response head has arrived.

        Raises UpstreamFailure. Cancelling closes the connection.
        """
        ...

    async def aclose(self) -> None:
        """Close idle connections and refuse new requests."""
        ...


class UpstreamFailure(Exception):
    """A failed request. reason: for logs. sent: whether any byte of the request may have left."""

    def __init__(self, reason: str, *, sent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class ConnectFailed(UpstreamFailure):
    """No connection could be opened or obtained."""


class SignedOut(ConnectFailed):
    """The upstream's own program is not signed in, or not any more."""


class OutOfDescriptors(ConnectFailed):
    """No file descriptor is left for a connection, which is not the upstream's fault."""


class Disconnected(UpstreamFailure):
    """The connection broke before the response was complete."""


class Malformed(UpstreamFailure):
    """The response is not HTTP, or exceeds a limit."""


class TimedOut(UpstreamFailure):
    """A time limit passed. phase: which one. step: what was in progress, if known."""

    def __init__(self, phase: Phase, seconds: float, *, sent: bool = False, step: str = "") -> None:
        limit = f"{phase} limit of {seconds:g} s passed"
        super().__init__(f"{step} timed out: {limit}" if step else limit, sent=sent)
        self.phase = phase
        self.seconds = seconds
        self.step = step
