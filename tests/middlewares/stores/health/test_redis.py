"""What processes tell each other of broken places, over a real Redis."""

import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from middlewares.exchange import Target
from middlewares.stores.health.breakers import BreakerPolicy, Breakers
from middlewares.stores.health.redis import KEY, SharedBreakers
from tests.middlewares.stores.redis_server import RedisServer
from tests.waiting import until

from .outcomes import Outcome, report

PLACE = Target("one", "m")
TERMS = BreakerPolicy(open_for=60.0, max_open_for=600.0)
SHORT = BreakerPolicy(open_for=0.05, max_open_for=0.2)


class Process:
    """What one process has of it. ahead: seconds its clock is ahead of Redis' (they may differ)."""

    def __init__(
        self, url: str, terms: BreakerPolicy, ahead: float, lease: float, **options: Any
    ) -> None:
        self.states: list[str] = []
        self.breakers = Breakers(
            terms,
            changed=lambda place, state, reason: self.states.append(state),
            clock=lambda: time.time() + ahead,
            random=lambda: 0.5,
        )
        self.shared = SharedBreakers(self.breakers, url, period=0.05, lease=lease, **options)

    def tried(self, outcome: Outcome, times: int = 1, retry_after: int | None = None) -> None:
        for _ in range(times):
            mark = self.breakers.began(PLACE)
            report(self.breakers, PLACE, outcome, mark, retry_after=retry_after)

    @property
    def state(self) -> str:
        known = self.breakers.conditions().get(PLACE)
        return "" if known is None else known.state


@asynccontextmanager
async def processes(
    url: str, count: int = 2, terms: BreakerPolicy = TERMS, lease: float = 60.0, **options: Any
) -> AsyncIterator[list[Process]]:
    async with AsyncExitStack() as stack:
        made = [Process(url, terms, 1000.0 * n, lease, **options) for n in range(count)]
        for process in made:
            await process.shared.start()
            stack.push_async_callback(process.shared.aclose)
        yield made


async def test_what_breaks_here_is_broken_there(redis_url: str) -> None:
    async with processes(redis_url, 3) as (one, two, three):
        one.tried("bad", 5)
        await until(lambda: two.state == three.state == "open")
        for process in (two, three):
            assert not process.breakers.admits(PLACE)
            assert 55 < process.breakers.wait(PLACE) <= 60.1
            assert process.states == ["open"]
    assert one.breakers.alone


async def test_who_comes_later_hears_it_before_its_first_request(redis_url: str) -> None:
    async with processes(redis_url, 1) as (one,), AsyncExitStack() as stack:
        one.tried("bad", 5)
        await until(lambda: bool(one.shared.seen))
        (late,) = await stack.enter_async_context(processes(redis_url, 1))
        assert late.state == "open"


async def test_retry_after_is_shared(redis_url: str) -> None:
    async with processes(redis_url) as (one, two):
        one.tried("bad", retry_after=50)
        await until(lambda: two.state == "closed")
        assert 45 < two.breakers.wait(PLACE) <= 50.1
        two.tried("good")
        assert two.breakers.admits(PLACE)
        await until(lambda: one.breakers.admits(PLACE))
        assert one.states == two.states == []


async def test_one_process_probes_and_all_learn_what_came_of_it(
    redis_url: str, redis_server: RedisServer
) -> None:
    async with processes(redis_url, 3, SHORT) as everybody:
        everybody[0].tried("bad", 5)
        await until(lambda: all(process.state == "open" for process in everybody))
        admitted: list[Process] = []

        def ask() -> bool:
            admitted.extend(process for process in everybody if process.breakers.admits(PLACE))
            return bool(admitted)

        await until(ask)
        assert len(admitted) == 1
        prober = admitted[0]
        mark = prober.breakers.began(PLACE)
        others = [process for process in everybody if process is not prober]
        leases: set[int] = set()
        with redis_server.client() as client:

            def renewed() -> bool:
                assert not any(process.breakers.admits(PLACE) for process in everybody)
                kept = client.hget(KEY, '["one","m"]')
                leases.add(json.loads(kept)[5])
                return len(leases) > 4

            await until(renewed)
        prober.breakers.ended(PLACE, "bad", mark)
        assert prober.breakers.shared_state(PLACE).level == 2
        await until(lambda: all(p.breakers.shared_state(PLACE).level == 2 for p in others))
        await until(lambda: any(process.breakers.admits(PLACE) for process in everybody))
        prober = next(process for process in everybody if process.breakers.admits(PLACE))
        prober.tried("good")
        await until(lambda: all(process.state == "closed" for process in everybody))
        assert all(process.breakers.admits(PLACE) for process in everybody)


async def test_leave_to_probe_that_is_not_used_goes_to_who_can_use_it(redis_url: str) -> None:
    async with processes(redis_url, 2, SHORT, lease=0.2) as (one, two):
        one.tried("bad", 5)
        await until(lambda: two.state == "open")
        await until(lambda: one.breakers.admits(PLACE))  # and makes no use of it
        await until(lambda: two.breakers.admits(PLACE))
        two.tried("good")
        await until(lambda: one.state == "closed")


async def test_a_process_that_dies_over_its_probe(redis_url: str) -> None:
    async with processes(redis_url, 2, SHORT, lease=0.2) as (one, two):
        one.tried("bad", 5)
        await until(lambda: two.state == "open")
        await until(lambda: one.breakers.admits(PLACE))
        one.breakers.began(PLACE)
        await one.shared.aclose()
        await until(lambda: two.breakers.admits(PLACE))


