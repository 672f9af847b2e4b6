"""Money as somebody sees it who is not the gateway: prices, rows by plain SQL, /v1/limits."""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import asyncpg
import httpx
import msgspec

from middlewares.pricing import NANO, nano

from .program import DEADLINE, Gateway, Program
from .wire import Reply, ask

PRICES = {
    "chat": {"input": "3.001", "output": "15.007", "cache_read": "0.303", "cache_write": "3.751"},
    "claude": {"input": "5.003", "output": "25.009", "cache_read": "0.501", "cache_write": "6.257"},
    "resp": {"input": "1.009", "output": "8.011", "cache_read": "0.107", "cache_write": "1.259"},
    "embed": {"input": "0.013"},
}
"""Credits per million tokens, by catalog id. Whole nano-credits for each token, so that a sum of
tokens has an exact price whatever requests they came in; mostly primes, so that no two mixtures of
tokens are likely to cost the same."""
FAR = {"chat": "openai", "claude": "anthropic", "resp": "responses", "embed": "openai"}
"""By catalog id, the dialect of its upstream, where it is called `far-ID`."""
KINDS = ("input", "output", "cache_read", "cache_write")


def paid(simulator: str, *plans: dict[str, Any], **rest: Any) -> dict[str, Any]:
    """A configuration in which everything has its price."""
    upstreams = [
        {"name": f"far-{dialect}", "dialect": dialect, "base_url": f"{simulator}/v1"}
        for dialect in ("openai", "anthropic", "responses")
    ]
    models = [
        {"id": name, "targets": [f"far-{dialect}/far-{name}"], "price": PRICES[name]}
        for name, dialect in FAR.items()
    ]
    document = {"auth": {"admin_token": "env:ADMIN_TOKEN"}, "upstreams": upstreams}
    return {**document, "models": models, "plans": list(plans), **rest}


class Row(msgspec.Struct, frozen=True):
    """A row of the ledger, as far as the tests look at it."""

    id: str
    account: str
    team: str
    endpoint: str
    model: str
    asked: str
    stream: bool
    status: int
    ended: str
    measured: bool
    input: int
    output: int
    cache_read: int
    cache_write: int
    cost: int
    from_credits: int
    reserved: int

    @property
    def tokens(self) -> dict[str, int]:
        return {kind: getattr(self, kind) for kind in KINDS}


_QUERY = f"SELECT {', '.join(Row.__struct_fields__)} FROM ledger WHERE kind = 'use'"


_TOTALS = "SELECT account, sum(amount) FROM ledger_totals WHERE name <> '' GROUP BY account"


async def rows(sql: str) -> list[Row]:
    """Every row of use in the database at this URL."""
    found = await _asked(sql, _QUERY)
    return [msgspec.convert(_named(row), Row, strict=False) for row in found]


async def totals(sql: str) -> dict[str, int]:
    """What the sums over the ledger say that each account has spent in all its windows."""
    return {account: int(amount) for account, amount in await _asked(sql, _TOTALS)}


async def _asked(sql: str, query: str) -> Iterable[Sequence[Any]]:
    if sql.startswith("sqlite:///"):
        return await asyncio.to_thread(_sqlite, sql.removeprefix("sqlite:///"), query)
    connection = await asyncpg.connect(sql)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def _named(values: Iterable[Any]) -> dict[str, Any]:
    return dict(zip(Row.__struct_fields__, values, strict=True))


def _sqlite(path: str, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=DEADLINE)) as database:
        return database.execute(query).fetchall()


async def rows_when(gateway: Gateway, count: int) -> list[Row]:
    """The rows once there are as many; asserts that there never are more."""
    async with asyncio.timeout(DEADLINE):
        while len(found := await rows(gateway.sql)) < count:
            await asyncio.sleep(0.05)
    assert len(found) == count
    return found


def price(model: str, tokens: dict[str, int]) -> int:
    """Nano-credits of tokens by kind, by the price list, exactly."""
    total = 0
    for kind in KINDS:
        each, rest = divmod(nano(PRICES[model].get(kind, "0")), 10**6)
        assert rest == 0
        total += each * tokens[kind]
    return total


def used(simulator: Program) -> dict[str, dict[str, int]]:
    """What a simulator says that its whole answers used: by model, answers and tokens by kind."""
    shown = httpx.get(f"{simulator.url}/stats", trust_env=False).json()["used"]
    return {name: dict(total) for name, total in shown.items()}


class Standing(msgspec.Struct, frozen=True):
    """What /v1/limits says of the only window, in nano-credits, and of slots."""

    cap: int
    used: int
    reserved: int
    remaining: int
    in_use: int

    @property
    def taken(self) -> int:
        return self.used + self.reserved


async def limits(gateway: Gateway, key: str) -> dict[str, Any]:
    """GET /v1/limits, which must succeed."""
    reply = await _limits(gateway, key)
    assert reply.status == 200, reply.body
    found: dict[str, Any] = json.loads(reply.body)
    return found


async def _limits(gateway: Gateway, key: str) -> Reply:
    return await ask(gateway.url, "/v1/limits", headers={"authorization": f"Bearer {key}"})


async def standing(gateway: Gateway, key: str, *, of_team: bool = False) -> Standing:
    """Where the one window of a key stands, or that of its team."""
    shown = await limits(gateway, key)
    if of_team:
        shown = shown["team"]
    (window,) = shown["windows"]
    money = {name: nano(window[name]) for name in ("cap", "used", "reserved", "remaining")}
    return Standing(**money, in_use=(shown["concurrency"] or {"in_use": 0})["in_use"])


def credits_of(amount: int) -> float:
    """Nano-credits as credits, for figures that people read."""
    return amount / NANO
