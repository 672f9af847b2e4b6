"""The demo of each profile: from the start of its process to the first content of an answer.

    .venv/bin/python -P -m bench.demo_start [--runs 5] [--imports]

Clock and processor seconds (of all its processes) until the first content, and until all is
printed, the median of the runs, as a table for docs/profiles.md. --imports prints instead the
packages that take longest to import, and how long an interpreter that does nothing takes.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

import psutil

from edge.config import profiles

_SCRIPT = Path(sys.executable).with_name("penstock")
_FIRST_CONTENT = re.compile(rb", POST /\S+:\n\n  \S")
"""The end of what introduces the first call, and a letter of its content."""
_TOP = 12


class Start(NamedTuple):
    """Seconds from the start to the first content, of processors until then, and to the end."""

    first: float
    cpu: float
    all: float


def start(name: str) -> Start:
    """One start of the demo of a profile. It is stopped at the end."""
    env = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    command = [sys.executable, str(_SCRIPT), "demo", "--profile", name, "--port", "0"]
    began = perf_counter()
    with subprocess.Popen(
        command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        seen, first, cpu = b"", 0.0, 0.0
        try:
            while b"\nready " not in seen:
                piece = os.read(process.stdout.fileno(), 1 << 16)
                if not piece:
                    raise RuntimeError(f"the demo of {name} ended: {seen.decode()}")
                seen += piece
                if not first and _FIRST_CONTENT.search(seen):
                    first, cpu = perf_counter() - began, _processor(process.pid)
            return Start(first, cpu, perf_counter() - began)
        finally:
            process.send_signal(signal.SIGINT)
            process.stdout.close()


def _processor(pid: int) -> float:
    root = psutil.Process(pid)
    times = [one.cpu_times() for one in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def imports() -> None:
    """Print how long modules take to import, packages as a whole."""
    bare = [_seconds([sys.executable, "-c", "pass"]) for _ in range(5)]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import edge.cli, edge.cli.demo"],
        capture_output=True,
        text=True,
        check=True,
    )
    own: dict[str, int] = defaultdict(int)
    for line in done.stderr.splitlines():
        if found := re.match(r"import time: +(\d+) \| +\d+ \| +(\S+)", line):
            own[found[2].partition(".")[0]] += int(found[1])
    print(f"interpreter alone: {median(bare) * 1000:.0f} ms")
    print(f"all imports: {sum(own.values()) / 1000:.0f} ms")
    for name, micros in sorted(own.items(), key=lambda pair: -pair[1])[:_TOP]:
        print(f"  {name}: {micros / 1000:.0f} ms")


def _seconds(command: list[str]) -> float:
    began = perf_counter()
    subprocess.run(command, check=True)
    return perf_counter() - began


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--imports", action="store_true")
    options = parser.parse_args()
    if options.imports:
        imports()
        return
    print("| demo of | first content after | processor time until then | all printed after |")
    print("|---|---|---|---|")
    for name in profiles.names():
        runs = [start(name) for _ in range(options.runs)]
        first, cpu, everything = (median(column) for column in zip(*runs, strict=True))
        print(f"| `{name}` | {first:.1f} s | {cpu:.1f} s | {everything:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
