"""Open a TCP or TLS connection: happy eyeballs (RFC 8305) on any event loop.

uvloop's `create_connection` knows no `happy_eyeballs_delay`, so the race is run here, over sockets
that are then handed to the loop. Nothing is left behind when it fails or is cancelled.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from itertools import chain, zip_longest
from typing import Any, TypeVar

ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)
AddrInfo = tuple[int, int, int, str, tuple[Any, ...]]

HEAD_START = 0.25
"""Seconds an address is given before the next one is tried beside it (RFC 8305 section 5)."""


def interleave(infos: Iterable[AddrInfo]) -> list[AddrInfo]:
    """Addresses in the resolver's order, the families taking turns (RFC 8305 section 4)."""
    families: dict[int, list[AddrInfo]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    rounds = zip_longest(*families.values())
    return [info for info in chain.from_iterable(rounds) if info is not None]


async def _connect_one(loop: asyncio.AbstractEventLoop, info: AddrInfo) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def race(loop: asyncio.AbstractEventLoop, infos: list[AddrInfo]) -> socket.socket:
    """The first socket that connects; each next address starts when one fails or is slow.

    Raises the first OSError when all fail. A loser that connected after all is closed.
    """
    if len(infos) == 1:
        return await _connect_one(loop, infos[0])
    waiting = list(reversed(infos))
    running: set[asyncio.Task[socket.socket]] = set()
    winner: socket.socket | None = None
    failure: OSError | None = None
    try:
        while winner is None and (waiting or running):
            if waiting:
                running.add(loop.create_task(_connect_one(loop, waiting.pop())))
            done, running = await asyncio.wait(
                running,
                timeout=HEAD_START if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None and winner is None:
                    winner = task.result()
                elif error is None:
                    task.result().close()
                elif isinstance(error, OSError):
                    failure = failure or error
                else:
                    raise error
    finally:
        for task in running:
            task.add_done_callback(_discard)
            task.cancel()
    if winner is None:
        raise failure or OSError("no address to connect to")
    return winner


def _discard(task: "asyncio.Task[socket.socket]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()


async def dial(
    loop: asyncio.AbstractEventLoop,
    factory: Callable[[], ProtocolT],
    host: str,
    port: int,
    context: ssl.SSLContext | None,
) -> ProtocolT:
    """A connected protocol. With `context`, after a TLS handshake that names and checks `host`.

    Raises OSError (of which ssl.SSLError and socket.gaierror are kinds).
    """
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await race(loop, interleave(infos))
    try:
        if context is None:
            _, protocol = await loop.create_connection(factory, sock=sock)
        else:
            _, protocol = await loop.create_connection(
                factory, sock=sock, ssl=context, server_hostname=host
            )
    except BaseException:
        sock.close()
        raise
    return protocol
