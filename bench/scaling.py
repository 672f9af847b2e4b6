"""What Redis, PostgreSQL and Prometheus carry for many replicas, computed from measured constants.

    python -P -m bench.scaling [--rate 20] [--models 50]

The constants were measured by `bench.scaling_measure` and `bench.growth`; those that were not are
said to be assumed. `docs/scaling.md` has the table for 20 requests per second and replica.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

REPLICAS = (1, 10, 100, 300, 1000)


class Constants(NamedTuple):
    """Measured on one virtual core of a busy machine, the minimum of five rounds, unless
    something else is said. Seconds, bytes.

    redis_calls: round trips of a request of a key with rates, slots, windows and credits.
        redis_seconds: of one core for it; of_team: where its team has all of them, too.
        redis_in, redis_out: bytes of it.
    redis_polls: calls of a worker each second without any request (counted in the code; health of
        targets: 2). redis_connections: of a worker (counted in the code).
    flush_seconds, row_seconds: of all cores of PostgreSQL, for a flush of the ledger and for each
        row in it. flush_period: seconds for which a worker gathers rows.
    row_log, row_disk: bytes of the write-ahead log, and of the database, for a row.
    lock_seconds: for which a flush holds the sums that all writers share, its commit included
        (assumed: a disk that commits within a millisecond).
    poll_seconds, polls: a question of PostgreSQL (assumed), and those of a worker each second, by
        their periods: revision of the keys 2.5, credits 1, budgets 0.5, alerts 0.5.
    connections: of a worker to PostgreSQL, at most.
    lookup_seconds: of PostgreSQL for the first use of a key (assumed as a question).
    series, series_of_model: of a worker (assumed), and for each model that is used on one endpoint.
    series_bytes: memory of Prometheus for a series (assumed).
    """

    redis_calls: int = 6
    redis_seconds: float = 120e-6
    redis_seconds_of_team: float = 180e-6
    redis_in: int = 1570
    redis_out: int = 240
    redis_polls: float = 2.1
    redis_connections: int = 6
    flush_seconds: float = 1270e-6
    row_seconds: float = 30e-6
    flush_period: float = 0.2
    row_log: int = 1400
    row_disk: int = 2100
    lock_seconds: float = 2e-3
    poll_seconds: float = 150e-6
    polls: float = 4.5
    connections: int = 4
    lookup_seconds: float = 150e-6
    series: int = 150
    series_of_model: int = 25
    series_bytes: int = 3000


MEASURED = Constants()


class Load(NamedTuple):
    """What shared parts carry. Cores are those that are busy."""

    replicas: int
    requests: float
    redis_cores: float
    redis_megabits: float
    redis_connections: int
    flushes: float
    lag: float
    postgres_cores: float
    log_megabytes: float
    disk_gigabytes: float
    polls: float
    connections: int
    series: int
    prometheus_gigabytes: float


def load(replicas: int, rate: float, models: int, of: Constants = MEASURED) -> Load:
    """replicas: of one worker each. rate: requests of a second at each. models: used at each."""
    requests = replicas * rate
    # A worker has one flush under way. Where all of them take longer in turn than the period,
    # flushes become rarer and larger.
    lag = max(of.flush_period, replicas * of.lock_seconds)
    flushes = min(requests, replicas / lag)
    polls = replicas * of.polls
    postgres = flushes * of.flush_seconds + requests * of.row_seconds + polls * of.poll_seconds
    series = replicas * (of.series + models * of.series_of_model)
    redis_calls = (
        requests * of.redis_seconds + replicas * of.redis_polls * of.redis_seconds / of.redis_calls
    )
    return Load(
        replicas=replicas,
        requests=requests,
        redis_cores=redis_calls,
        redis_megabits=requests * (of.redis_in + of.redis_out) * 8 / 1e6,
        redis_connections=replicas * of.redis_connections,
        flushes=flushes,
        lag=lag,
        postgres_cores=postgres,
        log_megabytes=requests * of.row_log / 1e6,
        disk_gigabytes=requests * of.row_disk * 86400 / 1e9,
        polls=polls,
        connections=replicas * of.connections,
        series=series,
        prometheus_gigabytes=series * of.series_bytes / 1e9,
    )


def redis_limit(of: Constants = MEASURED, *, team: bool = False, share: float = 0.7) -> float:
    """Requests of a second at which one Redis uses `share` of its one core."""
    return share / (of.redis_seconds_of_team if team else of.redis_seconds)


def lookups(replicas: int, keys: int, *, sticky: bool) -> int:
    """First uses of `keys` after a roll-out: once at each replica, or where the load balancer
    sends a key to one replica, once."""
    return keys if sticky else keys * replicas


_ROWS: Sequence[tuple[str, str, str]] = (
    ("requests", "requests/s", ",.0f"),
    ("redis_cores", "Redis: cores of its one thread", ".2f"),
    ("redis_megabits", "Redis: Mbit/s", ",.1f"),
    ("redis_connections", "Redis: connections", ",d"),
    ("flushes", "PostgreSQL: flushes of the ledger/s", ",.0f"),
    ("lag", "PostgreSQL: seconds from a request to its row", ".1f"),
    ("polls", "PostgreSQL: questions/s of idle workers", ",.0f"),
    ("postgres_cores", "PostgreSQL: cores", ".2f"),
    ("log_megabytes", "PostgreSQL: MB/s of log", ",.2f"),
    ("disk_gigabytes", "PostgreSQL: GB a day", ",.1f"),
    ("connections", "PostgreSQL: connections without a pooler", ",d"),
    ("series", "Prometheus: series", ",d"),
    ("prometheus_gigabytes", "Prometheus: GB of memory", ".2f"),
)


def table(rate: float = 20.0, models: int = 50, of: Constants = MEASURED) -> str:
    """A Markdown table: a column for each number of replicas."""
    loads = [load(replicas, rate, models, of) for replicas in REPLICAS]
    lines = ["| replicas | " + " | ".join(f"{one:,}" for one in REPLICAS) + " |"]
    lines.append("| --- |" + " ---: |" * len(REPLICAS))
    for field, name, form in _ROWS:
        cells = [format(getattr(one, field), form) for one in loads]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and where Redis is full."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=20.0, help="requests of a replica a second")
    parser.add_argument("--models", type=int, default=50, help="models used at each replica")
    given = parser.parse_args()
    print(table(given.rate, given.models))
    for team in (False, True):
        limit = redis_limit(team=team)
        print(f"One Redis, 70 % busy{', keys in teams' * team}: {limit:,.0f} requests/s")


if __name__ == "__main__":
    main()
