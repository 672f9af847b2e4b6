"""Requests that wait for their turn, in a real server: disconnects, and bodies still on their way.

What a server's `receive` does when somebody has listened before cannot be had from a driver of our
own.
"""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from .program import DEADLINE, ROOT, until


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    errors: Path = tmp_path_factory.mktemp("waiting") / "stderr.log"
    served = ["--interface", "asgi", "--loop", "uvloop", "--no-ws", "tests.e2e.waiting_app:app"]
    address = ["--host", "127.0.0.1", "--port", str(found)]
    with errors.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "granian", *address, *served], cwd=ROOT, stdout=log, stderr=log
        )
    try:

        def answers() -> bool:
            assert process.poll() is None, errors.read_text()
            try:
                return seen(found) == ["0 wait"]
            except OSError:
                return False

        until(answers, what="an answer")
        yield found
        assert "Traceback" not in errors.read_text()
    finally:
        process.terminate()
        process.wait(DEADLINE)


def seen(port: int) -> list[str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", "/seen")
        found: list[str] = json.loads(connection.getresponse().read())
        return found
    finally:
        connection.close()


class Client:
    """One connection, by hand."""

    def __init__(self, port: int, path: str, body: bytes, *, length: int | None = None) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length or len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def answer(self) -> bytes:
        """The body of the answer, which ends the connection."""
        with self.socket, self.socket.makefile("rb") as stream:
            assert stream.readline().split()[1] == b"200"
            size = 0
            while (line := stream.readline().lower()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            return stream.read(size)

    def hang_up(self) -> None:
        self.socket.close()


def ended(port: int, line: str, times: int = 1) -> None:
    until(lambda: seen(port).count(line) == times, what=line)


@pytest.mark.parametrize("place", ["read", "unread"])
def test_who_waits_gets_its_body_through(port: int, place: str) -> None:
    clients = [Client(port, f"/{place}/echo", b"%d" % n * 1000) for n in range(4)]
    assert [client.answer() for client in clients] == [b"%d" % n * 1000 for n in range(4)]


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_body_that_comes_while_its_request_waits(port: int, size: int) -> None:
    folder = f"/unread/{size}"
    first = Client(port, f"{folder}/watch", b"1")
    ended(port, f"inside {folder}/watch")
    whole = bytes(range(256)) * (size // 256 + 1)
    second = Client(port, f"{folder}/echo", whole[: size // 2], length=len(whole))
    ended(port, "1 wait")
    first.hang_up()
    ended(port, "0 wait")
    second.socket.sendall(whole[size // 2 :])
    assert second.answer() == whole


@pytest.mark.parametrize("place", ["read", "unread"])
def test_disconnect_while_waiting_is_noticed(port: int, place: str) -> None:
    path = f"/{place}/in-line/watch"
    holds = Client(port, path, b"x")
    ended(port, f"inside {path}")
    waits = Client(port, path, b"y")
    ended(port, "1 wait")
    follows = Client(port, path, b"z")
    ended(port, "2 wait")
    waits.hang_up()
    ended(port, f"hung_up {path}")
    assert seen(port).count(f"inside {path}") == 1
    holds.hang_up()
    ended(port, f"inside {path}", 2)
    follows.hang_up()
    ended(port, f"hung_up {path}", 3)
    assert seen(port).count(f"left {path}") == 2


@pytest.mark.parametrize("place", ["read", "unread"])
def test_disconnect_after_waiting_reaches_the_app(port: int, place: str) -> None:
    """The `receive` that was under way when the wait was over is the app's now."""
    path = f"/{place}/later/watch"
    first = Client(port, path, b"x")
    ended(port, f"inside {path}")
    second = Client(port, path, b"y")
    ended(port, "1 wait")
    first.hang_up()
    ended(port, f"inside {path}", 2)
    second.hang_up()
    ended(port, f"left {path}", 2)
    ended(port, f"hung_up {path}", 2)
