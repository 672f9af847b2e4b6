"""What a second worker adds: CPU time per request of one and of two, and requests/s of a share.

    python -P -m bench.workers [--rounds 3] [--share 0.2]

`penstock serve` with keys, limits, a ledger in SQLite and counters in Redis, with one worker and
with two, in turns. Two figures of each:

* CPU per request, of all its processes, at the same rate for each worker, and while each is busy.
  What workers share badly (the ledger's file, shared memory, locks, a listening socket that wakes
  both) shows here.
* Requests/s while each worker has a share of a core and no more, by a control group of its own, and
  the load is more than it can do. Two must do 1.8 times what one does.

Redis, the simulator and the load generator are not limited. Root and control groups (version 1 or
2) are needed for the second figure. The groups have a large weight, so that they get their share
on a busy machine.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import msgspec
import psutil

from .client import Target
from .figures import Row
from .load import Job
from .merging import write_table
from .processes import cpu_ns
from .subjects import _PENSTOCK, _PLAN, _PRICE
from .teams import redis

_PERIOD = 20_000
"""Microseconds in which a group gets its share: short, so that streams and timers go on."""
_WEIGHT = 20_000


class Figures(NamedTuple):
    """Of one round. micros: CPU per request at a fixed rate; busy: while limited. balance: the
    share of the busier worker. rate: requests/s while limited."""

    micros: float
    busy: float
    balance: float
    rate: float


class Gateway:
    """A gateway with so many workers."""

    def __init__(self, folder: Path, simulator: str, counters: str, workers: int) -> None:
        from tests.e2e.program import Program

        folder.mkdir()
        text = _PENSTOCK.format(
            folder=folder,
            port=0,
            upstream=simulator,
            dialect="openai",
            counters=counters,
            price=_PRICE,
            plan=_PLAN,
        ).replace("[server]", f"[server]\nworkers = {workers}", 1)
        file = folder / "penstock.toml"
        file.write_text(text)
        key = _said(
            "keys", "create", "--config", str(file), "--name", "b", "--quiet", "--plan=bench"
        )
        _said("credits", "add", "b", "1000000.00", "--config", str(file))
        self.program = Program("serve", "--config", str(file), folder=folder)
        self.target = Target(
            f"{self.program.url}/v1/chat/completions",
            "bench-model",
            {"authorization": f"Bearer {key.split()[-1]}"},
        )
        children = psutil.Process(self.program.process.pid).children()
        self.workers = sorted(children, key=lambda one: -one.memory_info().rss)[:workers]

    def close(self) -> None:
        """Stop it."""
        self.program.kill()

    def cpu(self) -> list[int]:
        """Nanoseconds of CPU time of each worker so far."""
        return [cpu_ns(one.pid) for one in self.workers]


def _said(*arguments: str) -> str:
    program = str(Path(sys.executable).with_name("penstock"))
    return subprocess.run([program, *arguments], check=True, capture_output=True, text=True).stdout


def _load(target: Target, pid: int, phase: Any, rate: float, window: float) -> dict[str, Any]:
    job = Job(phase=phase, target=target, pid=pid, rate=rate, window=window, connections=32)
    command = [sys.executable, "-m", "bench.load", msgspec.json.encode(job).decode()]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(run.stdout)
    if found["faults"]:
        raise SystemExit(f"wrong answers: {found['errors']}")
    return found


@contextmanager
def group(pid: int, share: float | None) -> Iterator[None]:
    """The process, and those that it starts from now on, come before all others, and have `share`
    of a core; None: as much as there is. Raises OSError without control groups."""
    root = Path("/sys/fs/cgroup")
    first = root / "cpu" if (root / "cpu").is_dir() else root
    made = first / f"bench-workers-{os.getpid()}-{pid}"
    made.mkdir()
    try:
        second_version = (made / "cpu.weight").exists()
        if second_version:
            (made / "cpu.weight").write_text("10000")
        else:
            (made / "cpu.shares").write_text(str(_WEIGHT))
        if share is not None:
            quota = round(share * _PERIOD)
            if second_version:
                (made / "cpu.max").write_text(f"{quota} {_PERIOD}")
            else:
                (made / "cpu.cfs_period_us").write_text(str(_PERIOD))
                (made / "cpu.cfs_quota_us").write_text(str(quota))
        (made / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for left in (made / "cgroup.procs").read_text().split():
            (first / "cgroup.procs").write_text(left)
        made.rmdir()


def _round(gateway: Gateway, given: argparse.Namespace) -> Figures:
    pid = gateway.program.process.pid
    before = gateway.cpu()
    paced = _load(gateway.target, pid, "rate", given.rate * len(before), given.window)
    spent = [after - then for after, then in zip(gateway.cpu(), before, strict=True)]
    with ExitStack() as stack:
        for one in gateway.workers:
            stack.enter_context(group(one.pid, given.share))
        full = _load(gateway.target, pid, "saturate", 0, given.window)
    return Figures(
        paced["cpu_us"] / paced["requests"],
        full["cpu_us"] / full["requests"],
        max(spent) / max(1, sum(spent)),
        full["requests"] / full["seconds"],
    )


def run(given: argparse.Namespace) -> None:
    """Print a row for each number of workers, and what two do in place of one."""
    from tests.e2e.program import Program

    rounds: dict[int, list[Figures]] = {1: [], 2: []}
    with ExitStack() as stack:
        stack.enter_context(group(os.getpid(), None))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-workers-")))
        counters = stack.enter_context(redis())
        simulator = Program("simulate", "--port", "0", folder=folder)
        stack.callback(simulator.kill)
        gateways = {}
        for workers in rounds:
            place = folder / str(workers)
            gateways[workers] = Gateway(place, simulator.url, counters, workers)
            stack.callback(gateways[workers].close)
        for _ in range(given.rounds):
            for workers, gateway in gateways.items():
                rounds[workers].append(_round(gateway, given))
    print("| workers | µs / request, paced | busy | share of the busier | requests/s, limited |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for workers, found in rounds.items():
        micros = min(one.micros for one in found)
        busy = min(one.busy for one in found)
        balance = median(one.balance for one in found)
        rate = max(one.rate for one in found)
        print(f"| {workers} | {micros:.0f} | {busy:.0f} | {balance:.0%} | {rate:.0f} |")
    pairs = list(zip(rounds[1], rounds[2], strict=True))
    times = median(two.rate / one.rate for one, two in pairs)
    work = min(one.busy for one in rounds[1]) / min(two.busy for two in rounds[2])
    print(f"Two workers serve {times:.2f} times one; by CPU per request, {2 * work:.2f} times.")
    if given.json:
        served = round(times, 2)
        worked = round(2 * work, 2)
        what = "requests/s of two workers, each with its share of a core, over one"
        rows = [
            Row(what, served, "≥ 1.8", served >= 1.8),
            Row("the same by CPU time per request", worked),
        ]
        write_table(given.json, "Two workers", rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200.0, help="requests/s of a worker")
    parser.add_argument("--window", type=float, default=5.0, help="seconds")
    parser.add_argument("--share", type=float, default=0.2, help="of a core, for each worker")
    parser.add_argument("--json", type=Path, help="write the figures for `bench.compare --read`")
    sys.path.insert(0, str(Path.cwd()))
    run(parser.parse_args())


if __name__ == "__main__":
    main()
