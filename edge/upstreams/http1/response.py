"""A response while it arrives and after: it owns its bytes, its connection only until the end."""

import asyncio
from collections.abc import Awaitable
from typing import Protocol

from edge.upstreams import Disconnected, Header, Sink


class Carrier(Protocol):
    """What a response needs of the connection it is on."""

    loop: asyncio.AbstractEventLoop
    paused: bool

    def resume(self) -> None:
        """Read the socket again."""

    def fail(self, error: Exception) -> None:
        """End the exchange and close the socket."""


class HTTPResponse:
    """A response on, or already off, a connection. See `edge.upstreams.Response`.

    status, headers: of the final response; names lower case.
    complete: every byte of the body has arrived; some may still wait to be read.
    received: bytes of the body so far.
    """

    __slots__ = (
        "_awaiting_head",
        "_chunks",
        "_connection",
        "_error",
        "_raised",
        "_rest",
        "_sink",
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
        self.sent = False  # a byte of the request may have left us
        self.started = False  # a streamed request body has been asked for its first chunk
        self.unanswered = True  # no byte of an answer has arrived
        self.total_deadline = total_deadline
        self._awaiting_head = True
        self._taken = 0
        self._chunks: list[bytes] = []
        self._error: Exception | None = None
        self._sink: Sink | None = None
        self._rest: Awaitable[None] | None = None
        self._raised: Exception | None = None
        self._connection: Carrier | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def at_end(self) -> bool:
        """Nothing is left to read: the next `read` would return b"" without waiting."""
        return self.complete and not self._chunks

    def take(self) -> bytes | None:
        """`read` without waiting: None when nothing is there now but more may come."""
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
        """What has arrived since the last read, waiting for at least one byte; b"" at the end.

        One reader at a time. Raises UpstreamFailure, after what had arrived before it was read.
        Cancelling closes the connection.
        """
        while (data := self.take()) is None:
            await self.wait()
        return data

    async def wait(self) -> None:
        """Wait for the next event: head, bytes, end or failure. The one future of the hot path."""
        connection = self._connection
        if self._waiter is not None or connection is None:
            raise RuntimeError("another task is already reading this response")
        self._waiter = connection.loop.create_future()
        try:
            await self._waiter
        except BaseException:
            self.close()
            raise
        finally:
            self._waiter = None

    async def pump(self, sink: Sink) -> None:
        """Hand every piece to `sink` in the callback it arrives in; see `edge.upstreams.pump`."""
        while True:
            data = self.take()
            if data is None:
                self._sink = sink
                try:
                    await self.wait()
                except BaseException:
                    unstarted = getattr(self._rest, "close", None)  # a coroutine nobody will await
                    if unstarted is not None:
                        unstarted()
                    raise
                finally:
                    self._sink = None
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

    def wake(self) -> None:
        """There is something new: for the sink if one is set, else for whoever waits."""
        waiter = self._waiter
        if waiter is None or waiter.done():
            return
        sink = self._sink
        if sink is not None and self._chunks:
            try:
                self._rest = sink(self.take() or b"")
            except Exception as raised:
                self._raised = raised
            else:
                if self._rest is None and not self.complete and self._error is None:
                    return
        waiter.set_result(None)

    @property
    def failure(self) -> Exception | None:
        """Why no more bytes will come, or None."""
        return self._error

    def close(self) -> None:
        """Let go at once; see `edge.upstreams.Response.close`."""
        connection = self._connection
        if connection is not None:
            connection.fail(Disconnected("closed by us", sent=self.sent))
        self._chunks.clear()
