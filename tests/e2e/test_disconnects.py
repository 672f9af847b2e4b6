"""Clients that leave, in every pair of dialects and every phase: the upstream sees it in time."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import AsyncExitStack
from time import time

import pytest

from .conftest import SECRETS, over_http
from .program import Gateway, Program, stats, until
from .surfaces import MODELS, PAIRS, SURFACES, Wish
from .wire import line, request

PHASES = {
    "before the head": ("fault=slow-headers:60", True),
    "before the first token": ("first=60", True),
    "within the stream": ("tokens=9999 rate=50", True),
    "unstreamed": ("first=60", False),
}


@pytest.fixture(scope="module")
def gateway_without_timeouts(
    tmp_path_factory: pytest.TempPathFactory, simulator: Program
) -> Iterator[Gateway]:
    """A gateway that waits for its upstreams as long as it takes."""
    folder = tmp_path_factory.mktemp("patient")
    program = Gateway(folder, over_http(simulator.url), env=SECRETS)
    try:
        yield program
    finally:
        assert program.stop() == 0, program.stderr


@pytest.mark.parametrize("phase", PHASES)
async def test_disconnect_reaches_the_upstream(
    gateway_without_timeouts: Gateway, simulator: Program, phase: str, promised: float
) -> None:
    """BerriAI/litellm#13774, #37140, QuantumNous/new-api#4184: without streaming too."""
    gateway = gateway_without_timeouts
    words, stream = PHASES[phase]
    before = stats(simulator)
    async with AsyncExitStack() as stack:
        lines = []
        for surface, upstream in PAIRS:
            by = SURFACES[surface]
            text = f"{secrets.token_hex(8)} [[sim {words}]]"
            body = by.body(text, MODELS[upstream], stream, Wish(limit=20_000))
            connection = await stack.enter_async_context(line(gateway.url))
            await connection.send(request(by.path, body, {**gateway.bearer, **by.headers}))
            lines.append(connection)
        await asyncio.to_thread(
            until,
            lambda: stats(simulator)["running"] >= before["running"] + len(PAIRS),
            what="every request at the upstream",
        )
        if phase == "within the stream":
            for connection in lines:
                assert (await connection.head()).status == 200
                await connection.reader.readuntil(b"data: ")
        left = time()
    await asyncio.to_thread(
        until, lambda: stats(simulator)["running"] == 0, what="no request left at the upstream"
    )
    after = stats(simulator)
    assert after["hangups"] - before["hangups"] == len(PAIRS)
    seen = after["last_hangups"][-len(PAIRS) :]
    assert max(hang_up["at"] for hang_up in seen) - left < promised
