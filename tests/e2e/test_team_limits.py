"""Rates and slots that the keys of a team share: several workers, several keys, real processes."""

import asyncio
from collections import Counter
from time import monotonic
from typing import Any

import pytest

from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.sql.database import Database
from middlewares.stores.teams.base import TeamRecord
from middlewares.stores.teams.sql import SqlTeamStore
from tests.middlewares.stores.samples import new_key

from .conftest import Figures, Start, shared_store
from .ledger import limits, paid
from .program import DEADLINE, Gateway, Program
from .wire import CHAT, ask, bearer, chat, line, request

KEYS = 5
BODY = chat("Hello [[sim tokens=1]]", "chat")
PLANS: list[dict[str, Any]] = [
    {"id": "wide", "requests": "1000/10min"},
    {"id": "fleet", "requests": "40/10min", "burst": 10},
    {"id": "three", "concurrency": 3},
]


async def gateway_of(
    pytest_request: pytest.FixtureRequest, start: Start, simulator: Program, deployment: str
) -> Gateway:
    document = paid(simulator.url, *PLANS)
    if deployment == "shared":
        document["server"] = {"workers": 4}
        document["store"] = await shared_store(pytest_request)
    return await asyncio.to_thread(start, document)


async def team_of(gateway: Gateway, plan: str, name: str = "red") -> list[str]:
    """The secrets of the keys of a new team. No worker has met them yet."""
    secrets = []
    database = await Database.open(gateway.sql)
    try:
        team = TeamRecord(id=f"team_{name:0<20}", created_at=1.0, name=name, plan=plan)
        await SqlTeamStore(database).insert(team)
        keys = SqlKeyStore(database)
        for n in range(KEYS):
            key, secret = new_key(name=f"{name}-{n}", plan="wide", team=team.id)
            await keys.insert(key)
            secrets.append(secret)
    finally:
        await database.aclose()
    return secrets


async def statuses(gateway: Gateway, secrets: list[str], count: int) -> Counter[tuple[int, str]]:
    """Of so many requests at once, each on a connection of its own: status, and whose limit."""
    replies = await asyncio.gather(
        *[ask(gateway.url, CHAT, BODY, bearer(secrets[n % len(secrets)])) for n in range(count)]
    )
    return Counter(
        (
            reply.status,
            "" if reply.status == 200 else str("of your team" in reply.error["message"]),
        )
        for reply in replies
    )


@pytest.mark.parametrize("deployment", ["embedded", "shared"])
async def test_rate_of_a_team_is_one_for_all_its_keys_and_workers(
    request: pytest.FixtureRequest,
    start: Start,
    simulator: Program,
    full: bool,
    figures: Figures,
    deployment: str,
) -> None:
    gateway = await gateway_of(request, start, simulator, deployment)
    red, blue = await team_of(gateway, "fleet"), await team_of(gateway, "fleet", "blue")
    count = 800 if full else 120
    started = monotonic()
    seen = await statuses(gateway, red, count)
    refilled = (monotonic() - started) * 40 / 600
    assert 50 <= seen[200, ""] <= 50 + refilled
    assert seen[200, ""] + seen[429, "True"] == count
    assert (await statuses(gateway, blue, 10))[200, ""] == 10
    refused = await ask(gateway.url, CHAT, BODY, bearer(red[0]))
    assert refused.header("x-ratelimit-limit") == "40"
    assert refused.header("x-ratelimit-remaining") == "0"
    assert "requests of your team: limit 40 per 10 minutes." in refused.error["message"]
    used = [1000 - (await limits(gateway, key))["rates"][0]["remaining"] for key in red]
    assert sum(used) <= seen[200, ""] + 1  # nothing was taken of what was refused
    figures(f"{deployment}: {count} requests by 5 keys of a team of 50: {seen[200, '']} served")


async def test_slots_of_a_team_are_one_number_for_all_its_keys_and_workers(
    request: pytest.FixtureRequest, start: Start, simulator: Program
) -> None:
    gateway = await gateway_of(request, start, simulator, "shared")
    secrets = await team_of(gateway, "three")
    body = chat("Hello [[sim tokens=2000 rate=20]]", "chat", stream=True)
    for _ in range(2):
        seen: Counter[int] = Counter()
        answered, leave = asyncio.Semaphore(0), asyncio.Event()

        async def one(n: int) -> None:
            async with line(gateway.url) as connection:
                await connection.send(_request(secrets[n % KEYS], body))
                reply = await connection.head()
                seen[reply.status] += 1  # noqa: B023  # it ends with this round
                answered.release()  # noqa: B023
                await leave.wait()  # noqa: B023

        async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
            for n in range(20):
                group.create_task(one(n))
            for _ in range(20):
                await answered.acquire()
            assert seen == {200: 3, 429: 17}
            leave.set()
        # The streams end when their clients are seen to be gone.
        async with asyncio.timeout(DEADLINE):
            while not await _all_free(gateway, secrets):
                await asyncio.sleep(0.05)


async def _all_free(gateway: Gateway, secrets: list[str]) -> bool:
    """Whether three at once are served, which give their slots back."""
    seen = await statuses(gateway, secrets, 3)
    return seen[200, ""] == 3


def _request(secret: str, body: dict[str, Any]) -> bytes:
    return request(CHAT, body, bearer(secret))
