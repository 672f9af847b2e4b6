"""The real program in a process of its own: start, request, stop, and check that it is gone."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.middlewares.stores.sqlite_files import new_sqlite
from tests.waiting import DEADLINE as DEADLINE

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
SCRIPT = Path(sys.executable).with_name("penstock")
Sample = tuple[str, tuple[tuple[str, str], ...]]


def until(look: Callable[[], T | None], *, within: float = DEADLINE, what: str = "") -> T:
    """The first true thing that `look` returns; for what only the system can tell."""
    end = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < end, f"not within {within} s: {what or look}"
        time.sleep(0.02)
    return found


def command(*arguments: str) -> list[str]:
    """The command line of the installed program; under coverage when this run is."""
    measured = ["-m", "coverage", "run"] if "COVERAGE_PROCESS_START" in os.environ else []
    return [sys.executable, *measured, str(SCRIPT), *arguments]


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would change the program's mind."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.endswith(("_API_KEY", "_BASE_URL")) and not name.startswith("PENSTOCK_")
    }
    return {**kept, **(extra or {})}


_HANDED_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Begins a program with a socket, as systemd does: `LISTEN_PID` is known only after the fork."""


class Program:
    """A running `penstock ARGUMENTS`, in a session of its own.

    url: as its `ready` line says. Raises AssertionError when that does not come in time.
    listener: a socket that listens, which it is started with.
    wrapper: a command before it that ends in becoming it, such as `prlimit`.
    cwd: the working directory. errors: a descriptor to log to, in place of a file in `folder`.
    """

    def __init__(
        self,
        *arguments: str,
        folder: Path,
        env: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
        wrapper: Sequence[str] = (),
        cwd: Path = ROOT,
        errors: int | None = None,
    ) -> None:
        self.folder = folder
        self._errors = folder / f"stderr-{time.monotonic_ns()}.log"
        self._lines: list[str] = []
        words = [*wrapper, *command(*arguments)]
        passed: tuple[int, ...] = ()
        if listener is not None:
            passed = (listener.fileno(),)
            words = [sys.executable, "-c", _HANDED_OVER, str(listener.fileno()), *words]
        with self._errors.open("wb") as file:
            self.process = subprocess.Popen(
                words,
                pass_fds=passed,
                cwd=cwd,
                env=environment(env),
                stdout=subprocess.PIPE,
                stderr=file if errors is None else errors,
                start_new_session=True,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            ready = until(self._ready, what="a ready line")
        except BaseException:
            self.kill()
            raise
        self.url = ready.removeprefix("ready ")
        self.port = int(self.url.rsplit(":", 1)[1])

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.append(line.rstrip("\n"))

    def _ready(self) -> str | None:
        assert self.process.poll() is None, self.stderr
        return next((line for line in self._lines if line.startswith("ready ")), None)

    @property
    def stdout(self) -> str:
        """All it has said."""
        return "\n".join(self._lines)

    @property
    def stderr(self) -> str:
        """All it has logged."""
        return self._errors.read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log so far; every line must be JSON, but for one that is being written."""
        whole, _, _ = self.stderr.rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def request_line(self, request_id: str) -> dict[str, Any]:
        """The one line that the log has for a request."""
        lines = until(
            lambda: [line for line in self.log if line.get("request_id") == request_id],
            what=f"a log line for {request_id}",
        )
        assert len(lines) == 1, lines
        return lines[0]

    @property
    def workers(self) -> list[psutil.Process]:
        """Its worker processes."""
        children: list[psutil.Process] = psutil.Process(self.process.pid).children()
        return children

    def signal_group(self, number: signal.Signals) -> None:
        """Signal every process of it, as a terminal or a service manager does."""
        os.killpg(self.process.pid, number)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within: float = DEADLINE) -> int:
        """Tell it to stop; its exit status. Asserts that it ends in time."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.ended(within=within)

    def ended(self, *, within: float = DEADLINE) -> int:
        """Its exit status once it has ended. Asserts that no process of it is left."""
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            self.signal_group(signal.SIGQUIT)  # each process writes its stacks
            time.sleep(1)
            self.kill()
            raise AssertionError(f"it did not end within {within} s\n{self.stderr}") from None
        self._reader.join(DEADLINE)
        left = self._group()
        self.kill()
        assert not left, f"left behind: {left}"
        return status

    def kill(self) -> None:
        """End whatever is left of it."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(DEADLINE)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _group(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter()
            if process.pid != self.process.pid and _group_of(process.pid) == self.process.pid
        ]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def release(simulator: Program) -> None:
    """Let every answer of a simulator go on that `fault=hold:N` holds."""
    assert httpx.get(f"{simulator.url}/release", trust_env=False).status_code == 200


class Gateway(Program):
    """`penstock serve` with a configuration of its own, and a client for quick questions.

    document: the configuration; where it listens and keeps things is filled in, and there is room
    for what one address sends in a test. A second one in the same folder goes on where the first
    was. With a `cwd` the file is named relative to that.
    """

    def __init__(
        self,
        folder: Path,
        document: Mapping[str, Any],
        *,
        env: Mapping[str, str] | None = None,
        listener: socket.socket | None = None,
        wrapper: Sequence[str] = (),
        cwd: Path | None = None,
        errors: int | None = None,
    ) -> None:
        self.file = folder / "penstock.json"
        self.database = folder / "penstock.db"
        if not self.database.exists():
            new_sqlite(self.database)
        self._env = env
        server = {"port": 0, "drain_delay": "0s", **document.get("server", {})}
        store = {
            "sql": f"sqlite:///{self.database}",
            "journal": str(folder / "journal"),
            **document.get("store", {}),
        }
        self.sql: str = store["sql"]
        limits = {"safety_net": "1000000/min", **document.get("limits", {})}
        filled = {**document, "server": server, "store": store, "limits": limits}
        self._managed = document.get("auth", {}).get("admin_token") == "env:ADMIN_TOKEN"
        self.file.write_text(json.dumps(filled))
        name = str(self.file) if cwd is None else os.path.relpath(self.file, cwd)
        super().__init__(
            *("serve", "--config", name),
            folder=folder,
            env=env,
            listener=listener,
            cwd=cwd or ROOT,
            errors=errors,
            wrapper=wrapper,
        )
        self._client = self._new_client()

    def _new_client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=DEADLINE)

    def forget_connections(self) -> None:
        """Ask on a new connection next time, which may be another worker's."""
        self._client.close()
        self._client = self._new_client()

    def kill(self) -> None:
        if hasattr(self, "_client"):
            self._client.close()
        super().kill()

    def run(self, *arguments: str) -> str:
        """What `penstock ARGUMENTS --config FILE` prints."""
        done = subprocess.run(
            command(*arguments, "--config", str(self.file)),
            cwd=ROOT,
            env=environment(self._env),
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def make_key(self, name: str, *options: str) -> str:
        """A new key by the command line, which is a process of its own."""
        return self.run("keys", "create", "--quiet", "--name", name, *options)

    def new_key(self, name: str, **fields: Any) -> str:
        """A new key by the management API, or by the command line where that is switched off."""
        if not self._managed:
            options = [word for key, value in fields.items() for word in (f"--{key}", str(value))]
            return self.make_key(name, *options)
        secret: str = self._make("keys", {"name": name, **fields})["secret"]
        return secret

    def new_team(self, name: str, **fields: Any) -> str:
        """The id of a new team, by the management API."""
        id_: str = self._make("teams", {"name": name, **fields})["id"]
        return id_

    def _make(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        token = (self._env or {})["ADMIN_TOKEN"]
        made = httpx.post(
            f"{self.url}/admin/v1/{kind}",
            json=fields,
            headers={"authorization": f"Bearer {token}"},
            trust_env=False,
        )
        assert made.status_code == 201, made.text
        found: dict[str, Any] = made.json()
        return found

    @cached_property
    def key(self) -> str:
        """A key, made when first wanted; its name is `first`."""
        return self.new_key("first")

    @property
    def bearer(self) -> dict[str, str]:
        """The header that carries the first key."""
        return {"authorization": f"Bearer {self.key}"}

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET without a key, on a connection that may be an old one."""
        return self._client.get(path, **options)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """POST JSON with the first key."""
        return self._client.post(path, json=body, headers={**self.bearer, **headers})

    def metrics(self) -> dict[Sample, float]:
        """One scrape: value by sample name and labels."""
        response = self.get("/metrics")
        assert response.status_code == 200
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(response.text)
            for sample in family.samples
        }

    def in_flight(self) -> float:
        """Requests being served now, without the one that asks."""
        return self.metrics()["penstock_requests_in_flight", ()]

    def whole_log(self) -> str:
        """All that was logged of what has been answered; lines are written a moment later.

        For a gateway with one worker, whose lines stay in order.
        """
        assert len(self.workers) == 1
        until(lambda: self.in_flight() == 0, what="the end of every request")
        last = self.get("/v1/models")
        self.request_line(last.headers["x-request-id"])
        return self.stderr

    def rss(self) -> int:
        """Resident bytes of all workers."""
        return sum(worker.memory_info().rss for worker in self.workers)


def peak_rss(pid: int) -> int:
    """Most resident bytes a process ever had (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    raise AssertionError(f"no VmHWM for {pid}")


def stats(simulator: Program) -> dict[str, Any]:
    """What a simulator counts: requests, streams, what is running."""
    found: dict[str, Any] = httpx.get(f"{simulator.url}/stats", trust_env=False).json()
    return found


def quiet(gateway: Gateway, simulator: Program) -> bool:
    """Whether no request is under way, at the gateway or at its upstream."""
    now = stats(simulator)
    return now["running"] == now["streams"] == 0 and gateway.in_flight() == 0
