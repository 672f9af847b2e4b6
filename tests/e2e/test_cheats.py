"""Who wants more than is paid for: bounds that are none, names, references, and bad timing."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from tests.middlewares.stores.redis_server import RedisServer

from .conftest import ADMIN_TOKEN, Start, shared_store
from .ledger import PRICES, Row, paid, price, rows, rows_when, standing, used
from .program import DEADLINE, Gateway, Program, stats, until
from .wire import ANTHROPIC, CHAT, MESSAGES, Reply, ask, bearer, line, request

RESPONSES, COMPLETIONS, EMBEDDINGS = "/v1/responses", "/v1/completions", "/v1/embeddings"
RECOVERY = 30.0
"""Seconds between two looks for journals of the dead."""
SAYS = "Hello [[sim tokens=30]]"
TURNS = [{"role": "user", "content": SAYS}]

Order = tuple[str, dict[str, Any]]


def orders() -> Iterator[Order]:
    """Every way to a model, and every bound that a server could misunderstand."""
    for name in ("chat", "penstock/chat", "chat[1m]", "c-alias", "penstock/c-alias[1m]", "any-1"):
        yield CHAT, {"model": name, "messages": TURNS, "max_tokens": 40}
    bounds: list[dict[str, Any]] = [
        {},
        {"max_tokens": None},
        {"max_tokens": "40"},
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 1 << 40},
        {"max_tokens": 1e30},
        {"max_tokens": [40]},
        {"max_tokens": {"n": 1}},
        {"max_tokens": 1, "max_completion_tokens": 30_000},
        {"max_completion_tokens": 1, "max_tokens": 30_000},
        {"max_tokens": 1, "n_predict": -1},
        {"max_tokens": 40, "n": 128},
        {"max_tokens": 40, "n": "128"},
        {"max_tokens": 40, "n": 1 << 40, "best_of": 1 << 40},
        {"max_tokens": 40, "n": None},
    ]
    for bound in bounds:
        for model in ("chat", "claude", "resp"):
            yield CHAT, {"model": model, "messages": TURNS, **bound}
            yield CHAT, {"model": model, "messages": TURNS, "stream": True, **bound}
        yield COMPLETIONS, {"model": "chat", "prompt": SAYS, **bound}
        yield MESSAGES, {"model": "claude", "messages": TURNS, **bound}
    yield COMPLETIONS, {"model": "chat", "prompt": [SAYS] * 50, "max_tokens": 40}
    yield COMPLETIONS, {"model": "claude", "prompt": [SAYS], "max_tokens": 40, "best_of": 50}
    yield COMPLETIONS, {"model": "chat", "prompt": [1, 2, 3], "max_tokens": 40}
    for bound in ({}, {"max_output_tokens": -1}, {"max_output_tokens": "40"}):
        for model in ("resp", "chat", "claude"):
            yield RESPONSES, {"model": model, "input": SAYS, **bound}
            yield RESPONSES, {"model": model, "input": SAYS, "background": True, **bound}
            yield f"{RESPONSES}/compact", {"model": model, "input": SAYS, **bound}
    yield f"{RESPONSES}/compact", {"model": "resp", "input": SAYS, "stream": True}
    yield EMBEDDINGS, {"model": "embed", "input": ["Hello"] * 100}
    yield EMBEDDINGS, {"model": "embed", "input": [[1, 2, 3]] * 10}
    yield EMBEDDINGS, {"model": "embed", "input": "Hello", "stream": True}
    yield EMBEDDINGS, {"model": "chat", "input": "Hello", "max_tokens": 0}
    yield CHAT, {"model": "resp", "input": SAYS, "max_output_tokens": 40}
    yield "/v1/v1/chat/completions/", {"model": "chat", "messages": TURNS}


def document(simulator: str, **rest: Any) -> dict[str, Any]:
    plans = [
        {"id": "broke", "overflow": "credits", "concurrency": 50},
        {"id": "rich", "windows": [{"length": "5h", "credits": "1000000"}], "concurrency": 50},
        {"id": "drained", "overflow": "credits", "on_hangup": "drain", "concurrency": 50},
    ]
    made = paid(simulator, *plans, **rest)
    made["models"][0]["aliases"] = ["c-alias"]
    wild = {"id": "any-*", "targets": ["far-openai/far-chat"], "price": PRICES["chat"]}
    made["models"].append(wild)
    return made


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.full)])
async def deployment(
    request: pytest.FixtureRequest, start: Start, simulator: Program
) -> AsyncIterator[Gateway]:
    store = {}
    if request.param == "redis":
        store = {"counters": (await shared_store(request))["counters"], "counters_timeout": "5s"}
    yield await asyncio.to_thread(start, document(simulator.url, store=store))


async def place(deployment: Gateway, key: str, order: Order) -> Reply:
    path, body = order
    headers = {**bearer(key), **(ANTHROPIC if path == MESSAGES else {})}
    return await ask(deployment.url, path, body, headers)


async def test_account_without_money_is_never_served(
    deployment: Gateway, simulator: Program
) -> None:
    """maximhq/bifrost#2873: not one of these reaches an upstream without money."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="broke")
    asked = stats(simulator)["requests"]
    for order in orders():
        reply = await place(deployment, key, order)
        assert reply.status in (400, 404, 429), (order, reply.status)
        if reply.status == 429:
            assert reply.error.get("code", "insufficient_credits") == "insufficient_credits"
    for method in ("HEAD", "GET", "PUT", "DELETE"):
        reply = await ask(deployment.url, CHAT, headers=bearer(key), method=method)
        assert reply.status == 405
    assert stats(simulator)["requests"] == asked
    await rows_when(deployment, 0)


