"""What live workers tell each other before an account that Redis has lost is known again."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from middlewares.limits import Budget, Window
from middlewares.stores.counters import redis, redis_workers
from middlewares.stores.counters.base import Hold, InsufficientFunds, Spent, TeamAccount, Unknown
from middlewares.stores.counters.redis import RedisCounters
from middlewares.stores.counters.redis_workers import LEASE
from middlewares.stores.errors import AccountUnsettled, CountersUnavailable
from tests.middlewares.stores.redis_server import RedisServer
from tests.waiting import until

NOW = 1_795_262_400.0
BUDGET = Budget(windows=(Window("7d", 604_800.0, 100),))
MONEY = "penstock:{a}:money"
WORKERS = "penstock:{workers}"


@asynccontextmanager
async def worker(server: RedisServer, quarantine: float = 0.0) -> AsyncIterator[RedisCounters]:
    counters = RedisCounters(
        server.url(), timeout=30.0, connect_timeout=30.0, quarantine=quarantine
    )
    await counters.start()
    try:
        yield counters
    finally:
        await counters.aclose()


@asynccontextmanager
async def tasks_named(prefix: str) -> AsyncIterator[Callable[[], list[asyncio.Task[Any]]]]:
    """Tasks of such names that begin inside."""
    before = asyncio.all_tasks()
    yield lambda: [
        task for task in asyncio.all_tasks() - before if task.get_name().startswith(prefix)
    ]


async def restored(counters: RedisCounters, spent: int = 0) -> None:
    for _ in range(5):
        seen, _ = await counters.version("a")
        if await counters.restore("a", Spent({"7d": NOW}, {"7d": spent}), (), seen):
            return
    raise AssertionError("not restored")


async def reserve(
    counters: RedisCounters, hold: str, amount: int
) -> Hold | InsufficientFunds | None:
    answer = await counters.reserve("a", hold, amount, amount, BUDGET, NOW)
    return None if isinstance(answer, Unknown) else answer


async def held(counters: RedisCounters, hold: str, amount: int) -> None:
    assert isinstance(await reserve(counters, hold, amount), Hold)


async def held_in_all(counters: RedisCounters) -> int:
    standing = await counters.status("a", BUDGET, NOW)
    assert standing is not None
    return standing.held["windows"]


def evicted(server: RedisServer) -> None:
    with server.client() as client:
        assert client.delete(MONEY) == 1


def restarted(server: RedisServer) -> None:
    server.stop()
    server.start()


@pytest.mark.parametrize("lose", [evicted, RedisServer.flush, restarted])
async def test_restore_lost_account_counts_holds_of_every_worker(
    server: RedisServer, lose: Callable[[RedisServer], None]
) -> None:
    async with worker(server) as one, worker(server) as other, worker(server) as third:
        await restored(one)
        await held(one, "h1", 30)
        await held(other, "h2", 40)
        await held(third, "h3", 20)
        lose(server)
        await until(lambda: one.up)
        assert await reserve(one, "h4", 50) is None
        await restored(one)
        assert await held_in_all(one) == 90
        await other.workers.meet()  # it may not have seen yet that something was lost
        assert isinstance(await reserve(other, "h4", 50), InsufficientFunds)


@pytest.mark.parametrize("lost", ["a", "b", "t"])
async def test_restore_lost_account_counts_holds_of_a_team_in_every_worker(
    server: RedisServer, lost: str
) -> None:
    """The account of a team is held by the keys of all its members, in all workers."""
    team = TeamAccount("t", BUDGET)

    async def all_restored(counters: RedisCounters) -> None:
        for account in ("a", "b", "t"):
            seen, _ = await counters.version(account)
            assert await counters.restore(account, Spent(), (), seen)

    async with worker(server) as one, worker(server) as other:
        await all_restored(one)
        for counters, account in ((one, "a"), (other, "a"), (other, "b")):
            hold = f"{account}-{counters.workers.id}"
            answer = await counters.reserve(account, hold, 20, 20, BUDGET, NOW, team)
            assert isinstance(answer, Hold)
        with server.client() as client:
            assert client.delete(f"penstock:{{{lost}}}:money") == 1
        key = "b" if lost == "b" else "a"
        asked = await one.reserve(key, "more", 50, 50, BUDGET, NOW, team)
        assert asked == Unknown(lost)
        seen, ids = await one.version(lost)
        assert await one.restore(lost, Spent(), (), seen)
        assert len(ids) == {"a": 2, "b": 1, "t": 3}[lost]
        for account, held_there in (("a", 40), ("b", 20), ("t", 60)):
            standing = await one.status(account, BUDGET, NOW)
            assert standing is not None and standing.held["windows"] == held_there
        refused = await one.reserve(key, "more", 50, 50, BUDGET, NOW, team)
        assert isinstance(refused, InsufficientFunds) and refused.whose == "team"


async def test_reserve_in_both_that_is_cancelled_keeps_nothing(server: RedisServer) -> None:
    async with worker(server) as one:
        for account in ("a", "t"):
            seen, _ = await one.version(account)
            assert await one.restore(account, Spent(), (), seen)
        team = TeamAccount("t", BUDGET)
        asked = asyncio.create_task(one.reserve("a", "h", 60, 60, BUDGET, NOW, team))
        await asyncio.sleep(0)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        for account in ("a", "t"):
            standing = await one.status(account, BUDGET, NOW)
            assert standing is not None and standing.holds == ()


async def test_hold_answered_late_is_reported(server: RedisServer) -> None:
    """What Redis had granted before it lost the account, and its worker had not read yet."""
    async with worker(server) as one, worker(server) as other:
        await restored(one)
        asked = asyncio.create_task(reserve(other, "h", 60))
        await asyncio.sleep(0)
        server.freeze()
        restoring = asyncio.create_task(restored(one))
        await asyncio.sleep(0)
        server.thaw()
        await asyncio.gather(asked, restoring)
        evicted(server)
        await restored(one)
        assert await held_in_all(one) == 60


async def test_two_workers_restore_one_account_at_once(server: RedisServer) -> None:
    async with worker(server) as one, worker(server) as other:
        await restored(one)
        await held(one, "h1", 30)
        await held(other, "h2", 40)
        evicted(server)
        await asyncio.gather(restored(one), restored(other))
        assert await held_in_all(one) == await held_in_all(other) == 70


async def test_account_lost_again_during_restoration_is_not_known(server: RedisServer) -> None:
    async with worker(server) as one, worker(server) as other:
        await restored(one)
        await held(other, "h", 60)
        for lose in (evicted, RedisServer.flush):
            lose(server)
            seen, _ = await one.version("a")
            lose(server)
            assert not await one.restore("a", Spent(), (), seen)
            assert await reserve(one, "h2", 10) is None
            await restored(one)
            assert await held_in_all(one) == 60


async def test_stale_account_is_restored_without_asking(server: RedisServer) -> None:
    async with worker(server) as one, worker(server) as other:
        await restored(one)
        await held(other, "h", 60)
        await other.workers.aclose()  # it would not answer
        with server.client() as client:
            client.hset(WORKERS, f"w:{other.workers.id}", "9999999999")
        await one.invalidate("a")
        assert await reserve(one, "h2", 10) is None
        await restored(one, 30)
        assert isinstance(await reserve(one, "h2", 20), InsufficientFunds)


async def test_new_epoch_is_left_alone_until_every_worker_has_had_time(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "PATIENCE", 0.3)
    async with worker(server, quarantine=3600.0) as one:
        with pytest.raises(AccountUnsettled):
            await one.version("a")


async def test_worker_that_died_is_waited_for_as_long_as_its_lease(server: RedisServer) -> None:
    async with worker(server) as one, tasks_named("workers-") as tasks, worker(server) as other:
        await restored(one)
        await held(other, "h", 60)
        with server.client() as client:
            for task in tasks():
                task.cancel()
            died = float(client.time()[0])
            await until(lambda: other.workers.id.encode() in one.workers.others)
            server.flush()  # its registration is gone; the other has seen it alive
            await restored(one)
            seconds, micros = client.time()
        assert seconds + micros / 1e6 - died >= LEASE - 1
        assert await held_in_all(one) == 0


async def test_worker_that_left_is_not_waited_for(server: RedisServer) -> None:
    async with worker(server) as one:
        async with worker(server):
            await until(lambda: len(one.workers.others) == 1)
        with server.client() as client:
            assert [field for field in client.hkeys(WORKERS) if field.startswith(b"w:")] == [
                b"w:" + one.workers.id.encode()
            ]
        await restored(one)


async def test_worker_that_was_taken_for_dead_renews_when_it_is_back(server: RedisServer) -> None:
    async with worker(server) as one:
        await restored(one)
        await held(one, "h", 60)
        with server.client() as client:
            client.delete(MONEY)
            client.hdel(WORKERS, f"w:{one.workers.id}")
            await until(lambda: bool(client.hexists(MONEY, "h:h")))


async def test_data_of_another_redis_is_not_trusted(server: RedisServer) -> None:
    """A replica that was promoted, or a dump that was loaded, may be from before the last changes;
    `run_id` tells."""
    async with worker(server) as one:
        await restored(one)
        await held(one, "h", 60)
        with server.client() as client:
            client.hset(WORKERS, "run", "another")
        await one.workers.meet()
        assert await reserve(one, "h2", 10) is None
        assert await one.status("a", BUDGET, NOW) is None
        await restored(one)
        assert await held_in_all(one) == 60


async def test_account_of_an_earlier_version_is_restored(server: RedisServer) -> None:
    async with worker(server) as one:
        with server.client() as client:
            client.hset(MONEY, mapping={"known": "1", "version": "17", "credits": "5"})
        assert await reserve(one, "h", 10) is None
        await restored(one)
        await held(one, "h", 10)


async def test_worker_that_cannot_renew_keeps_account_unknown(server: RedisServer) -> None:
    """Redis without memory takes no holds; that must not read as if there were none."""
    async with worker(server) as one, worker(server) as other:
        await restored(one)
        await held(other, "h", 60)
        with server.client() as client:
            client.delete(MONEY)
            client.config_set("maxmemory", "1")
            try:
                with pytest.raises(CountersUnavailable):
                    await one.version("a")
            finally:
                client.config_set("maxmemory", "0")
        await restored(one)
        assert await held_in_all(one) == 60


async def test_question_lost_with_its_list_is_asked_again(server: RedisServer) -> None:
    async with worker(server) as one, worker(server) as other:
        await restored(one)
        await held(other, "h", 60)
        evicted(server)
        listening = other.workers._tasks.pop()
        listening.cancel()
        restoring = asyncio.create_task(restored(one))
        key = f"{WORKERS}:{other.workers.id}"
        with server.client() as client:
            await until(lambda: bool(client.exists(key)))
            client.delete(key)
        other.workers._tasks.append(asyncio.create_task(other.workers._listen()))
        await restoring
        assert await held_in_all(one) == 60


async def test_questions_are_polled_for_where_redis_may_not_block(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-blpop")
    async with worker(server) as one, worker(server) as other:
        await restored(one)
        await held(other, "h", 60)
        evicted(server)
        await restored(one)
        assert await held_in_all(one) == 60


async def test_what_is_no_question_is_passed_over(server: RedisServer) -> None:
    async with worker(server) as one:
        with server.client() as client:
            key = f"{WORKERS}:{one.workers.id}"
            client.rpush(key, b"", b"?", b"!a\0b\0c", b"\xff\xfe", b"!x\0y")
            await until(lambda: not client.exists(key))
        await restored(one)


def test_request_waits_longer_than_a_worker_counts_as_alive() -> None:
    assert redis_workers.PATIENCE > LEASE + redis_workers.QUARANTINE
    assert redis_workers.BEAT * 4 <= redis_workers.QUARANTINE
