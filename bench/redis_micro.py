"""CPU time of the client of Redis alone, ours and redis-py's: microseconds for each command.

    python -m bench.redis_micro [--count N]

Why `middlewares.stores.redis_client` is our own: every limited request asks Redis twice. The
command
is the one of a rate limit, a small script with one key, at a real server on a Unix socket, so that
only the client is measured. Commands asked for at once go out in one write with ours; redis-py
takes a connection of its pool for each. With redis-py 8.1 and hiredis 3.5 on CPython 3.11:

    one at a time   ours 12 µs   redis-py 64 µs
    32 at a time    ours 2.5 µs  redis-py 69 µs
"""

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha1
from pathlib import Path
from typing import Any

import uvloop
from redis.asyncio import BlockingConnectionPool, Redis

from middlewares.stores.redis_client import RedisLink

from .subjects import redis_program

_SOURCE = b"redis.call('INCRBY', KEYS[1], ARGV[1]) return redis.call('PEXPIRE', KEYS[1], ARGV[2])"
_SCRIPT = sha1(_SOURCE).hexdigest().encode()  # it is Redis' name for the script
_AT_ONCE = (1, 32)

Ask = Callable[[], Awaitable[Any]]


async def _cost(ask: Ask, count: int, at_once: int) -> float:
    """Microseconds of process time for one of `count` commands, `at_once` of them at a time."""

    async def some() -> None:
        for _ in range(count // at_once):
            await ask()

    await ask()
    began = time.process_time()
    await asyncio.gather(*(some() for _ in range(at_once)))
    return (time.process_time() - began) / (count // at_once * at_once) * 1e6


async def measure(url: str, count: int) -> list[tuple[str, list[float]]]:
    """Each client with its costs, one for each number of commands at once."""
    link = RedisLink(url, scripts={_SCRIPT: _SOURCE}, timeout=10.0)
    await link.start()
    pool = BlockingConnectionPool.from_url(url, max_connections=max(_AT_ONCE))
    client = Redis.from_pool(pool)

    async def ours() -> None:
        await link.call(b"EVALSHA", _SCRIPT, 1, b"key", 1, 60_000)

    async def theirs() -> None:
        await client.evalsha(_SCRIPT.decode(), 1, b"key", 1, 60_000)  # type: ignore[misc]

    rows = []
    for name, ask in (("redis_link", ours), ("redis-py", theirs)):
        rows.append((name, [await _cost(ask, count, at_once) for at_once in _AT_ONCE]))
    await client.aclose()
    await link.aclose()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="commands")
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="rd-") as folder:
        socket = Path(folder) / "s"
        command = [redis_program(), "--port", "0", "--unixsocket", str(socket), "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            while not socket.exists():
                if server.poll() is not None:
                    raise SystemExit("redis-server has ended")
                time.sleep(0.01)
            rows = uvloop.run(measure(f"unix://{socket}", count))
        finally:
            server.terminate()
            server.wait()
    print("| client | " + " | ".join(f"µs, {number} at a time" for number in _AT_ONCE) + " |")
    print("| --- |" + " ---: |" * len(_AT_ONCE))
    for name, costs in rows:
        print(f"| {name} | " + " | ".join(f"{cost:.1f}" for cost in costs) + " |")


if __name__ == "__main__":
    main()
