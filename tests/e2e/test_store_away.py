"""SQL is away: what is said of it, to callers and to operators, and what goes on."""

import asyncio
from contextlib import suppress

import asyncpg
import httpx
import msgspec
import pytest

from middlewares.stores import Key
from tests.middlewares.stores.postgres_server import Postgres
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import ADMIN_TOKEN, Start, shared_store
from .ledger import paid, rows_when
from .program import DEADLINE, Gateway, Program, until
from .wire import ANTHROPIC, CHAT, MESSAGES, ask, bearer, chat

pytestmark = pytest.mark.timeout(600)

PLAN = {"id": "paid", "windows": [{"length": "5h", "credits": "100.00"}]}
BODY = {**chat("Hello [[sim tokens=5]]", "chat"), "max_tokens": 10}
ADMIN = {"authorization": f"Bearer {ADMIN_TOKEN}"}
msgpack_key = msgspec.msgpack.Decoder(Key).decode
STRANGER = "sk-penstock-live-" + "a" * 43
REQUEST = "01234567-0123-7123-8123-0123456789ab"


def ready(gateway: Gateway) -> int:
    gateway.forget_connections()
    return gateway.get("/readyz").status_code


async def test_sql_away_is_said_and_known_keys_are_served(
    request: pytest.FixtureRequest, start: Start, simulator: Program, postgres: Postgres
) -> None:
    store = {**await shared_store(request), "counters": "memory"}
    gateway: Gateway = await asyncio.to_thread(start, paid(simulator.url, PLAN, store=store))
    key = await asyncio.to_thread(gateway.new_key, "k", plan="paid")
    kept = {"model": "resp", "input": "Hello [[sim tokens=5]]", "max_output_tokens": 16}
    answer = await ask(gateway.url, "/v1/responses", kept, bearer(key))
    assert answer.status == 200
    kept_id = answer.json()["id"]
    assert (await ask(gateway.url, CHAT, BODY, bearer(key))).status == 200
    await rows_when(gateway, 2)

    await asyncio.to_thread(postgres.stop)
    try:
        await asyncio.to_thread(until, lambda: ready(gateway) == 503, what="not being ready")
        shown = gateway.get("/readyz").json()
        assert shown["store"] == "sql: does not answer"
        assert "known ones are served" in shown["reason"]
        for path, headers, method, body in (
            ("/admin/v1/keys", ADMIN, "GET", None),
            ("/admin/v1/keys", ADMIN, "POST", {"name": "x"}),
            ("/admin/v1/usage", ADMIN, "GET", None),
            ("/admin/v1/ledger", ADMIN, "GET", None),
            ("/admin/v1/audit", ADMIN, "GET", None),
            ("/v1/usage", bearer(key), "GET", None),
            (f"/v1/requests/{REQUEST}", bearer(key), "GET", None),
            (f"/v1/responses/{kept_id}", bearer(key), "GET", None),
            (f"/v1/responses/{kept_id}", bearer(key), "DELETE", None),
            ("/v1/responses", bearer(key), "POST", {**kept, "previous_response_id": kept_id}),
        ):
            reply = await ask(gateway.url, path, body, headers, method=method)
            assert (reply.status, reply.error["code"]) == (503, "store_unavailable"), path
            assert "store" in reply.error["message"]
            assert "verloaded" not in reply.error["message"]
            assert int(reply.header("retry-after")) >= 1
        claude = {**bearer(key), **ANTHROPIC}
        said = await ask(gateway.url, "/v1/usage", headers=claude)
        assert said.status == 503

        # A known key is served, and its account is known; of another that is unknown.
        assert (await ask(gateway.url, CHAT, BODY, bearer(key))).status == 200
        assert (await ask(gateway.url, "/v1/limits", headers=bearer(key))).status == 200
        for path, headers in ((CHAT, {}), (MESSAGES, ANTHROPIC)):
            reply = await ask(gateway.url, path, BODY, {**bearer(STRANGER), **headers})
            assert reply.status in (503, 529)
            assert int(reply.header("retry-after")) >= 1
        assert gateway.get("/livez").status_code == 200
    finally:
        await asyncio.to_thread(postgres.start)
    await asyncio.to_thread(until, lambda: ready(gateway) == 200, what="being ready again")
    assert (await ask(gateway.url, CHAT, BODY, bearer(STRANGER))).status == 401
    await rows_when(gateway, 3)


