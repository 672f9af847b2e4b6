"""Limits and money as clients meet them: over HTTP, with the vendors' SDKs, on the command line."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic, time
from typing import Any

import anthropic
import openai
import pytest

from middlewares.pricing import decimal

from .conftest import Start, shared_store
from .ledger import limits, paid, rows, rows_when
from .program import DEADLINE, Gateway, Program, release, stats, until
from .wire import ANTHROPIC, CHAT, MESSAGES, Reply, ask, bearer, chat, events, line, once, text_of

NEAR: dict[str, Any] = {
    "auth": {"admin_token": "env:ADMIN_TOKEN"},
    "upstreams": [{"name": "near", "dialect": "simulator"}],
    "models": [{"id": "sim-1", "targets": ["near/sim-1"]}],
}


async def until_refused(url: str, most: int, headers: dict[str, str]) -> tuple[list[Reply], float]:
    """Ask on one connection, until the first 429; also how long that took."""
    replies: list[Reply] = []
    started = monotonic()
    async with line(url) as connection:
        while len(replies) < most and (not replies or replies[-1].status == 200):
            replies.append(await once(connection, CHAT, chat(), headers))
    return replies, monotonic() - started


def assert_all_but_the_last(
    replies: list[Reply], elapsed: float, count: int, seconds: float, burst: int
) -> None:
    """As many as the rate has, and what was refilled meanwhile; then 429."""
    *served, refused = replies
    assert {reply.status for reply in served} == {200}
    assert refused.status == 429
    refilled = elapsed * count / seconds
    assert count + burst <= len(served) <= count + burst + refilled
    assert refused.error["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.header("retry-after")) <= max(1, seconds / count + 1)


# Rates


async def test_60_a_minute_and_10_at_once_for_an_address(start: Start) -> None:
    gateway = await asyncio.to_thread(start, {**NEAR, "auth": {"mode": "none"}})
    before = time()
    replies, elapsed = await until_refused(gateway.url, 100, {})
    assert_all_but_the_last(replies, elapsed, count=60, seconds=60, burst=10)
    first, last = replies[0], replies[-1]
    assert first.header("x-ratelimit-limit") == "60"
    assert first.header("x-ratelimit-remaining") == "59"
    assert before <= int(first.header("x-ratelimit-reset")) <= time() + 2
    left = [int(reply.header("x-ratelimit-remaining")) for reply in replies]
    assert all(after >= one - 1 for one, after in pairwise(left)), "each takes one"
    assert last.header("x-ratelimit-remaining") == "0"
    assert before + 60 <= int(last.header("x-ratelimit-reset")) <= time() + 72
    # After the seconds of `Retry-After` requests are admitted again.
    await asyncio.sleep(int(last.header("retry-after")))
    assert (await ask(gateway.url, CHAT, chat())).status == 200


@pytest.mark.parametrize("store", ["embedded", "shared"])
async def test_rate_headers_are_on_each_answer_that_is_limited(
    start: Start, request: pytest.FixtureRequest, store: str
) -> None:
    """Each request takes one, whatever its answer: 200, a stream, 400, 404, 415, 429."""
    shared = {"store": await shared_store(request)} if store == "shared" else {}
    plans = [{"id": "slow", "requests": "6/day", "burst": 1}]  # nothing is refilled meanwhile
    auth = {"mode": "none", "default_plan": "slow"}
    gateway = await asyncio.to_thread(start, {**NEAR, **shared, "auth": auth, "plans": plans})
    asked: list[tuple[int, str, Any, dict[str, str]]] = [
        (200, CHAT, chat(), {}),
        (200, CHAT, chat(stream=True), {}),
        (400, CHAT, b"{", {}),
        (404, MESSAGES, chat(model="none"), ANTHROPIC),
        (200, "/v1/models", None, {}),
        (200, MESSAGES, chat(stream=True), ANTHROPIC),
        (200, CHAT, chat(), {}),
        (429, CHAT, chat(), {}),
        (429, MESSAGES, chat(stream=True), ANTHROPIC),
    ]
    before = int(time())
    async with line(gateway.url) as connection:
        for n, (status, path, body, headers) in enumerate(asked, 1):
            reply = await once(connection, path, body, headers)
            assert reply.status == status, path
            assert reply.header("x-ratelimit-limit") == "6"
            assert reply.header("x-ratelimit-remaining") == str(max(0, 6 - n))
            whole = min(n, 7) * 14_400  # seconds until all that were taken are back
            reset = int(reply.header("x-ratelimit-reset"))
            assert before + whole <= reset <= time() + whole + 2
            if status == 429:
                assert 14_000 < int(reply.header("retry-after")) <= 14_400


async def test_plans_of_30_and_400_a_minute(start: Start) -> None:
    plans = [{"id": f"p{count}", "requests": f"{count}/min"} for count in (30, 400)]
    gateway = await asyncio.to_thread(start, {**NEAR, "plans": plans})
    for count in (30, 400):
        key = await asyncio.to_thread(gateway.new_key, f"k{count}", plan=f"p{count}")
        replies, elapsed = await until_refused(gateway.url, 2 * count, bearer(key))
        assert_all_but_the_last(replies, elapsed, count=count, seconds=60, burst=0)
        assert replies[0].header("x-ratelimit-limit") == str(count)


async def test_address_limit_holds_before_any_key_is_looked_up(start: Start) -> None:
    """5,000 in ten minutes, a hundredth of it: also for those who have no key."""
    gateway = await asyncio.to_thread(start, {**NEAR, "limits": {"safety_net": "50/10min"}})
    started = monotonic()
    async with line(gateway.url) as connection:
        statuses = []
        for _ in range(60):
            reply = await once(connection, CHAT, chat(), bearer("sk-unknown-live-" + "x" * 43))
            statuses.append(reply.status)
    refilled = (monotonic() - started) * 50 / 600
    strangers = statuses.index(429)
    assert set(statuses[:strangers]) == {401}
    assert 50 <= strangers <= 50 + refilled
    refused = await ask(gateway.url, MESSAGES, chat(), {**bearer("x"), **ANTHROPIC})
    assert (refused.status, refused.error["type"]) == (429, "rate_limit_error")
    assert 1 <= int(refused.header("retry-after")) <= 13
    assert (await asyncio.to_thread(gateway.get, "/livez")).status_code == 200


# A window that is used up


@pytest.fixture
async def gateway_and_poor_key(start: Start, simulator: Program) -> tuple[Gateway, str]:
    """A gateway, and a key whose window of five hours is worth one answer."""
    plan = {"id": "poor", "windows": [{"length": "5h", "credits": "0.00454"}]}
    gateway = await asyncio.to_thread(start, paid(simulator.url, plan))
    key = await asyncio.to_thread(gateway.new_key, "k", plan="poor")
    body = {**chat("[[sim tokens=300]]", "chat"), "max_tokens": 300}
    reply = await ask(gateway.url, CHAT, body, bearer(key))
    assert reply.status == 200
    (row,) = await rows_when(gateway, 1)
    assert reply.header("x-credits-used") == decimal(row.cost)
    return gateway, key


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
async def test_a_used_up_window_says_when_it_is_over(
    gateway_and_poor_key: tuple[Gateway, str], dialect: str
) -> None:
    gateway, key = gateway_and_poor_key
    (spent,) = await rows(gateway.sql)
    body = {**chat("Hello", "chat" if dialect == "openai" else "claude"), "max_tokens": 300}
    path, more = (CHAT, {}) if dialect == "openai" else (MESSAGES, ANTHROPIC)
    reply = await ask(gateway.url, path, body, {**bearer(key), **more})
    assert reply.status == 429
    error = reply.error
    remaining = decimal(4_540_000 - spent.cost)
    assert (error["window"], error["remaining"]) == ("5h", remaining)
    reset = datetime.fromisoformat(error["reset_at"])
    left = reset - datetime.now(UTC)  # in whole seconds, rounded up
    assert timedelta(hours=4, minutes=58) < left <= timedelta(hours=5, seconds=1)
    assert reply.header("x-should-retry") == "false"
    assert abs(int(reply.header("retry-after")) - left.total_seconds()) < 5
    if dialect == "openai":
        assert (error["type"], error["code"]) == ("insufficient_quota", "budget_exceeded")
    else:
        assert reply.json()["type"] == "error"
        assert error["type"] == "rate_limit_error"
        assert reply.json()["request_id"] == reply.header("request-id")
    assert remaining in error["message"]
    assert f"{reset:%Y-%m-%d}" in error["message"]
    assert len(await rows(gateway.sql)) == 1  # a refusal costs nothing and leaves no row
    window = (await limits(gateway, key))["windows"][0]
    assert (window["used"], window["reserved"]) == (decimal(spent.cost), "0.00")


async def test_sdks_do_not_ask_again_for_money_that_is_gone(
    gateway_and_poor_key: tuple[Gateway, str], simulator: Program
) -> None:
    gateway, key = gateway_and_poor_key
    asked = stats(simulator)["requests"]
    say: Any = [{"role": "user", "content": "Hello"}]
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(
            openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key)
        )
        other = await stack.enter_async_context(
            anthropic.AsyncAnthropic(base_url=gateway.url, api_key=key)
        )
        assert one.max_retries == other.max_retries == 2
        with pytest.raises(openai.RateLimitError) as first:
            await one.chat.completions.create(model="chat", messages=say, max_tokens=300)
        with pytest.raises(anthropic.RateLimitError) as second:
            await other.messages.create(model="claude", messages=say, max_tokens=300)
    assert first.value.code == "budget_exceeded"
    assert second.value.body["error"]["window"] == "5h"  # type: ignore[index]
    assert stats(simulator)["requests"] == asked
    for raised in (first, second):
        request_id = raised.value.response.headers["x-request-id"]
        assert gateway.request_line(request_id)["outcome"] == "refused"
    refused = [entry for entry in gateway.log if entry.get("outcome") == "refused"]
    assert len(refused) == 2  # no client has asked again


# Changes while it runs


async def test_credits_are_in_force_while_it_runs(
    start: Start, simulator: Program, promised: float
) -> None:
    plan = {"id": "prepaid", "overflow": "credits"}
    gateway = await asyncio.to_thread(start, paid(simulator.url, plan))
    key = await asyncio.to_thread(gateway.new_key, "k", plan="prepaid")
    body = {**chat("Hello [[sim tokens=20]]", "chat"), "max_tokens": 20}
    refused = await ask(gateway.url, CHAT, body, bearer(key))
    assert (refused.status, refused.error["code"]) == (429, "insufficient_credits")
    assert refused.header("x-should-retry") == "false"
    await asyncio.to_thread(gateway.run, "credits", "add", "k", "0.50")
    async with asyncio.timeout(promised):
        while (reply := await ask(gateway.url, CHAT, body, bearer(key))).status != 200:
            assert reply.status == 429
            await asyncio.sleep(0.02)
    (row,) = await rows_when(gateway, 1)
    assert row.from_credits == row.cost > 0
    shown = await limits(gateway, key)
    assert shown["credits"] == {"balance": decimal(500_000_000 - row.cost), "reserved": "0.00"}
    await asyncio.to_thread(gateway.run, "credits", "remove", "k", "0.50")
    async with asyncio.timeout(promised):
        while (reply := await ask(gateway.url, CHAT, body, bearer(key))).status != 429:
            assert reply.status == 200
            await asyncio.sleep(0.02)


async def test_a_key_whose_limits_are_edited(start: Start, promised: float) -> None:
    plans = [{"id": "wide", "requests": "1000/min"}, {"id": "narrow", "requests": "1/min"}]
    gateway = await asyncio.to_thread(start, {**NEAR, "plans": plans})
    key = await asyncio.to_thread(gateway.new_key, "k", plan="wide")
    async with line(gateway.url) as connection:
        for _ in range(5):
            assert (await once(connection, CHAT, chat(), bearer(key))).status == 200
        await asyncio.to_thread(gateway.run, "keys", "edit", "k", "--plan", "narrow")
        async with asyncio.timeout(promised):
            while (reply := await once(connection, CHAT, chat(), bearer(key))).status != 429:
                await asyncio.sleep(0.02)
        assert reply.header("x-ratelimit-limit") == "1"
        await asyncio.to_thread(gateway.run, "keys", "edit", "k", "--requests", "2000/min")
        async with asyncio.timeout(promised):
            while (reply := await once(connection, CHAT, chat(), bearer(key))).status != 200:
                await asyncio.sleep(0.02)
        assert reply.header("x-ratelimit-limit") == "2000"
        await asyncio.to_thread(gateway.run, "keys", "revoke", "k")
        async with asyncio.timeout(promised):
            while (await once(connection, CHAT, chat(), bearer(key))).status != 401:
                await asyncio.sleep(0.02)


# Idempotency


@pytest.fixture(params=["embedded", "shared"])
async def deployment(
    request: pytest.FixtureRequest, start: Start, simulator: Program
) -> AsyncIterator[Gateway]:
    document = paid(simulator.url)
    if request.param == "shared":
        document["server"] = {"workers": 2}
        document["store"] = await shared_store(request)
    yield await asyncio.to_thread(start, document)


def _answered(reply: Reply) -> tuple[int, bytes]:
    return reply.status, reply.body


@pytest.mark.parametrize("stream", [False, True])
async def test_one_answer_for_one_idempotency_key(
    deployment: Gateway, simulator: Program, stream: bool
) -> None:
    key = await asyncio.to_thread(deployment.new_key, "k")
    named = {**bearer(key), "idempotency-key": f"once-{stream}"}
    body = chat("Hello [[sim tokens=30]]", "chat", stream=stream)
    asked = stats(simulator)["requests"]
    first = await ask(deployment.url, CHAT, body, named)
    assert first.status == 200
    assert first.whole
    # Each on a connection of its own: with two workers, some of them are the other's.
    again = [await ask(deployment.url, CHAT, body, named) for _ in range(6)]
    assert {_answered(reply) for reply in again} == {_answered(first)}
    assert {reply.header("idempotent-replayed") for reply in again} == {"true"}
    assert "idempotent-replayed" not in dict(first.headers)
    assert stats(simulator)["requests"] == asked + 1
    other = await ask(deployment.url, CHAT, chat("Other", "chat"), named)
    assert other.status == 422
    (row,) = await rows_when(deployment, 1)
    assert row.id == first.header("x-request-id")
    assert len({reply.header("x-request-id") for reply in [first, *again]}) == 7


@pytest.mark.parametrize("stream", [False, True])
async def test_who_asks_while_it_is_answered_joins(
    deployment: Gateway, simulator: Program, stream: bool
) -> None:
    """Whichever worker is asked: one answer, made once, billed once."""
    key = await asyncio.to_thread(deployment.new_key, "k")
    named = {**bearer(key), "idempotency-key": f"joined-{stream}"}
    body = chat("Hello [[sim tokens=30 fault=hold:9]]", "chat", stream=stream)
    asked = stats(simulator)["requests"]
    running = [asyncio.create_task(ask(deployment.url, CHAT, body, named))]
    await asyncio.to_thread(
        until, lambda: stats(simulator)["requests"] == asked + 1, what="the first at the upstream"
    )
    running += [asyncio.create_task(ask(deployment.url, CHAT, body, named)) for _ in range(8)]
    await asyncio.to_thread(until, lambda: deployment.in_flight() == 9, what="all that join")
    await asyncio.to_thread(release, simulator)
    async with asyncio.timeout(DEADLINE):
        replies = await asyncio.gather(*running)
    assert all(reply.whole for reply in replies)
    assert {_answered(reply) for reply in replies} == {_answered(replies[0])}
    if stream:
        assert text_of(replies[0].body).startswith("You said: Hello")
        assert events(replies[0].body)[-1] == "[DONE]"
    else:
        assert json.loads(replies[0].body)["usage"]["completion_tokens"] == 30
    assert stats(simulator)["requests"] == asked + 1
    await rows_when(deployment, 1)
