"""Redis loses what it counted while streams run: no cap is passed; what is unknown is refused."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest
import redis

from middlewares.pricing import NANO
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Figures, Start, shared_store
from .ledger import credits_of, rows_when, standing
from .program import DEADLINE, Gateway, Program, release, until
from .wire import CHAT, Line, Reply, ask, bearer, chat, line, request

pytestmark = pytest.mark.timeout(600)

STREAMS = 4
TOKENS = 40
PRICE = {"input": "1.00", "output": "1000.00"}
"""Per million: a token of output is 0.001 credits, one of input a thousandth of that."""
EACH = TOKENS * NANO // 1000
CAP = STREAMS * EACH + NANO // 2000
"""What all streams may cost, and too little for one more token of output."""
ROOM = 60 * EACH
MOST = EACH + NANO // 1000
"""The reservation of one request, its input with room to spare."""


class Deployment(msgspec.Struct):
    """Two replicas with two workers each, one key, and as many streams as its cap allows."""

    gateways: tuple[Gateway, ...]
    redis: RedisServer
    key: str
    account: str
    streams: list[asyncio.Task[Reply]]
    seen: Counter[int]
    running: int = STREAMS
    longest: float = 0.0
    """Seconds until all requests after a loss were refused for the cap."""

    async def refused_from(self, lose: Callable[[], None]) -> None:
        """Nothing is let in from the moment something is lost, and soon it is known why."""
        lose()
        started = monotonic()
        async with asyncio.timeout(DEADLINE):
            while statuses := await self.ask():
                self.seen.update(statuses)
                assert set(statuses) <= {429, 503}, statuses
                if set(statuses) == {429}:
                    break
                await asyncio.sleep(0.1)
        self.longest = max(self.longest, monotonic() - started)
        # Slots are taken again as soon as the loss is noticed. Each refused request may still have
        # its own for a moment: it is released when the answer has left.
        refused = len(statuses)
        async with asyncio.timeout(DEADLINE):
            while (now := await standing(self.gateways[0], self.key)).in_use != self.running:
                assert 0 <= now.in_use <= self.running + refused
                await asyncio.sleep(0.05)
        assert CAP - NANO // 1000 < now.taken <= CAP, now

    def served(self) -> bool:
        """Whether each replica answers again, as seen on new connections."""
        for gateway in self.gateways:
            for _ in range(4):
                gateway.forget_connections()
                try:
                    gateway.get("/livez")
                except httpx.TransportError:
                    return False
        return True

    async def ask(self) -> list[int]:
        """Of each worker, for they are many, each on a connection of its own."""
        body = {**chat("more [[sim tokens=1]]", "chat"), "max_tokens": TOKENS}
        replies = await asyncio.gather(
            *[ask(one.url, CHAT, body, bearer(self.key)) for one in self.gateways * 6]
        )
        for reply in replies:
            assert reply.status not in (429, 503) or int(reply.header("retry-after")) >= 1
        return [reply.status for reply in replies]

    def evict(self) -> None:
        with self.redis.client() as client:
            assert client.delete(f"penstock:{{{self.account}}}:money") == 1


async def held(gateway: Gateway, key: str) -> asyncio.Task[Reply]:
    """A stream that has begun, and goes on when the simulator releases it."""
    body = {
        **chat(f"Hello [[sim tokens={TOKENS} fault=hold:5]]", "chat", stream=True),
        "max_tokens": TOKENS,
    }
    begun = asyncio.Event()

    async def run() -> Reply:
        async with line(gateway.url) as connection:
            await connection.send(request(CHAT, body, bearer(key)))
            return await _read(connection, begun)

    task = asyncio.create_task(run())
    waiting = asyncio.create_task(begun.wait())
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    assert begun.is_set(), task.result()
    return task


async def _read(connection: Line, begun: asyncio.Event) -> Reply:
    reply = await connection.head()
    assert reply.status == 200
    async for part in connection.parts(reply):
        reply.body += part
        begun.set()
    return reply


def document(simulator: str, store: dict[str, Any]) -> dict[str, Any]:
    windows = [{"length": "5h", "credits": f"{credits_of(CAP):.4f}"}]
    plan = {"id": "capped", "windows": windows, "concurrency": 100}
    roomy = {"id": "roomy", "windows": [{"length": "5h", "credits": f"{credits_of(ROOM):.4f}"}]}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "server": {"workers": 2},
        "store": store,
        "upstreams": [{"name": "far", "dialect": "openai", "base_url": f"{simulator}/v1"}],
        "models": [{"id": "chat", "targets": ["far/far-model"], "price": PRICE}],
        "plans": [plan, roomy],
    }


Gateways = tuple[Gateway, Gateway]


@pytest.fixture
async def gateways(request: pytest.FixtureRequest, start: Start, simulator: Program) -> Gateways:
    """Two replicas with two workers each."""
    made = document(simulator.url, await shared_store(request))
    return await asyncio.to_thread(start, made), await asyncio.to_thread(start, made)


@pytest.fixture
async def deployment(gateways: Gateways, redis_server: RedisServer) -> Deployment:
    key = await asyncio.to_thread(gateways[0].new_key, "k", plan="capped")
    streams = [await held(gateways[n % 2], key) for n in range(STREAMS)]
    return Deployment(gateways, redis_server, key, account_in(redis_server), streams, Counter())


def account_in(server: RedisServer) -> str:
    """The one account that Redis knows."""
    with server.client() as client:
        (money,) = client.keys("*:money")
    name: str = money.decode().split("{")[1].split("}")[0]
    return name


def _new_keys(gateway: Gateway, of_team: bool) -> list[str]:
    """A key under the cap, or three keys of a team under it."""
    if not of_team:
        return [gateway.new_key("k", plan="roomy")]
    team = gateway.new_team("t", plan="roomy")
    return [gateway.new_key(f"k{n}", plan="roomy", team=team) for n in range(3)]


async def read_only(sql: str, *, on: bool) -> None:
    """Have a PostgreSQL database take no writes, or take them again; new connections see it."""
    connection = await asyncpg.connect(sql)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute("SET default_transaction_read_only = off")
    await connection.execute(
        f"ALTER DATABASE {name} SET default_transaction_read_only = {'on' if on else 'off'}"
    )
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()


async def test_cap_holds_whatever_redis_loses_under_running_streams(
    deployment: Deployment, simulator: Program, full: bool, figures: Figures
) -> None:
    await deployment.refused_from(lambda: None)
    for _ in range(10 if full else 2):
        await deployment.refused_from(deployment.redis.flush)
        await deployment.refused_from(deployment.evict)

    def restart() -> None:
        deployment.redis.stop()
        deployment.redis.start()

    await deployment.refused_from(restart)

    # Rows wait for a store that can be read: they are known to the workers that wrote them only.
    sql = deployment.gateways[0].sql
    await read_only(sql, on=True)
    await asyncio.to_thread(release, simulator)
    replies = await asyncio.gather(*deployment.streams)
    assert all(reply.body.endswith(b"data: [DONE]\n\n") for reply in replies)
    deployment.running = 0
    await deployment.refused_from(deployment.evict)
    await deployment.refused_from(deployment.redis.flush)
    with suppress(redis.ConnectionError):
        await deployment.refused_from(restart)

    # What a killed worker served is in its journal only: the account is not known without it.
    killed = [worker for gateway in deployment.gateways for worker in gateway.workers]
    for worker in killed:
        worker.kill()
    for worker in killed:
        worker.wait(DEADLINE)  # its sockets are closed then
    await asyncio.to_thread(until, deployment.served, what="new workers")
    for lose in (deployment.redis.flush, deployment.evict):
        with suppress(AssertionError):  # of `evict`: it may not be there
            lose()
        for _ in range(3):
            statuses = await deployment.ask()
            assert set(statuses) <= {429, 503}, statuses
    await read_only(sql, on=False)

    found = await rows_when(deployment.gateways[0], STREAMS)
    cost = sum(row.cost for row in found)
    async with asyncio.timeout(DEADLINE):
        while (now := await standing(deployment.gateways[1], deployment.key)).reserved:
            await asyncio.sleep(0.05)
    assert now.used == cost <= CAP
    figures(f"{dict(deployment.seen)}; longest recovery {deployment.longest:.1f} s")


@pytest.mark.parametrize("of_team", [False, pytest.param(True, marks=pytest.mark.full)])
async def test_cap_holds_under_load_while_redis_loses_everything_again_and_again(
    gateways: Gateways, redis_server: RedisServer, full: bool, figures: Figures, of_team: bool
) -> None:
    """Flushes, evictions and lost connections among streams that begin and end; what is spent and
    reserved passes the cap by one reservation at most, and each answer has one row. The cap is that
    of one key, or that of three keys together, of which each has the same for itself."""
    keys = await asyncio.to_thread(_new_keys, gateways[0], of_team)
    dice = random.Random(5)
    body = {
        **chat(f"Hello [[sim tokens={TOKENS // 2} rate=20]]", "chat", stream=True),
        "max_tokens": TOKENS,
    }
    seen: Counter[int] = Counter()
    highest = 0

    async def client(number: int) -> None:
        for turn in range(40 if full else 6):
            gateway = gateways[(number + turn) % 2]
            reply = await ask(gateway.url, CHAT, body, bearer(keys[turn % len(keys)]))
            assert reply.status in (200, 429, 503), reply
            assert reply.whole
            seen[reply.status] += 1
            if reply.status != 200:
                await asyncio.sleep(0.5)

    async def lose() -> None:
        for turn in range(1_000_000):
            await asyncio.sleep(0.7)
            with redis_server.client() as one:
                if turn % 3 == 0:
                    one.flushall()
                elif turn % 3 == 1:
                    if known := sorted(one.keys("*:money")):
                        one.delete(dice.choice(known))
                else:
                    one.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                    one.script_flush()

    async def watch() -> None:
        nonlocal highest
        while True:
            with suppress(AssertionError):  # 503
                now = await standing(gateways[0], keys[0], of_team=of_team)
                highest = max(highest, now.taken)
            await asyncio.sleep(0.05)

    others = [asyncio.create_task(lose()), asyncio.create_task(watch())]
    try:
        await asyncio.gather(*map(client, range(32)))
    finally:
        for task in others:
            task.cancel()
        ended = await asyncio.gather(*others, return_exceptions=True)
    assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended

    found = await rows_when(gateways[0], seen[200])
    assert len({row.id for row in found}) == seen[200]
    cost = sum(row.cost for row in found)
    async with asyncio.timeout(DEADLINE):
        while True:
            now = await standing(gateways[1], keys[0], of_team=of_team)
            if now.reserved == 0 and now.used == cost:
                break
            await asyncio.sleep(0.05)
    each: Counter[str] = Counter()
    for row in found:
        each[row.account] += row.cost
    used = [(await standing(gateways[1], key)).used for key in keys]
    assert sorted(used) == sorted(each.values())
    assert highest <= ROOM + MOST
    assert cost <= ROOM + MOST
    assert seen[200] and seen[429]
    figures(
        f"{dict(seen)}; cap {credits_of(ROOM)}, highest spent + reserved {credits_of(highest)}, "
        f"ledger {credits_of(cost)}"
    )
