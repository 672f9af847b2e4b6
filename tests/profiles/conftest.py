"""A gateway with the profile of the module's constant `PROFILE`, on two kinds of stores.

    gateway   one with SQLite and memory, then one with PostgreSQL, Redis and two workers: a test
              that takes it runs on both
    embedded  the first of them only, for programs that are slow

Both are made when first asked for and live as long as the module. A module may have a constant
`CHANGES`, values in place of the profile's, and `CLAUDE_CLI`: see `serve_profile`.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.program import Gateway, Program
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer

from .system import EMBEDDED, Serve, Stores, from_address, serve_profile, started_once

_addresses = count(2)


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """All providers: it speaks every dialect."""
    program = Program("simulate", "--port", "0", folder=tmp_path_factory.mktemp("simulator"))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis of this run's own; each gateway empties its database."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short: a socket's path has 107 bytes at most
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def servers(request: pytest.FixtureRequest, database: int) -> Stores:
    """A new database, an empty database of Redis, and two workers. Redis may take its time on a
    busy machine.

    database: of Redis; gateways that run at the same time have one each.
    """
    postgres: Postgres = request.getfixturevalue("postgres")
    server: RedisServer = request.getfixturevalue("redis")
    sql = asyncio.run(postgres.migrated_database())
    with Redis.from_url(server.url(database)) as client:
        client.flushdb()
    store = {"sql": sql, "counters": server.url(database), "counters_timeout": "5s"}
    return Stores("servers", store, workers=2)


@pytest.fixture(scope="module")
def serve(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, simulator: Program
) -> Iterator[Serve]:
    """The module's gateway on stores of a name, "embedded" or "servers"."""

    def start(name: str) -> Gateway:
        return serve_profile(
            request.module.PROFILE,
            tmp_path_factory.mktemp(name),
            simulator,
            servers(request, 0) if name == "servers" else EMBEDDED,
            changes=getattr(request.module, "CHANGES", None),
            claude=getattr(request.module, "CLAUDE_CLI", "program"),
        )

    with started_once(start) as serve:
        yield serve


@pytest.fixture(scope="module", params=["embedded", "servers"])
def stores(request: pytest.FixtureRequest) -> str:
    """Name of the stores that `gateway` has."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def other_stores(request: pytest.FixtureRequest, stores: str) -> Stores:
    """Stores of the same kind, for a gateway beside `gateway`."""
    return servers(request, 1) if stores == "servers" else EMBEDDED


@pytest.fixture(scope="module")
def gateway(serve: Serve, stores: str) -> Gateway:
    return serve(stores)


@pytest.fixture(scope="module")
def embedded(serve: Serve) -> Gateway:
    return serve("embedded")


@pytest.fixture
def new_address() -> str:
    """A client address that no other test has, for limits of an address: see `client_from`."""
    number = next(_addresses)
    return f"127.0.{1 + number // 250}.{1 + number % 250}"


@pytest.fixture
def url_from_new_address(gateway: Gateway, new_address: str) -> Iterator[str]:
    """A URL of `gateway`, which sees a client address that no other test has."""
    with from_address(gateway.url, new_address) as url:
        yield url
