"""An internet of this test: names with public addresses, and servers behind them on loopback."""

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest
import trustme

from edge.media.fetch.fetcher import Fetcher
from edge.media.fetch.rules import FetchLimits, FetchRules
from middlewares.dns import Address, Lookup

PUBLIC = "93.184.215.14"
_watching: list[list[Any]] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watching:
        _watching[-1].append(arguments[1])


@pytest.fixture(scope="session")
def _hook() -> None:
    sys.addaudithook(_audit)  # it stays until the process ends


@pytest.fixture
def connects(_hook: None) -> Iterator[list[Any]]:
    """Addresses of every `connect` of a socket in this process, by whatever code."""
    seen: list[Any] = []
    _watching.append(seen)
    yield seen
    _watching.remove(seen)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


class Internet:
    """A name server, and servers behind public addresses.

    names: name to addresses, or a function that is asked at each lookup. servers: public address to
    the port on loopback where its server is. lookups: names looked up, in order.
    """

    def __init__(self, authority: trustme.CA) -> None:
        self.authority = authority
        self.names: dict[str, tuple[str, ...] | Callable[[], tuple[str, ...]]] = {}
        self.servers: dict[str, int] = {}
        self.lookups: list[str] = []
        self.outcomes: list[str] = []
        self.now = 0.0

    def resolve(self, host: str) -> list[Address]:
        self.lookups.append(host)
        found = self.names.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [_address(one) for one in (found() if callable(found) else found)]

    def route(self, addresses: list[Address]) -> list[Address]:
        """The seam: what is behind a public address is on loopback here."""
        routed = []
        for one in addresses:
            port = self.servers.get(one[4][0])
            routed.append(one if port is None else _address("127.0.0.1", port))
        return routed

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.authority.configure_trust(context)
        return context

    def tls(self, *names: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(*names).configure_cert(context)
        return context

    @asynccontextmanager
    async def fetcher(
        self, rules: FetchRules | None = None, limits: FetchLimits | None = None
    ) -> AsyncIterator[Fetcher]:
        fetcher = Fetcher(
            rules or FetchRules(),
            limits=limits,
            count=self.outcomes.append,
            lookup=Lookup(self.resolve, clock=lambda: self.now),
            context=self.context,
            route=self.route,
            clock=lambda: self.now,
        )
        yield fetcher
        await fetcher.aclose()


def _address(host: str, port: int = 0) -> Address:
    family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    rest = (0, 0) if family == socket.AF_INET6 else ()
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, *rest))


@pytest.fixture
def internet(authority: trustme.CA) -> Internet:
    return Internet(authority)


class Trap:
    """A server on the loopback addresses that nothing may reach. reached: connections."""

    def __init__(self) -> None:
        self.reached = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached += 1
        await reader.readline()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret")
        writer.close()


@pytest.fixture
async def trap() -> AsyncIterator[Trap]:
    trap = Trap()
    four = await asyncio.start_server(trap.serve, "0.0.0.0", 0)
    trap.port = four.sockets[0].getsockname()[1]
    servers = [four]
    if socket.has_ipv6:
        with suppress(OSError):  # this machine has no IPv6
            servers.append(await asyncio.start_server(trap.serve, "::1", trap.port))
    yield trap
    for server in servers:
        server.close()
        await server.wait_closed()
