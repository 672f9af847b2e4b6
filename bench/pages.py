"""What pages of the dashboard cost beside 100 open streams: `python -m bench.pages [WORDS]`.

    .venv/bin/python -m bench.pages [--keys 100000] [--rows 1000000] [--rounds 5] [WORDS]

A gateway of one worker has a SQLite file with many keys and rows of the ledger. The streams have an
event each 20 ms: first alone, then while one visitor, first a holder and then an administrator,
opens every page of the page table, five a second. A row for each page: median and longest time, CPU
time of the worker without what the streams cost it, of all threads and of the event loop alone, and
the longest gap of any stream. Words choose the pages whose names have one of them.

Lines that begin with `!` took more than 300 ms, or have a gap 25 ms longer than the longest of the
streams alone. On a machine that does something else, compare the CPU time.
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

import httpx
import msgspec
import psutil

from edge.dashboard.pages import PAGES
from middlewares.stores.keys.base import digest
from tests.browser.populated import Populated, document
from tests.browser.visits import ELSEWHERE, Visit
from tests.e2e.hostile.arena import Helper
from tests.e2e.program import DEADLINE, Program
from tests.middlewares.stores.many_rows import DAY, DAYS, TEAMS, fill, key_id, team

SLOW, DISTURBED = 300.0, 25.0
"""Milliseconds that a page may take, and that it may add to the longest gap."""
MODEL = "gpt-5.5-mini"
SECRET = "sk-penstock-live-" + "b" * 40
HOLDER = 2
"""Number of the holder's key, a busy one with an owner and a team."""


class Address(NamedTuple):
    """An address as a role opens it."""

    name: str
    role: str
    path: str


class Cost(NamedTuple):
    """Milliseconds of one visit: until the answer, CPU of the worker and of its event loop, and the
    longest gap in the streams."""

    wall: float
    cpu: float
    loop: float
    gap: float


class Row(msgspec.Struct, frozen=True):
    """All visits of one page."""

    address: Address
    status: int
    size: int
    costs: tuple[Cost, ...]

    def exceeds(self, alone: float) -> bool:
        """Whether it takes too long, or disturbs the streams. alone: their longest gap."""
        gap = max(cost.gap for cost in self.costs)
        return median(cost.wall for cost in self.costs) > SLOW or gap > alone + DISTURBED

    def line(self, alone: float) -> str:
        """A line of the table."""
        walls, cpus, loops, gaps = zip(*self.costs, strict=True)
        mark = "!" if self.exceeds(alone) else " "
        return (
            f"{mark} {self.address.role:<6} {self.address.name:<44} {self.status} {self.size:>7} B"
            f" {median(walls):>6.0f} {max(walls):>6.0f} {median(cpus):>7.1f} {median(loops):>6.1f}"
            f" {max(gaps):>6.0f}"
        )


HEAD = (
    f"  {'role':<6} {'page':<44} {'':>3} {'':>9} {'median':>6} {'most':>6} {'CPU':>7} {'loop':>6}"
    f" {'gap':>6}  (ms)"
)


class Large(Populated):
    """A gateway whose database has many keys and rows. The holder's key is one of them."""

    def __init__(self, folder: Path, simulator: str) -> None:
        made = document(simulator)
        super().__init__(folder, {**made, "server": {"workers": 1}}, {}, {})
        self.holder = "holder"
        self.secrets = {self.holder: SECRET}
        self.ids = {self.holder: key_id(HOLDER)}
        self.teams = {"first": team(HOLDER)}
        file = {"file": ("notes.pdf", b"%PDF-1.7\n" + b"x" * 10_000)}
        self.file_id = self.ask("/v1/files", data={"purpose": "user_data"}, files=file)["id"]
        for number in range(3):
            self.ask("/v1/videos/generations", json={"model": "film", "prompt": f"Mill {number}"})
        with sqlite3.connect(self.database) as connection:
            (self.request_id,) = connection.execute(
                "SELECT id FROM ledger WHERE account = ? AND kind = 'use' ORDER BY at LIMIT 1",
                (key_id(HOLDER),),
            ).fetchone()


