"""An HTTP/1.1 response: it owns its bytes, and its connection until the last of them."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from edge.upstreams import Disconnected, Header, Sink


class Carrier(Protocol):
    """The connection as a response sees it."""

    loop: asyncio.AbstractEventLoop
    paused: bool

    def resume(self) -> None:
        """Resume reading the socket."""

    def fail(self, error: Exception) -> None:
        """End the exchange and close the socket."""


class HTTPResponse:
    """A response, on its connection or already detached. See `edge.upstreams.Response`.

    status, headers: of the final response; names lower case.
    complete: every byte of the body has arrived; some may be unread.
    received: bytes of the body so far, but for chunks that the connection gave to a sink.
    """

    __slots__ = (
        "_awaiting_head",
        "_chunks",
        "_connection",
        "_error",
        "_pushed_to",
        "_raised",
        "_rest",
        "_taken",
        "_waiter",
        "complete",
        "headers",
        "received",
        "sent",
        "started",
        "status",
        "total_deadline",
        "unanswered",
    )

    def __init__(self, total_deadline: float) -> None:
        self.status = 0
        self.headers: list[Header] = []
        self.complete = False
        self.received = 0
        self.sent = False  # a byte of the request may have left
        self.started = False  # the first chunk of a streamed request body was requested
        self.unanswered = True  # no byte of an answer has arrived
        self.total_deadline = total_deadline
        self._awaiting_head = True
        self._taken = 0
        self._chunks: list[bytes] = []
        self._error: Exception | None = None
        self._pushed_to: Sink | None = None  # the sink, while the pump waits for bytes
        self._rest: Awaitable[None] | None = None
        self._raised: Exception | None = None
        self._connection: Carrier | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def at_end(self) -> bool:
        """Whether the next `read` returns b"" without waiting."""
        return self.complete and not self._chunks

    def take(self) -> bytes | None:
        """`read` without waiting; None when nothing has arrived and more may come."""
        chunks = self._chunks
        if chunks:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
            self._taken = self.received
            connection = self._connection
            if connection is not None and connection.paused:
                connection.resume()
            return data
        if self.complete:
            return b""
        if self._error is not None:
            raise self._error
        return None

    async def read(self) -> bytes:
        """The bytes received since the last read, at least one; b"" at the end.

        One reader at a time. Raises UpstreamFailure once the bytes before the failure are read.
        Cancelling closes the connection.
        """
        while (data := self.take()) is None:
            await self.wait()
        return data

    async def wait(self) -> None:
        """Wait for head, bytes, end or failure. The only future on the hot path."""
        waiter = self._new_waiter()
        try:
            await waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    def _new_waiter(self) -> asyncio.Future[None]:
        connection = self._connection
        if self._waiter is not None or connection is None:
            raise RuntimeError("another task is already reading this response")
        self._waiter = waiter = connection.loop.create_future()
        return waiter

    async def pump(self, sink: Sink) -> None:
        """Call `sink` in the callback in which bytes arrive; see `edge.upstreams.pump`."""
        while True:
            data = self.take()
            if data is None:
                waiter = self._new_waiter()  # `wait` would be one more frame of each stream
                self._pushed_to = sink
                try:
                    await waiter
                except BaseException:
                    self.close()
                    unstarted = getattr(
                        self._rest, "close", None
                    )  # a coroutine that is not awaited
                    if unstarted is not None:
                        unstarted()
                    raise
                finally:
                    self._waiter = self._pushed_to = None
                raised, self._raised = self._raised, None
                if raised is not None:
                    raise raised
                rest, self._rest = self._rest, None
            elif data:
                rest = sink(data)
            else:
                return
            if rest is not None:
                await rest
                rest = None  # a finished coroutine keeps its frame

    def wake(self) -> None:
        """Pass new bytes to the sink if one is set, else wake the waiting reader."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        sink = self._pushed_to
        if sink is not None and self._chunks:
            try:
                self._rest = sink(self.take() or b"")
            except Exception as raised:
                self._raised = raised
            else:
                if self._rest is None and not self.complete and self._error is None:
                    return
        self._pushed_to = None
        waiter.set_result(None)

    def end_push(self, rest: Awaitable[None] | None, raised: Exception | None = None) -> None:
        """Wake the pump: its sink, called by the connection, returned `rest` or raised."""
        self._rest, self._raised = rest, raised
        self._pushed_to = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def failure(self) -> Exception | None:
        """Why the response failed, or None."""
        return self._error

    def close(self) -> None:
        """Release the response; see `edge.upstreams.Response.close`."""
        connection = self._connection
        if connection is not None:
            connection.fail(Disconnected("closed by us", sent=self.sent))
        self._chunks.clear()
