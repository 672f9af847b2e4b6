"""The HTTP/1.1 client of the hot path: a bounded pool of connections to one origin.

What it is for: streaming many small answers at the least CPU. What it does not do — HTTP/2,
proxies — `edge.upstreams.http` gets from httpx behind the same seam.

Modules: `_wire` writes request heads, `_connection` carries one exchange after another,
`_response` is what the caller reads, `_dial` opens sockets, `limits` holds the bounds, and this
one lends connections out.
"""

import asyncio
import contextlib
import ssl
import time
from collections import deque
from collections.abc import Callable
from errno import EMFILE, ENFILE

import httpx

from edge.upstreams import ConnectFailed, Disconnected, OutOfDescriptors, Request, TimedOut
from edge.upstreams.tls import tls_context
from middlewares.dns import Lookup, lookup

from .connection import Connection
from .dial import Progress, dial
from .limits import STALE_WITHIN, PoolLimits
from .pools import Pools
from .response import HTTPResponse
from .wire import RequestHead, SizedBody, encode_head, host_of, netloc_of

__all__ = ["HTTPResponse", "PoolLimits", "SizedBody", "Transport"]


class Transport:
    """An `UpstreamConfig` for one origin. Belongs to the event loop that first opens a request.

    base_url: `http://` or `https://`, host (name, IPv4 or bracketed IPv6), optional port. Its
        path plays no part: the target of a request is sent as given. User information, query and
        fragment are refused with ValueError.
    limits: see `PoolLimits`.
    ssl: context for https; by default `tls_context()`, which verifies chain and host name.
    clock: seconds, monotonic.
    lookup: of host names; by default the process's own.

    repeat: whether a request may be sent twice that the upstream may have read.
    pools: of this process, whose bound holds for all of them together.

    A connection that carried a response before and dies before the first byte of the next one,
    within a second, is replaced once by a fresh one, if the body can be sent again: bytes, None, or
    a source that has not been asked for its first chunk. Without `repeat` only if nothing of the
    request had been written: the connection was seen closed before. Nothing else is ever retried
    here.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_closed_one",
        "_connections",
        "_host",
        "_idle",
        "_lookup",
        "_pools",
        "_port",
        "_repeat",
        "_slots",
        "_waiters",
        "clock",
        "host_line",
        "limits",
        "origin",
        "ssl_context",
    )

    def __init__(
        self,
        base_url: str,
        *,
        limits: PoolLimits | None = None,
        ssl: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
        lookup: Lookup = lookup,
        repeat: bool = True,
        pools: Pools | None = None,
    ) -> None:
        try:
            url = httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise ValueError(f"base_url {base_url!r} is not a URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"base_url must be http://host or https://host, got {base_url!r}")
        if url.userinfo or url.query or url.fragment:
            raise ValueError("base_url must have no user information, query or fragment")
        self.limits = limits or PoolLimits()
        self.clock = clock
        self.origin = f"{url.scheme}://{url.netloc.decode()}"
        self._host = host_of(url)
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self.host_line = b"host: " + netloc_of(url) + b"\r\n"
        self._lookup = lookup
        self._repeat = repeat
        self.ssl_context = None
        if url.scheme == "https":
            self.ssl_context = ssl or tls_context()
        self._closed = False
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # the last one used is the first one lent
        self._slots = 0  # connections open or being opened
        self._waiters: deque[asyncio.Future[Connection | None]] = deque()
        self._closed_one: asyncio.Future[None] | None = None
        self._pools = pools
        if pools is not None:
            pools.add(self)

    # --- figures for metrics and tests -------------------------------------------------------

    @property
    def connections(self) -> int:
        """Open connections, and those being opened."""
        return self._slots

    @property
    def idle(self) -> int:
        """Connections that carry nothing."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """Connections that carry an exchange, or are being opened for one."""
        return self._slots - len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests in line for a connection."""
        return len(self._waiters)

    def drop_idle(self) -> None:
        """Close the connection that was idle for longest, if one is."""
        if self._idle:
            self._idle.pop(0).abort()

    # --- the seam ----------------------------------------------------------------------------

    async def open(self, request: Request) -> HTTPResponse:
        """Send `request` and return when the response head is there.

        Raises UpstreamFailure, ValueError for a request that must not go out as it is, and
        whatever the source of a streamed body raises. Cancelling closes the connection.
        """
        head = encode_head(request, self.host_line)
        started = self.clock()
        response = HTTPResponse(started + self.limits.total)
        connection = self._take_idle()
        if connection is None:
            connection = await self._acquire(started)
        elif not self._repeat:
            connection.abort_if_ended()
        reused = connection.reused
        written = self.clock()
        await self._exchange(connection, response, head, request)
        if response.status:
            return response
        error = response.failure
        assert error is not None
        if (
            reused
            and response.unanswered
            and not response.started
            and isinstance(error, Disconnected)
            and (not error.sent or (self._repeat and self.clock() - written < STALE_WITHIN))
        ):
            response = HTTPResponse(started + self.limits.total)
            connection = await self._acquire(self.clock(), fresh=True)
            await self._exchange(connection, response, head, request)
            if response.status:
                return response
            error = response.failure
            assert error is not None
        raise error

    async def _exchange(
        self, connection: Connection, response: HTTPResponse, head: RequestHead, request: Request
    ) -> None:
        """One request on one connection, until there is a status or a failure."""
        connection.start(response, head, request.body)
        while not response.status and response.failure is None:
            await response.wait()
        response._awaiting_head = False

    async def aclose(self) -> None:
        """Refuse new requests, close idle connections now and running ones when they finish."""
        self._closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ConnectFailed("the transport is closed"))
        closing, self._idle = self._idle, []
        for connection in closing:
            connection.abort()
        # The loop closes sockets an iteration or two after it is told to.
        while any(connection in self._connections for connection in closing):
            self._closed_one = self._closed_one or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closed_one)
            self._closed_one = None

    # --- lending -----------------------------------------------------------------------------

    def _take_idle(self) -> Connection | None:
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            if connection.expires > self.clock():
                return connection
            connection.abort()
        return None

    async def _acquire(self, started: float, *, fresh: bool = False) -> Connection:
        """A connection nobody uses, waiting in line when all are in use; a new one if `fresh`."""
        deadline = started + self.limits.connect
        first = fresh
        while not self._closed:
            if self._slots < self.limits.connections:
                if self._pools is not None:
                    self._pools.make_room()
                self._slots += 1
                return await self._connect(deadline)
            if fresh and self._idle:
                self._idle.pop(0).abort()  # its slot comes to the first in line
            connection = await self._wait_for_connection(deadline, first)
            if connection is None:
                return await self._connect(deadline)
            if not fresh and not connection.closed:
                return connection
            if connection.counted:  # not the one we want, but its slot is ours
                connection.counted = False
                self._connections.discard(connection)
                connection.abort()
                return await self._connect(deadline)
            first = True  # it died on its way here and its slot went to another
        raise ConnectFailed("the transport is closed")

    async def _wait_for_connection(self, deadline: float, first: bool) -> Connection | None:
        """A connection handed over by its last user, or None for the right to open one."""
        if len(self._waiters) >= self.limits.waiting and not first:
            raise ConnectFailed(f"{self.limits.waiting} requests wait for {self.origin} already")
        waiter: asyncio.Future[Connection | None]
        waiter = asyncio.get_running_loop().create_future()
        if first:
            self._waiters.appendleft(waiter)
        else:
            self._waiters.append(waiter)
        try:
            async with asyncio.timeout(deadline - self.clock()):
                return await waiter
        except BaseException as error:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._hand_back(waiter.result())
            if isinstance(error, TimeoutError):
                raise ConnectFailed(
                    f"all {self.limits.connections} connections to {self.origin} were in use "
                    f"for {self.limits.connect:g} s"
                ) from None
            raise

    def _hand_back(self, handed: Connection | None) -> None:
        if handed is None:
            self._free_slot()
        elif not handed.closed:
            self.release(handed)

    async def _connect(self, deadline: float) -> Connection:
        """A new connection in a slot that is already ours; frees the slot when it fails."""
        loop = asyncio.get_running_loop()
        progress = Progress()
        try:
            async with asyncio.timeout(deadline - self.clock()):
                connection = await dial(
                    loop,
                    lambda: Connection(self, loop),
                    self._host,
                    self._port,
                    self.ssl_context,
                    lookup=self._lookup,
                    progress=progress,
                )
        except BaseException as error:
            self._free_slot()
            if isinstance(error, TimeoutError):
                raise TimedOut("connect", self.limits.connect, step=progress.step) from None
            if isinstance(error, OSError) and error.errno in (EMFILE, ENFILE):
                said = f"no file descriptor for a connection to {self.origin}: {error}"
                raise OutOfDescriptors(said) from error
            if isinstance(error, (OSError, UnicodeError)):
                raise ConnectFailed(f"no connection to {self.origin}: {error}") from error
            raise
        if connection.closed:
            self._free_slot()
            raise ConnectFailed(f"{self.origin} closed the connection at once")
        connection.counted = True
        self._connections.add(connection)
        return connection

    def _free_slot(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._slots -= 1

    def release(self, connection: Connection) -> None:
        """A connection is idle: lend it to the first in line or keep it. Called by it."""
        if self._closed:
            connection.abort()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is lost. Called by it, once."""
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._free_slot()
        if self._closed_one is not None and not self._closed_one.done():
            self._closed_one.set_result(None)