def prepare(folder: Path, keys: int, rows: int) -> None:
    """Make the database, with rows until now, teams, and the key of the holder."""
    file = folder / "penstock.db"
    first = int(time.time()) - DAYS * DAY
    asyncio.run(fill(f"sqlite:///{file}", keys=keys, rows=rows, first=first))
    with sqlite3.connect(file) as connection:
        connection.execute(
            "UPDATE api_keys SET digest = ? WHERE id = ?", (digest(SECRET), key_id(HOLDER))
        )
        connection.executemany(
            "INSERT INTO teams (id, created_at, name, metadata, disabled, revision)"
            " VALUES (?, ?, ?, '{}', 0, ?)",
            [
                (team(2 * number), first, f"Team {number}", -1 - number)
                for number in range(min(TEAMS, keys))
            ],
        )


def addresses(gateway: Populated, words: Sequence[str]) -> list[Address]:
    """Every address that answers GET, for every role that may open it, and longer questions."""
    found = []
    for page in PAGES:
        if "GET" in page.methods and page.path not in ELSEWHERE:
            for role in page.roles:
                path = Visit(page.path, role).path(gateway)
                found.append(Address(page.path, role, path))
    key = f"key={gateway.ids[gateway.holder]}"
    day, month = "period=24h", "period=30d"
    found += [
        Address("usage of 24 h", "holder", f"/app/usage?{day}"),
        Address("usage of 30 d", "holder", f"/app/usage?{month}"),
        Address("usage of the team, 24 h", "holder", f"/app/usage?{day}&of=team"),
        Address("requests that failed", "holder", "/app/requests?ended=failed"),
        Address("usage of 24 h", "admin", f"/app/usage?{day}&{key}"),
        Address("all usage of 24 h", "admin", f"/app/admin/usage?{day}"),
        Address("all usage of 24 h by key", "admin", f"/app/admin/usage?{day}&by=key"),
        Address("all usage of 7 d by key", "admin", "/app/admin/usage?period=7d&by=key"),
        Address("all usage of 30 d by owner", "admin", f"/app/admin/usage?{month}&by=owner"),
        Address("all usage of 30 d by tag", "admin", f"/app/admin/usage?{month}&by=tag"),
        Address("keys with a text", "admin", "/app/admin/keys?text=laptop+5"),
    ]
    found.sort(key=lambda one: one.role == "admin")  # after all that anyone and holders open
    return [
        one for one in found if not words or any(word in f"{one.name} {one.path}" for word in words)
    ]


