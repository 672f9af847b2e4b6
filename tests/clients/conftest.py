"""One gateway with an upstream of each dialect, all of them the simulator over HTTP."""

from collections.abc import Iterator

import pytest

from tests.e2e.program import Gateway, Program

DIALECTS = ("openai", "anthropic", "responses")


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The provider: it speaks every dialect."""
    program = Program("simulate", "--port", "0", folder=tmp_path_factory.mktemp("simulator"))
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, simulator: Program) -> Iterator[Gateway]:
    """Its models are `on-openai`, `on-anthropic` and `on-responses`, with aliases for Codex.

    They have a price, and silence is filled with pings at once, so streams hold all our comments.
    """
    document = {
        "server": {"first_token_hold": "20ms", "ping_interval": "20ms"},
        "upstreams": [
            {
                "name": dialect,
                "dialect": dialect,
                "base_url": f"{simulator.url}/v1",
                "api_key": "env:UPSTREAM_KEY",
            }
            for dialect in DIALECTS
        ],
        "models": [
            {
                "id": f"on-{dialect}",
                "aliases": [f"{family}-on-{dialect}" for family in ("gpt-5.5", "gpt-6-luna")],
                "targets": [f"{dialect}/far-model"],
                "price": {"input": "1.00", "output": "2.00"},
            }
            for dialect in DIALECTS
        ],
    }
    folder = tmp_path_factory.mktemp("gateway")
    program = Gateway(folder, document, env={"UPSTREAM_KEY": "up-canary-2b7e90d1"})
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.fixture(scope="session")
def media_gateway(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program
) -> Iterator[Gateway]:
    """A gateway with media models under names that no client knows."""
    key = "env:UPSTREAM_KEY"
    base = f"{simulator.url}/v1"
    document = {
        "upstreams": [
            {"name": "far", "dialect": "openai", "base_url": base, "api_key": key},
        ],
        "models": [
            {"id": "on-openai", "targets": ["far/far-model"]},
            {"id": "painter", "targets": ["far/far-model"], "price": {"image": "0.04"}},
            {"id": "voice", "targets": ["far/far-model"], "price": {"character": "0.00001"}},
            {"id": "ear", "targets": ["far/far-model"], "price": {"audio_minute": "0.01"}},
            {"id": "film", "targets": ["far/far-model"]},
        ],
    }
    folder = tmp_path_factory.mktemp("media-gateway")
    program = Gateway(folder, document, env={"UPSTREAM_KEY": "up-canary-2b7e90d1"})
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr
