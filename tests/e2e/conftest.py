"""The processes that tests share. Those that tests only read live for the whole session."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer

from .program import DEADLINE, Gateway, Program

UPSTREAM_KEY = "up-canary-6f1c7d02b9"
ADMIN_TOKEN = "admin-canary-51e0b7aa43"

Start = Callable[..., Gateway]
Figures = Callable[[str], None]


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """Say a line at the end of the run: what was measured, of which test."""
    node = request.node
    return lambda line: node.user_properties.append(("figure", f"{node.name}: {line}"))


@pytest.fixture
def promised(full: bool) -> float:
    """Seconds in which what is promised within one has to be seen: at full size that and some
    slack, else as long as it takes, on a machine that may be busy."""
    return 1.5 if full else DEADLINE


def over_http(simulator: str, **limits: Any) -> dict[str, Any]:
    """A configuration: `sim-1` in process, a model of each dialect at a simulator over HTTP."""
    upstreams = [
        {
            "name": f"far-{dialect}",
            "dialect": dialect,
            "base_url": f"{simulator}/v1",
            "api_key": "env:UPSTREAM_KEY",
            **limits,
        }
        for dialect in ("openai", "anthropic", "responses")
    ]
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "upstreams": [{"name": "near", "dialect": "simulator"}, *upstreams],
        "models": [
            {"id": "sim-1", "targets": ["near/sim-1"]},
            {"id": "chat", "targets": ["far-openai/far-model"]},
            {"id": "claude", "targets": ["far-anthropic/far-model"]},
            {"id": "resp", "targets": ["far-responses/far-model"]},
        ],
    }


SECRETS = {"UPSTREAM_KEY": UPSTREAM_KEY, "ADMIN_TOKEN": ADMIN_TOKEN}


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis in which nothing is, for one test, which may maltreat it."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short: a socket's path has 107 bytes at most
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


async def shared_store(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of a store that many processes share: PostgreSQL and Redis, both empty. They
    are started when first asked for. Redis may take its time: the machine may be busy."""
    postgres: Postgres = request.getfixturevalue("postgres")
    redis: RedisServer = request.getfixturevalue("redis_server")
    sql = await postgres.migrated_database()
    return {"sql": sql, "counters": redis.url(), "counters_timeout": "5s"}


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The simulator as a provider of its own."""
    program = Program("simulate", "--port", "0", folder=tmp_path_factory.mktemp("simulator"))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """A gateway that no test changes. Its models `brief-chat`, `brief-claude` and `brief-resp` give
    up upstreams that stall for two seconds."""
    document = over_http(simulator.url)
    document["server"] = {"max_body": "1MiB"}
    brief = over_http(simulator.url, first_token_timeout="2s", idle_timeout="2s")
    for one in brief["upstreams"][1:]:
        document["upstreams"].append({**one, "name": f"far-brief-{one['dialect']}"})
    for model, dialect in (("chat", "openai"), ("claude", "anthropic"), ("resp", "responses")):
        targets = [f"far-brief-{dialect}/far-model"]
        document["models"].append({"id": f"brief-{model}", "targets": targets})
    nowhere = {"name": "nowhere", "dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}
    document["upstreams"].append(nowhere)
    document["models"].append({"id": "nowhere", "targets": ["nowhere/far-model"]})
    program = Gateway(tmp_path_factory.mktemp("gateway"), document, env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start gateways that the test may maltreat; what still runs at its end is stopped.

    folder: of another gateway that has ended, to go on where that was.
    """
    started: list[Gateway] = []

    def begin(
        document: Mapping[str, Any], *, folder: Path | None = None, **options: Any
    ) -> Gateway:
        if folder is None:
            folder = tmp_path / str(len(started))
            folder.mkdir()
        program = Gateway(folder, document, env=SECRETS, **options)
        started.append(program)
        return program

    try:
        yield begin
        for program in started:
            if program.process.poll() is None:
                assert program.stop() == 0, program.stderr
    finally:
        for program in started:
            program.kill()


@pytest.fixture
async def client(media: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's SDK at the gateway `media` of the module."""
    async with openai.AsyncOpenAI(
        base_url=f"{media.url}/v1", api_key=media.key, max_retries=0
    ) as one:
        yield one


@pytest.fixture
async def plain(media: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Plain HTTP at the gateway `media` of the module."""
    async with httpx.AsyncClient(
        base_url=f"{media.url}/v1", headers=media.bearer, trust_env=False, timeout=60
    ) as one:
        yield one