class Bench:
    """A gateway and its streams. each: seconds from the beginning of one page to the next."""

    def __init__(self, gateway: Populated, streams: int, *, each: float) -> None:
        self._each = each
        self._gateway = gateway
        (self._worker,) = gateway.workers
        arguments = (gateway.url, gateway.secrets[gateway.holder], str(streams), MODEL)
        self._streams = Helper("event_gaps", *arguments, package=__package__)
        self._share = (0.0, 0.0)
        self._client = httpx.Client(base_url=gateway.url, trust_env=False, timeout=DEADLINE)

    def close(self) -> None:
        """End the streams."""
        self._client.close()
        self._streams.close()

    def gaps(self) -> list[float]:
        """All gaps since this was last asked, sorted, in milliseconds."""
        seen = self._streams.ask()
        assert not seen["ended"], "a stream was ended"
        found: list[float] = seen["gaps"]
        return found

    def alone(self, seconds: float) -> list[float]:
        """The gaps without pages."""
        time.sleep(1)  # a page before it may have a gap that has not ended
        self.gaps()
        before, began = self._cpu(), time.perf_counter()
        time.sleep(seconds)
        gaps, took = self.gaps(), time.perf_counter() - began
        whole, loop = (now - then for now, then in zip(self._cpu(), before, strict=True))
        self._share = whole / took, loop / took
        return gaps

    def open(self, one: Address) -> httpx.Response:
        """The answer to a visitor of this role."""
        headers = {}
        if one.role != "anyone":
            (cookie, *_) = self._gateway.session(one.role)
            headers["cookie"] = f"{cookie['name']}={cookie['value']}"
        return self._client.get(one.path, headers=headers)

    def visit(self, one: Address) -> tuple[httpx.Response, Cost, list[float]]:
        """Open a page, and wait until the next is due."""
        before, began = self._cpu(), time.perf_counter()
        answer = self.open(one)
        wall = time.perf_counter() - began
        time.sleep(max(self._each - wall, self._each / 4))
        gaps, took = self.gaps(), time.perf_counter() - began
        after = self._cpu()
        cpu, loop = (
            max(now - then - share * took, 0.0) * 1000
            for now, then, share in zip(after, before, self._share, strict=True)
        )
        return answer, Cost(wall * 1000, cpu, loop, gaps[-1] if gaps else took * 1000), gaps

    def row(self, one: Address, rounds: int) -> tuple[Row, list[float]]:
        """Open a page several times; also all gaps."""
        costs: list[Cost] = []
        all_gaps: list[float] = []
        for _ in range(rounds):
            answer, cost, gaps = self.visit(one)
            assert answer.status_code < 400, (one, answer.status_code, answer.text[-2000:])
            costs.append(cost)
            all_gaps += gaps
        return Row(one, answer.status_code, len(answer.content), tuple(costs)), all_gaps

    def _cpu(self) -> tuple[float, float]:
        """Seconds of CPU time of the worker, and of its main thread, which runs the loop."""
        pid = self._worker.pid
        whole = time.clock_gettime((~pid << 3) | 2)
        return whole, int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


def summary(name: str, gaps: Sequence[float]) -> str:
    """A line about gaps."""
    ordered = sorted(gaps)
    p50, p99 = (ordered[min(len(ordered) * n // 100, len(ordered) - 1)] for n in (50, 99))
    return (
        f"streams {name}: {len(ordered)} gaps, p50 {p50:.1f} ms, p99 {p99:.1f},"
        f" longest {ordered[-1]:.1f}"
    )


@contextmanager
def gateway_at(folder: Path) -> Iterator[Large]:
    """A gateway whose database is in the folder."""
    simulator = Program("simulate", "--port", "0", folder=folder)
    try:
        gateway = Large(folder, simulator.url)
        try:
            yield gateway
        finally:
            gateway.kill()
    finally:
        simulator.kill()


def run(folder: Path, given: argparse.Namespace) -> None:
    """Print all rows, and how many exceed a bound."""
    exceeding = 0
    with gateway_at(folder) as gateway:
        bench = Bench(gateway, given.streams, each=given.each)
        try:
            for one in addresses(gateway, given.words):  # once, for what is made at the first visit
                bench.open(one)
            before = bench.alone(given.alone)
            print(summary("alone", before), flush=True)
            print(HEAD)
            beside: list[float] = []
            for one in addresses(gateway, given.words):
                row, gaps = bench.row(one, given.rounds)
                beside += gaps
                exceeding += row.exceeds(before[-1])
                print(row.line(before[-1]), flush=True)
            print(summary("beside pages", beside))
            print(summary("alone again", bench.alone(given.alone)))
        finally:
            bench.close()
        rss = psutil.Process(gateway.workers[0].pid).memory_info().rss
    print(f"{exceeding} pages beyond a bound; resident {rss / (1 << 20):.0f} MB", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--each", type=float, default=0.2, help="seconds from page to page")
    parser.add_argument("--alone", type=float, default=10.0, help="seconds of streams alone")
    parser.add_argument("--folder", type=Path, help="keep the database here, and use it again")
    parser.add_argument("words", nargs="*")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="penstock-pages-") as name:
        folder = given.folder or Path(name)
        folder.mkdir(exist_ok=True)
        if not (folder / "penstock.db").exists():
            prepare(folder, given.keys, given.rows)
        run(folder, given)


if __name__ == "__main__":
    main()
