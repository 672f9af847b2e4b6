"""Inherited sockets and reserved addresses."""

import socket
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from edge.server.sockets import AddressInUse, inherited_socket, reserve_address

TAKE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
pid, number = sys.argv[2:]
os.environ.update(LISTEN_PID=pid or str(os.getpid()), LISTEN_FDS=number)
from edge.server.sockets import inherited_socket
try:
    held = inherited_socket()
except OSError as error:
    print(error)
else:
    print(held and (held.host, held.port, held.inherited, held.socket.getblocking()))
    print([name for name in os.environ if name.startswith("LISTEN_")])
    print(os.get_inheritable(3))
"""


def take(passed: socket.socket | TextIO, pid: str = "", number: str = "1") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", TAKE, str(passed.fileno()), pid, number],
        pass_fds=[passed.fileno()],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_inherited_socket_is_taken_and_not_passed_on(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((host, 0), family=family) as passed:
        port = passed.getsockname()[1]
        assert take(passed) == [f"('{host}', {port}, True, False)", "[]", "False"]


def test_inherited_socket_of_another_process_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        assert take(passed, pid="1")[0] == "None"
    assert inherited_socket() is None


def test_inherited_socket_of_another_kind_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as passed:
        assert take(passed, number="2") == ["LISTEN_FDS=2: expected 1 socket"]
    expected = ["LISTEN_FDS: expected a listening TCP socket"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert take(datagrams) == expected
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        assert take(silent) == expected
    with Path(__file__).open() as file:
        assert take(file) == ["LISTEN_FDS: descriptor 3: Socket operation on non-socket"]


def test_reserve_address_another_gateway_is_refused_and_workers_are_not() -> None:
    held = reserve_address("127.0.0.1", 0)
    try:
        with socket.socket() as worker:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind(("127.0.0.1", held.port))
            worker.listen()
            with pytest.raises(AddressInUse, match=f"127.0.0.1 port {held.port}"):
                reserve_address("127.0.0.1", held.port)
    finally:
        held.close()


def test_reserve_address_another_gateway_is_refused_before_workers_listen() -> None:
    held = reserve_address("127.0.0.1", 0)
    try:
        with pytest.raises(AddressInUse, match=f"127.0.0.1 port {held.port}: Address already in"):
            reserve_address("127.0.0.1", held.port)
    finally:
        held.close()


def test_reserve_address_successor_takes_the_address_of_workers_that_only_drain() -> None:
    held = reserve_address("127.0.0.1", 0)
    worker = socket.socket()
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    worker.bind(("127.0.0.1", held.port))
    worker.listen()
    held.share()
    with socket.create_connection(("127.0.0.1", held.port)), worker.accept()[0]:
        with pytest.raises(AddressInUse):
            reserve_address("127.0.0.1", held.port)
        worker.close()
        try:
            reserve_address("127.0.0.1", held.port).close()
        finally:
            held.close()


@pytest.mark.parametrize("shared", [False, True])
def test_reserve_address_closed_connections_of_a_former_server_are_passed_over(
    shared: bool,
) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        server.bind(("127.0.0.1", 0))
        server.listen()
        host, port = server.getsockname()
        with socket.create_connection((host, port)) as client:
            server.accept()[0].close()  # this side closes first: the connection is in TIME_WAIT
            assert client.recv(1) == b""
    held = reserve_address(host, port)
    try:
        assert held.port == port
    finally:
        held.close()
