"""An upstream that plays a script, byte by byte: a raw asyncio server, no HTTP library.

    async def script(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await peer.gone()

    async with Fake(script) as upstream:
        ...  # talk to upstream.url
        assert upstream.requests[0].target == b"/"
        await upstream.until(lambda: upstream.open == 0)

The script runs once per connection; when it returns, the connection is closed. What it raises is
raised again when the `async with` block is left, so a script may assert. `answering` makes a
script that gives every request on every connection the same answer.
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType

import msgspec

from tests.waiting import DEADLINE

"""Seconds after which waiting for something that should happen fails the test."""


class Received(msgspec.Struct, frozen=True):
    """A request as it came: names lower case, body without its framing."""

    method: bytes
    target: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """The value of a header that must not come twice."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name!r} came {len(values)} times"
        return values[0] if values else None


class Gone(Exception):
    """The client closed the connection while the script wanted something from it."""


class Peer(asyncio.Protocol):
    """One connection, from the upstream's side. `number` counts from 0 in order of arrival."""

    def __init__(self, fake: "Fake") -> None:
        self.fake = fake
        self.number = 0
        self.lost = asyncio.Event()
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.transport: asyncio.Transport

    # What scripts use.

    async def request(self) -> Received:
        """The next whole request, also put into `Fake.requests`. Raises Gone."""
        head = await self.head()
        request = msgspec.structs.replace(head, body=await self.body(head))
        self.fake.requests.append(request)
        self.fake.notify()
        return request

    async def head(self) -> Received:
        """The next request head; its body is still to be read. Raises Gone."""
        block = await self.until(b"\r\n\r\n")
        start, *lines = block[:-4].split(b"\r\n")
        method, target, version = start.split(b" ")
        assert version == b"HTTP/1.1", block
        headers = []
        for line in lines:
            name, separator, value = line.partition(b": ")
            assert separator and name == name.lower(), block
            headers.append((name, value))
        return Received(method, target, tuple(headers), b"")

    async def body(self, head: Received) -> bytes:
        """The body that `head` announces, chunked or by length."""
        if head.header(b"transfer-encoding") is not None:
            assert head.header(b"content-length") is None
            chunks = []
            while chunk := await self.chunk():
                chunks.append(chunk)
            return b"".join(chunks)
        return await self.exactly(int(head.header(b"content-length") or 0))

    async def chunk(self) -> bytes:
        """One chunk of a chunked body; b"" is the last."""
        size = int((await self.until(b"\r\n"))[:-2], 16)
        data = await self.exactly(size)
        assert await self.exactly(2) == b"\r\n"
        return data

    async def until(self, mark: bytes) -> bytes:
        """Bytes up to and with `mark`."""
        while (found := self._buffer.find(mark)) < 0:
            await self._more()
        return self._take(found + len(mark))

    async def exactly(self, size: int) -> bytes:
        """`size` bytes."""
        while len(self._buffer) < size:
            await self._more()
        return self._take(size)

    async def send(self, data: bytes) -> None:
        """Write, and wait until the socket takes it. Raises Gone."""
        if self.lost.is_set():
            raise Gone
        self.transport.write(data)
        await self._writable.wait()
        if self.lost.is_set():
            raise Gone

    async def gone(self) -> None:
        """Wait until the client closes the connection."""
        async with asyncio.timeout(DEADLINE):
            await self.lost.wait()

    def stop_reading(self) -> None:
        """Leave what the client sends in the sockets' buffers."""
        self.transport.pause_reading()

    def read_again(self) -> None:
        """Read again after `stop_reading`."""
        self.transport.resume_reading()

    def close(self) -> None:
        """End the connection in order (FIN)."""
        self.transport.close()

    def reset(self) -> None:
        """End the connection without order (RST)."""
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    @property
    def cipher(self) -> tuple[str, str, int] | None:
        """Of the TLS session, or None."""
        cipher: tuple[str, str, int] | None = self.transport.get_extra_info("cipher")
        return cipher

    @property
    def unread(self) -> int:
        """Bytes the client sent that no script has asked for."""
        return len(self._buffer)

    # What the loop uses.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.number = len(self.fake.peers)
        self.fake.joined(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._arrived.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self._arrived.set()
        self._writable.set()
        self.fake.notify()

    async def _more(self) -> None:
        if self.lost.is_set():
            raise Gone
        self._arrived.clear()
        await self._arrived.wait()

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


Script = Callable[[Peer], Awaitable[None]]


class Fake:
    """The server. Use as an async context manager.

    url: its origin. peers: every connection there ever was. requests: those read by
    `Peer.request`, in order. open: connections that are open now.
    """

    def __init__(
        self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.peers: list[Peer] = []
        self.requests: list[Received] = []
        self.port = 0
        self._script = script
        self._host = host
        self._tls = tls
        self._plays: list[asyncio.Task[None]] = []
        self._changed = asyncio.Condition()
        self._notices: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    @property
    def url(self) -> str:
        scheme = "http" if self._tls is None else "https"
        host = "localhost" if self._tls is not None else self._host
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def open(self) -> int:
        return sum(not peer.lost.is_set() for peer in self.peers)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition`, checked whenever a request or a connection comes or goes."""
        async with asyncio.timeout(DEADLINE), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    def joined(self, peer: Peer) -> None:
        self.peers.append(peer)
        self._plays.append(asyncio.get_running_loop().create_task(self._play(peer)))
        self.notify()

    def notify(self) -> None:
        task = asyncio.get_running_loop().create_task(self._notify())
        self._notices.add(task)
        task.add_done_callback(self._notices.discard)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _play(self, peer: Peer) -> None:
        with contextlib.suppress(Gone):
            await self._script(peer)
        peer.close()

    async def __aenter__(self) -> "Fake":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.close()
        for play in self._plays:
            play.cancel()
        results = await asyncio.gather(*self._plays, return_exceptions=True)
        for peer in self.peers:
            if not peer.lost.is_set():
                peer.transport.abort()
                await peer.gone()
        if kind is None:
            for result in results:
                if isinstance(result, BaseException) and not isinstance(
                    result, asyncio.CancelledError
                ):
                    raise result


def answer(body: bytes = b"", *, status: bytes = b"200 OK", headers: bytes = b"") -> bytes:
    """A response framed by its length. `headers`: further lines, each with its CRLF."""
    return b"HTTP/1.1 %b\r\ncontent-length: %d\r\n%b\r\n%b" % (status, len(body), headers, body)


def chunked(*parts: bytes) -> bytes:
    """A chunked response with these chunks and its end."""
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"


def answering(data: bytes) -> Script:
    """A script that answers every request with `data` and keeps the connection."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(data)

    return script