async def test_whatever_is_asked_costs_what_it_used(
    deployment: Gateway, simulator: Program
) -> None:
    key = await asyncio.to_thread(deployment.new_key, "k", plan="rich")
    before = used(simulator)
    replies = [(order, await place(deployment, key, order)) for order in orders()]
    served = [order for order, reply in replies if reply.status == 200]
    assert len(served) > 60
    failed = [reply for _, reply in replies if reply.status not in (200, 400)]
    assert {reply.status for reply in failed} <= {404, 429, 502}, failed
    after = used(simulator)
    ledger = await settled(deployment, key)
    for model in ("chat", "claude", "resp", "embed"):
        old = before.get(f"far-{model}", {})
        new = after.get(f"far-{model}", {})
        tokens = {kind: n - old.get(kind, 0) for kind, n in new.items()}
        mine = [row for row in ledger if row.model.replace("any-1", "chat") == model]
        assert sum(row.cost for row in mine) == price(model, tokens), model
    assert [row for row in ledger if row.reserved < row.cost] == []


async def settled(deployment: Gateway, key: str) -> list[Row]:
    """All rows, once nothing is held and no slot is in use; they are what the account has used."""
    now, found = await standing(deployment, key), await rows(deployment.sql)
    async with asyncio.timeout(DEADLINE):
        while now.reserved or now.in_use or now.used != sum(row.cost for row in found):
            await asyncio.sleep(0.05)
            now, found = await standing(deployment, key), await rows(deployment.sql)
    return found


@pytest.mark.parametrize("model", ["resp", "chat", "claude"])
async def test_who_leaves_pays_for_what_it_continued(
    deployment: Gateway, simulator: Program, model: str
) -> None:
    """The body of such a request says next to nothing of what the upstream has to read."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="rich")
    said = "All work and no play makes Jack a dull boy. " * 2000
    order = (RESPONSES, {"model": model, "input": said, "max_output_tokens": 40})
    first = (await place(deployment, key, order)).json()
    (before,) = await rows_when(deployment, 1)
    body = {
        "model": model,
        "previous_response_id": first["id"],
        "input": "Go on [[sim tokens=1000 rate=20]]",
        "stream": True,
    }
    async with line(deployment.url) as connection:
        await connection.send(request(RESPONSES, body, bearer(key)))
        reply = await connection.head()
        assert reply.status == 200
        async for _ in connection.parts(reply):
            break
    row = next(row for row in await rows_when(deployment, 2) if row.id != before.id)
    assert (row.ended, row.measured) == ("hung_up", False)
    assert row.input >= 0.9 * before.input > 10_000
    assert row.cost >= 0.9 * before.input * price(model, UNIT)
    await settled(deployment, key)


UNIT = {"input": 1, "output": 0, "cache_read": 0, "cache_write": 0}


async def test_one_idempotency_key_for_everything(deployment: Gateway, simulator: Program) -> None:
    """Many bodies and dialects under one key, and clients that leave at any moment."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="rich")
    asked = stats(simulator)["requests"]
    dice = random.Random(7)

    async def one(number: int) -> int:
        # Twelve bodies; of each, one client has the patience to read its answer.
        patience = DEADLINE if number // 12 == 1 else dice.choice((0.01, 0.1, 0.3, DEADLINE))
        path, model = ((CHAT, "chat"), (MESSAGES, "claude"))[number % 2]
        text = f"{number % 3} [[sim tokens=20 rate=40]]"
        body: dict[str, Any] = {"model": model, "max_tokens": 40, "stream": number % 4 < 2}
        body["messages"] = [{"role": "user", "content": text}]
        headers = {**bearer(key), **ANTHROPIC, "idempotency-key": "one"}
        async with line(deployment.url) as connection:
            await connection.send(request(path, body, headers))
            try:
                async with asyncio.timeout(patience):
                    return (await connection.reply()).status
            except TimeoutError:
                return 0

    statuses = Counter(await asyncio.gather(*map(one, range(40))))
    assert set(statuses) <= {0, 200, 422}
    assert statuses[200] and statuses[422]
    ledger = await settled(deployment, key)
    assert 2 <= len(ledger) == stats(simulator)["requests"] - asked <= 4
    assert {row.ended for row in ledger} == {"completed"}


