"""Many open streams on one worker: memory, processor time, delays, time to the first event.

    .venv/bin/python -P -m bench.many_streams --streams 9000
    .venv/bin/python -P -m bench.many_streams --streams 19500 --h2
    .venv/bin/python -P -m bench.many_streams --streams 9000 --objects --than ../before

A real `penstock serve` with one worker between a lean upstream (`bench.paced_upstream`, an event a
second) and lean clients (`bench.lean_clients`). `--straight` puts the clients on the upstream
itself. With `--h2` the clients need few descriptors, and a limit of 20,000 carries 19,584 streams.
"""

import argparse
import ctypes
import fcntl
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from .figures import Row
from .lean_clients import PER_CONNECTION
from .merging import write_table
from .processes import allow_many_files, tree
from .worker_probe import ask, probed

_ROOT = Path(__file__).parents[1]
_KEPT = 20
"""Types and coroutines that are shown."""
_UPSTREAM_SHARE = 9000
"""Streams of one process of the upstream; each takes a descriptor."""
_NEW_NETWORK, _SET_FLAGS, _UP = 0x40000000, 0x8914, 1
"""`CLONE_NEWNET`, `SIOCSIFFLAGS` and `IFF_UP`."""
_SPARE = 50
"""Connections of clients beyond those of the streams."""

_CONFIG = """
[server]
port = 0
workers = 1
{server}

[store]
sql = "sqlite:///{folder}/penstock.db"
journal = "{folder}/journal"

[auth]
mode = "keys"

[limits]
safety_net = "1000000000/min"

[[upstreams]]
name = "provider"
dialect = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key = "sk-bench-upstream"
max_connections = 30000

[[models]]
id = "bench-model"
targets = ["provider/sim-1"]
price = {{ input = "3.00", output = "15.00" }}

[log]
level = "info"
format = "json"
requests = true
"""
_PLAN = """
[[plans]]
id = "bench"
requests = "600M/min"
tokens = "600M/min"
concurrency = 100000
windows = [{ length = "5h", credits = "1000000.00" }]
overflow = "credits"
"""


@contextmanager
def running(
    words: list[str], env: Mapping[str, str] | None = None, errors: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A process of ours, ended afterwards."""
    with ExitStack() as stack:
        file = None if errors is None else stack.enter_context(errors.open("w"))
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            cwd=_ROOT,
            env={**os.environ, **(env or {})},
        )
        below = []
        try:
            yield process
        finally:
            below = tree(process.pid)
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for left in below:
                if left.is_running():
                    left.kill()


def take_all_ports() -> None:
    """Go on in a network of this process and its children alone, with 64,512 local ports.

    Of the usual 28,232 Linux gives out every other one quickly: a connection beyond 14,116 to one
    address takes it half a millisecond. Needs root.
    """
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "no network of its own")
    with socket.socket() as one:
        fcntl.ioctl(one, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("1024 65535")


def line(process: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert process.stdout is not None
    said = process.stdout.readline()
    if not said:
        raise RuntimeError(f"{process.args} ended")
    return said.strip()


def asked(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The answer of the clients to an empty line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    found: dict[str, Any] = json.loads(line(process))
    return found


def rss_kib(pid: int) -> int:
    """Memory of one process that no other shares, in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(
        int(row.split()[1])
        for row in text.splitlines()
        if row.startswith(("Private_Clean:", "Private_Dirty:"))
    )


def cpu_seconds(*pids: int) -> float:
    """CPU time of all threads of these processes."""
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids) / 1e9


