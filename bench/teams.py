"""What a team adds to a request: CPU time and instructions, counters in memory and in Redis.

    python -m bench.teams [--count N] [--rounds N] [--instructions]

Plain requests go through the whole chain in one process, without sockets, to an upstream in memory;
only the process of the gateway is measured, not Redis. Callers are keys whose plan has rates of
requests and tokens, slots, two windows and credits; then the same keys in a team whose plan has all
of it too. Each round measures both, one after the other; the difference is of the same round.

--instructions: also those of the CPU, counted by valgrind, with counters in memory.
"""

import argparse
import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import uvloop

from . import in_process

PLAN = {
    "id": "bench",
    "requests": "600M/min",
    "tokens": "600M/min",
    "concurrency": 100_000,
    "windows": [
        {"length": "5h", "credits": "1000000.00"},
        {"length": "7d", "credits": "1000000.00"},
    ],
    "overflow": "credits",
}
ANSWER = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there. " * 20},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 50, "total_tokens": 80},
    }
).encode()
BODY = json.dumps(
    {
        "model": "m1",
        "max_tokens": 1000,
        "messages": [{"role": "user", "content": "Hello, who are you? " * 4}],
    }
).encode()
_FEW, _MANY = 100, 300
_AT_ONCE = 32
_WARM = 200


@contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis of its own."""
    from .subjects import redis_program

    with tempfile.TemporaryDirectory(prefix="bench-teams-") as folder:
        socket = Path(folder) / "s"
        command = [redis_program(), "--port", "0", "--unixsocket", str(socket), "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder)
        try:
            while not socket.exists():
                if server.poll() is not None:
                    raise SystemExit("redis-server has ended")
                time.sleep(0.01)
            yield f"unix://{socket}"
        finally:
            server.terminate()
            server.wait()


class Subject(NamedTuple):
    """A gateway, and the secret of its one key."""

    gateway: Any
    keys: Any
    secret: bytes


async def subject(team: bool, url: str) -> Subject:
    """One whose key is in a team or in none. url: of Redis; "" counts in memory."""
    from middlewares.stores import KeyDirectory, MemoryKeyStore
    from middlewares.stores.counters.redis import RedisCounters
    from tests.edge.scripted import Answer, Scripted, ScriptedGateway
    from tests.middlewares.stores.samples import new_key, new_team

    counters = RedisCounters(url, timeout=10.0, quarantine=0.0) if url else None
    if counters is not None:
        await counters.start()
    answer = Answer([ANSWER], headers=[(b"content-type", b"application/json")])
    store = MemoryKeyStore()
    whose = await store.teams.insert(new_team(plan="bench")) if team else None
    key, secret = new_key(plan="bench", team=whose.id if whose else None)
    await store.insert(key)
    keys = KeyDirectory(store)
    await keys.start()
    made = ScriptedGateway(
        Scripted(answer),
        document={
            **in_process.DOCUMENT,
            "plans": [PLAN],
            "auth": {"mode": "keys"},
            "limits": {"safety_net": "600M/min"},
        },
        keys=keys,
        counters=counters,
    )
    if counters is not None:
        await made.accounts.start()
    return Subject(made, keys, secret.encode())


async def ask(to: Subject, count: int, at_once: int) -> None:
    """Send so many requests, `at_once` of them at a time."""
    await in_process.ask(to.gateway, BODY, count, at_once, [(b"x-api-key", to.secret)])


async def _cpu(url: str, count: int, rounds: int, at_once: int) -> list[tuple[float, float]]:
    """Microseconds of CPU time per request of each round: of a key, and of one in a team."""
    both = [await subject(team, url) for team in (False, True)]
    for one in both:
        await ask(one, _WARM, at_once)
    rows = []
    for _ in range(rounds):
        costs = []
        for one in both:
            gc.collect()
            began = time.process_time()
            await ask(one, count, at_once)
            costs.append((time.process_time() - began) / (count // at_once * at_once) * 1e6)
        rows.append((costs[0], costs[1]))
    for one in both:
        await one.keys.aclose()
        await one.gateway.accounts.aclose()
        await one.gateway.ledger_writer.aclose()
        if one.gateway.counters is not None:
            await one.gateway.counters.aclose()
    return rows


async def _requests(team: bool, count: int) -> None:
    gc.disable()
    await ask(await subject(team, ""), count, 1)


def _instructions(team: bool) -> float:
    """Instructions per request, as valgrind counts them."""
    whose = ["--team"] if team else []
    return in_process.instructions(
        "bench.teams", lambda count: ["--run", str(count), *whose], _FEW, _MANY
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=3000, help="requests of a round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--instructions", action="store_true")
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--team", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    if given.run is not None:
        asyncio.run(_requests(given.team, given.run))
        return
    print("| counters | key | key in a team | a team adds |")
    print("| --- | ---: | ---: | ---: |")
    with redis() as url:
        for name, where, at_once in (
            ("memory", "", 1),
            ("Redis, one request at a time", url, 1),
            (f"Redis, {_AT_ONCE} at a time", url, _AT_ONCE),
        ):
            rows = uvloop.run(_cpu(where, given.count, given.rounds, at_once))
            key, team = (median(row[n] for row in rows) for n in (0, 1))
            adds = median(row[1] - row[0] for row in rows)
            print(f"| {name} | {key:.0f} µs | {team:.0f} µs | {adds:+.1f} µs |", flush=True)
    if given.instructions:
        key, team = _instructions(False), _instructions(True)
        print(
            f"| memory, instructions | {key:,.0f} | {team:,.0f} | {team - key:+,.0f}, "
            f"{team / key - 1:+.1%} |"
        )


if __name__ == "__main__":
    main()
