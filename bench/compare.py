"""Measure this gateway beside others on one machine: `make bench`.

    python -m bench.compare [--quick] [--only penstock,nginx] [--rounds 3]
    python bench/compare.py --attach PID URL [--header 'authorization: Bearer …'] [--model NAME]

The subject has one core, the load and the simulator that answers have the other. See README.md.
"""

import argparse
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

if not __package__:  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import measure, processes
from bench.client import Target
from bench.environments import Unavailable
from bench.measure import LOAD_CORE, SUBJECT_CORE, Failed, Plan
from bench.subjects import CHAT, NGINX, Place


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def simulator(folder: Path) -> Iterator[str]:
    """Run the upstream on the load core; its base URL."""
    port = free_port()
    log = folder / "simulator.log"
    command = [sys.executable, "-m", "edge.upstreams.simulator", "--port", str(port)]
    began = time.perf_counter()
    process = processes.start(command, core=LOAD_CORE, log=log)
    try:
        url = f"http://127.0.0.1:{port}"
        measure.answers(process, Target(url + CHAT, "sim-1"), log, began)
        yield url
    finally:
        processes.stop(process)


def attach(pid: int, target: Target, plan: Plan, folder: Path) -> None:
    """Print CPU per plain request and per event of nginx and of a process that is running."""
    with simulator(folder) as upstream:
        ready = NGINX.prepare(Place(folder, free_port(), upstream))
        log = folder / "nginx.log"
        began = time.perf_counter()
        process = processes.start(ready.command, core=SUBJECT_CORE, log=log)
        try:
            yardstick = Target(ready.url, ready.model)
            measure.answers(process, yardstick, log, began)
            base = _cpu("nginx", yardstick, plan, process.pid)
        finally:
            processes.stop(process)
    processes.pin(pid, SUBJECT_CORE)
    figures = _cpu(f"pid {pid}", target, plan, pid)
    ratios = [figure / yard for figure, yard in zip(figures, base, strict=True)]
    print("{:<12} {:>10.2f} x {:>12.2f} x {:>11.2f} x".format("ratio", *ratios))


def _cpu(name: str, target: Target, plan: Plan, pid: int) -> tuple[float, float, float]:
    figures = {**measure.plain(target, plan, pid), **measure.streamed(target, plan, pid)}
    three = figures["plain_us"], figures["saturated_us"], figures["event_us"]
    print(
        "{:<12} {:>7.1f} µs/req {:>7.1f} µs/req at saturation {:>7.1f} µs/event".format(
            name, *three
        ),
        f"  saturation {figures['saturated_rps']:.0f}/s, core {figures['saturated_busy']:.0%} busy",
        flush=True,
    )
    return three


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="one round, short windows")
    parser.add_argument("--attach", nargs=2, metavar=("PID", "URL"))
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--model", default="sim-1", help="with --attach: the model to ask for")
    options = parser.parse_args(arguments)
    if not hasattr(os, "sched_setaffinity") or (os.cpu_count() or 1) < 2:
        parser.error("this needs Linux and two cores")
    processes.allow_many_files()
    plan = Plan.quick() if options.quick else Plan()
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
        try:
            if options.attach:
                pid, url = options.attach
                pairs = (header.partition(":") for header in options.header)
                headers = {name.strip(): value.strip() for name, _, value in pairs}
                url = url if "/v1/" in url else url.rstrip("/") + CHAT
                attach(int(pid), Target(url, options.model, headers), plan, Path(folder))
        except (Failed, Unavailable) as error:
            parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
