"""One key, a cap worth fifty requests, four workers, and far too many clients at once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import time
from typing import Any

import msgspec
import psutil
import pytest

from middlewares.pricing import NANO, nano
from middlewares.stores.counters.base import LIFETIME, RENEWAL
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Figures, Start, shared_store
from .ledger import Standing, credits_of, limits, rows, standing
from .program import DEADLINE, Gateway, Program
from .wire import ANTHROPIC, CHAT, MESSAGES, line, request

pytestmark = pytest.mark.timeout(900)

WORKERS = 4
TOKENS, BOUND = 20, 40
"""Output tokens of each answer, and how many its client allows: twice as much is set aside."""
PRICE = {"input": "1.00", "output": "1000.00"}
"""Per million: a token of output is 0.001 credits, one of input a thousandth of that."""
EACH = TOKENS * NANO // 1000
CAP = 50 * EACH
MOST = BOUND * NANO // 1000 + NANO // 1000
"""What one request may cost at most, its input with room to spare: the reservation of one."""
LONGEST_READ = 3


def document(simulator: str, store: dict[str, Any]) -> dict[str, Any]:
    upstreams = [
        {"name": f"far-{dialect}", "dialect": dialect, "base_url": f"{simulator}/v1"}
        for dialect in ("openai", "anthropic")
    ]
    models = [
        {"id": name, "targets": [f"far-{dialect}/far-model"], "price": PRICE}
        for name, dialect in (("chat", "openai"), ("claude", "anthropic"))
    ]
    plan = {
        "id": "capped",
        "concurrency": 1000,
        "windows": [{"length": "5h", "credits": f"{credits_of(CAP):.2f}"}],
    }
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "server": {"workers": WORKERS},
        "store": store,
        "upstreams": upstreams,
        "models": models,
        "plans": [plan],
    }


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.full)])
async def deployment(request: pytest.FixtureRequest, start: Start, simulator: Program) -> Gateway:
    store = await shared_store(request)
    if request.param == "sqlite":
        del store["sql"]
    gateway = await asyncio.to_thread(start, document(simulator.url, store))
    assert len(gateway.workers) == WORKERS
    return gateway


class Client(msgspec.Struct):
    """A client that asks until it is answered, or has been refused often enough."""

    number: int
    words: str = ""
    leaves: float = 0.0
    """Seconds after which it hangs up."""
    tries: int = 1


class Crowd:
    """What became of the requests of all clients."""

    def __init__(self, gateway: Gateway, key: str) -> None:
        self.gateway = gateway
        self.key = key
        self.seen: Counter[str] = Counter()
        self.highest = 0
        self.samples = 0

    async def run(self, clients: list[Client]) -> None:
        """All clients at once, while somebody watches where the account stands."""
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.gather(*map(self._client, clients))
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _client(self, client: Client) -> None:
        for _ in range(client.tries):
            fate = await self.ask(client)
            self.seen[fate] += 1
            if fate != "refused":
                return
            await asyncio.sleep(0.7)

    async def ask(self, client: Client) -> str:
        text = f"client {client.number} [[sim tokens={TOKENS} rate=20 {client.words}]]"
        body = {
            "max_tokens": BOUND,
            "stream": True,
            "messages": [{"role": "user", "content": text}],
        }
        headers = {"authorization": f"Bearer {self.key}"}
        if client.number % 2:
            sent = request(CHAT, {**body, "model": "chat"}, headers)
        else:
            sent = request(MESSAGES, {**body, "model": "claude"}, {**headers, **ANTHROPIC})
        try:
            async with line(self.gateway.url) as connection:
                await connection.send(sent)
                reply = await connection.head()
                if reply.status == 429:
                    async for part in connection.parts(reply):
                        reply.body += part
                    error = reply.error
                    assert error["window"] == "5h"
                    assert nano(error["remaining"]) < MOST
                    return "refused"
                if reply.status != 200:
                    return str(reply.status)
                with suppress(TimeoutError):
                    async with asyncio.timeout(client.leaves or DEADLINE):
                        async for _ in connection.parts(reply):
                            pass
                if client.leaves:
                    return "left"
                return "whole" if reply.whole else "broken"
        except (ConnectionError, asyncio.IncompleteReadError):
            return "broken"

    async def _watch(self) -> None:
        while True:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                self.look(await standing(self.gateway, self.key))
            await asyncio.sleep(0.05)

    def look(self, now: Standing) -> None:
        self.samples += 1
        self.highest = max(self.highest, now.taken)
        assert now.taken <= CAP + MOST, now

    async def settled(self, within: float, *, slots: bool = True) -> Standing:
        """Where the account stands once nothing is held, and no slot is in use."""
        async with asyncio.timeout(within):
            while True:
                now = await standing(self.gateway, self.key)
                self.look(now)
                if now.reserved == 0 and not (slots and now.in_use):
                    return now
                await asyncio.sleep(0.1)


def clients(full: bool, make: Callable[[int, random.Random], Client]) -> list[Client]:
    """4 x 200 clients, or 4 x 40."""
    dice = random.Random(50)
    return [make(number, dice) for number in range(WORKERS * (200 if full else 40))]


async def test_cap_holds_against_concurrent_requests(
    deployment: Gateway, full: bool, figures: Figures
) -> None:
    """BerriAI/litellm#34732, #40095, #26672: N workers do not spend N caps."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="capped")
    crowd = Crowd(deployment, key)
    await crowd.run(clients(full, lambda number, _: Client(number, tries=6)))
    await crowd.settled(DEADLINE)
    while await crowd.ask(Client(0)) == "whole":  # what is left, as long as it is enough for one
        pass
    now = await crowd.settled(DEADLINE)
    cost = sum(row.cost for row in await rows(deployment.sql))
    assert now.used == cost
    assert CAP - MOST <= cost <= CAP + MOST
    assert set(crowd.seen) == {"whole", "refused"}
    assert crowd.samples > 10
    figures(
        f"{dict(crowd.seen)}; cap {credits_of(CAP)}, highest spent + reserved seen "
        f"{credits_of(crowd.highest)} in {crowd.samples} samples, ledger {credits_of(cost)}"
    )


