"""How long Penstock takes to start: to its help, and to the first answer of a gateway.

    .venv/bin/python -P -m bench.start [--runs 5] [--than ../before]

Processor seconds of all its processes, and clock seconds until then: the least of the runs. The
client of the measurement costs about a millisecond of them.
`--than` names another checkout with a `.venv` of its own, and the two are measured in turns.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.processes import cpu_ns, stop
from tests.middlewares.stores.redis_server import RedisServer

_CONFIGURATION = """
[server]
port = 0
workers = {workers}
[store]
sql = "sqlite:///penstock.db"
journal = "journal"
counters = "{counters}"
[auth]
mode = "none"
[[upstreams]]
name = "simulator"
dialect = "simulator"
[[upstreams]]
name = "openai"
dialect = "openai"
base_url = "https://api.openai.com/v1"
api_key = "env:BENCH_KEY"
[[models]]
id = "sim-1"
targets = ["simulator/sim-1"]
[[models]]
id = "gpt"
targets = ["openai/gpt-5"]
"""
_BODY = json.dumps({"model": "sim-1", "messages": [{"role": "user", "content": "hello"}]}).encode()
_HEAD = {"content-type": "application/json"}
_LONGEST = 60.0


class Cost(NamedTuple):
    """Seconds of processors, and of the clock; only one of them where the other means nothing."""

    cpu: float
    clock: float | None = None

    def __str__(self) -> str:
        clock = "" if self.clock is None else f" ({self.clock:.2f} s by the clock)"
        return f"{self.cpu:.3f} s{clock}"


def command(checkout: Path, *words: str) -> Cost:
    """A command that ends by itself."""
    script = str(checkout / ".venv/bin/penstock")
    before, began = os.times(), time.perf_counter()
    subprocess.run([script, *words], stdout=subprocess.DEVNULL, check=True)
    clock, after = time.perf_counter() - began, os.times()
    spent = after.children_user + after.children_system
    return Cost(spent - before.children_user - before.children_system, clock)


def imports(checkout: Path, module: str) -> Cost:
    """The import of a module and of all that it imports, without the interpreter's own start."""
    code = f"from time import process_time as t; a = t(); import {module}; print(t() - a)"
    python = str(checkout / ".venv/bin/python")
    done = subprocess.run(
        [python, "-c", code], cwd=checkout, capture_output=True, text=True, check=True
    )
    return Cost(float(done.stdout))


def first_answer(checkout: Path, folder: Path, *, workers: int = 1, counters: str = "") -> Cost:
    """A gateway in a folder, until it has answered a request with 200."""
    file = folder / "penstock.toml"
    file.write_text(_CONFIGURATION.format(workers=workers, counters=counters or "memory"))
    began = time.perf_counter()
    process = subprocess.Popen(
        [str(checkout / ".venv/bin/penstock"), "serve", "--config", str(file)],
        cwd=folder,
        env={**os.environ, "BENCH_KEY": "sk-none"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().decode().removeprefix("ready ").strip()
        asked = urllib.request.Request(f"{url}/v1/chat/completions", _BODY, _HEAD)
        with urllib.request.urlopen(asked, timeout=_LONGEST) as answer:  # raises unless 2xx
            answer.read()
        return Cost(cpu_ns(process.pid) / 1e9, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGINT)
        stop(process)


def _new_database(checkout: Path) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        return first_answer(checkout, Path(folder))


def _same_database(checkout: Path) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        first_answer(checkout, Path(folder))
        return first_answer(checkout, Path(folder))


def _two_workers(checkout: Path) -> Cost:
    with tempfile.TemporaryDirectory() as folder:
        first_answer(checkout, Path(folder))
        redis = RedisServer(Path(folder))
        try:
            return first_answer(checkout, Path(folder), workers=2, counters=redis.url())
        finally:
            redis.stop()


ROWS: dict[str, Callable[[Path], Cost]] = {
    "penstock --help": lambda checkout: command(checkout, "--help"),
    "penstock keys create --help": lambda checkout: command(checkout, "keys", "create", "--help"),
    "import middlewares": lambda checkout: imports(checkout, "middlewares"),
    "import edge": lambda checkout: imports(checkout, "edge"),
    "import edge.app": lambda checkout: imports(checkout, "edge.app"),
    "first answer, new database": _new_database,
    "first answer, database of before": _same_database,
    "first answer, two workers": _two_workers,
}


def table(checkouts: Sequence[Path], runs: int) -> None:
    """Print a row as soon as it is measured."""
    print(f"| | {' | '.join(checkout.name for checkout in checkouts)} |")
    print("|---" * (len(checkouts) + 1) + "|")
    for name, measure in ROWS.items():
        for checkout in checkouts:
            measure(checkout)  # writes bytecode
        found: list[list[Cost]] = [[] for _ in checkouts]
        for _ in range(runs):
            for costs, checkout in zip(found, checkouts, strict=True):
                costs.append(measure(checkout))
        print(f"| {name} | {' | '.join(str(min(costs)) for costs in found)} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--than", type=Path)
    options = parser.parse_args()
    here = Path(sys.executable).parents[2]
    table([one.resolve() for one in (options.than, here) if one is not None], options.runs)


if __name__ == "__main__":
    main()
