"""One key or the keys of a team, a cap worth fifty requests, four workers, and far too many
clients at once."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import time
from typing import Any
from urllib.parse import urlsplit

import msgspec
import psutil
import pytest

from middlewares.pricing import NANO, nano
from middlewares.stores.counters.base import LIFETIME, RENEWAL
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Figures, Start, shared_store
from .ledger import Standing, credits_of, rows, standing, totals
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
    plans = [
        {
            "id": id_,
            "concurrency": 1000,
            "windows": [{"length": "5h", "credits": f"{credits_of(cap):.2f}"}],
        }
        for id_, cap in (("capped", CAP), ("roomy", 1000 * CAP))
    ]
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "server": {"workers": WORKERS},
        "store": store,
        "upstreams": upstreams,
        "models": models,
        "plans": plans,
    }


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("embedded", marks=pytest.mark.full),
        pytest.param("postgres", marks=pytest.mark.full),
    ]
)
async def deployment(request: pytest.FixtureRequest, start: Start, simulator: Program) -> Gateway:
    """Four workers with Redis, or one that counts in its memory ("embedded")."""
    made = document(simulator.url, await shared_store(request))
    if request.param != "postgres":
        del made["store"]["sql"]
    if request.param == "embedded":
        del made["store"], made["server"]
    gateway = await asyncio.to_thread(start, made)
    assert len(gateway.workers) == (1 if request.param == "embedded" else WORKERS)
    return gateway


class Payer(msgspec.Struct):
    """The keys whose requests the cap is for, and whether it is the cap of their team."""

    keys: list[str]
    is_team: bool


@pytest.fixture
async def payer(request: pytest.FixtureRequest, deployment: Gateway) -> Payer:
    """One key under the cap, or five keys of a team under it, each with room enough itself."""

    def make() -> Payer:
        if request.param == "key":
            return Payer([deployment.new_key("k", plan="capped")], False)
        team = deployment.new_team("t", plan="capped")
        keys = [deployment.new_key(f"k{n}", plan="roomy", team=team) for n in range(5)]
        return Payer(keys, True)

    return await asyncio.to_thread(make)


class Client(msgspec.Struct):
    """A client that asks until it is answered, or has been refused often enough."""

    number: int
    words: str = ""
    leaves: float = 0.0
    """Seconds after which it hangs up."""
    tries: int = 1


class Crowd:
    """What became of the requests of all clients."""

    def __init__(self, gateway: Gateway, payer: Payer) -> None:
        self.gateway = gateway
        self.payer = payer
        self.seen: Counter[str] = Counter()
        self.highest = 0
        self.samples = 0
        self.midway = 0
        """Samples in which requests had reserved something."""

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
            while (fate := await self.ask(client)) == "unserved":  # the only worker was killed
                await asyncio.sleep(0.2)
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
        keys = self.payer.keys
        headers = {"authorization": f"Bearer {keys[client.number % len(keys)]}"}
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
                    assert error["message"].startswith("Your team's 5h") == self.payer.is_team
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
        except ConnectionRefusedError:
            return "unserved"
        except (ConnectionError, asyncio.IncompleteReadError):
            return "broken"

    async def _watch(self) -> None:
        while True:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                self.look(await self.now())
            await asyncio.sleep(0.05)

    async def now(self) -> Standing:
        return await standing(self.gateway, self.payer.keys[0], of_team=self.payer.is_team)

    async def in_use(self) -> int:
        """Slots of all keys."""
        return sum([(await standing(self.gateway, key)).in_use for key in self.payer.keys])

    def look(self, now: Standing) -> None:
        self.samples += 1
        self.midway += now.reserved > 0
        self.highest = max(self.highest, now.taken)
        assert now.taken <= CAP + MOST, now

    async def settled(self, within: float, *, slots: bool = True) -> Standing:
        """Where the account stands once nothing is held, and no slot is in use."""
        async with asyncio.timeout(within):
            while True:
                now = await self.now()
                self.look(now)
                if now.reserved == 0 and not (slots and await self.in_use()):
                    return now
                await asyncio.sleep(0.1)

    async def agrees(self) -> int:
        """The cost of all rows, which is what the sums of the ledger and the counters say, of the
        cap and of each key."""
        found = await rows(self.gateway.sql)
        cost = sum(row.cost for row in found)
        spent = await totals(self.gateway.sql)
        each: Counter[str] = Counter()
        for row in found:
            each[row.account] += row.cost
            if row.team:
                each[row.team] += row.cost
        assert spent == {account: amount for account, amount in each.items() if amount}
        used = [(await standing(self.gateway, key)).used for key in self.payer.keys]
        by_key = [amount for account, amount in each.items() if not account.startswith("team_")]
        assert sorted(filter(None, used)) == sorted(filter(None, by_key))
        assert (await self.now()).used == cost
        return cost


def clients(full: bool, make: Callable[[int, random.Random], Client]) -> list[Client]:
    """4 x 200 clients, or 4 x 40."""
    dice = random.Random(50)
    return [make(number, dice) for number in range(WORKERS * (200 if full else 40))]


@pytest.mark.parametrize(
    "payer", ["team", pytest.param("key", marks=pytest.mark.full)], indirect=True
)
async def test_cap_holds_against_concurrent_requests(
    deployment: Gateway, payer: Payer, full: bool, figures: Figures
) -> None:
    """BerriAI/litellm#34732, #40095, #26672: N workers do not spend N caps."""
    crowd = Crowd(deployment, payer)
    await crowd.run(clients(full, lambda number, _: Client(number, tries=6)))
    await crowd.settled(DEADLINE)
    while await crowd.ask(Client(0)) == "whole":  # what is left, as long as it is enough for one
        pass
    await crowd.settled(DEADLINE)
    cost = await crowd.agrees()
    assert CAP - MOST <= cost <= CAP + MOST
    assert set(crowd.seen) == {"whole", "refused"}
    assert crowd.midway > 0
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


