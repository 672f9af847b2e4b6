"""Notices to a service manager, received from a socket as systemd has it."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from edge.server.service_manager import ServiceManager


class Receiver:
    """A datagram socket at a name as `NOTIFY_SOCKET` has it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(name.replace("@", "\0", 1))

    def notices(self) -> list[str]:
        """All that have come since the last call."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Receiver]:
    name = str(tmp_path / "n") if request.param == "path" else f"@penstock-{uuid4()}"
    one = Receiver(name)
    yield one
    one.close()


def manager(
    receiver: Receiver, clock: Callable[[], int] = time.monotonic_ns, **environ: str
) -> ServiceManager:
    environ["NOTIFY_SOCKET"] = receiver.name
    return ServiceManager.from_environment(environ, clock=clock)


def test_ready_is_sent_once(receiver: Receiver) -> None:
    one = manager(receiver)
    one.describe("Serving\nhere")
    one.ready()
    one.ready()
    assert receiver.notices() == ["READY=1\nSTATUS=Serving here"]


def test_reload_is_announced_with_its_time_and_ends_ready(receiver: Receiver) -> None:
    one = manager(receiver, lambda: 5_000_999)
    one.ready()
    with one.reloading():
        one.describe("new")
    assert receiver.notices() == [
        "READY=1",
        "RELOADING=1\nMONOTONIC_USEC=5000",
        "READY=1\nSTATUS=new",
    ]


def test_reload_that_raises_ends_ready(receiver: Receiver) -> None:
    one = manager(receiver)
    one.ready()
    with pytest.raises(ZeroDivisionError), one.reloading():
        raise ZeroDivisionError
    assert receiver.notices()[-1] == "READY=1"


def test_reload_before_ready_sends_nothing(receiver: Receiver) -> None:
    one = manager(receiver)
    with one.reloading():
        assert receiver.notices() == []
    assert receiver.notices() == []


def test_stop_during_a_reload_stays_stopping(receiver: Receiver) -> None:
    one = manager(receiver)
    one.ready()
    with one.reloading():
        one.stopping()
        one.stopping()
    with one.reloading():
        pass
    one.ready()
    assert [text.splitlines()[0] for text in receiver.notices()] == [
        "READY=1",
        "RELOADING=1",
        "STOPPING=1",
    ]


def test_stop_before_ready_never_says_ready(receiver: Receiver) -> None:
    one = manager(receiver)
    one.stopping()
    one.ready()
    assert [text.splitlines()[0] for text in receiver.notices()] == ["STOPPING=1"]


def test_watchdog_gets_two_signs_in_each_interval(receiver: Receiver) -> None:
    seconds = 0.0
    one = manager(
        receiver,
        lambda: int(seconds * 1e9),
        WATCHDOG_USEC="4000000",
        WATCHDOG_PID=str(os.getpid()),
    )
    for _ in range(40):
        one.alive()
        seconds += 0.25
    assert receiver.notices() == ["WATCHDOG=1"] * 5


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "x"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"},
    ],
)
def test_watchdog_of_another_process_or_none_gets_no_sign(
    receiver: Receiver, environ: dict[str, str]
) -> None:
    ServiceManager.from_environment({"NOTIFY_SOCKET": receiver.name, **environ}).alive()
    assert receiver.notices() == []


def test_environment_is_cleared_for_child_processes(receiver: Receiver) -> None:
    environ = {"NOTIFY_SOCKET": receiver.name, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1", "A": "b"}
    ServiceManager.from_environment(environ)
    assert environ == {"A": "b"}


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "vsock:2:1"}, {"NOTIFY_SOCKET": ""}])
def test_no_socket_or_one_of_another_kind_sends_nothing(environ: dict[str, str]) -> None:
    one = ServiceManager.from_environment(environ)
    one.ready()
    with one.reloading():
        one.stopping()
    one.alive()


def test_ready_that_was_lost_is_sent_again(receiver: Receiver, tmp_path: Path) -> None:
    """The supervisor's loop tries again; a lost notice of a reload does not prevent the reload."""
    name = f"@penstock-{uuid4()}"
    one = ServiceManager.from_environment({"NOTIFY_SOCKET": name})
    with pytest.raises(OSError, match="refused"):
        one.ready()
    there = Receiver(name)
    one.ready()
    assert there.notices() == ["READY=1"]
    there.close()
    done = False
    with one.reloading():
        done = True
    assert done
