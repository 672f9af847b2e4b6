"""Many requests over one connection, all sent at once."""

import re
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from tests.e2e.program import DEADLINE

_STATUS = re.compile(rb"HTTP/1\.1 (\d{3})")


def pipelined(url: str, address: str, paths: Sequence[str], key: str = "") -> list[int]:
    """The statuses of GET requests, in their order.

    address: of the client, one of 127.0.0.0/8. key: "" for none.
    """
    sent = f"authorization: Bearer {key}\r\n" if key else ""
    host = urlsplit(url)
    at = (host.hostname or "", host.port or 0)
    with socket.create_connection(at, timeout=DEADLINE, source_address=(address, 0)) as client:
        heads = [f"GET {path} HTTP/1.1\r\nhost: {host.netloc}\r\n{sent}" for path in paths]
        heads[-1] += "connection: close\r\n"
        client.sendall("\r\n".join([*heads, ""]).encode())
        received = bytearray()
        while data := client.recv(1 << 16):
            received += data
    statuses = [int(status) for status in _STATUS.findall(received)]
    assert len(statuses) == len(paths)
    return statuses
