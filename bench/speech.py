"""Speech that is streamed, beside nginx: CPU time per piece of audio.

    .venv/bin/python -P -m bench.speech [--rounds 3]

Each connection reads one answer of the simulator, a piece of 2 KB each 20 ms, while all others do
the same. Every byte is counted. The subject has one core, the load and the simulator the other.
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import msgspec

from . import measure, processes
from .compare import prepare, simulator
from .measure import LOAD_CORE, Running
from .subjects import LIMITING, NGINX, PENSTOCK, Ready, Subject

PATH = "/v1/audio/speech"
CONNECTIONS = 200
RATE = 50
PIECE = 2048
WARMUP, WINDOW, SETTLE = 2.0, 4.0, 2.0
_CHARACTERS = 640
"""Of a text whose audio has about two megabytes."""


class _Counter(asyncio.Protocol):
    """One request; what comes back is counted."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.received = 0
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)
        if len(self.head) < 64:
            self.head += data[:64]


def request_of(running: Running, pieces: int, rate: float = RATE) -> bytes:
    """A request for so many pieces of audio. rate: pieces a second."""
    words = "water runs " * (_CHARACTERS // 11)
    text = f"{words} [[sim tokens={pieces} rate={rate:g}]]"
    body = msgspec.json.encode(
        {
            "model": running.target.model,
            "voice": "alloy",
            "input": text,
            "response_format": "pcm",
        }
    )
    headers = "".join(f"{name}: {value}\r\n" for name, value in running.target.headers.items())
    return (
        f"POST {PATH} HTTP/1.1\r\nhost: {urlsplit(running.target.url).netloc}\r\n{headers}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


async def cost_of_piece(running: Running) -> float:
    """Microseconds of CPU per piece. Raises Failed for a wrong answer, and if it falls behind."""
    host, port = running.target.address
    pieces = int(RATE * (WARMUP + WINDOW + 2 * SETTLE))
    request = request_of(running, pieces)
    loop = asyncio.get_running_loop()
    counters = []
    for _ in range(CONNECTIONS):
        transport, counter = await loop.create_connection(lambda: _Counter(request), host, port)
        counters.append((transport, counter))
        await asyncio.sleep(WARMUP / CONNECTIONS)
    await asyncio.sleep(SETTLE)
    before, spent = sum(one.received for _, one in counters), processes.cpu_ns(running.pid)
    began = loop.time()
    await asyncio.sleep(WINDOW)
    spent = processes.cpu_ns(running.pid) - spent
    seconds = loop.time() - began
    received = sum(one.received for _, one in counters) - before
    for transport, counter in counters:
        if not counter.head.startswith(b"HTTP/1.1 200"):
            raise measure.Failed(f"{PATH}: {counter.head!r}")
        transport.close()
    due = CONNECTIONS * RATE * seconds
    made = received / PIECE
    if made < 0.8 * due:
        raise measure.Failed(f"{made:.0f} pieces of {due:.0f}")
    return spent / 1000 / due


def one_round(prepared: Mapping[Subject, tuple[Ready, Path]]) -> dict[str, float]:
    """Microseconds per piece of each subject."""
    found = {}
    for subject, (ready, folder) in prepared.items():
        with measure.running(subject, ready, folder) as running:
            found[subject.name] = asyncio.run(cost_of_piece(running))
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    processes.allow_many_files()
    os.sched_setaffinity(0, {LOAD_CORE})
    limited = next(subject for subject in LIMITING if subject.name == "limited")
    with tempfile.TemporaryDirectory(prefix="penstock-speech-") as folder:
        work = Path(folder)
        with simulator(work) as upstream:
            prepared = {
                subject: prepare(subject, upstream, work) for subject in (NGINX, PENSTOCK, limited)
            }
            rounds = [one_round(prepared) for _ in range(options.rounds)]
    for name in rounds[0]:
        ratio = median(one[name] / one["nginx"] for one in rounds)
        figure = median(one[name] for one in rounds)
        print(f"{name:<10} {figure:6.2f} µs/piece  {ratio:.2f} x nginx")


if __name__ == "__main__":
    main()
