"""CPU time of requests with large bodies that are passed on: `python -P -m bench.bodies`.

    python -P -m bench.bodies [--than CHECKOUT] [--profile] [MODE ...]

A mode is the dialect, the size, what is in it, and whether the gateway has seen its beginning
before: `messages-1MB-text-next`, `chat-100kB-images-first`. A body is a conversation of a coding
agent (`conversations`); it comes in pieces, as a server gives them, goes through the whole chain
and is dropped by an upstream in memory. Of `next` the last turn is new in each request, of `first`
the first one. A mode without all its words chooses all that have these:
`1MB` is every dialect with 1 MB.

Each figure is processor time of all threads per request, the least of many rounds. --than: another
checkout, with its own `.venv`, whose rounds take turns with this one's; the ratio is that of the
least of both. --profile: functions by their own time, all in one thread.
"""

import argparse
import asyncio
import cProfile
import gc
import pstats
import subprocess
import sys
from collections.abc import Callable, MutableMapping
from concurrent.futures import Executor, Future
from pathlib import Path
from time import process_time
from typing import Any

SIZES = {"10kB": 10_000, "100kB": 100_000, "1MB": 1_000_000, "4MB": 4_000_000}
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
MODES = tuple(
    f"{dialect}-{size}-{what}-{turn}"
    for dialect in PATHS
    for size in SIZES
    for what in ("text", "images")
    for turn in ("first", "next")
)
_UPSTREAMS = {"chat": "oai", "messages": "ant", "responses": "res"}
_SPEAK = {"oai": "openai", "ant": "anthropic", "res": "responses"}
_PIECE = 128 << 10
"""Bytes of one message of a body."""
_ROUNDS = 9
_ROUND_BYTES = 6_000_000
"""Bytes of the requests of one round."""


class Requests:
    """Requests of one mode to the chain of the checkout in the working directory."""

    def __init__(self, mode: str, body: bytes) -> None:
        sys.path.insert(0, str(Path.cwd()))
        from bench.instructions import _ANSWERS
        from edge.routing.affinity import StoredAffinity
        from middlewares.stores.affinity.base import MemoryAffinityStore
        from tests.edge import scripted

        dialect = mode.split("-")[0]
        _, events = _ANSWERS[dialect](["one ", "two "])
        upstream = _UPSTREAMS[dialect]
        price = {"input": "1.00", "output": "2.00"}
        targets = [f"{upstream}/upstream-model-x", f"{upstream}/upstream-model-y"]
        document: dict[str, Any] = {
            "server": {"max_body": "32MiB"},
            "models": [{"id": "m1", "targets": targets, "context": 9_000_000, "price": price}],
            "upstreams": [
                {"name": name, "dialect": speaks, "base_url": "http://127.0.0.1:9/v1"}
                for name, speaks in _SPEAK.items()
            ],
        }
        whole = scripted.Candidates
        affinity = StoredAffinity(MemoryAffinityStore())

        def remembering(*given: Any, **named: Any) -> Any:
            return whole(*given, **{**named, "affinity": affinity})

        scripted.Candidates = remembering  # type: ignore[misc,assignment]
        self.gateway = scripted.ScriptedGateway(
            scripted.Scripted(scripted.Answer(events)), document=document
        )
        scripted.Candidates = whole  # type: ignore[misc]
        self._path = PATHS[dialect]
        self._body = body
        place = b"Plea" if mode.endswith("first") else b"self"
        self._changed = body.rfind(place, 0, body.find(b'],"tools":'))
        self._number = 0

    def bodies(self, count: int) -> list[bytes]:
        """The next bodies, each with four other letters."""
        body, at = self._body, self._changed
        self._number += count
        return [
            b"%b%04x%b" % (body[:at], number, body[at + 4 :])
            for number in range(self._number - count, self._number)
        ]

    async def run(self, bodies: list[bytes]) -> None:
        """A request with each body, one after the other."""
        gateway = self.gateway
        for body in bodies:
            await self._one(body)
            last = gateway.exchanges[-1]
            if last.outcome != "completed":
                raise SystemExit(f"{last.outcome} {last.problem} {last.reason}")
            for kept in (
                *(gateway.upstream.requests, gateway.upstream.responses),
                *(gateway.exchanges, gateway.log),
            ):
                kept.clear()

    async def _one(self, body: bytes) -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": self._path,
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ],
            "client": ("127.0.0.1", 1),
            "scheme": "http",
            "state": {},
        }
        given = [
            {"type": "http.request", "body": body[at : at + _PIECE], "more_body": True}
            for at in reversed(range(0, len(body), _PIECE))
        ]
        given[0]["more_body"] = False

        async def receive() -> MutableMapping[str, Any]:
            return given.pop() if given else await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: MutableMapping[str, Any]) -> None:
            return

        await self.gateway.app(scope, receive, send)


