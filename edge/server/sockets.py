"""The listening socket: bound by the gateway, or inherited from a service manager.

An inherited socket outlives the process: connections wait in it while no gateway serves, and
several processes may serve it at once. So one gateway can replace another without refusing a
connection. It is passed as in sd_listen_fds(3): file descriptor 3, with `LISTEN_FDS=1` and
`LISTEN_PID` set to the process that should take it.
"""

import os
import socket
from typing import Any, NamedTuple

_FIRST = 3


class AddressInUse(OSError):
    """Another process listens on the address."""


class ListeningSocket(NamedTuple):
    """A socket bound to the address. inherited: it already listens."""

    socket: socket.socket
    host: str
    port: int
    inherited: bool

    def share(self) -> None:
        """Let a successor bind the address as soon as no worker listens any more.

        Call it when workers listen: from then on their sockets keep another gateway out.
        """
        if not self.inherited:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def close(self) -> None:
        """Free the address."""
        self.socket.close()


def inherited_socket() -> ListeningSocket | None:
    """The socket that this process was started with, or None.

    Removes it from the environment, so that our child processes do not take it. Raises OSError when
    it cannot be served.
    """
    for_process, number = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if for_process != str(os.getpid()) or number is None:
        return None
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if number != "1":
        raise OSError(f"LISTEN_FDS={number}: expected 1 socket")
    try:
        os.set_inheritable(_FIRST, False)
        found = socket.socket(fileno=_FIRST)
    except OSError as error:
        raise OSError(f"LISTEN_FDS: descriptor {_FIRST}: {error.strerror}") from None
    tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
    if not tcp or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError("LISTEN_FDS: expected a listening TCP socket")
    found.setblocking(False)
    host, port = found.getsockname()[:2]
    return ListeningSocket(found, host, port, inherited=True)


def reserve_address(host: str, port: int) -> ListeningSocket:
    """A socket bound to the address, not listening, that keeps the port while workers start.

    Workers share the port (SO_REUSEPORT), so a second gateway could bind it too and would take half
    of the connections. Binding once without that option detects it, also while the first has no
    worker yet: its socket has no SO_REUSEADDR until it is shared. Raises AddressInUse.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise AddressInUse(f"cannot listen on {host} port {port}: {error.strerror}") from None
        address = (address[0], probe.getsockname()[1], *address[2:])
    try:
        held = _shared(family, kind, protocol, address)
    except OSError:  # closed connections of another program, which only SO_REUSEADDR passes over
        try:
            held = _shared(family, kind, protocol, address, socket.SO_REUSEADDR)
        except OSError as error:
            raise AddressInUse(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return ListeningSocket(held, host, held.getsockname()[1], inherited=False)


def _shared(family: int, kind: int, protocol: int, address: Any, *options: int) -> socket.socket:
    """A socket bound to `address` with SO_REUSEPORT and `options`."""
    bound = socket.socket(family, kind, protocol)
    try:
        for option in (socket.SO_REUSEPORT, *options):
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound
