"""Limits that several workers and replicas keep together, and money while a part is away."""

import asyncio
import json
from collections import Counter
from datetime import datetime
from time import monotonic, time
from typing import Any

import pytest

from middlewares.pricing import NANO
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Start, shared_store
from .ledger import Row, limits, paid, price, rows, rows_when, standing
from .program import DEADLINE, Gateway, Program, release, until
from .wire import ANTHROPIC, CHAT, MESSAGES, ask, bearer, chat, events, line, request

PLANS: list[dict[str, Any]] = [
    {"id": "few", "requests": "40/10min", "burst": 10},
    {"id": "five", "concurrency": 5},
    {"id": "capped", "windows": [{"length": "5h", "credits": "0.01"}], "cut_off": True},
    {"id": "rich", "windows": [{"length": "5h", "credits": "1000"}]},
]


async def replicas(
    request: pytest.FixtureRequest, start: Start, simulator: Program
) -> tuple[Gateway, Gateway]:
    """Two machines with two workers each, as far as they know."""
    store = await shared_store(request)
    made = paid(simulator.url, *PLANS, server={"workers": 2}, store=store)
    return await asyncio.to_thread(start, made), await asyncio.to_thread(start, made)


async def statuses(gateways: tuple[Gateway, ...], key: str, count: int) -> Counter[int]:
    """Of so many requests at once, each on a connection of its own."""
    body = chat("Hello [[sim tokens=1]]", "chat")
    replies = await asyncio.gather(
        *[ask(gateways[n % len(gateways)].url, CHAT, body, bearer(key)) for n in range(count)]
    )
    return Counter(reply.status for reply in replies)


async def test_a_rate_is_one_for_all_workers_and_replicas(
    request: pytest.FixtureRequest, start: Start, simulator: Program
) -> None:
    """BerriAI/litellm#16011: so many for each worker. And a restart forgives nothing."""
    both = await replicas(request, start, simulator)
    key = await asyncio.to_thread(both[0].new_key, "k", plan="few")
    started = monotonic()
    seen = await statuses(both, key, 200)
    refilled = (monotonic() - started) * 40 / 600
    assert 50 <= seen[200] <= 50 + refilled
    assert seen[200] + seen[429] == 200
    await asyncio.to_thread(both[0].stop)
    again = await asyncio.to_thread(start, _document(both[0]), folder=both[0].folder)
    seen += await statuses((again,), key, 20)
    assert seen[200] <= 50 + (monotonic() - started) * 40 / 600
    await rows_when(again, seen[200])


def _document(gateway: Gateway) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gateway.file.read_text())
    return found


async def test_slots_are_one_number_for_all_workers_and_replicas(
    request: pytest.FixtureRequest, start: Start, simulator: Program
) -> None:
    both = await replicas(request, start, simulator)
    key = await asyncio.to_thread(both[0].new_key, "k", plan="five")
    body = chat("Hello [[sim tokens=2000 rate=20]]", "chat", stream=True)
    for _ in range(3):
        seen: Counter[int] = Counter()
        answered, leave = asyncio.Semaphore(0), asyncio.Event()

        async def one(gateway: Gateway) -> None:
            async with line(gateway.url) as connection:
                await connection.send(request_of(key, body))
                reply = await connection.head()
                seen[reply.status] += 1  # noqa: B023  # it ends with this round
                answered.release()  # noqa: B023
                await leave.wait()  # noqa: B023

        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            for n in range(30):
                group.create_task(one(both[n % 2]))
            for _ in range(30):
                await answered.acquire()
            assert seen == {200: 5, 429: 25}
            leave.set()
        async with asyncio.timeout(DEADLINE):
            while (await limits(both[0], key))["concurrency"]["in_use"]:
                await asyncio.sleep(0.05)


def request_of(key: str, body: dict[str, Any]) -> bytes:
    return request(CHAT, body, bearer(key))


@pytest.mark.parametrize(("path", "model"), [(CHAT, "chat"), (MESSAGES, "claude")])
async def test_a_stream_ends_when_its_money_is_gone(
    start: Start, simulator: Program, path: str, model: str
) -> None:
    gateway = await asyncio.to_thread(start, paid(simulator.url, *PLANS))
    key = await asyncio.to_thread(gateway.new_key, "k", plan="capped")
    body = {
        **chat("Hello [[sim tokens=5000 rate=4000]]", model),
        "max_tokens": 5000,
        "stream": True,
    }
    reply = await ask(gateway.url, path, body, {**bearer(key), **ANTHROPIC})
    assert reply.status == 200
    last = events(reply.body)[-1]
    assert last["error"]["type"] in ("insufficient_quota", "rate_limit_error")
    assert "budget is used up" in last["error"]["message"]
    assert (last["error"]["window"], last["error"]["remaining"]) == ("5h", "0.00")
    assert f"resets at {last['error']['reset_at']}" in last["error"]["message"]
    reset = datetime.fromisoformat(last["error"]["reset_at"]).timestamp()
    assert 17_000 < reset - time() <= 18_001
    (row,) = await rows_when(gateway, 1)
    assert (row.ended, row.measured) == ("cut", False)
    cap = NANO // 100
    # As tokens are estimated by their bytes, it may come a little early or late.
    assert 0.7 * cap < row.cost < 1.1 * cap
    again = await ask(gateway.url, path, body, {**bearer(key), **ANTHROPIC})
    assert again.status in (200, 429)
    now = await standing(gateway, key)
    assert now.taken <= 1.2 * cap


async def test_the_database_stops_under_a_stream(
    request: pytest.FixtureRequest,
    start: Start,
    simulator: Program,
    postgres: Postgres,
    redis_server: RedisServer,
) -> None:
    """Who is known goes on, and not a row is missing when it is back."""
    one, _ = await replicas(request, start, simulator)
    key = await asyncio.to_thread(one.new_key, "k", plan="rich")
    body = chat("Hello [[sim tokens=5]]", "chat")
    for _ in range(8):  # both workers know the key
        assert (await ask(one.url, CHAT, body, bearer(key))).status == 200
    await rows_when(one, 8)
    slow = chat("Hello [[sim tokens=60 fault=hold:20]]", "chat", stream=True)
    running = asyncio.create_task(ask(one.url, CHAT, slow, bearer(key)))
    await asyncio.to_thread(until, lambda: one.in_flight() == 1, what="a stream")
    await asyncio.to_thread(postgres.stop)
    try:
        await asyncio.to_thread(release, simulator)
        assert (await running).body.endswith(b"data: [DONE]\n\n")
        for _ in range(8):
            assert (await ask(one.url, CHAT, body, bearer(key))).status == 200
    finally:
        await asyncio.to_thread(postgres.start)
    found: list[Row] = []
    async with asyncio.timeout(DEADLINE):
        while len(found) < 17:
            await asyncio.sleep(0.1)
            found = await rows(one.sql)
    assert len(found) == 17
    assert all(row.cost == price("chat", row.tokens) > 0 for row in found)
    async with asyncio.timeout(DEADLINE):
        while (now := await standing(one, key)).reserved:
            await asyncio.sleep(0.05)
    assert now.used == sum(row.cost for row in found)
