"""What Redis and PostgreSQL do for one request: the constants of `bench.scaling`.

    python -P -m bench.scaling_measure [--count N]

Requests of a key with all limits go through the whole chain in this process, to an upstream in
memory, with a Redis of their own: the commands, bytes and CPU time of Redis are read from `INFO`. A
PostgreSQL of its own (of the tests) takes rows of the ledger in flushes of several sizes: CPU time
of all its processes, bytes of its log.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg
import psutil
from redis.asyncio import Redis

from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql.database import Database
from middlewares.stores.sql.migrations import migrate

from . import teams

FLUSHES = (1, 10, 100, 1000)
ROUNDS = 5


async def of_redis(count: int, *, team: bool, at_once: int) -> dict[str, float]:
    """Per request: commands, bytes in and out, microseconds of Redis' CPU."""
    with teams.redis() as url:
        to = await teams.subject(team, url)
        client = Redis.from_url(url)
        await teams.ask(to, 200, at_once)
        best: dict[str, float] = {}
        for _ in range(ROUNDS):
            before = await client.info()
            await teams.ask(to, count, at_once)
            after = await client.info()
            found = {
                name: (_of(after, fields) - _of(before, fields)) / count
                for name, fields in {
                    "commands": ("total_commands_processed",),
                    "bytes in": ("total_net_input_bytes",),
                    "bytes out": ("total_net_output_bytes",),
                    "µs of Redis": ("used_cpu_user", "used_cpu_sys"),
                }.items()
            }
            found["µs of Redis"] *= 1e6
            best = {name: min(value, best.get(name, value)) for name, value in found.items()}
        best["bytes of the key"] = _of(after, ("used_memory",)) - _of(before, ("used_memory",))
        await client.aclose()
        await to.keys.aclose()
        await to.gateway.accounts.aclose()
        await to.gateway.ledger_writer.aclose()
        await to.gateway.counters.aclose()
        return best


def _of(info: dict[str, Any], fields: Sequence[str]) -> float:
    return sum(float(info[name]) for name in fields)


async def of_postgres(flush: int, rows: int) -> dict[str, float]:
    """Per row: microseconds of CPU of the server and of this process, bytes of its log; per flush:
    statements."""
    from tests.middlewares.stores.entries import use
    from tests.middlewares.stores.postgres_server import Postgres

    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    server = Postgres(folder)
    try:
        url = await server.new_database()
        await migrate(url)
        database = await Database.open(url, patience=60)
        store = SqlLedgerStore(database)
        raw = await asyncpg.connect(url)
        main = _main_process(folder)
        await store.append([use(id="first")])  # connects
        best: dict[str, float] = {}
        number = 0
        for _ in range(ROUNDS):
            entries = []
            for _ in range(rows):
                number += 1
                entries.append(
                    use(
                        id=f"r{number:012d}",
                        account=f"key_{number % 500:020d}",
                        at=1_800_000_000.0 + number / 100,
                        ended_at=1_800_000_001.0 + number / 100,
                        owner=f"user-{number % 300}@example.com",
                        model=f"model-{number % 5}",
                        cost=1000,
                    )
                )
            log = await raw.fetchval("SELECT pg_current_wal_lsn()")
            began, own = _cpu(main), time.process_time()
            for start in range(0, rows, flush):
                await store.append(entries[start : start + flush])
            found = {
                "µs of PostgreSQL": (_cpu(main) - began) / rows * 1e6,
                "µs of the gateway": (time.process_time() - own) / rows * 1e6,
            }
            bytes_ = await raw.fetchval("SELECT pg_current_wal_lsn() - $1::pg_lsn", log)
            found["bytes of log"] = float(bytes_) / rows
            best = {name: min(value, best.get(name, value)) for name, value in found.items()}
        size = await raw.fetchval("SELECT pg_database_size(current_database())")
        best["bytes on disk"] = float(size) / number
        await raw.close()
        await database.aclose()
        return best
    finally:
        server.close()
        shutil.rmtree(folder, ignore_errors=True)


def _main_process(folder: Path) -> psutil.Process:
    """That of the server whose data are in the folder."""
    found = {
        one.pid: one
        for one in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in one.info["cmdline"] or ())
    }
    return next(one for one in found.values() if one.ppid() not in found)


def _cpu(main: psutil.Process) -> float:
    """Seconds of CPU time of a server: its backends stay while the pool does."""
    return sum(sum(one.cpu_times()[:2]) for one in (main, *main.children(recursive=True)))


async def _run(count: int) -> None:
    for team in (False, True):
        for at_once in (1, 32):
            found = await of_redis(count, team=team, at_once=at_once)
            shown = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
            print(f"Redis, team {team}, {at_once} at once, per request: {shown}", flush=True)
    for flush in FLUSHES:
        found = await of_postgres(flush, max(5 * flush, min(count, 200 * flush)))
        shown = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        print(f"PostgreSQL, {flush} rows in a flush, per row: {shown}", flush=True)


def main() -> None:
    """Print the constants."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    given = parser.parse_args()
    sys.path.insert(0, str(Path.cwd()))
    asyncio.run(_run(given.count))


if __name__ == "__main__":
    main()
