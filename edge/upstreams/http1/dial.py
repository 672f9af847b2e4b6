"""Open a TCP or TLS connection: happy eyeballs (RFC 8305) on any event loop.

uvloop's `create_connection` has no `happy_eyeballs_delay`, so the race runs here, over sockets that
are then passed to the loop. Failure and cancellation close all sockets. Names are looked up outside
the event loop (`middlewares.dns`).
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterable, Iterator
from itertools import chain, zip_longest
from typing import Any, TypeVar

from middlewares.dns import Address, Lookup

T = TypeVar("T")
ProtocolT = TypeVar("ProtocolT", bound=asyncio.Protocol)

HEAD_START = 0.25
"""Seconds before the next address is tried in parallel (RFC 8305 section 5)."""


_SILENCE = 30
"""Seconds of silence before a TCP keepalive probe, half the limit for unacknowledged data.

A lost machine is noticed within a minute and a half, even while a model thinks, and middleboxes do
not drop the connection as idle.
"""


def _options() -> Iterator[tuple[int, int, int]]:
    tcp = socket.IPPROTO_TCP
    yield tcp, socket.TCP_NODELAY, 1
    yield socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1
    for name, value in (
        ("TCP_KEEPIDLE", _SILENCE),
        ("TCP_KEEPINTVL", _SILENCE // 2),
        ("TCP_KEEPCNT", 4),
        ("TCP_USER_TIMEOUT", 2000 * _SILENCE),  # milliseconds
    ):
        if hasattr(socket, name):
            yield tcp, getattr(socket, name), value


OPTIONS = tuple(_options())
"""Socket options of every connection to an upstream."""


def interleave(infos: Iterable[Address]) -> list[Address]:
    """Addresses in the resolver's order with alternating families (RFC 8305 section 4)."""
    families: dict[int, list[Address]] = {}
    for info in infos:
        families.setdefault(info[0], []).append(info)
    rounds = zip_longest(*families.values())
    return [info for info in chain.from_iterable(rounds) if info is not None]


async def connect_one(loop: asyncio.AbstractEventLoop, info: Address) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        for option in OPTIONS:
            sock.setsockopt(*option)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def race(
    loop: asyncio.AbstractEventLoop,
    infos: list[Address],
    connect: Callable[[Address], Coroutine[Any, Any, T]],
    discard: Callable[[T], object],
) -> T:
    """The first connection that succeeds; the next address starts when one fails or is slow.

    Raises the first OSError when all fail. discard: closes a connection that came too late.
    """
    if len(infos) == 1:
        return await connect(infos[0])
    waiting = list(reversed(infos))
    running: set[asyncio.Task[T]] = set()
    won: list[T] = []
    failure: OSError | None = None

    def late(task: "asyncio.Task[T]") -> None:
        if not task.cancelled() and task.exception() is None:
            discard(task.result())

    try:
        while not won and (waiting or running):
            if waiting:
                running.add(loop.create_task(connect(waiting.pop())))
            done, running = await asyncio.wait(
                running,
                timeout=HEAD_START if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                error = task.exception()
                if error is None and not won:
                    won.append(task.result())
                elif error is None:
                    discard(task.result())
                elif isinstance(error, OSError):
                    failure = failure or error
                else:
                    raise error
    finally:
        for task in running:
            task.add_done_callback(late)
            task.cancel()
    if not won:
        raise failure or OSError("no address to connect to")
    return won[0]


class Progress:
    """The step of a connection attempt, for its timeout message."""

    __slots__ = ("step",)

    def __init__(self) -> None:
        self.step = ""


async def dial(
    loop: asyncio.AbstractEventLoop,
    factory: Callable[[], ProtocolT],
    host: str,
    port: int,
    context: ssl.SSLContext | None,
    *,
    lookup: Lookup,
    progress: Progress,
) -> ProtocolT:
    """A connected protocol. With `context`, after a TLS handshake that verifies `host`.

    Raises OSError (also its subclasses ssl.SSLError and LookupFailed).
    """
    progress.step = f"name lookup of {host}"
    infos = await lookup(host, port)
    progress.step = f"TCP connection to {host}"
    sock = await race(
        loop, interleave(infos), lambda info: connect_one(loop, info), socket.socket.close
    )
    try:
        if context is None:
            _, protocol = await loop.create_connection(factory, sock=sock)
        else:
            progress.step = f"TLS handshake with {host}"
            _, protocol = await loop.create_connection(
                factory, sock=sock, ssl=context, server_hostname=host.partition("%")[0]
            )
    except BaseException:
        sock.close()
        raise
    return protocol
