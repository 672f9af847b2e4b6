"""Redis loses what it counted while streams run: no cap is passed; what is unknown is refused."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

import asyncpg
import msgspec
import pytest
import redis

from middlewares.money import NANO
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import Figures, Start, shared_store
from .ledger import credits_of, rows_when, standing
from .program import DEADLINE, Gateway, Program, release
from .test_limits import bearer
from .wire import CHAT, Line, Reply, ask, chat, line, request

pytestmark = pytest.mark.timeout(600)

STREAMS = 4
TOKENS = 40
PRICE = {"input": "1.00", "output": "1000.00"}
"""Per million: a token of output is 0.001 credits, one of input a thousandth of that."""
EACH = TOKENS * NANO // 1000
CAP = STREAMS * EACH + NANO // 2000
"""What all streams may cost, and too little for one more token of output."""


class House(msgspec.Struct):
    """Two replicas with two workers each, one key, and as many streams as its cap allows."""

    gateways: tuple[Gateway, ...]
    redis: RedisServer
    key: str
    account: str
    streams: list[asyncio.Task[Reply]]
    seen: Counter[int]
    longest: float = 0.0
    """Seconds until all requests after a loss were refused for the cap."""

    async def refused_from(self, lose: Callable[[], None]) -> None:
        """Nothing is let in from the moment something is lost, and soon it is known why."""
        lose()
        started = monotonic()
        async with asyncio.timeout(DEADLINE):
            while statuses := await self._ask():
                self.seen.update(statuses)
                assert set(statuses) <= {429, 503}, statuses
                if set(statuses) == {429}:
                    break
        self.longest = max(self.longest, monotonic() - started)
        now = await standing(self.gateways[0], self.key)
        assert CAP - NANO // 1000 < now.taken <= CAP, now

    async def _ask(self) -> list[int]:
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
    """A stream that has begun, and goes on when the simulator is told to release it."""
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
    plan = {"id": "capped", "windows": [{"length": "5h", "credits": f"{credits_of(CAP):.4f}"}]}
    return {
        "auth": {"admin_token": "env:ADMIN_TOKEN"},
        "server": {"workers": 2},
        "store": store,
        "upstreams": [{"name": "far", "dialect": "openai", "base_url": f"{simulator}/v1"}],
        "models": [{"id": "chat", "targets": ["far/far-model"], "price": PRICE}],
        "plans": [plan],
    }


@pytest.fixture
async def house(
    request: pytest.FixtureRequest, start: Start, simulator: Program, redis_server: RedisServer
) -> House:
    made = document(simulator.url, await shared_store(request))
    gateways = (await asyncio.to_thread(start, made), await asyncio.to_thread(start, made))
    key = await asyncio.to_thread(gateways[0].new_key, "k", plan="capped")
    streams = [await held(gateways[n % 2], key) for n in range(STREAMS)]
    with redis_server.client() as client:
        (money,) = client.keys("*:money")
    account = money.decode().split("{")[1].split("}")[0]
    return House(gateways, redis_server, key, account, streams, Counter())


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
    house: House, simulator: Program, full: bool, figures: Figures
) -> None:
    await house.refused_from(lambda: None)
    for _ in range(10 if full else 2):
        await house.refused_from(house.redis.flush)
        await house.refused_from(house.evict)

    def restart() -> None:
        house.redis.stop()
        house.redis.start()

    await house.refused_from(restart)

    # Rows wait for a store that can be read: they are known to the workers that wrote them only.
    sql = house.gateways[0].sql
    await read_only(sql, on=True)
    await asyncio.to_thread(release, simulator)
    replies = await asyncio.gather(*house.streams)
    assert all(reply.body.endswith(b"data: [DONE]\n\n") for reply in replies)
    await house.refused_from(house.evict)
    await house.refused_from(house.redis.flush)
    with suppress(redis.ConnectionError):
        await house.refused_from(restart)
    await read_only(sql, on=False)

    found = await rows_when(house.gateways[0], STREAMS)
    cost = sum(row.cost for row in found)
    async with asyncio.timeout(DEADLINE):
        while (now := await standing(house.gateways[1], house.key)).reserved:
            await asyncio.sleep(0.05)
    assert now.used == cost <= CAP
    figures(
        f"{dict(house.seen)}; longest time from a loss until it was made good {house.longest:.1f} s"
    )
