"""Callers who lie in every member, upstreams that lie in every figure: no cap is passed by more
than one reservation's stated error, no row is missing, no other key is disturbed."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from middlewares.pricing import NANO, decimal

from .conftest import SECRETS, Figures, shared_store
from .ledger import Row, credits_of, rows, standing
from .lying_caller import Lie, lies
from .lying_upstream import CONTEXT, MAX_OUTPUT, TRUTH, Liar, lying
from .program import DEADLINE, Gateway
from .surfaces import SURFACES, Wish
from .wire import Reply, ask, line, request

pytestmark = pytest.mark.timeout(3600)

QUICK, FULL = 240, 2000
EACH = 60
"""Requests of one lying key, one after the other."""
LANES, AT_ONCE = 4, 16
PRICE = {"input": 1000, "output": 2000, "cache_read": 100, "cache_write": 1250}
"""Nano-credits for a token."""
CAP = NANO // 2
WHOLE = CONTEXT * (2 * PRICE["input"] + PRICE["output"])
"""What one answer costs at most: a context written to a cache for an hour, and one of output."""
WAYS = [(surface, model) for surface in SURFACES for model in ("chat", "claude", "resp")]
FAR = {"chat": "openai", "claude": "anthropic", "resp": "responses", "embed": "openai"}


def document(upstream: str, store: dict[str, Any]) -> dict[str, Any]:
    price = {kind: decimal(each * 10**6) for kind, each in PRICE.items()}
    window = {"length": "1d", "credits": decimal(CAP)}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "store": store,
        "server": {"workers": 2 if "counters" in store else 1},
        "breaker": {"min_failures": 1_000_000},
        "upstreams": [
            {"name": f"far-{dialect}", "dialect": dialect, "base_url": f"{upstream}/v1"}
            for dialect in ("openai", "anthropic", "responses")
        ],
        "models": [
            {
                "id": f"{who}-{name}",
                "targets": [f"far-{dialect}/{who}-{name}"],
                "price": price,
                "context": CONTEXT,
                **({"max_output": MAX_OUTPUT} if who == "obey" else {}),
            }
            for who in ("lie", "true", "obey")
            for name, dialect in FAR.items()
        ],
        "plans": [
            {"id": "capped", "windows": [window]},
            {"id": "rich", "windows": [{"length": "1d", "credits": "1000.00"}]},
        ],
    }


@pytest.fixture
async def lying_upstream() -> AsyncIterator[Liar]:
    async with lying() as upstream:
        yield upstream


@pytest.fixture(params=["sqlite", "shared"])
async def deployment(
    request: pytest.FixtureRequest, tmp_path: Path, lying_upstream: Liar
) -> AsyncIterator[Gateway]:
    store = await shared_store(request) if request.param == "shared" else {}
    program = await asyncio.to_thread(
        Gateway, tmp_path, document(lying_upstream.url, store), env=SECRETS
    )
    try:
        yield program
        assert await asyncio.to_thread(program.stop) == 0, program.stderr
    finally:
        program.kill()


async def place(deployment: Gateway, key: str, lie: Lie) -> Reply | None:
    """The answer, or None for one that broke off before its head."""
    headers = {"authorization": f"Bearer {key}", **lie.headers}
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        async with line(deployment.url) as connection:
            await connection.send(request(lie.path, lie.body, headers))
            return await connection.reply()
    return None


class Honest:
    """A key whose requests, over all pairs, are answered by upstreams that tell the truth."""

    def __init__(self, deployment: Gateway, key: str) -> None:
        self.deployment = deployment
        self.key = key
        self.served = 0
        self.running = True

    async def run(self) -> None:
        while self.running:
            await self.once()
            await asyncio.sleep(0.02)

    async def once(self) -> None:
        surface, model = WAYS[self.served % len(WAYS)]
        by = SURFACES[surface]
        body = by.body("Hello", f"true-{model}", self.served % 5 == 0, Wish(limit=100))
        headers = {"authorization": f"Bearer {self.key}", **by.headers}
        reply = await ask(self.deployment.url, by.path, body, headers)
        assert reply.status == 200, (surface, model, reply.body)
        assert reply.whole
        self.served += 1


class Crowd:
    """Lying callers: each key has `LANES` requests under way, and some keys at once."""

    def __init__(self, deployment: Gateway, who: str, seed: int, number: int) -> None:
        self.deployment = deployment
        self.todo = list(lies(seed, number, who))
        self.replies: list[tuple[Lie, Reply | None]] = []

    async def run(self, keys: list[str]) -> None:
        parts = len(keys) * LANES
        room = asyncio.Semaphore(AT_ONCE)

        async def lane(part: int) -> None:
            async with room:
                for each in self.todo[part::parts]:
                    self.replies.append(
                        (each, await place(self.deployment, keys[part // LANES], each))
                    )

        await asyncio.gather(*map(lane, range(parts)))

    @property
    def statuses(self) -> Counter[int]:
        return Counter(0 if reply is None else reply.status for _, reply in self.replies)


def asks_for_more(body: bytes) -> bool:
    """Whether the vendor may run tools, or the model twice: then it may read its context again."""
    return any(mark in body for mark in (b"web_search", b'"mcp"', b'"compact_'))


def error(rows_: list[Row], count: int) -> int:
    """What the requests that were worst estimated cost beyond what was set aside for them."""
    beyond = sorted((row.cost - row.reserved for row in rows_), reverse=True)
    return sum(max(0, each) for each in beyond[:count])


async def test_liars_pass_no_cap_lose_no_row_and_disturb_no_other(
    deployment: Gateway, lying_upstream: Liar, full: bool, figures: Figures, tmp_path: Path
) -> None:
    number = FULL if full else QUICK
    keys = [
        await asyncio.to_thread(deployment.new_key, f"liar-{n}", plan="capped")
        for n in range(number // EACH)
    ]
    honest = Honest(deployment, await asyncio.to_thread(deployment.new_key, "honest", plan="rich"))
    lying_ones, obeyed = keys[::2], keys[1::2]
    serving = asyncio.create_task(honest.run())
    # An upstream that lies about what it used.
    first = Crowd(deployment, "lie", 11, number // 2)
    # One that makes whatever a member may ask it for, and counts truly.
    second = Crowd(deployment, "obey", 12, number // 2)
    await asyncio.gather(first.run(lying_ones), second.run(obeyed))
    honest.running = False
    await serving

    found = await settled(deployment, [*keys, honest.key])
    by_id = {row.id: row for row in found}
    assert second.statuses.keys() == {200, 400, 429}
    for crowd in (first, second):
        assert not crowd.statuses.keys() & {0, 401, 403, 500}, crowd.statuses
        assert crowd.statuses[200] and crowd.statuses[429]
        for lie, reply in crowd.replies:
            if reply is None or reply.status != 200:
                continue
            row = by_id[reply.header("x-request-id")]
            assert row.cost <= WHOLE * (12 if asks_for_more(lie.body) else 1), (lie.body, row)
    asked = {
        reply.header("x-request-id"): lie.body for lie, reply in second.replies if reply is not None
    }
    # Each call of an upstream is one row, but for members that it was asked again without.
    calls = sum(lying_upstream.calls.values())
    assert calls == len(found)

    accounts: dict[str, list[Row]] = {}
    for row in found:
        accounts.setdefault(row.account, []).append(row)
    most = {"lie": 0, "obey": 0}
    for rows_ in accounts.values():
        rows_.sort(key=lambda row: row.id)
        over = sum(row.cost for row in rows_) - CAP
        if rows_[0].model.startswith("true-"):
            assert len(rows_) == honest.served == lying_upstream.calls["true"]
            assert {(row.cost, row.measured, row.ended) for row in rows_} == {
                (sum(PRICE[kind] * count for kind, count in TRUTH.items()), True, "completed")
            }
            assert all(row.reserved >= row.cost for row in rows_)
        elif rows_[0].model.startswith("lie-"):
            assert over <= error(rows_, LANES)  # of each request that was under way
            most["lie"] = max(most["lie"], over)
        else:
            assert over <= error(rows_, 1), [(row, asked.get(row.id)) for row in rows_]
            most["obey"] = max(most["obey"], over)
    figures(
        f"{number} requests, {len(found)} rows; lies {dict(first.statuses)}, obeyed "
        f"{dict(second.statuses)}, honest {honest.served}; most over a cap of "
        f"{credits_of(CAP)}: {credits_of(most['lie'])}, {credits_of(most['obey'])}"
    )

    assert await asyncio.to_thread(deployment.stop) == 0
    again = await asyncio.to_thread(
        Gateway, tmp_path, msgspec.json.decode(deployment.file.read_bytes()), env=SECRETS
    )
    try:
        assert len(await settled(again, [*keys, honest.key])) == len(found)
        for path in ("/v1/usage", "/v1/limits"):
            for key in (keys[0], keys[1], honest.key):
                headers = {"authorization": f"Bearer {key}"}
                assert (await ask(again.url, path, headers=headers)).status == 200
        served = Honest(again, honest.key)
        served.running = False
        await served.once()
        assert await asyncio.to_thread(again.stop) == 0
    finally:
        again.kill()


async def settled(deployment: Gateway, keys: list[str]) -> list[Row]:
    """All rows, once nothing of these keys is held any more and they are what was used."""
    async with asyncio.timeout(DEADLINE):
        while True:
            now = [await standing(deployment, key) for key in keys]
            found = await rows(deployment.sql)
            if not any(each.reserved for each in now) and sum(each.used for each in now) == sum(
                row.cost for row in found
            ):
                return found
            await asyncio.sleep(0.05)
