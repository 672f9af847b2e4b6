"""The running program under a service manager, and as the parent of orphans."""

import asyncio
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Start
from .operator import change, reload
from .program import DEADLINE, Program, release, until
from .wire import CHAT, bearer, chat, line, request

NEAR: dict[str, Any] = {
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "m", "targets": ["near/sim-1"]}],
}


class Manager:
    """What systemd does with notices, and what `/readyz` said when `READY=1` came first."""

    def __init__(self) -> None:
        self.name = f"@penstock-{uuid4()}"
        self.notices: list[str] = []
        self.readyz = 0
        self._port = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{self.name[1:]}")
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def expect(self, port: int) -> None:
        """Receive; ask a gateway at `port` when it says that it is ready."""
        self._port = port
        self._thread.start()

    def _receive(self) -> None:
        while notice := self._socket.recv(4096).decode():
            if notice.startswith("READY=1") and not self.readyz:
                url = f"http://127.0.0.1:{self._port}/readyz"
                self.readyz = httpx.get(url, trust_env=False, timeout=DEADLINE).status_code
            self.notices.append(notice)

    @property
    def states(self) -> list[str]:
        """The first line of each notice, without the signs of life."""
        lines = [notice.partition("\n")[0] for notice in self.notices]
        return [one for one in lines if one != "WATCHDOG=1"]

    def close(self) -> None:
        with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sender:
            sender.sendto(b"", f"\0{self.name[1:]}")
        self._thread.join(DEADLINE)
        self._socket.close()


@pytest.fixture
def manager() -> Iterator[Manager]:
    one = Manager()
    try:
        yield one
    finally:
        one.close()


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
    return port


async def test_ready_reload_and_stop_reach_the_service_manager(
    start: Start, manager: Manager, redis_server: RedisServer, simulator: Program
) -> None:
    port = free_port()
    manager.expect(port)
    document = {
        "server": {"port": port, "workers": 2},
        "store": {"counters": redis_server.url(), "counters_timeout": "5s"},
        "upstreams": [
            {"name": "far", "dialect": "openai", "base_url": f"{simulator.url}/v1", "api_key": "k"}
        ],
        "models": [{"id": "m", "targets": ["far/far-model"]}],
    }
    wrapper = ("env", f"NOTIFY_SOCKET={manager.name}", "WATCHDOG_USEC=200000")
    gateway = await asyncio.to_thread(start, document, wrapper=wrapper)

    def said(*states: str) -> None:
        until(lambda: manager.states == [*states], what=f"{states}, not {manager.states}")

    await asyncio.to_thread(said, "READY=1")
    assert manager.readyz == 200
    serving = f"STATUS=Serving http://127.0.0.1:{port}"
    assert f"READY=1\n{serving}" in manager.notices
    for worker in gateway.workers:
        kinds = [one.type for one in worker.net_connections("unix")]
        assert socket.SOCK_DGRAM not in kinds, "a worker has a socket to the service manager"

    key = await asyncio.to_thread(gateway.make_key, "k")
    asked = time.monotonic_ns() // 1000
    reload(gateway)
    await asyncio.to_thread(said, "READY=1", "RELOADING=1", "READY=1")
    (notice,) = (one for one in manager.notices if one.startswith("RELOADING"))
    assert int(notice.splitlines()[1].removeprefix("MONOTONIC_USEC=")) >= asked
    change(gateway, models=[{"id": "m", "targets": ["missing/m"]}])
    states = ["READY=1", *["RELOADING=1", "READY=1"] * 2]
    await asyncio.to_thread(said, *states)
    assert any("refused" in one for one in manager.notices)

    async with line(gateway.url) as connection:
        body = chat("Hello [[sim tokens=9 fault=hold:5]]", "m", stream=True)
        await connection.send(request(CHAT, body, bearer(key)))
        reply = await connection.head()
        assert reply.status == 200
        gateway.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(said, *states, "STOPPING=1")
        signs = manager.notices.count("WATCHDOG=1")
        await asyncio.to_thread(
            until, lambda: manager.notices.count("WATCHDOG=1") > signs + 2, what="signs of life"
        )
        assert gateway.process.poll() is None
        await asyncio.to_thread(release, simulator)
        assert b"[DONE]" in b"".join([part async for part in connection.parts(reply)])
    assert await asyncio.to_thread(gateway.ended) == 0
    assert manager.states == [*states, "STOPPING=1"]


_ADOPTING = """
import ctypes, os, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
os.execv(sys.argv[1], sys.argv[1:])
"""


async def test_orphans_of_a_killed_worker_leave_no_zombie(start: Start, tmp_path: Path) -> None:
    """As the first process of a container: orphans become children of the parent process."""
    client = tmp_path / "claude"
    client.write_text("#!/bin/sh\nexec sleep 1000\n")
    client.chmod(0o755)
    document = {
        "upstreams": [{"name": "c", "dialect": "claude-cli", "command": str(client)}],
        "models": [{"id": "c", "targets": ["c/sonnet"]}],
    }
    wrapper = (sys.executable, "-c", _ADOPTING)
    gateway = await asyncio.to_thread(start, document, wrapper=wrapper)
    key = await asyncio.to_thread(gateway.make_key, "k")
    (worker,) = gateway.workers

    def clients() -> list[psutil.Process]:
        return [one for one in worker.children() if one.name() == "sleep"]

    async with line(gateway.url) as connection:
        await connection.send(request(CHAT, chat("Hello", "c"), bearer(key)))
        orphans = await asyncio.to_thread(until, clients, what="a client")
        worker.kill()
    for process in (worker, *orphans):
        await asyncio.to_thread(
            until, lambda pid=process.pid: not psutil.pid_exists(pid), what="it is reaped"
        )
    assert await asyncio.to_thread(gateway.stop) == 0