class Run:
    """One run of the bench. program: the `penstock` to run."""

    def __init__(self, options: argparse.Namespace, program: Path) -> None:
        self._options = options
        self._program = program

    def figures(self) -> dict[str, Any]:
        options = self._options
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            first = stack.enter_context(running(_python("paced_upstream", "0")))
            port = line(first).split()[1]
            upstreams = [first.pid]
            for _ in range(options.streams // _UPSTREAM_SHARE):
                more = stack.enter_context(running(_python("paced_upstream", port)))
                line(more)
                upstreams.append(more.pid)
            if options.straight:
                url, key, worker = f"http://127.0.0.1:{port}/v1/chat/completions", "none", 0
            else:
                url, key, worker = self._gateway(stack, folder, port)
            words = [url, key, "bench-model", str(options.streams), str(options.rate)]
            words += ["h2"] if options.h2 else []
            before = rss_kib(worker) if worker else 0
            cpu = cpu_seconds(worker) if worker else 0.0
            clients = stack.enter_context(running(_python("lean_clients", *words)))
            opening = json.loads(line(clients))
            found: dict[str, Any] = {"opening": opening}
            opened = cpu_seconds(worker) if worker else 0.0
            if worker and options.probe:
                found["collections while opening"] = _pauses(ask(folder, worker))
            time.sleep(options.settle)
            asked(clients)
            began = cpu_seconds(worker) if worker else 0.0
            beside = cpu_seconds(clients.pid), cpu_seconds(*upstreams)
            wall = time.monotonic()
            time.sleep(options.seconds)
            flowing = asked(clients)
            wall = time.monotonic() - wall
            found["flowing"] = flowing
            if worker and opening["failed"]:
                found["reasons"] = _reasons(folder / "log")
            found["core of the clients"] = round((cpu_seconds(clients.pid) - beside[0]) / wall, 3)
            found["cores of the upstream"] = round((cpu_seconds(*upstreams) - beside[1]) / wall, 3)
            if worker:
                used = cpu_seconds(worker) - began
                found["kB per stream"] = round(
                    (rss_kib(worker) - before) * 1.024 / options.streams, 2
                )
                per_event = used / max(1, flowing["events"])
                found["us per event"] = round(per_event * 1e6, 1)
                found["us per opened stream, less its events"] = round(
                    (opened - cpu - per_event * opening["events"]) / options.streams * 1e6, 1
                )
                found["core"] = round(used / wall, 3)
            if worker and options.probe:
                found["collections"] = _pauses(ask(folder, worker))
            if worker and options.objects:
                found.update(_objects(ask(folder, worker, objects=True), options.streams))
            return found

    def _gateway(self, stack: ExitStack, folder: Path, upstream: str) -> tuple[str, str, int]:
        options = self._options
        server = ""
        if options.h2:
            server = f"http2 = true\nmax_connections = {options.streams // PER_CONNECTION + _SPARE}"
        text = _CONFIG.format(folder=folder, upstream=upstream, server=server)
        text += _PLAN if options.limited else ""
        config = folder / "penstock.toml"
        config.write_text(text)
        program = [str(self._program)]
        create = [*program, "keys", "create", "--config", str(config), "--name", "b", "--quiet"]
        create += ["--plan", "bench"] if options.limited else []
        key = subprocess.check_output(create, text=True).split()[-1]
        env = probed(folder) if options.probe else None
        serve = [*program, "serve", "--config", str(config)]
        gateway = stack.enter_context(running(serve, env, folder / "log"))
        url = line(gateway).removeprefix("ready ") + "/v1/chat/completions"
        warm = [url, key, "bench-model", "50", "200", *(["h2"] if options.h2 else [])]
        with running(_python("lean_clients", *warm)) as clients:
            if json.loads(line(clients))["failed"]:
                raise RuntimeError((folder / "log").read_text()[-2000:])
        time.sleep(1)
        worker = max(tree(gateway.pid)[1:], key=lambda one: one.memory_info().rss).pid
        print(f"worker {worker}", flush=True)
        return url, key, worker


def _python(module: str, *words: str) -> list[str]:
    return [sys.executable, "-P", "-m", f"bench.{module}", *words]


def _reasons(log: Path) -> dict[str, int]:
    """Why requests were refused, as the gateway's log has it: the most frequent."""
    said: Counter[str] = Counter()
    for text in log.read_text().splitlines():
        with suppress(ValueError, KeyError):
            said[json.loads(text)["reason"]] += 1
    return dict(said.most_common(_KEPT))


def _pauses(answer: dict[str, Any]) -> dict[str, Any]:
    """Number, longest and sum in ms of collections, by generation."""
    found: dict[str, Any] = {"frozen": answer["frozen"]}
    for generation in range(3):
        took = [ms for of, ms, _ in answer["pauses"] if of == generation]
        if took:
            found[f"generation {generation}"] = {
                "number": len(took),
                "longest": round(max(took), 1),
                "sum": round(sum(took), 1),
                "collected": sum(n for of, _, n in answer["pauses"] if of == generation),
            }
    return found


def _objects(answer: dict[str, Any], streams: int) -> dict[str, Any]:
    """Objects per stream: number and bytes by type, and coroutines by name."""
    sizes: dict[str, tuple[int, int]] = answer["objects"]
    largest = sorted(sizes.items(), key=lambda one: -one[1][1])
    shown = {
        name: f"{number / streams:.2f} ({size / streams:.0f} B)"
        for name, (size, number) in largest
        if number >= streams // 2
    }
    coroutines = Counter(answer["coroutines"]).most_common(_KEPT)
    return {
        "objects per stream": shown,
        "all objects per stream": round(sum(n for _, n in sizes.values()) / streams, 1),
        "coroutines per stream": {
            name: round(n / streams, 2) for name, n in coroutines if n >= streams // 2
        },
    }


def report_rows(found: Mapping[str, Any], streams: int) -> Iterator[Row]:
    """The figures of a run, with their targets: 20,000 streams are to be served as these are."""
    opening, flowing = found["opening"], found["flowing"]
    per_stream, core = found["kB per stream"], found["core"]
    widened, first = flowing["widened"]["p99"], opening["first"]["p99"]
    failed = opening["failed"] + flowing["failed"]
    yield Row(f"streams that failed, of {streams:,}", failed, 0, failed == 0)
    yield Row("kB / open stream", per_stream, "≤ 30", per_stream <= 30)
    yield Row("added to a gap p50, ms", flowing["widened"]["p50"])
    yield Row("added to a gap p99, ms", widened, "< 30", widened < 30)
    yield Row("first token while they are opened p50, ms", opening["first"]["p50"])
    yield Row("first token while they are opened p99, ms", first, "< 500", first < 500)
    yield Row("of a core, with an event a second each", core)
    yield Row("of a core, the clients", found["core of the clients"])
    yield Row("of a core, the upstream", found["cores of the upstream"])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=9000)
    parser.add_argument("--rate", type=float, default=1000, help="opened each second")
    parser.add_argument("--seconds", type=float, default=30, help="measured when all are open")
    parser.add_argument("--settle", type=float, default=3, help="seconds before that")
    parser.add_argument("--h2", action="store_true", help="clients of HTTP/2")
    parser.add_argument("--limited", action="store_true", help="a plan with everything")
    parser.add_argument("--probe", action="store_true", help="time garbage collections")
    parser.add_argument("--objects", action="store_true", help="count objects")
    parser.add_argument("--ports", action="store_true", help="all local ports; needs root")
    parser.add_argument("--straight", action="store_true", help="without the gateway")
    parser.add_argument("--than", type=Path, help="another checkout, measured first")
    parser.add_argument("--json", type=Path, help="write the figures for `bench.compare --read`")
    options = parser.parse_args()
    options.probe = options.probe or options.objects
    allow_many_files()
    if options.ports:
        take_all_ports()
    print("descriptors:", resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    places = [options.than, _ROOT] if options.than else [_ROOT]
    for place in places:
        program = place.resolve() / ".venv" / "bin" / "penstock"
        found = Run(options, program).figures()
        print(place.resolve().name, json.dumps(found, indent=1), flush=True)
    if options.json and not options.straight:
        write_table(options.json, "Many streams", list(report_rows(found, options.streams)))


if __name__ == "__main__":
    main()