@pytest.mark.parametrize(
    "payer", ["key", pytest.param("team", marks=pytest.mark.full)], indirect=True
)
async def test_a_cap_holds_through_disconnects_faults_and_a_killed_worker(
    deployment: Gateway,
    payer: Payer,
    simulator: Program,
    redis_server: RedisServer,
    full: bool,
    figures: Figures,
) -> None:
    """BerriAI/litellm#20256, #27955: no money and no slot stays behind."""
    crowd = Crowd(deployment, payer)
    embedded = len(deployment.workers) == 1
    upstream_port = urlsplit(simulator.url).port

    def asking(worker: psutil.Process) -> int:
        """Its connections to the upstream: the answers that it has under way, or had before."""
        return sum(
            bool(connection.raddr) and connection.raddr.port == upstream_port
            for connection in worker.net_connections()
        )

    async def kill_one() -> tuple[psutil.Process, float]:
        async with asyncio.timeout(DEADLINE):
            while await crowd.in_use() < 10:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.4)  # so that some of the streams are under way
        victim = max(deployment.workers, key=asking)
        victim.kill()
        return victim, time()

    running = asyncio.create_task(crowd.run(clients(full, _unlucky)))
    victim, killed = await kill_one()
    await running
    assert victim.pid not in {worker.pid for worker in deployment.workers}
    assert {"refused", "left", "broken", "502"} <= set(crowd.seen), crowd.seen
    # Its holds end with its journal, which the next worker reads, or like its slots in a minute.
    now = await crowd.settled(LIFETIME + 15, slots=full)
    slots = await crowd.in_use()
    ledger = await rows(deployment.sql)
    if not full:
        await asyncio.sleep(max(0.0, killed + RENEWAL + 2 - time()))
        with redis_server.client() as client:
            leases = [
                lease
                for account in {row.account for row in ledger}
                for lease in client.zrange(
                    f"penstock:{{key:{account}}}:slots", 0, -1, withscores=True
                )
            ]
        assert len(leases) == slots > 0
        assert all(ends <= killed + LIFETIME for _, ends in leases), "not renewed"
    assert 0 < await crowd.agrees() <= CAP + MOST
    if not embedded:
        redis_server.flush()
        async with asyncio.timeout(DEADLINE):
            while True:
                with suppress(AssertionError):  # 503 until every worker has seen it
                    await crowd.settled(DEADLINE, slots=False)
                    break
                await asyncio.sleep(0.1)
    cost = await crowd.agrees()
    ended = Counter(row.ended for row in ledger)
    assert {"hung_up", "failed", "cut"} <= set(ended)
    figures(
        f"{dict(crowd.seen)}, rows {dict(ended)}; highest {credits_of(crowd.highest)} in "
        f"{crowd.samples} samples, ledger {credits_of(cost)}, reserved {now.reserved}, "
        f"slots {slots}"
    )
