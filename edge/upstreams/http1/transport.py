"""HTTP/1.1 transport with a bounded pool of connections to one origin.

It streams many small answers at the least CPU. For HTTP/2 and proxies `edge.upstreams.http` uses
httpx.

Modules: `wire` writes request heads, `connection` carries one exchange after another, `response` is
read by the caller, `dial` opens sockets, `limits` holds the limits, `pools` the limit of the
process, and `transport` assigns connections to requests.
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
from .wire import HeadEncoder, RequestHead, SizedBody, host_of, netloc_of

__all__ = ["HTTPResponse", "PoolLimits", "SizedBody", "Transport"]


class Transport:
    """An `Upstream` for one origin. Belongs to the event loop that opens the first request.

    base_url: `http://` or `https://`, host (name, IPv4 or bracketed IPv6), optional port. Its
        path is ignored: the target of a request is sent as given. User information, query and
        fragment raise ValueError.
    limits: see `PoolLimits`.
    ssl: context for https; by default `tls_context()`, which verifies chain and host name.
    clock: seconds, monotonic.
    lookup: of host names; by default that of the process.
    repeat: whether to resend a request that the upstream may have read.
    pools: limit of the process for all its transports together.

    A reused connection that is lost within a second and before the first byte of the response is
    replaced once by a new one, if the body can be resent: bytes, None, a `RepeatableBody`, or a
    source whose first chunk was not requested. Without `repeat`, only if nothing of the request was
    written. Nothing else is retried here.
    """

    __slots__ = (
        "__weakref__",
        "_closed",
        "_closed_one",
        "_connections",
        "_heads",
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
        self._heads = HeadEncoder(self.host_line)
        self._lookup = lookup
        self._repeat = repeat
        self.ssl_context = None
        if url.scheme == "https":
            self.ssl_context = ssl or tls_context()
        self._closed = False
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []  # the last one used is the first reused
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
        """Connections without a request."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """Connections with a request, and those being opened for one."""
        return self._slots - len(self._idle)

    @property
    def waiting(self) -> int:
        """Requests in the queue for a connection."""
        return len(self._waiters)

    def drop_idle(self) -> None:
        """Close the connection that was idle longest, if any."""
        if self._idle:
            self._idle.pop(0).abort()

    # --- the upstream protocol ---------------------------------------------------------------

    async def open(self, request: Request) -> HTTPResponse:
        """Send `request`; return when the response head has arrived.

        Raises UpstreamFailure, ValueError for a request that would break HTTP framing, and what
        the source of a streamed body raises. Cancelling closes the connection.
        """
        head = self._heads.encode(request)
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
        """Send one request on `connection`; return at a status or a failure."""
        connection.start(response, head, request.body)
        while not response.status and response.failure is None:
            await response.wait()
        response._awaiting_head = False

    async def aclose(self) -> None:
        """Refuse new requests, close idle connections now and busy ones when they finish."""
        self._closed = True
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(ConnectFailed("the transport is closed"))
        closing, self._idle = self._idle, []
        for connection in closing:
            connection.abort()
        # The loop closes a socket an iteration or two after `abort`.
        while any(connection in self._connections for connection in closing):
            self._closed_one = self._closed_one or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closed_one)
            self._closed_one = None

    # --- assigning connections ---------------------------------------------------------------

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
        """A free connection, after a wait when all are in use; a new one if `fresh`."""
        deadline = started + self.limits.connect
        first = fresh
        while not self._closed:
            if self._slots < self.limits.connections:
                if self._pools is not None:
                    self._pools.make_room()
                self._slots += 1
                return await self._connect(deadline)
            if fresh and self._idle:
                self._idle.pop(0).abort()  # its slot goes to the first in the queue
            connection = await self._wait_for_connection(deadline, first)
            if connection is None:
                return await self._connect(deadline)
            if not fresh and not connection.closed:
                return connection
            if connection.counted:  # not fresh, or closed: only its slot is used
                connection.counted = False
                self._connections.discard(connection)
                connection.abort()
                return await self._connect(deadline)
            first = True  # it was lost and its slot went to another request
        raise ConnectFailed("the transport is closed")

    async def _wait_for_connection(self, deadline: float, first: bool) -> Connection | None:
        """A connection released by another request, or None for a free slot."""
        if len(self._waiters) >= self.limits.waiting and not first:
            raise ConnectFailed(f"{self.limits.waiting} requests already wait for {self.origin}")
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
        """A new connection in a slot taken by the caller; frees the slot on failure."""
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
        """Assign an idle connection to the first in the queue, or keep it. Called by it."""
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
        """Remove a lost connection. Called by it, once."""
        self._connections.discard(connection)
        with contextlib.suppress(ValueError):
            self._idle.remove(connection)
        self._free_slot()
        if self._closed_one is not None and not self._closed_one.done():
            self._closed_one.set_result(None)
