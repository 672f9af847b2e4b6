"""Connections of each kind of upstream."""

import asyncio
from typing import Literal

import pytest

from edge.upstreams import Upstream
from edge.upstreams.claude_cli import ClaudeCLIUpstream, Program
from edge.upstreams.http import upstream_for
from edge.upstreams.http1.limits import PoolLimits
from edge.upstreams.pool_figures import PoolFigures, pool_figures
from edge.upstreams.provider import Provider
from edge.upstreams.simulator import SimulatorUpstream
from tests.edge.upstreams.http1.talk import GET, whole
from tests.waiting import until

from .fake import Fake, Peer, answer


def figures(upstream: Upstream) -> PoolFigures:
    return pool_figures(Provider(name="up", upstream=upstream, dialects=frozenset()))


async def ask(upstream: Upstream) -> bytes:
    return await whole(await upstream.open(GET))


@pytest.mark.parametrize("transport", ["native", "httpx"])
async def test_connections_are_busy_idle_or_waited_for(
    transport: Literal["native", "httpx"],
) -> None:
    release = asyncio.Event()

    async def held(peer: Peer) -> None:
        while True:
            await peer.request()
            await release.wait()
            await peer.send(answer(b"{}"))

    async with Fake(held) as up:
        upstream = upstream_for(up.url, transport=transport, limits=PoolLimits(connections=2))
        try:
            assert figures(upstream) == PoolFigures()
            asked = [asyncio.create_task(ask(upstream)) for _ in range(5)]
            await until(lambda: figures(upstream) == PoolFigures(busy=2, idle=0, waiting=3))
            release.set()
            await asyncio.gather(*asked)
            await until(lambda: figures(upstream) == PoolFigures(busy=0, idle=2, waiting=0))
        finally:
            await upstream.aclose()


async def test_client_programs_are_counted_as_connections() -> None:
    program = Program(command="no-such-client")
    upstream = ClaudeCLIUpstream(program, processes=2)
    assert figures(upstream) == PoolFigures()
    await upstream.aclose()


def test_simulator_has_no_connections() -> None:
    assert figures(SimulatorUpstream()) == PoolFigures()
