"""Connections of the load generator to one target, and what comes back on them."""

import asyncio
import time
from time import perf_counter
from typing import Any, Literal

import msgspec

from .client import Connection, Expected, Reply, Target
from .processes import cpu_ns

KEEPS_UP = 0.9
"""Of the events that are due, the share that must come for a target to count as keeping up."""
_SHOWN_ERRORS = 5


class Job(msgspec.Struct, frozen=True):
    """One phase. Times in seconds.

    pid: root of the process tree whose CPU time and memory are read; None: nothing is read.
    rate: requests per second (phase rate) or events per second of a stream.
    core: where this process runs; None: anywhere.
    shape: of streams, for a target before `bench.provider`; "": for one before the simulator.
    size: of conversations, by its name.
    """

    phase: Literal["saturate", "rate", "streams", "first", "hold", "bodies", "beside"]
    target: Target
    pid: int | None = None
    connections: int = 32
    rate: float = 1000
    warmup: float = 1.0
    window: float = 3.0
    core: int | None = None
    shape: str = ""
    size: str = "1 MB"

    def stream(self, number: int, tokens: int) -> tuple[bytes, Expected]:
        """The request for a stream of connection `number`, and what must come back."""
        if self.shape:
            return self.target.ordered(number, tokens=tokens, rate=self.rate, shape=self.shape)
        return self.target.request(number, tokens=tokens, rate=self.rate)


class Fleet:
    """Connections to one target, and the counts and times of what comes back on them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.connections: list[Connection] = []
        self.errors: list[str] = []
        self.faults = 0
        self.done = 0
        self.events = 0
        self.firsts: list[float] = []
        self.latencies: list[float] = []
        self.measuring = False
        self._closed = False
        self._began = (0.0, 0, 0.0)

    async def connect(self) -> None:
        """Open all connections, a few at a time."""
        loop = asyncio.get_running_loop()
        host, port = self.job.target.address
        for _ in range(self.job.connections):
            _, connection = await loop.create_connection(
                lambda: Connection(self._count), host, port
            )
            self.connections.append(connection)

    def close(self) -> None:
        """Hang up everywhere; what that breaks off is no fault."""
        self._closed = True
        for connection in self.connections:
            connection.close()

    def _count(self, events: int) -> None:
        self.events += events

    def take(self, reply: Reply) -> bool:
        """Check a reply and count it; False when it is wrong."""
        fault = reply.fault()
        if self._closed:
            return False
        if fault:
            self.note(fault)
            return False
        self.done += 1
        if self.measuring:
            self.latencies.append(reply.ended - reply.sent)
            if reply.first:
                self.firsts.append(reply.first - reply.sent)
        return True

    def note(self, fault: str) -> None:
        """Count something that is wrong."""
        self.faults += 1
        if len(self.errors) < _SHOWN_ERRORS:
            self.errors.append(fault)

    def open_window(self) -> None:
        """Count from here."""
        self.measuring = True
        self.done = self.events = 0
        self.firsts.clear()
        self.latencies.clear()
        pid = self.job.pid
        self._began = (perf_counter(), cpu_ns(pid) if pid else 0, time.process_time())

    def close_window(self) -> dict[str, Any]:
        """Count to here: seconds, CPU of the subject and of this process, counts and times."""
        pid = self.job.pid
        used = cpu_ns(pid) - self._began[1] if pid else 0
        seconds = perf_counter() - self._began[0]
        self.measuring = False
        return {
            "seconds": seconds,
            "cpu_us": used / 1000,
            "busy": used / 1e9 / seconds,
            "load_busy": (time.process_time() - self._began[2]) / seconds,
            "requests": self.done,
            "events": self.events,
            "latency_ms": percentiles(self.latencies),
            "first_ms": percentiles(self.firsts),
        }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50, p90, p99, the most in milliseconds (nearest rank) and the number of samples."""
    if not seconds:
        return {"n": 0}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    ranks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "most": 1}
    found = {name: ordered[round(rank * last)] * 1000 for name, rank in ranks.items()}
    return {**found, "n": len(ordered)}
