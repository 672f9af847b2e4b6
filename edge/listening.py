"""Where the gateway listens: an address of its own, or a socket that it was started with.

A socket that is handed in outlives the process: connections wait in it while nobody serves, and
several processes may serve it at once. So one gateway can follow another without a connection
being refused. It is handed in as service managers do it (sd_listen_fds(3)): as file descriptor 3,
with `LISTEN_FDS=1` and `LISTEN_PID` the process that is meant.
"""

import os
import socket
from typing import NamedTuple

_FIRST = 3


class AddressInUse(OSError):
    """Something else listens there."""


class Held(NamedTuple):
    """A socket that holds the address. given: it listens, and was handed in."""

    socket: socket.socket
    host: str
    port: int
    given: bool

    def close(self) -> None:
        """Let go of the address."""
        self.socket.close()


def given() -> Held | None:
    """The socket that this process was started with, if there is one. Takes it out of the
    environment, as it is not meant for processes that we start. Raises OSError for what cannot be
    served."""
    meant, number = os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")
    if meant != str(os.getpid()) or number is None:
        return None
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    if number != "1":
        raise OSError(f"LISTEN_FDS={number}: one socket can be served, no more")
    try:
        os.set_inheritable(_FIRST, False)
        found = socket.socket(fileno=_FIRST)
    except OSError as error:
        raise OSError(f"LISTEN_FDS: descriptor {_FIRST}: {error.strerror}") from None
    tcp = found.family in (socket.AF_INET, socket.AF_INET6) and found.type == socket.SOCK_STREAM
    if not tcp or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError("LISTEN_FDS: expected a TCP socket that listens")
    found.setblocking(False)
    host, port = found.getsockname()[:2]
    return Held(found, host, port, given=True)


def hold(host: str, port: int) -> Held:
    """A socket bound to the address, not listening, that keeps the port while workers come.

    Workers share the port (SO_REUSEPORT), so a second gateway on it would not be refused but take
    half of the connections; binding once without that option finds it. Raises AddressInUse.
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
    held = socket.socket(family, kind, protocol)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(address)
    return Held(held, host, held.getsockname()[1], given=False)
