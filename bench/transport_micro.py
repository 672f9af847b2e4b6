"""CPU time of the client alone: microseconds of process time per request and per streamed chunk.

    python -m bench.transport_micro [--loop asyncio] [--profile]

The upstream is a raw asyncio.Protocol in a process of its own, so only the client is measured.
"""

import argparse
import asyncio
import cProfile
import multiprocessing
import pstats
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import uvloop

from edge.upstreams import Request
from edge.upstreams.http1.transport import Transport

BODY = b"x" * 1024
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nserver: bench\r\n"
    b"date: Sat, 21 Nov 2026 08:00:00 GMT\r\ncontent-length: 1024\r\n\r\n" + BODY
)
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
HEADERS = (
    (b"content-type", b"application/json"),
    (b"authorization", b"Bearer sk-bench-0123456789abcdef0123456789abcdef"),
    (b"accept-encoding", b"identity"),
    (b"user-agent", b"penstock"),
)


class Server(asyncio.Protocol):
    """Answers whatever arrives in one piece; `/stream/N` is N events, one each millisecond."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        target = data[: data.index(b" HTTP")].partition(b" ")[2]
        if target.startswith(b"/stream/"):
            self.transport.write(STREAM_HEAD)
            self._next(int(target[8:]))
        else:
            self.transport.write(ANSWER)

    def _next(self, left: int) -> None:
        if left:
            self.transport.write(CHUNK)
            asyncio.get_running_loop().call_later(0.001, self._next, left - 1)
        else:
            self.transport.write(b"0\r\n\r\n")


def serve(tell: Connection) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


async def requests(transport: Transport, request: Request, count: int) -> int:
    for _ in range(count):
        response = await transport.open(request)
        while not response.at_end:
            await response.read()
    return count


async def stream(transport: Transport, events: int) -> int:
    response = await transport.open(Request(b"POST", b"/stream/%d" % events, HEADERS, BODY))
    reads = 0
    while await response.read():
        reads += 1
    return reads


async def measure(name: str, work: Callable[[], Awaitable[list[int]]]) -> None:
    started, wall = time.process_time(), time.perf_counter()
    units = sum(await work())
    cpu, wall = time.process_time() - started, time.perf_counter() - wall
    print(f"{name:32} {cpu / units * 1e6:8.1f} us CPU each   {units / wall:9.0f} /s")


async def main(port: int, count: int) -> None:
    transport = Transport(f"http://127.0.0.1:{port}")
    get, post = Request(b"GET", b"/", HEADERS), Request(b"POST", b"/", HEADERS, BODY)
    await requests(transport, get, 1000)

    def at_once(number: int, one: Callable[[], Awaitable[int]]) -> Awaitable[list[int]]:
        return asyncio.gather(*(one() for _ in range(number)))

    await measure("GET, one at a time", lambda: at_once(1, lambda: requests(transport, get, count)))
    await measure(
        "POST 1 KB, one at a time", lambda: at_once(1, lambda: requests(transport, post, count))
    )
    await measure(
        "POST 1 KB, 32 at a time",
        lambda: at_once(32, lambda: requests(transport, post, count // 32)),
    )
    await measure("chunk, 50 streams", lambda: at_once(50, lambda: stream(transport, 1000)))
    await transport.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--profile", action="store_true", help="where the time goes, by cProfile")
    options = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    run = uvloop.run if options.loop == "uvloop" else asyncio.run
    profile = cProfile.Profile()
    if options.profile:
        profile.enable()
    try:
        run(main(ours.recv(), options.count))
    finally:
        server.terminate()
    if options.profile:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(25)
