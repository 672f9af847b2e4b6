"""The arena of the hostile set: a gateway with one worker, onlookers, and what they saw."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from tests.e2e.program import ROOT, Gateway, environment
from tests.waiting import DEADLINE

MiB = 1 << 20


class Helper:
    """A module of a package, run as a process. Its first line says that it is ready."""

    def __init__(self, name: str, *arguments: str, package: str = __package__) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"{package}.{name}", *arguments],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self.line()
        assert self.first.startswith("ready"), self.first

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def ask(self) -> Any:
        """What it has seen since it was last asked."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


class Outcome(msgspec.Struct):
    """What one request did. Seconds; cpu is of the worker, less what the onlookers cost it."""

    name: str
    status: int
    said: str
    sent: int
    cpu: float
    wall: float
    streams: float
    livez: float
    noise: float
    rss: int

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.sent / MiB:.1f} MB -> {self.status}, cpu {self.cpu:.2f} s, "
            f"wall {self.wall:.2f} s, longest gap {self.streams:.2f} s, /livez {self.livez:.2f} s "
            f"(noise {self.noise:.2f} s), rss {self.rss / MiB:.0f} MB"
        )


def document(simulator: str, sink: str) -> dict[str, Any]:
    """A configuration: `slow` at the simulator, a model of each dialect at the sink."""
    far = [
        {"name": f"sink-{dialect}", "dialect": dialect, "base_url": f"{sink}/v1", "api_key": "k"}
        for dialect in ("openai", "anthropic", "responses")
    ]
    slow = {"name": "sim", "dialect": "openai", "base_url": f"{simulator}/v1", "api_key": "k"}
    return {
        "server": {"workers": 1},
        "upstreams": [slow, *far],
        "models": [
            {"id": "slow", "targets": ["sim/far-model"]},
            {"id": "chat", "targets": ["sink-openai/far-model"]},
            {"id": "claude", "targets": ["sink-anthropic/claude-sonnet-4-5"]},
            {"id": "resp", "targets": ["sink-responses/far-model"]},
            {"id": "embed", "targets": ["sink-openai/far-model"]},
        ],
        "plans": [{"id": "spent", "requests": "1/10min", "burst": 1}],
        "log": {"requests": True},
    }


class Arena:
    """A gateway under attack beside onlookers."""

    def __init__(self, gateway: Gateway, *, streams: int) -> None:
        self.gateway = gateway
        (self.worker,) = gateway.workers
        self.onlookers = Helper("onlookers", gateway.url, gateway.key, str(streams))
        self.client = httpx.Client(base_url=gateway.url, trust_env=False, timeout=DEADLINE)
        self._share = self._measured_share()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.close()
        self.onlookers.close()

    def cpu(self) -> float:
        """Seconds of processor time that the worker has taken."""
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Resident bytes of the worker now."""
        size: int = self.worker.memory_info().rss
        return size

    def _measured_share(self) -> float:
        """Of a processor, what the onlookers cost the worker."""
        before, started = self.cpu(), time.perf_counter()
        time.sleep(1.0)
        self.onlookers.ask()
        return (self.cpu() - before) / (time.perf_counter() - started)

    def attack(
        self, name: str, path: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> Outcome:
        """Send one request, and say what it did to the worker and the onlookers."""
        sent = {**self.gateway.bearer, "content-type": "application/json", **(headers or {})}
        return self.measured(
            name, len(body), lambda: self.client.post(path, content=body, headers=sent)
        )

    def measured(self, name: str, size: int, act: Callable[[], httpx.Response]) -> Outcome:
        """What `act` did, which sends `size` bytes."""
        self.onlookers.ask()
        before, started = self.cpu(), time.perf_counter()
        response = act()
        wall = time.perf_counter() - started
        time.sleep(0.3)  # an event of each stream comes within, and shows the gap
        seen = self.onlookers.ask()
        whole = time.perf_counter() - started
        cpu = max(0.0, self.cpu() - before - self._share * whole)
        assert seen["ended"] == 0, "an onlooker's stream was ended"
        return Outcome(
            name,
            response.status_code,
            response.text[:300],
            size,
            cpu,
            wall,
            seen["streams"],
            seen["livez"],
            seen["noise"],
            self.rss(),
        )