class _SameThread(Executor):
    """Runs what is submitted at once, so that one profile has all of it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as raised:
            done.set_exception(raised)
        return done


async def rounds(mode: str, body: bytes) -> None:
    """A round for each line of standard input; prints its seconds per request."""
    requests = Requests(mode, body)
    count = max(1, _ROUND_BYTES // max(len(body), 50_000))
    await requests.run(requests.bodies(2))
    gc.collect()
    gc.disable()
    for _ in sys.stdin:
        bodies = requests.bodies(count)
        began = process_time()
        await requests.run(bodies)
        print((process_time() - began) / count, flush=True)


async def profile(mode: str, body: bytes) -> None:
    """Print the functions of requests, by their own time."""
    from edge.runtime import worker_thread

    worker_thread._POOL = _SameThread()  # type: ignore[assignment]
    requests = Requests(mode, body)
    await requests.run(requests.bodies(3))
    count = max(5, _ROUND_BYTES // len(body))
    bodies = requests.bodies(count)
    profiling = cProfile.Profile(process_time)
    profiling.enable()
    await requests.run(bodies)
    profiling.disable()
    stats = pstats.Stats(profiling)
    print(f"{mode}: {len(body)} bytes, {stats.total_tt / count * 1e3:.2f} ms")  # type: ignore[attr-defined]
    rows = sorted(stats.stats.items(), key=lambda row: -row[1][2])  # type: ignore[attr-defined]
    for (file, line, name), (_, calls, own, total, callers) in rows[:24]:
        by = max(callers, key=lambda one: callers[one][2], default=("", 0, ""))[2]
        place = f"{Path(file).name}:{line}" if line else ""
        print(
            f"{own / count * 1e6:8.0f} us own {total / count * 1e6:8.0f} in all"
            f" {calls / count:8.1f} calls  {name[:44]} {place}  < {by}"
        )


def _worker(checkout: Path, mode: str, file: Path) -> "subprocess.Popen[str]":
    own = Path(__file__).resolve()
    return subprocess.Popen(
        [str(checkout / ".venv/bin/python"), "-P", str(own), "--rounds", str(file), mode],
        cwd=checkout,
        env={"PYTHONHASHSEED": "0", "PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _round(worker: "subprocess.Popen[str]") -> float:
    assert worker.stdin is not None and worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    said = worker.stdout.readline()
    if not said:
        raise SystemExit("a round failed")
    return float(said)


def compare(mode: str, body: bytes, checkouts: list[Path], folder: Path) -> list[float]:
    """The least seconds per request in each checkout, in turns."""
    file = folder / "body"
    file.write_bytes(body)
    workers = [_worker(checkout, mode, file) for checkout in checkouts]
    try:
        least = [float("inf")] * len(workers)
        for _ in range(_ROUNDS):
            least = [min(one, _round(worker)) for one, worker in zip(least, workers, strict=True)]
        return least
    finally:
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.close()
            worker.wait()


def chosen(words: list[str]) -> list[str]:
    """The modes that any of the words describes."""
    return [
        mode
        for mode in MODES
        if not words or any(set(word.split("-")) <= set(mode.split("-")) for word in words)
    ]


def body_of(mode: str) -> bytes:
    """The body of a mode."""
    from bench.conversations import conversation

    dialect, size, what, _ = mode.split("-")
    return conversation(dialect, SIZES[size], images=what == "images")  # type: ignore[arg-type]


def main() -> None:
    """Print a row of a Markdown table for each mode."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modes", nargs="*", metavar="MODE")
    parser.add_argument("--than", type=Path, metavar="CHECKOUT")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--rounds", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rounds is not None:
        asyncio.run(rounds(given.modes[0], given.rounds.read_bytes()))
        return
    if given.profile:
        for mode in chosen(given.modes):
            asyncio.run(profile(mode, body_of(mode)))
        return
    from tempfile import TemporaryDirectory

    checkouts = [Path.cwd()] if given.than is None else [given.than.resolve(), Path.cwd()]
    heads = "ms" if given.than is None else "ms before | ms now | ratio"
    print(f"| mode | bytes | {heads} |\n| --- |{' ---: |' * (1 + heads.count('|') + 1)}")
    with TemporaryDirectory() as folder:
        for mode in chosen(given.modes):
            body = body_of(mode)
            least = compare(mode, body, checkouts, Path(folder))
            row = [mode, str(len(body)), *(f"{one * 1e3:.2f}" for one in least)]
            if len(least) > 1:
                row.append(f"{least[1] / least[0]:.2f}")
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
