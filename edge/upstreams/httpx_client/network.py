"""Network backend of httpcore with our name lookup, which records the progress of each request.

httpcore does not report whether a failed request used an old connection, nor whether a byte was
written or read. A `RequestProgress` records that for one request. A context variable finds it,
because httpcore writes and reads in the context in which the request was started.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from time import monotonic
from typing import Any

import httpcore

from edge.upstreams.http1.dial import interleave, race
from edge.upstreams.http1.pools import Pools
from middlewares.dns import Address, Lookup, shown

HEAD_BYTES = 256 * 1024
"""Bytes before the body of a response, with the first read of the body."""
_TUNNEL = b"CONNECT "


class RequestProgress:
    """The progress of one request on its connection.

    fresh: whether the connection was opened for it. step: the last step of opening it.
    written: monotonic time at which the first bytes of the request may have left, 0.0 before.
        on_write: called at that time. A proxy's CONNECT request does not count.
    answered: whether bytes of a response were received; unknown over HTTP/2, where one connection
        carries many. received: bytes of the head and before it.
    """

    __slots__ = ("fresh", "on_write", "received", "step", "written")

    def __init__(self) -> None:
        self.fresh = False
        self.step = ""
        self.written = 0.0
        self.on_write: Callable[[], None] = _nothing
        self.received = 0

    @property
    def answered(self) -> bool:
        return self.received > 0


def _nothing() -> None: ...


current_request: ContextVar[RequestProgress | None] = ContextVar("wire", default=None)


class Network(httpcore.AsyncNetworkBackend):
    """TCP connections with happy eyeballs (RFC 8305)."""

    def __init__(self, lookup: Lookup, pools: Pools | None = None) -> None:
        self._lookup = lookup
        self._pools = pools
        self._inner = httpcore.AnyIOBackend()
        self._closing: set[asyncio.Task[None]] = set()
        self.retired = 0

    def retire(self) -> None:
        """Reuse no existing connection: one was found dead."""
        self.retired += 1

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore. Raises ConnectError, and ConnectTimeout that names the step."""
        progress = current_request.get() or RequestProgress()
        progress.fresh = True
        progress.step = f"name lookup of {host}"
        if self._pools is not None:
            self._pools.make_room()

        async def connect(info: Address) -> httpcore.AsyncNetworkStream:
            try:
                return await self._inner.connect_tcp(
                    shown(info), port, None, local_address, socket_options
                )
            except httpcore.ConnectError as error:
                raise _cause(error) from None

        try:
            async with asyncio.timeout(timeout):
                infos = await self._lookup(host.replace("%25", "%", 1), port)
                progress.step = f"TCP connection to {host}"
                loop = asyncio.get_running_loop()
                stream = await race(loop, interleave(infos), connect, self._discard)
        except TimeoutError:
            raise httpcore.ConnectTimeout(progress.step) from None
        except OSError as error:
            raise httpcore.ConnectError(str(error)) from None
        progress.step = f"tunnel through {host}"  # unless the request is written at once
        return _Stream(self, stream, host)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """See httpcore. Always raises: no upstream has a Unix socket."""
        raise httpcore.ConnectError(f"{path}: Unix sockets are not supported")

    async def sleep(self, seconds: float) -> None:
        """See httpcore."""
        await asyncio.sleep(seconds)

    def _discard(self, stream: httpcore.AsyncNetworkStream) -> None:
        task = asyncio.get_running_loop().create_task(stream.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection that records the progress of the request that uses it."""

    def __init__(
        self,
        network: Network,
        inner: httpcore.AsyncNetworkStream,
        host: str,
        *,
        shared: bool = False,
    ) -> None:
        self._network = network
        self._inner = inner
        self._host = host
        self._shared = shared
        self._since = network.retired

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._inner.read(max_bytes, timeout)
        if (
            data
            and not self._shared
            and (progress := current_request.get()) is not None
            and progress.written
        ):
            progress.received += len(data)
            if progress.received > HEAD_BYTES:  # h11 has no limit on interim responses
                raise httpcore.RemoteProtocolError(f"head over {HEAD_BYTES} bytes")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        progress = current_request.get()
        if (
            progress is not None
            and not progress.written
            and buffer
            and not buffer.startswith(_TUNNEL)
        ):
            progress.written = monotonic()
            progress.on_write()
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        if (progress := current_request.get()) is not None:
            progress.step = f"TLS handshake with {self._host}"
        if server_hostname is not None:
            server_hostname = server_hostname.partition("%")[0]
        try:
            inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        except httpcore.ConnectTimeout:
            raise httpcore.ConnectTimeout(f"TLS handshake with {self._host}") from None
        except asyncio.CancelledError:
            await self._inner.aclose()  # httpcore leaves it to the garbage collector
            raise
        made = inner.get_extra_info("ssl_object")
        shared = made is not None and made.selected_alpn_protocol() == "h2"
        return _Stream(self._network, inner, self._host, shared=shared)

    def get_extra_info(self, info: str) -> Any:
        # httpcore treats a readable idle connection as closed.
        if info == "is_readable" and self._since != self._network.retired:
            return True
        return self._inner.get_extra_info(info)


def _cause(error: BaseException) -> OSError:
    """The OSError below the exceptions of httpcore and anyio."""
    said: BaseException | None = error
    while said is not None:
        if isinstance(said, OSError) and said.errno:
            return said.with_traceback(None)
        said = said.__cause__ or said.__context__
    return OSError(str(error))
