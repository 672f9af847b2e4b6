"""Redis hangs, or is gone: requests go on as the settings say and do not wait for it."""

import asyncio
from collections.abc import Callable
from secrets import token_hex
from statistics import quantiles
from time import perf_counter
from typing import Any

import pytest

from middlewares.pricing import decimal
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Figures, Start, shared_store
from .ledger import limits, paid, rows_when
from .program import DEADLINE, Gateway, Program, until
from .wire import CHAT, Reply, ask, bearer, chat

pytestmark = pytest.mark.timeout(600)

PLANS = (
    {"id": "rated", "requests": "6000/min", "concurrency": 1000},
    {"id": "paid", "windows": [{"length": "5h", "credits": "100.00"}]},
)
CASES = [
    ("frozen", "local", "refuse"),
    pytest.param("frozen", "allow", "local", marks=pytest.mark.full),
    pytest.param("killed", "local", "refuse", marks=pytest.mark.full),
    ("killed", "refuse", "local"),
]
BODY = {**chat("Hello [[sim tokens=5]]", "chat"), "max_tokens": 10}
LIMIT = 0.250


async def gateway_of(
    request: pytest.FixtureRequest, start: Start, simulator: Program, rates: str, budgets: str
) -> Gateway:
    store = {
        **await shared_store(request),
        "counters_timeout": "100ms",
        "rates_when_redis_is_down": rates,
        "budgets_when_redis_is_down": budgets,
    }
    return await asyncio.to_thread(start, paid(simulator.url, *PLANS, store=store))


async def keys_of(gateway: Gateway, *plans: str) -> list[str]:
    return [await asyncio.to_thread(gateway.new_key, plan, plan=plan) for plan in plans]


def state_lines(gateway: Gateway) -> list[str]:
    """What the log says of the counters, from warnings up; anything else there is a mistake."""
    loud = [
        line["event"]
        for line in gateway.log
        if line.get("level") in ("warning", "error", "critical") and line["event"] != "request"
    ]
    others = []
    for subject in ("idempotency keys", "circuit breakers"):  # each says the same for itself, once
        said = [line for line in loud if subject in line]
        assert len(said) <= 2, said
        others += said
    return [line for line in loud if line not in others]


class Asking:
    """Requests of two keys, one with rates and one with money, each timed; those of the first key
    with and without an idempotency key."""

    def __init__(self, gateway: Gateway, rated: str, paid: str) -> None:
        self.gateway = gateway
        self.keys = {"rated": rated, "paid": paid, "named": rated}
        self.seconds: list[float] = []
        self.replies: dict[str, list[Reply]] = {kind: [] for kind in self.keys}

    async def one(self, plan: str) -> Reply:
        headers = bearer(self.keys[plan])
        if plan == "named":
            headers["idempotency-key"] = token_hex(8)
        started = perf_counter()
        reply = await ask(self.gateway.url, CHAT, BODY, headers)
        self.seconds.append(perf_counter() - started)
        self.replies[plan].append(reply)
        return reply

    async def many(self, number: int, rate: float) -> None:
        """So many of each, at an even pace, whether or not they are answered."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for at in range(number):
                await asyncio.sleep(start + at / rate - loop.time())
                for plan in self.keys:
                    group.create_task(self.one(plan))

    def statuses(self, plan: str) -> set[int]:
        return {reply.status for reply in self.replies[plan]}


def expected(rates: str, budgets: str) -> dict[str, int]:
    """By plan, the status that the settings promise. Every request passes the safety net, which is
    a rate."""
    if rates == "refuse":
        return {"rated": 503, "named": 503, "paid": 503}
    return {"rated": 200, "named": 200, "paid": 503 if budgets == "refuse" else 200}


@pytest.mark.parametrize(("way", "rates", "budgets"), CASES)
async def test_redis_goes_and_comes_back(
    request: pytest.FixtureRequest,
    start: Start,
    simulator: Program,
    redis_server: RedisServer,
    way: str,
    rates: str,
    budgets: str,
    full: bool,
    figures: Figures,
) -> None:
    """BerriAI/litellm#34299: no wait without bound, no storm of log lines, recovery alone."""
    gateway = await gateway_of(request, start, simulator, rates, budgets)
    asking = Asking(gateway, *await keys_of(gateway, "rated", "paid"))
    await asking.many(*((400, 40) if full else (3, 10)))
    assert asking.statuses("rated") == asking.statuses("paid") == {200}
    await asyncio.to_thread(gateway.whole_log)
    assert state_lines(gateway) == []

    leave: Callable[[], None] = redis_server.freeze if way == "frozen" else redis_server.stop
    come_back: Callable[[], None] = redis_server.thaw if way == "frozen" else redis_server.start
    served_before = len(asking.replies["paid"])
    during = Asking(gateway, asking.keys["rated"], asking.keys["paid"])
    leave()
    async with asyncio.timeout(DEADLINE + 60):  # every request ends
        await during.many(1000 if full else 40, 40)
    for plan, status in expected(rates, budgets).items():
        assert during.statuses(plan) == {status}
        for reply in during.replies[plan]:
            if status == 503:
                assert reply.error["code"] == "upstream_unavailable"
                assert int(reply.header("retry-after")) >= 1
    await asyncio.to_thread(gateway.whole_log)
    assert len(state_lines(gateway)) == 1, state_lines(gateway)
    assert "do not answer" in state_lines(gateway)[0]
    for path in ("/livez", "/readyz"):
        # Another replica would not do better: Redis is gone for all of them.
        assert (await asyncio.to_thread(gateway.get, path)).status_code == 200
    labels: tuple[tuple[str, str], ...] = ()
    assert gateway.metrics()["penstock_counters_up", labels] == 0

    come_back()
    await asyncio.to_thread(
        until, lambda: len(state_lines(gateway)) == 2, what="the news that Redis is back"
    )
    assert "answer again" in state_lines(gateway)[1]
    after = Asking(gateway, asking.keys["rated"], asking.keys["paid"])
    await after.many(10, 50)
    assert after.statuses("rated") == after.statuses("paid") == {200}
    await asyncio.to_thread(gateway.whole_log)
    assert len(state_lines(gateway)) == 2
    served = sum(
        reply.status == 200
        for one in (asking, during, after)
        for replies in one.replies.values()
        for reply in replies
    )
    ledger = await rows_when(gateway, served)
    assert served_before < len(ledger)
    account = next(row.account for row in ledger if row.reserved)
    cost = sum(row.cost for row in ledger if row.account == account)
    await assert_spent(gateway, asking.keys["paid"], cost)
    if full:
        before, cuts = quantiles(asking.seconds, n=100), quantiles(during.seconds, n=100)
        figures(
            f"{len(during.seconds)} requests while Redis was {way}: median {cuts[49] * 1000:.1f}, "
            f"p99 {cuts[98] * 1000:.1f}, longest {max(during.seconds) * 1000:.1f} ms; p99 before "
            f"{before[98] * 1000:.1f} ms"
        )
        assert cuts[98] < LIMIT + before[98]  # what the machine adds, Redis has not added