async def test_a_key_that_changes_while_it_is_used(deployment: Gateway, simulator: Program) -> None:
    """Rotation keeps what was spent and is held; revocation does not make what runs free."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="rich")
    (order,) = [(CHAT, {"model": "chat", "messages": TURNS, "max_tokens": 40})]
    assert (await place(deployment, key, order)).status == 200
    (first,) = await rows_when(deployment, 1)
    slow = "Hello [[sim tokens=40 rate=20]]"
    body = {**order[1], "messages": [{"role": "user", "content": slow}], "stream": True}
    running = asyncio.create_task(ask(deployment.url, CHAT, body, bearer(key)))
    await asyncio.to_thread(until, lambda: deployment.in_flight() == 1, what="a stream")

    async with httpx.AsyncClient(
        base_url=f"{deployment.url}/admin/v1/keys",
        headers=bearer(ADMIN_TOKEN),
        trust_env=False,
    ) as admin:
        rotated = (await admin.post(f"/{first.account}/rotate", json={})).json()["secret"]
        now = await standing(deployment, rotated)
        assert (now.used, now.in_use) == (first.cost, 1)
        assert now.reserved > 0
        assert (await admin.post(f"/{first.account}/revoke", json={})).status_code == 200
    async with asyncio.timeout(DEADLINE):
        while (await place(deployment, rotated, order)).status != 401:
            await asyncio.sleep(0.05)
    answer = await running
    assert answer.whole
    async with asyncio.timeout(DEADLINE):
        while answer.header("x-request-id") not in (
            by := {r.id: r for r in await rows(deployment.sql)}
        ):
            await asyncio.sleep(0.05)
    row = by[answer.header("x-request-id")]
    assert (row.account, row.ended, row.measured) == (first.account, "completed", True)
    assert row.cost == price("chat", row.tokens) > first.cost


async def test_two_gateways_share_a_journal(
    start: Start, simulator: Program, redis_server: RedisServer
) -> None:
    """What one of them leaves behind, the other brings to the ledger while it serves."""
    store = {"counters": redis_server.url(), "counters_timeout": "5s"}
    one = await asyncio.to_thread(start, document(simulator.url, store=store))
    store = {**store, "sql": one.sql, "journal": str(one.folder / "journal")}
    two = await asyncio.to_thread(start, document(simulator.url, store=store))
    key = await asyncio.to_thread(one.new_key, "k", plan="rich")
    slow = "Hello [[sim tokens=2000 rate=20]]"
    body = {"model": "chat", "messages": [{"role": "user", "content": slow}], "stream": True}
    async with line(one.url) as first, line(two.url) as second:
        for connection in (first, second):
            await connection.send(request(CHAT, body, bearer(key)))
            reply = await connection.head()
            assert reply.status == 200
        await asyncio.to_thread(one.kill)
        async with asyncio.timeout(2 * RECOVERY + DEADLINE):
            while not (found := await rows(two.sql)):
                await asyncio.sleep(0.1)
        (lost,) = found
        assert (lost.ended, lost.measured, lost.cost > 0) == ("lost", False, True)
    (left,) = [row for row in await rows_when(two, 2) if row.id != lost.id]
    assert left.ended == "hung_up"
    now = await standing(two, key)
    assert now.used == lost.cost + left.cost