async def test_without_redis_each_for_itself(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with processes(server.url()) as (one, two):
        server.stop()
        await until(lambda: one.breakers.alone and two.breakers.alone)
        one.tried("bad", 5)
        assert not one.breakers.admits(PLACE)
        assert two.breakers.admits(PLACE)
        server.start()
        await until(lambda: two.state == "open")
        await until(lambda: not one.breakers.alone and not two.breakers.alone)
    lines = [record.message for record in caplog.records if "shared" in record.message]
    assert sum("not shared" in line for line in lines) == 2  # one of each process
    assert sum("shared again" in line for line in lines) == 2


async def test_redis_that_has_forgotten_closes_nothing(
    redis_url: str, redis_server: RedisServer
) -> None:
    async with processes(redis_url) as (one, two):
        one.tried("bad", 5)
        await until(lambda: two.state == "open")
        await until(lambda: bool(one.shared.seen))
        redis_server.flush()
        await until(lambda: not one.shared.seen and not two.shared.seen)
        assert one.state == two.state == "open"


async def test_silent_redis_delays_no_process(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with processes(server.url(), 2, SHORT) as (one, two):
        one.tried("bad", 5)
        await until(lambda: two.state == "open")
        server.freeze()
        await until(lambda: one.breakers.alone and two.breakers.alone)
        assert caplog.text.count("not shared") == 2
        await until(lambda: one.breakers.admits(PLACE) and two.breakers.admits(PLACE))
        one.tried("good")
        assert one.state == "closed"
        assert two.state == "open"
        server.thaw()
        await until(lambda: not one.breakers.alone and not two.breakers.alone)
        two.tried("good")
        assert two.state == "closed"


async def test_who_was_away_opens_nothing_that_others_have_closed(redis_url: str) -> None:
    async with processes(redis_url, 2, SHORT) as (one, two):
        one.tried("bad", 5)
        await until(lambda: two.state == "open")
        await one.shared.aclose()
        await until(lambda: two.breakers.admits(PLACE))
        two.tried("good")
        await until(lambda: not two.shared.unsent)
        await one.shared.start()
        assert one.state == "closed"
        one.tried("bad", retry_after=1)
        await until(lambda: not two.breakers.admits(PLACE))  # it has heard from one since
        assert two.states == ["open", "half_open", "closed"]


async def test_without_redis_from_the_beginning(tmp_path: Path) -> None:
    async with processes(f"unix://{tmp_path}/none.sock", 1) as (one,):
        assert one.breakers.alone
        one.tried("bad", 5)
        assert one.state == "open"


async def test_redis_keeps_none_of_it_for_good(redis_url: str, redis_server: RedisServer) -> None:
    async with processes(redis_url, 1, SHORT, keep=0.4) as (one,):
        one.tried("bad", 5)
        await until(lambda: bool(one.shared.seen))
        with redis_server.client() as client:
            assert 0 < client.pttl(KEY) <= 400
            await until(lambda: not one.shared.seen)
            assert client.hlen(KEY) == 0
        assert one.state == "open"


async def test_names_without_end_do_not_fill_redis(
    redis_url: str, redis_server: RedisServer
) -> None:
    async with processes(redis_url, most=10) as (one, two):
        for n in range(50):
            place = Target("one", f"made up {n}")
            mark = one.breakers.began(place)
            one.breakers.ended(place, "bad", mark, retry_after=60)
        await until(lambda: len(two.breakers.conditions()) == 10)
        with redis_server.client() as client:
            assert client.hlen(KEY) == 10


async def test_what_is_not_to_be_shared_stays_here(
    redis_url: str, redis_server: RedisServer
) -> None:
    """Each process probes such a place by itself."""
    one, two = (
        Process(redis_url, SHORT, 0.0, 60.0, shared=lambda place: place != PLACE) for _ in "ab"
    )
    await one.shared.start()
    await two.shared.start()
    try:
        one.tried("bad", TERMS.min_failures, retry_after=1)
        assert not one.breakers.admits(PLACE)
        other = Target("one", "shared")
        two.breakers.ended(other, "bad", two.breakers.began(other), retry_after=1)
        await until(lambda: not one.breakers.admits(other))
        assert two.breakers.admits(PLACE)
        with redis_server.client() as client:
            assert client.hkeys(KEY) == [b'["one","shared"]']
        await until(lambda: one.breakers.admits(PLACE))
        one.tried("good")
        assert one.state == "closed"
    finally:
        await one.shared.aclose()
        await two.shared.aclose()


async def test_what_somebody_else_wrote_is_passed_over(
    redis_url: str, redis_server: RedisServer
) -> None:
    with redis_server.client() as client:
        client.hset(KEY, "not a place", '["o",1,9e12,0,"",0,"1"]')
        client.hset(KEY, '["only"]', '["o",1,9e12,0,"",0,"1"]')
    async with processes(redis_url) as (one, two):
        one.tried("bad", 5)
        await until(lambda: two.state == "open")
        assert list(two.breakers.conditions()) == [PLACE]


async def test_a_close_overtakes_no_newer_opening(redis_url: str) -> None:
    """An answer that was under way when the place broke here says nothing of that."""
    async with processes(redis_url, 2, SHORT) as (one, two):
        one.tried("bad", 5)
        await until(lambda: two.state == "open")
        await until(lambda: one.breakers.admits(PLACE))
        one.tried("good")
        await until(lambda: two.state == "closed")
        two.tried("bad", 5)
        await until(lambda: one.states == ["open", "half_open", "closed", "open"])
        assert two.states[-1] == "open"
