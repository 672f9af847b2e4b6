"""Affinity records in memory, and in a real Redis that goes away and comes back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from middlewares.stores.affinity.base import AffinityRecord, AffinityStore, MemoryAffinityStore
from middlewares.stores.affinity.redis import RedisAffinityStore
from tests.middlewares.stores.redis_server import RedisServer
from tests.waiting import DEADLINE, until

HERE, THERE = AffinityRecord("up/a", "f00"), AffinityRecord("down/b", "ba5", since=7)


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisAffinityStore]:
    affinity_store = RedisAffinityStore(
        url, **{"timeout": 10.0, "connect_timeout": 10.0, **options}
    )
    await affinity_store.start()
    try:
        yield affinity_store
    finally:
        await affinity_store.aclose()


@pytest.fixture(params=["memory", "redis"])
async def store_and_clock(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[AffinityStore, Clock]]:
    """A store for three conversations, for 60 seconds, with its clock."""
    clock = Clock()
    if request.param == "memory":
        memory = MemoryAffinityStore(max_entries=3, ttl=60, clock=clock)
        await memory.start()
        yield memory, clock
        await memory.aclose()
        return
    async with opened(
        request.getfixturevalue("redis_url"), max_entries=3, ttl=60, clock=clock
    ) as affinity_store:
        yield affinity_store, clock


async def test_the_last_one_kept_is_found(store_and_clock: tuple[AffinityStore, Clock]) -> None:
    affinity_store, _ = store_and_clock
    assert await affinity_store.find("k") is None
    affinity_store.keep("k", HERE)
    affinity_store.keep("other", THERE)
    assert await affinity_store.find("k") == HERE
    affinity_store.keep("k", THERE)
    assert await affinity_store.find("k") == THERE


async def test_memory_forgets_in_time_counted_from_the_last_answer() -> None:
    clock = Clock()
    affinity_store = MemoryAffinityStore(ttl=60, clock=clock)
    affinity_store.keep("k", HERE)
    clock.now += 59
    affinity_store.keep("k", HERE)
    clock.now += 59
    assert await affinity_store.find("k") == HERE
    clock.now += 1
    assert await affinity_store.find("k") is None
    assert len(affinity_store) == 0


@pytest.mark.parametrize("url", [False, True])
async def test_memory_is_bounded(url: bool, redis_url: str) -> None:
    affinity_store: MemoryAffinityStore | RedisAffinityStore
    affinity_store = (
        RedisAffinityStore(redis_url, max_entries=3) if url else MemoryAffinityStore(max_entries=3)
    )
    for n in range(3):
        affinity_store.keep(str(n), HERE)
    assert await affinity_store.find("0") == HERE  # the others are unheard of for longer now
    for n in range(3, 5):
        affinity_store.keep(str(n), HERE)
    assert len(affinity_store) == 3
    left = [n for n in range(5) if await affinity_store.find(str(n)) is not None]
    assert left == [0, 3, 4]


@pytest.mark.parametrize("wrong", [{"max_entries": 0}, {"ttl": 0.0}, {"ttl": -1.0}])
def test_room_and_time_are_wanted(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected (at least 1|more than 0)"):
        MemoryAffinityStore(**wrong)
    with pytest.raises(ValueError, match=r"expected (at least 1|more than 0)"):
        RedisAffinityStore("redis://127.0.0.1", **wrong)


async def test_processes_share_them(redis_url: str) -> None:
    async with opened(redis_url) as one, opened(redis_url) as two:
        one.keep("k", HERE)
        assert await one.find("k") == HERE  # and Redis has it: it answers in order
        assert await two.find("k") == HERE
        two.keep("k", THERE)
        assert await two.find("k") == THERE
        assert await one.find("k") == THERE, "what it remembers itself is older"


async def test_redis_forgets_too(redis_server: RedisServer, redis_url: str) -> None:
    async with opened(redis_url, ttl=60) as affinity_store:
        affinity_store.keep("k", HERE)
        await affinity_store.find("k")
        with redis_server.client() as client:
            (name,) = client.keys("*")
            assert name == b"penstock:{k}:affinity"
            assert 60_000 < client.pttl(name) <= 80_000
    clock = Clock()
    async with opened(redis_url, ttl=0.03, clock=clock) as affinity_store:
        affinity_store.keep("short", HERE)
        assert await affinity_store.find("short") == HERE
        clock.now += 1

        def gone() -> bool:
            with redis_server.client() as client:
                return not client.exists("penstock:{short}:affinity")

        await until(gone)
        assert await affinity_store.find("short") is None


async def test_redis_is_written_on_changes_and_at_intervals(
    redis_server: RedisServer, redis_url: str
) -> None:
    def writes() -> int:
        with redis_server.client() as client:
            return int(client.info("commandstats").get("cmdstat_set", {}).get("calls", 0))

    clock = Clock()
    async with (
        opened(redis_url, ttl=60, clock=clock) as one,
        opened(redis_url, ttl=60, clock=clock) as two,
    ):
        before = writes()
        one.keep("k", HERE)
        for affinity_store in (one, two):
            assert await affinity_store.find("k") == HERE
            affinity_store.keep("k", HERE)  # two has it from Redis: it knows how old it is
        clock.now += 19
        two.keep("k", HERE)
        await two.find("k")
        assert writes() == before + 1
        clock.now += 1
        two.keep("k", HERE)
        await two.find("k")
        assert writes() == before + 2
        two.keep("k", THERE)
        await two.find("k")
        assert writes() == before + 3


async def test_what_it_knows_itself_stands_in_while_redis_is_gone(server: RedisServer) -> None:
    async with opened(server.url()) as one, opened(server.url()) as two:
        one.keep("k", HERE)
        assert await one.find("k") == HERE
        server.stop()
        await until(lambda: not one.up)
        assert await one.find("k") == HERE
        assert await one.find("never seen") is None
        one.keep("k", THERE)
        assert await one.find("k") == THERE
        server.start()
        await until(lambda: one.up and two.up)
        assert await two.find("k") is None, "it was written nothing since it came back"
        assert await one.find("k") == THERE
        one.keep("k", THERE)
        assert await one.find("k") == THERE
        assert await two.find("k") == THERE


async def test_records_lost_by_redis_are_written_again(
    redis_server: RedisServer, redis_url: str
) -> None:
    async with opened(redis_url) as one, opened(redis_url) as two:
        one.keep("k", HERE)
        assert await one.find("k") == HERE
        redis_server.flush()
        assert await one.find("k") == HERE
        one.keep("k", HERE)
        assert await one.find("k") == HERE
        assert await two.find("k") == HERE


async def test_what_a_silent_redis_never_confirmed_is_not_given_up(server: RedisServer) -> None:
    async with opened(server.url(), timeout=1.0) as affinity_store, opened(server.url()) as other:
        affinity_store.keep("k", HERE)
        assert await other.find("x") is None
        await affinity_store.find("k")
        server.freeze()
        affinity_store.keep("k", THERE)
        async with asyncio.timeout(DEADLINE):
            assert await affinity_store.find("k") == THERE
        assert not affinity_store.up
        finding = affinity_store.find("k")
        with pytest.raises(StopIteration) as ended:
            finding.send(None)  # it waits for nothing now
        assert ended.value.value == THERE
        server.thaw()
        with server.client() as client:
            client.flushall()  # what was on its way may have arrived
        other.keep("k", HERE)
        assert await other.find("k") == HERE
        await until(lambda: affinity_store.up)
        assert await affinity_store.find("k") == THERE
        affinity_store.keep("k", THERE)
        assert await affinity_store.find("k") == THERE
        assert await other.find("k") == THERE


NO_TEXT = b"\x92\x93\xa1\xff\xa1a\x01\xcb" + bytes(8)
"""A record whose target is no UTF-8."""


@pytest.mark.parametrize("junk", [b"", b"\xc1", b"\x92\x01\x02", b"text", NO_TEXT])
async def test_what_another_program_left_there_is_not_believed(
    junk: bytes, redis_server: RedisServer, redis_url: str
) -> None:
    async with opened(redis_url) as affinity_store:
        with redis_server.client() as client:
            client.set("penstock:{k}:affinity", junk)
            client.rpush("penstock:{list}:affinity", "x")
        for key in ("k", "list"):
            assert await affinity_store.find(key) is None
            affinity_store.keep(key, HERE)
            assert await affinity_store.find(key) == HERE


async def test_a_redis_without_room_is_no_error(redis_server: RedisServer, redis_url: str) -> None:
    async with opened(redis_url) as one, opened(redis_url) as two:
        with redis_server.client() as client:
            client.config_set("maxmemory", "1")
            try:
                one.keep("k", HERE)
                assert await one.find("k") == HERE
                assert await two.find("k") is None
            finally:
                client.config_set("maxmemory", "0")
        one.keep("k", HERE)
        assert await one.find("k") == HERE
        assert await two.find("k") == HERE


async def test_not_started_it_remembers_for_itself(redis_url: str) -> None:
    affinity_store = RedisAffinityStore(redis_url)
    affinity_store.keep("k", HERE)
    assert await affinity_store.find("k") == HERE
    await affinity_store.aclose()
    await affinity_store.aclose()
