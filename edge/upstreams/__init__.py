"""The upstream seam: `open(request)` gives a head and its bytes.

Everything that answers model requests stands behind `UpstreamConfig`: the native HTTP transport,
httpx, the in-process simulator. Failures cross the seam only as `UpstreamFailure`.

    UpstreamFailure
    ├── ConnectFailed      no connection: refused, DNS, TLS, pool exhausted
    │   └── OutOfDescriptors   this process or machine can open no more files
    ├── Disconnected       the connection broke before the response was complete
    ├── Malformed          not HTTP, or over a bound of ours
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
    headers: lower-case names; `host`, `content-length` and `transfer-encoding` are the
        transport's own and must not be given.
    body: bytes, or an async iterator of bytes that is sent chunked, or None for no body.
    """

    method: bytes
    target: bytes
    headers: tuple[Header, ...] = ()
    body: bytes | AsyncIterator[bytes] | None = None


class Response(Protocol):
    """A response whose head has arrived."""

    status: int
    headers: list[Header]
    """Lower-case names, in the order received."""

    async def read(self) -> bytes:
        """What has arrived since the last read, waiting for at least one byte; b"" at the end.

        Raises UpstreamFailure. Not reading slows the upstream down (bounded memory).
        """
        ...

    def close(self) -> None:
        """Let go at once. A response read to its end returns its connection to the pool; any
        other has its connection closed. Idempotent, never raises, never waits."""
        ...


Sink = Callable[[bytes], Awaitable[None] | None]
"""Takes a piece of a body; gives back what to wait for before the next, or None."""


@runtime_checkable
class Pumping(Protocol):
    """A response that can hand its bytes on from the callback in which they arrive."""

    async def pump(self, sink: Sink) -> None:
        """See `pump`."""
        ...


async def pump(response: Response, sink: Sink) -> None:
    """Give `sink` every piece of the body as it arrives; return at the end.

    Where the response can, `sink` is called straight from the event loop: a piece then costs no
    future, no task switch and no walk down the stack of whoever waits here. While `sink` has
    something to wait for, nothing is read. Raises UpstreamFailure and whatever `sink` raises.
    """
    if isinstance(response, Pumping):
        return await response.pump(sink)
    while data := await response.read():
        rest = sink(data)
        if rest is not None:
            await rest


class Upstream(Protocol):
    """Something that answers requests."""

    async def open(self, request: Request) -> Response:
        """Send `request`, return when the response head is there.

        Raises UpstreamFailure. Cancelling closes the connection.
        """
        ...

    async def aclose(self) -> None:
        """Close idle connections and refuse new requests."""
        ...


class UpstreamFailure(Exception):
    """What failed, for logs. `sent` tells whether any byte of the request left us."""

    def __init__(self, reason: str, *, sent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sent = sent


class ConnectFailed(UpstreamFailure):
    """No connection could be had."""


class OutOfDescriptors(ConnectFailed):
    """No file descriptor was left for a connection: no fault of the upstream."""


class Disconnected(UpstreamFailure):
    """The connection broke before the response was complete."""


class Malformed(UpstreamFailure):
    """The upstream did not speak HTTP, or went over a bound."""


class TimedOut(UpstreamFailure):
    """A time limit passed; `phase` names it, and `step` what was being done, if that is known."""

    def __init__(self, phase: Phase, seconds: float, *, sent: bool = False, step: str = "") -> None:
        limit = f"{phase} limit of {seconds:g} s passed"
        super().__init__(f"{step} timed out: {limit}" if step else limit, sent=sent)
        self.phase = phase
        self.seconds = seconds