async def test_sql_connection_lost_once_is_no_outage(
    request: pytest.FixtureRequest, start: Start, simulator: Program
) -> None:
    store = {**await shared_store(request), "counters": "memory"}
    gateway: Gateway = await asyncio.to_thread(start, paid(simulator.url, PLAN, store=store))
    key = await asyncio.to_thread(gateway.new_key, "k", plan="paid")
    connection = await asyncpg.connect(gateway.sql)
    for _ in range(5):
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert (await ask(gateway.url, "/v1/usage", headers=bearer(key))).status == 200
        assert (await ask(gateway.url, "/admin/v1/keys", headers=ADMIN)).status == 200
    await connection.close()


async def test_replaced_worker_knows_keys_used_lately_and_no_revoked_one(
    request: pytest.FixtureRequest,
    start: Start,
    simulator: Program,
    postgres: Postgres,
    redis_server: RedisServer,
) -> None:
    store = await shared_store(request)
    made = paid(simulator.url, PLAN, store=store, server={"workers": 2})
    gateway: Gateway = await asyncio.to_thread(start, made)
    team = await asyncio.to_thread(
        lambda: gateway.post("/admin/v1/teams", {"name": "Search"}, **ADMIN).json()["id"]
    )
    known, revoked = [
        await asyncio.to_thread(gateway.new_key, name, team=team) for name in ("known", "revoked")
    ]
    for key in (known, revoked):
        for _ in range(8):  # on connections of their own, so that both workers know it
            assert (await ask(gateway.url, CHAT, BODY, bearer(key))).status == 200

    def good() -> set[str]:
        """Names of keys that are shared and not revoked."""
        with redis_server.client() as client:
            for name in client.keys("penstock:{grants2:*"):
                fields = client.hgetall(name).items()
                keys = [msgpack_key(value) for field, value in fields if field[:2] == b"g:"]
                return {key.name for key in keys if key.revoked_at is None}
        return set()

    both = {"known", "revoked"}
    await asyncio.to_thread(until, lambda: good() == both, what="both keys to be shared")
    listed = await ask(gateway.url, "/admin/v1/keys", headers=ADMIN)
    (found,) = [one["id"] for one in listed.json()["data"] if one["name"] == "revoked"]
    done = await ask(gateway.url, f"/admin/v1/keys/{found}/revoke", {}, ADMIN)
    assert done.status == 200
    await asyncio.to_thread(until, lambda: good() == {"known"}, what="the revocation to be shared")

    await rows_when(gateway, 16)
    await asyncio.to_thread(postgres.stop)
    try:
        old = gateway.workers
        for worker in old:
            worker.kill()
        for worker in old:
            worker.wait(DEADLINE)  # its sockets are closed then

        def replaced() -> bool:
            pids = {worker.pid for worker in gateway.workers} - {worker.pid for worker in old}
            return len(pids) == 2

        await asyncio.to_thread(until, replaced, what="two new workers")
        await asyncio.to_thread(until, lambda: answers(gateway), what="an answer")
        for _ in range(20):
            assert (await ask(gateway.url, CHAT, BODY, bearer(known))).status == 200
            assert (await ask(gateway.url, CHAT, BODY, bearer(revoked))).status in (401, 503)
        limits = await ask(gateway.url, "/v1/limits", headers=bearer(known))
        assert limits.json()["team"]["id"] == team
    finally:
        await asyncio.to_thread(postgres.start)
    await asyncio.to_thread(until, lambda: ready(gateway) == 200, what="being ready again")
    assert (await ask(gateway.url, CHAT, BODY, bearer(revoked))).status == 401
    await rows_when(gateway, 36)


def answers(gateway: Gateway) -> bool:
    """Whether one worker, at least, accepts connections."""
    with suppress(httpx.TransportError):
        gateway.forget_connections()
        return gateway.get("/livez").status_code == 200
    return False
