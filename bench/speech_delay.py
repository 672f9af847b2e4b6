"""Streamed speech: how late its first byte is, and how soon a disconnect reaches the upstream.

    .venv/bin/python -P -m bench.speech_delay [--requests 50]

The upstream is the simulator, a piece of audio each 200 ms, behind a relay in this process. The
relay notes when the first byte of audio leaves it and when the gateway closes its connection, the
client when that byte arrives and when it disconnects.
"""

import argparse
import asyncio
import os
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from urllib.parse import urlsplit

from . import measure
from .compare import prepare, simulator
from .measure import LOAD_CORE, Running
from .speech import request_of
from .subjects import PENSTOCK

_EVERY = 0.2
_END_OF_HEAD = b"\r\n\r\n"


class _Moments:
    """When the first byte of the newest answer's body passed, and when its connection closed."""

    def __init__(self) -> None:
        self.first = 0.0
        self.closed = asyncio.Event()
        self.closed_at = 0.0


class _Body:
    """Finds the first byte after the head of a response."""

    def __init__(self) -> None:
        self._head = b""
        self.begun = False

    def has_begun(self, data: bytes) -> bool:
        """Whether `data` has the first byte of the body."""
        if self.begun:
            return False
        self._head += data
        self.begun = bool(self._head.partition(_END_OF_HEAD)[2])
        return self.begun


class _Relay:
    """Passes connections on to the simulator. moments: of the newest answer."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._address = parts.hostname, parts.port
        self.moments = _Moments()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of the gateway."""
        upstream_reader, upstream_writer = await asyncio.open_connection(*self._address)
        body = _Body()

        async def answers() -> None:
            while data := await upstream_reader.read(1 << 16):
                writer.write(data)
                if body.has_begun(data):
                    self.moments.first = perf_counter()
            writer.close()

        answering = asyncio.create_task(answers())
        while data := await reader.read(1 << 16):
            body = _Body()
            upstream_writer.write(data)
        self.moments.closed_at = perf_counter()
        self.moments.closed.set()
        answering.cancel()
        upstream_writer.close()
        writer.close()


async def _delays(running: Running, relay: _Relay, requests: int) -> list[tuple[float, float]]:
    """Milliseconds that first bytes and disconnects took, of each request."""
    host, port = running.target.address
    request = request_of(running, 10, rate=1 / _EVERY)
    found = []
    for _ in range(requests):
        moments = relay.moments = _Moments()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(request)
        body = _Body()
        while not body.has_begun(data := await reader.read(1 << 16)):
            if not data:
                raise measure.Failed("the answer ended before its audio")
        arrived = perf_counter()
        writer.transport.abort()
        left = perf_counter()
        async with asyncio.timeout(30):
            await moments.closed.wait()
        found.append(((arrived - moments.first) * 1e3, (moments.closed_at - left) * 1e3))
    return found


async def _measure(upstream: str, work: Path, requests: int) -> list[tuple[float, float]]:
    relay = _Relay(upstream)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    ready, folder = await asyncio.to_thread(prepare, PENSTOCK, url, work)
    starting = measure.running(PENSTOCK, ready, folder)
    running = await asyncio.to_thread(starting.__enter__)
    try:
        return await _delays(running, relay, requests)
    finally:
        await asyncio.to_thread(starting.__exit__, None, None, None)
        server.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50)
    options = parser.parse_args()
    os.sched_setaffinity(0, {LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="penstock-delay-") as folder:
        work = Path(folder)
        with simulator(work) as upstream:
            found = asyncio.run(_measure(upstream, work, options.requests))
    for name, times in zip(("first byte", "disconnect"), zip(*found, strict=True), strict=True):
        late = quantiles(times, n=20)[-1]
        print(f"{name:<11} median {median(times):.1f} ms, p95 {late:.1f}, most {max(times):.1f}")


if __name__ == "__main__":
    main()
