"""Many open streams on one worker: each is served, costs little memory and is settled."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from .conftest import SECRETS, Figures, over_http
from .ledger import rows_when
from .program import ROOT, Gateway, until

FEW, MANY = 200, 9000
"""Streams of a usual run and of one at full size: ten thousand need more than 20,000 descriptors,
which not every machine allows."""
LOOSE, TIGHT = 80_000, 34_000
"""Bytes by which each may make the worker larger."""


@contextmanager
def helper(module: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    """A running `python -m bench.MODULE`."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", f"bench.{module}", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: "subprocess.Popen[str]") -> str:
    """The next line of a helper."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"{process.args!r} ended"
    return line


def private_bytes(pid: int) -> int:
    """Memory of a process that it shares with no other."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rows = [row.split() for row in rollup.splitlines() if row.startswith("Private_")]
    return sum(int(row[1]) << 10 for row in rows if row[0] != "Private_Hugetlb:")


def streams_open(gateway: Gateway) -> float:
    return gateway.metrics().get(("penstock_streams_open", ()), 0.0)


def test_many_streams_are_open_at_once_in_little_memory_and_each_is_settled(
    tmp_path: Path, full: bool, figures: Figures
) -> None:
    served(tmp_path / "http1", MANY if full else FEW, TIGHT if full else LOOSE, figures)
    if full:
        served(tmp_path / "http2", MANY, LOOSE, figures, http2=True)


def test_streams_that_share_connections_use_the_descriptors_of_others(tmp_path: Path) -> None:
    """Twice as many as with a connection each; those beyond are refused, and operators served."""
    with ExitStack() as stack:
        upstream = stack.enter_context(helper("paced_upstream", "0"))
        document: dict[str, Any] = over_http(f"http://127.0.0.1:{said(upstream).split()[1]}")
        document["server"] = {"workers": 1, "http2": True, "max_connections": 16}
        limited = ("prlimit", "--nofile=128:256")
        gateway = Gateway(tmp_path, document, env=SECRETS, wrapper=limited)
        stack.callback(gateway.kill)
        words = [f"{gateway.url}/v1/chat/completions", gateway.key, "chat", "170", "500", "h2"]
        with helper("lean_clients", *words) as clients:
            begun = json.loads(said(clients))
            assert (begun["open"], begun["failed"]) == (140, 30)
            assert gateway.get("/livez").status_code == 200
            metrics = gateway.metrics()
            assert metrics["penstock_refused_at_door_total", ()] == 30
            assert metrics["penstock_descriptors_left", ()] > 20
        until(lambda: streams_open(gateway) == 0, what="that all have ended")
        assert len(asyncio.run(rows_when(gateway, 140))) == 140
        begun_with = "256 file descriptors are enough for 140 open requests per worker, on 16"
        assert any(line["event"].startswith(begun_with) for line in gateway.log)
        assert gateway.stop() == 0, gateway.stderr


def served(folder: Path, number: int, limit: int, figures: Figures, *, http2: bool = False) -> None:
    """Open `number` streams and disconnect them. limit: bytes of each."""
    with ExitStack() as stack:
        upstream = stack.enter_context(helper("paced_upstream", "0"))
        url = f"http://127.0.0.1:{said(upstream).split()[1]}"
        document: dict[str, Any] = over_http(url, max_connections=2 * number)
        document["server"] = {"workers": 1, "http2": http2}
        folder.mkdir()
        gateway = Gateway(folder, document, env=SECRETS)
        stack.callback(gateway.kill)
        (worker,) = gateway.workers
        words = [f"{gateway.url}/v1/chat/completions", gateway.key, "chat"]
        more = ["h2"] if http2 else []
        with helper("lean_clients", *words, "30", "300", *more) as clients:
            assert json.loads(said(clients))["open"] == 30  # what is made once is made
        until(lambda: streams_open(gateway) == 0, what="that the first ones have ended")
        before = private_bytes(worker.pid)
        with helper("lean_clients", *words, str(number), "300", *more) as clients:
            begun = json.loads(said(clients))
            assert (begun["open"], begun["failed"]) == (number, 0)
            until(lambda: streams_open(gateway) == number, what="that the metric has all")
            grown = (private_bytes(worker.pid) - before) / number
            figures(f"{number} streams, {grown:.0f} bytes each{', of HTTP/2' * http2}")
            assert grown < limit
            assert clients.stdin is not None
            clients.stdin.write("\n")
            clients.stdin.flush()
            flowing = json.loads(said(clients))
            assert (flowing["open"], flowing["failed"]) == (number, 0)
        until(lambda: streams_open(gateway) == 0, what="that all have ended")
        rows = asyncio.run(rows_when(gateway, number + 30))
        assert {row.ended for row in rows} == {"hung_up"}
        assert gateway.stop() == 0, gateway.stderr
