"""Start a subject, run the phases of the load generator on it, stop it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from . import processes
from .client import Target
from .subjects import Companion, Ready, Subject

SUBJECT_CORE = 0
LOAD_CORE = 1
_PATIENCE = 90.0
_MOST_RATE = 1000.0
_RECOVERY = 2.0


class Failed(Exception):
    """A subject gave no result; the text says what happened."""


class Running(msgspec.Struct, frozen=True):
    """A subject that answers. start_ms: from its start to its first good answer."""

    target: Target
    pid: int
    start_ms: float
    rest_kib: dict[str, int]


class Plan(msgspec.Struct, frozen=True):
    """Sizes and seconds of the phases."""

    plain_connections: int = 32
    streams: int = 200
    firsts: int = 100
    held: int = 1000
    event_rate: float = 50
    saturate: float = 3.0
    rate: float = 4.0
    stream: float = 5.0
    first: float = 4.0
    rest: float = 1.0
    body: float = 1.0
    gap_streams: int = 100
    gap: float = 4.0
    shape: float = 2.5

    @classmethod
    def quick(cls) -> "Plan":
        """Shorter windows, for a first look."""
        return cls(saturate=1.5, rate=2.0, stream=2.0, first=2.0, body=0.2, gap=2.0, shape=1.5)


def load(target: Target, phase: str, *, pid: int | None, **sizes: Any) -> dict[str, Any]:
    """Run one phase in a process of its own on the load core. Raises Failed."""
    job = {"phase": phase, "target": target, "pid": pid, "core": LOAD_CORE, **sizes}
    command = [sys.executable, "-m", "bench.load", msgspec.json.encode(job).decode()]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    if done.returncode:
        raise Failed(f"{phase}: {done.stderr.decode().strip()[-400:]}")
    result: dict[str, Any] = msgspec.json.decode(done.stdout)
    if result["faults"]:
        raise Failed(f"{phase}: {result['faults']} wrong answers, the first: {result['errors'][0]}")
    return result


def saturated(target: Target, plan: Plan, pid: int | None) -> dict[str, Any]:
    """CPU per request and requests per second when there is always more to do."""
    run = load(
        target, "saturate", pid=pid, connections=plan.plain_connections, window=plan.saturate
    )
    if not run["requests"]:
        raise Failed(f"saturate: no answer in {run['seconds']:.1f} s")
    return {
        "saturated_us": run["cpu_us"] / run["requests"],
        "saturated_rps": run["requests"] / run["seconds"],
        "saturated_busy": run["busy"],
    }


def paced(target: Target, plan: Plan, pid: int | None, *, most: float) -> dict[str, Any]:
    """CPU per request at a modest rate, where most requests wake it from idling.

    most: requests per second it can do; a third of that is the highest rate.
    """
    rate = min(_MOST_RATE, most / 3)
    run = load(
        target,
        "rate",
        pid=pid,
        connections=plan.plain_connections,
        rate=rate,
        window=plan.rate,
    )
    if run["requests"] < 0.9 * rate * run["seconds"]:
        raise Failed(f"paced: {run['requests'] / run['seconds']:.0f} of {rate:.0f} requests/s")
    return {
        "paced_us": run["cpu_us"] / run["requests"],
        "paced_rps": run["requests"] / run["seconds"],
        "paced_ms": run["latency_ms"],
    }


def plain(target: Target, plan: Plan, pid: int | None) -> dict[str, Any]:
    """Both ways of measuring a plain request."""
    most = saturated(target, plan, pid)
    return {**most, **paced(target, plan, pid, most=most["saturated_rps"])}


def streamed(target: Target, plan: Plan, pid: int | None) -> dict[str, Any]:
    """CPU per event of many streams that run side by side; of fewer when these are too many."""
    for streams in (plan.streams, plan.streams // 4, plan.streams // 20):
        run = load(
            target,
            "streams",
            pid=pid,
            connections=streams,
            rate=plan.event_rate,
            window=plan.stream,
        )
        if not run["behind"]:
            return {"event_us": run["cpu_us"] / run["events"], "event_streams": streams}
        time.sleep(_RECOVERY)  # it was hung up on with much still to be sent
    raise Failed(f"streams: cannot keep up with {streams} streams")


def first_tokens(target: Target, plan: Plan) -> dict[str, Any]:
    """Times to first token, with so many streams open at any time."""
    run = load(
        target,
        "first",
        pid=None,
        connections=plan.firsts,
        rate=plan.event_rate,
        window=plan.first,
    )
    if run["first_ms"]["n"] < plan.firsts:
        raise Failed(f"first: only {run['first_ms']['n']} streams ended in {plan.first:.0f} s")
    return {"first_ms": run["first_ms"]}


def held(target: Target, plan: Plan, pid: int) -> dict[str, Any]:
    """Memory before and while so many streams are open."""
    load(target, "first", pid=pid, connections=10, rate=50, warmup=0.5, window=0.5)
    run = load(target, "hold", pid=pid, connections=plan.held, rate=2, warmup=2, window=4)
    before, open_ = run["memory_before_kib"], run["memory_kib"]
    return {
        "held_kib": open_,
        "stream_kib": (open_["rss"] - before["rss"]) / plan.held,
        "streams_held": plan.held,
    }


@contextmanager
def running(subject: Subject, ready: Ready, folder: Path) -> Iterator[Running]:
    """Start a subject on its core, wait until it answers as it should, stop it. Raises Failed."""
    with ExitStack() as stack:
        for number, companion in enumerate(ready.companions):
            stack.enter_context(_accompanied(companion, folder / f"companion-{number}.log"))
        yield from _running(subject, ready, folder)


def _running(subject: Subject, ready: Ready, folder: Path) -> Iterator[Running]:
    log = folder / "output.log"
    if ready.url_file:
        (folder / ready.url_file).unlink(missing_ok=True)
    began = time.perf_counter()
    process = processes.start(ready.command, core=SUBJECT_CORE, log=log, env=ready.env, cwd=folder)
    try:
        if ready.introduce:
            _post(*ready.introduce)
        target = Target(_url(ready, folder), ready.model, ready.headers)
        start_ms = answers(process, target, log, began)
        rest = processes.memory_kib(process.pid)
        missing = subject.verify(target, log)
        if missing:
            raise Failed(f"does not do what is to be measured: {missing}")
        yield Running(target, process.pid, start_ms, rest)
    finally:
        processes.stop(process)


@contextmanager
def _accompanied(companion: Companion, log: Path) -> Iterator[None]:
    """Run a companion on the load core. Raises Failed when it does not listen."""
    process = processes.start(companion.command, core=LOAD_CORE, log=log)
    deadline = time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", companion.port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    said = log.read_text(errors="replace").strip()[-400:]
                    raise Failed(f"{companion.command[0]} does not listen; {said}") from None
                time.sleep(0.01)
        yield
    finally:
        processes.stop(process)


def _post(url: str, content: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    headers = {"content-type": "application/json"}
    with httpx.Client(trust_env=False, timeout=5) as client:
        while True:
            try:
                answer = client.post(url, content=content, headers=headers)
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise Failed(f"did not listen: {error!r}") from None
                time.sleep(0.005)
                continue
            if not answer.is_success:
                raise Failed(f"{url} answered {answer.status_code}: {answer.text[:200]}")
            return


def _url(ready: Ready, folder: Path) -> str:
    """The endpoint; a subject that chooses its own port has written it down in time."""
    if not ready.url_file:
        return ready.url
    file = folder / ready.url_file
    deadline = time.monotonic() + _PATIENCE
    while not file.exists():
        if time.monotonic() > deadline:
            output = (folder / "output.log").read_text(errors="replace").strip()
            raise Failed(f"did not say its address; {output[-400:]}")
        time.sleep(0.01)
    return file.read_text().rstrip("/") + "/chat/completions"


def answers(process: "subprocess.Popen[bytes]", target: Target, log: Path, began: float) -> float:
    """Milliseconds from `began` (perf_counter) until a request was answered well. Raises Failed."""
    request, _ = target.request(0, tokens=1)
    body = request.partition(b"\r\n\r\n")[2]
    headers = {"content-type": "application/json", **target.headers}
    last = ""
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.perf_counter() < began + _PATIENCE:
            if process.poll() is not None:
                last = f"exit status {process.returncode}"
                break
            try:
                answer = client.post(target.url, content=body, headers=headers)
            except httpx.HTTPError as error:
                last = repr(error)
            else:
                if answer.status_code == 200:
                    return (time.perf_counter() - began) * 1000
                last = f"{answer.status_code} {answer.text[:200]}"
            time.sleep(0.005)
    raise Failed(f"did not start: {last}; {log.read_text(errors='replace').strip()[-400:]}")