async def assert_spent(gateway: Gateway, key: str, cost: int) -> None:
    """What the counters say is, or very soon is, what the ledger says."""
    wanted = (decimal(cost), "0.00")
    found: tuple[Any, Any] = ("", "")
    async with asyncio.timeout(DEADLINE):
        while found != wanted:
            window = (await limits(gateway, key))["windows"][0]
            found = (window["used"], window["reserved"])
            await asyncio.sleep(0.05)


async def test_lost_counters_are_restored_from_the_ledger(
    request: pytest.FixtureRequest, start: Start, simulator: Program, redis_server: RedisServer
) -> None:
    """FLUSHALL between requests, and in the middle of a stream."""
    gateway = await gateway_of(request, start, simulator, "local", "refuse")
    (key,) = await keys_of(gateway, "paid")
    for _ in range(5):
        assert (await ask(gateway.url, CHAT, BODY, bearer(key))).status == 200
    cost = sum(row.cost for row in await rows_when(gateway, 5))
    await assert_spent(gateway, key, cost)

    redis_server.flush()
    window = (await limits(gateway, key))["windows"][0]
    assert window["used"] == decimal(cost) != "0.00"

    words = chat("Hello [[sim tokens=30 rate=30]]", "chat", stream=True)
    running = asyncio.create_task(ask(gateway.url, CHAT, words, bearer(key)))
    await asyncio.to_thread(until, lambda: gateway.in_flight() == 1, what="a stream")
    redis_server.flush()
    assert (await ask(gateway.url, CHAT, BODY, bearer(key))).status == 200
    assert (await running).body.endswith(b"data: [DONE]\n\n")
    cost = sum(row.cost for row in await rows_when(gateway, 7))
    await assert_spent(gateway, key, cost)
    await asyncio.to_thread(gateway.whole_log)
    assert state_lines(gateway) == []
    assert gateway.metrics()["penstock_counters_lost_total", ()] == 2


async def test_a_rate_holds_in_this_process_while_redis_is_gone(
    request: pytest.FixtureRequest, start: Start, simulator: Program, redis_server: RedisServer
) -> None:
    gateway = await gateway_of(request, start, simulator, "local", "refuse")
    key = await asyncio.to_thread(gateway.new_key, "few", limits={"requests": "5/min"})
    redis_server.stop()
    replies = [await ask(gateway.url, CHAT, BODY, bearer(key)) for _ in range(10)]
    assert [reply.status for reply in replies] == [200] * 5 + [429] * 5


async def test_it_starts_and_stops_without_redis(
    request: pytest.FixtureRequest, start: Start, simulator: Program, redis_server: RedisServer
) -> None:
    redis_server.stop()
    gateway = await gateway_of(request, start, simulator, "local", "refuse")
    asking = Asking(gateway, *await keys_of(gateway, "rated", "paid"))
    await asking.many(3, 10)
    assert (asking.statuses("rated"), asking.statuses("paid")) == ({200}, {503})
    await asyncio.to_thread(gateway.whole_log)
    assert len(state_lines(gateway)) == 1
    assert await asyncio.to_thread(gateway.stop) == 0