def _unlucky(number: int, dice: random.Random) -> Client:
    """A third hang up, a third are failed by the upstream, before or in their answer."""
    fate = number % 6
    if fate in (0, 1):
        return Client(number, leaves=dice.uniform(0.1, 0.9), tries=6)
    if fate == 2:
        return Client(number, words="fault=status:500", tries=6)
    if fate == 3:
        return Client(number, words=f"fault=cut:{dice.randint(1, 15)}", tries=6)
    return Client(number, tries=6)


async def test_a_cap_holds_through_disconnects_faults_and_a_killed_worker(
    deployment: Gateway, redis_server: RedisServer, full: bool, figures: Figures
) -> None:
    """BerriAI/litellm#20256, #27955: no money and no slot stays behind."""
    key = await asyncio.to_thread(deployment.new_key, "k", plan="capped")
    crowd = Crowd(deployment, key)

    async def kill_one() -> tuple[psutil.Process, float]:
        async with asyncio.timeout(DEADLINE):
            while (await limits(deployment, key))["concurrency"]["in_use"] < 10:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.4)  # so that some of the streams are under way
        victim = max(deployment.workers, key=lambda worker: len(worker.net_connections()))
        victim.kill()
        return victim, time()

    running = asyncio.create_task(crowd.run(clients(full, _unlucky)))
    victim, killed = await kill_one()
    await running
    assert victim.pid not in {worker.pid for worker in deployment.workers}
    assert {"refused", "left", "broken", "502"} <= set(crowd.seen)
    # Its holds end with its journal, which the next worker reads, or like its slots in a minute.
    now = await crowd.settled(LIFETIME + 15, slots=full)
    if not full:
        await asyncio.sleep(max(0.0, killed + RENEWAL + 2 - time()))
        account = (await rows(deployment.sql))[0].account
        with redis_server.client() as client:
            leases = client.zrange(f"penstock:{{key:{account}}}:slots", 0, -1, withscores=True)
        assert len(leases) == now.in_use > 0
        assert all(ends <= killed + LIFETIME for _, ends in leases), "not renewed"
    ledger = await rows(deployment.sql)
    cost = sum(row.cost for row in ledger)
    assert 0 < cost <= CAP + MOST
    assert now.used == cost
    ended = Counter(row.ended for row in ledger)
    assert {"hung_up", "failed", "cut"} <= set(ended)
    figures(
        f"{dict(crowd.seen)}, rows {dict(ended)}; highest {credits_of(crowd.highest)} in "
        f"{crowd.samples} samples, ledger {credits_of(cost)}, reserved {now.reserved}, "
        f"slots {now.in_use}"
    )
