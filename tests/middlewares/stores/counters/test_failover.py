"""Redis stops or hangs under requests, and comes back."""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from middlewares.limits import Budget, Rate, Window
from middlewares.stores.counters.base import (
    Check,
    Counters,
    Hold,
    InsufficientFunds,
    Spent,
    TeamAccount,
    TeamClaim,
    Unknown,
)
from middlewares.stores.counters.failover import Budgets, Failover, Rates
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.counters.redis import RedisCounters
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.redis_scripts import (
    ADMIT,
    CONVERT,
    DROP_HOLD,
    INVALIDATE,
    PUT_HOLDS,
    READ_ACCOUNT,
    RESERVE,
    RESTORE,
)
from tests.middlewares.stores.cutting import Cutting, tcp
from tests.middlewares.stores.redis_server import RedisServer
from tests.waiting import DEADLINE

NOW = 1_795_262_400.0
BUDGET = Budget(windows=(Window("7d", 604_800.0, 100),))
CHECK = [Check("requests", Rate(2, 3600.0))]


@asynccontextmanager
async def failing_over(
    server: RedisServer,
    *,
    rates: Rates = "local",
    budgets: Budgets = "local",
    timeout: float = 1.0,
    changed: Callable[[bool], None] = lambda up: None,
) -> AsyncIterator[Failover]:
    """With quick looks, so that the tests are."""
    failover = Failover(
        RedisCounters(
            server.url(),
            timeout=timeout,
            connect_timeout=2.0,
            clock=lambda: NOW,
            quarantine=0.0,
        ),
        rates=rates,
        budgets=budgets,
        local=MemoryCounters(clock=lambda: NOW),
        changed=changed,
        clock=lambda: NOW,
        period=0.05,
    )
    await failover.start()
    try:
        yield failover
    finally:
        await failover.aclose()


@asynccontextmanager
async def another(server: RedisServer) -> AsyncIterator[RedisCounters]:
    """Another process."""
    counters = RedisCounters(server.url(), timeout=10.0, clock=lambda: NOW, quarantine=0.0)
    await counters.start()
    try:
        yield counters
    finally:
        await counters.aclose()


async def back(failover: Failover) -> None:
    async with asyncio.timeout(DEADLINE):
        while failover.away:
            await asyncio.sleep(0.01)


async def restored(counters: Counters, spent: int = 0) -> None:
    """From a ledger that says so."""
    seen, _ = await counters.version("a")
    assert await counters.restore("a", Spent({"7d": NOW}, {"7d": spent}), (), seen)


async def reserve(counters: Counters, hold: str, amount: int) -> Hold | InsufficientFunds | None:
    answer = await counters.reserve("a", hold, amount, amount, BUDGET, NOW)
    return None if isinstance(answer, Unknown) else answer


async def held(counters: Counters, hold: str, amount: int) -> Hold:
    answer = await reserve(counters, hold, amount)
    assert isinstance(answer, Hold)
    return answer


async def used_and_held(counters: Counters) -> tuple[int, int]:
    status = await counters.status("a", BUDGET, NOW)
    assert status is not None
    return status.windows[0].used, status.held["windows"]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_one_line_for_each_change(
    server: RedisServer, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    states: list[bool] = []
    async with failing_over(server, changed=states.append) as failover:
        assert (await failover.admit("k", CHECK)).admitted
        assert lines(caplog) == [] and states == []
        (server.stop if how == "stopped" else server.freeze)()
        verdicts = await asyncio.gather(*[failover.admit("k", CHECK) for _ in range(50)])
        # Counted here from now on, from nothing.
        assert sum(verdict.admitted for verdict in verdicts) == 2
        for n in range(200):
            assert not (await failover.admit("k", CHECK)).admitted
            assert (await failover.admit(f"k{n}", CHECK)).admitted
            failover.charge("k", CHECK[0])
            failover.release("k", "unknown")
        assert failover.away
        assert states == [False]
        [line] = lines(caplog)
        assert "do not answer" in line and "rates: local" in line and "budgets: local" in line
        (server.start if how == "stopped" else server.thaw)()
        await back(failover)
        assert states == [False, True]
        assert lines(caplog)[1:] == ["the shared counters answer again"]


async def test_redis_is_away_from_the_start(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.stop()
    async with failing_over(server) as failover:
        assert failover.away and len(lines(caplog)) == 1
        assert (await failover.admit("k", CHECK)).admitted
        server.start()
        await back(failover)
        assert (await failover.admit("k", CHECK)).admitted


async def test_rates_that_are_allowed_or_refused(server: RedisServer) -> None:
    async with (
        failing_over(server, rates="allow") as allows,
        failing_over(server, rates="refuse") as refuses,
    ):
        server.stop()
        for _ in range(10):
            verdict = await allows.admit("k", CHECK, slots=1, lease="x")
            assert verdict.admitted
            assert [level.remaining for level in verdict.levels] == [2]
            with pytest.raises(CountersUnavailable):
                await refuses.admit("k", CHECK)
        levels, used = await allows.levels("k", CHECK)
        assert (levels[0].remaining, levels[0].reset, used) == (2, NOW, 0)
        with pytest.raises(CountersUnavailable):
            await refuses.levels("k", CHECK)
        allows.charge("k", CHECK[0])
        allows.release("k", "x")
        server.start()
        await back(allows)
        await back(refuses)


async def test_slots_are_given_back_where_they_were_taken(server: RedisServer) -> None:
    async with failing_over(server) as failover:
        assert (await failover.admit("k", (), slots=1, lease="shared")).admitted
        server.freeze()
        assert (await failover.admit("k", (), slots=1, lease="local")).admitted
        failover.release("k", "shared")
        assert not (await failover.admit("k", (), slots=1, lease="more")).admitted
        server.thaw()
        await back(failover)
        async with another(server) as other:
            assert (await other.levels("k", ()))[1] == 0
        assert (await failover.admit("k", (), slots=1, lease="again")).admitted
        failover.release("k", "local")
        assert (await failover.levels("k", ()))[1] == 1


async def test_slots_of_a_team_are_given_back_where_they_were_taken(server: RedisServer) -> None:
    its = TeamClaim("t", (), 1)
    async with failing_over(server) as failover:
        assert (await failover.admit("k", (), slots=2, lease="shared", team=its)).admitted
        server.freeze()
        assert (await failover.admit("k", (), slots=2, lease="local", team=its)).admitted
        refused = await failover.admit("k", (), slots=2, lease="more", team=its)
        assert (refused.lacking, refused.whose) == ("concurrency", "team")
        for who in ("k", "t"):
            failover.release(who, "shared")
        server.thaw()
        await back(failover)
        async with another(server) as other:
            assert (await other.levels("t", ()))[1] == (await other.levels("k", ()))[1] == 0
        assert (await failover.admit("k", (), slots=2, lease="again", team=its)).admitted
        for who in ("k", "t"):
            failover.release(who, "local")
        assert (await failover.levels("t", ()))[1] == 1


async def test_levels_of_a_team_that_is_not_counted_are_the_tightest(server: RedisServer) -> None:
    its = TeamClaim("t", (Check("requests", Rate(1, 60.0)),))
    async with failing_over(server, rates="allow") as allows:
        server.stop()
        verdict = await allows.admit("k", CHECK, team=its)
        assert verdict.admitted
        assert [(level.limit, level.remaining) for level in verdict.levels] == [(1, 1)]
        server.start()
        await back(allows)


async def test_what_a_frozen_redis_carries_out_later_is_taken_back(server: RedisServer) -> None:
    """The commands of a connection that was given up are still in Redis' socket when it thaws."""
    async with failing_over(server, budgets="refuse") as failover:
        await restored(failover)
        server.freeze()
        asked = [failover.admit("k", (), slots=9, lease=str(n)) for n in range(5)]
        money = asyncio.gather(
            *[reserve(failover, str(n), 10) for n in range(5)], return_exceptions=True
        )
        await asyncio.gather(*asked)
        assert all(isinstance(answer, CountersUnavailable) for answer in await money)
        server.thaw()
        await back(failover)

        async def nothing() -> bool:
            slots = (await failover.levels("k", ()))[1]
            return (slots, await used_and_held(failover)) == (0, (0, 0))

        async with asyncio.timeout(DEADLINE):
            while not await nothing():
                await asyncio.sleep(0.01)


# Money


async def test_budgets_that_are_refused(server: RedisServer) -> None:
    async with failing_over(server, budgets="refuse") as failover:
        await restored(failover)
        runs, ended, dropped = [await held(failover, name, 20) for name in ("r", "e", "d")]
        converted = await held(failover, "c", 20)
        server.freeze()
        for ask in (
            lambda: reserve(failover, "h", 10),
            lambda: failover.status("a", BUDGET, NOW),
            lambda: failover.version("a"),
            lambda: failover.restore("a", Spent(), (), 0),
        ):
            with pytest.raises(CountersUnavailable):
                await ask()
        failover.resize(ended, 5)
        failover.drop(dropped)
        # Not refused: the account is restored from the ledger once Redis is back.
        assert await failover.convert([converted]) == []
        await failover.invalidate("b")
        server.thaw()
        await back(failover)
        assert await failover.status("a", BUDGET, NOW) is None
        await restored(failover, spent=20)
        assert await used_and_held(failover) == (20, 25)
        async with another(server) as other:
            assert await used_and_held(other) == (20, 25)
        assert await failover.convert([runs, ended]) == []
        assert await used_and_held(failover) == (45, 0)


@pytest.mark.parametrize("how", ["stopped", "frozen"])
async def test_budgets_that_are_counted_locally(server: RedisServer, how: str) -> None:
    """Redis and the memory both know all that this process has in flight."""
    async with failing_over(server) as failover:
        await restored(failover)
        before = await held(failover, "before", 40)
        ended = await held(failover, "ended", 30)
        (server.stop if how == "stopped" else server.freeze)()
        assert await reserve(failover, "h", 40) is None
        await restored(failover)
        assert await used_and_held(failover) == (0, 70)
        refused = await reserve(failover, "h", 40)
        assert isinstance(refused, InsufficientFunds) and (refused.remaining, refused.held) == (
            30,
            True,
        )
        failover.resize(ended, 10)
        assert await failover.convert([ended]) == []
        during = await held(failover, "during", 40)
        gone = await held(failover, "gone", 10)
        failover.drop(gone)
        assert await used_and_held(failover) == (10, 80)
        (server.start if how == "stopped" else server.thaw)()
        await back(failover)
        # Redis knows that it has missed something, and what runs.
        assert await reserve(failover, "h", 20) is None
        await restored(failover, spent=10)
        assert await used_and_held(failover) == (10, 80)
        async with another(server) as other:
            assert await used_and_held(other) == (10, 80)
            failover.resize(during, 35)
            assert await failover.convert([before, during]) == []
            assert await used_and_held(other) == (85, 0)
        # And what was counted locally is forgotten, not found again next time.
        server.stop()
        assert await reserve(failover, "h", 90) is None
        await restored(failover, spent=85)
        assert await used_and_held(failover) == (85, 0)
        server.start()


@pytest.mark.parametrize(
    "first", ["levels", "convert", "status", "version", "restore", "invalidate", "reserve"]
)
async def test_first_request_after_a_failover_is_answered(
    server: RedisServer, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    async with failing_over(server) as failover:
        await restored(failover, spent=10)
        hold = await held(failover, "h", 20)
        seen, _ = await failover.version("a")
        server.freeze()
        if first == "levels":
            assert (await failover.levels("k", CHECK))[0][0].remaining == 2
        elif first == "convert":
            assert await failover.convert([hold]) == []
        elif first == "status":
            assert await failover.status("a", BUDGET, NOW) is None
        elif first == "version":
            assert (await failover.version("a"))[1] == ("h",)
        elif first == "restore":
            # What the ledger said to go with what Redis knew does not go with what is known here.
            ledger = Spent({"7d": NOW}, {"7d": 10})
            assert not await failover.restore("a", ledger, (), seen)
        elif first == "invalidate":
            await failover.invalidate("a")
        else:
            assert await reserve(failover, "another", 20) is None
        assert failover.away and len(lines(caplog)) == 1
        converted = first == "convert"
        await restored(failover, spent=30 if converted else 10)
        assert await used_and_held(failover) == ((30, 0) if converted else (10, 20))
        server.thaw()
        await back(failover)
        if first in ("convert", "invalidate"):
            assert await failover.status("a", BUDGET, NOW) is None
            await restored(failover, spent=30 if converted else 10)
        assert await used_and_held(failover) == ((30, 0) if converted else (10, 20))


async def test_untouched_account_stays_known(server: RedisServer) -> None:
    async with failing_over(server) as failover:
        await restored(failover, spent=30)
        server.freeze()
        assert (await failover.admit("k", CHECK)).admitted
        server.thaw()
        await back(failover)
        assert await used_and_held(failover) == (30, 0)


async def test_a_conversion_that_was_lost_on_its_way(server: RedisServer) -> None:
    """Redis has converted, and its answer did not come."""
    async with failing_over(server, budgets="refuse") as failover:
        await restored(failover)
        hold = await held(failover, "h", 40)
        server.freeze()
        assert await failover.convert([hold]) == []
        server.thaw()
        await back(failover)
        assert await failover.status("a", BUDGET, NOW) is None
        await restored(failover, spent=40)
        assert await used_and_held(failover) == (40, 0)


async def test_a_redis_that_takes_no_writes_is_away(server: RedisServer) -> None:
    """Out of memory, it answers quickly, and counts nothing."""
    async with failing_over(server) as failover:
        with server.client() as client:
            client.config_set("maxmemory", "1")
            client.config_set("maxmemory-policy", "noeviction")
        assert (await failover.admit("k", CHECK)).admitted
        assert failover.away
        with server.client() as client:
            client.config_set("maxmemory", "0")
        await back(failover)


async def test_closing_while_redis_hangs(server: RedisServer) -> None:
    async with failing_over(server) as failover:
        server.freeze()
        assert (await failover.admit("k", CHECK)).admitted
    await failover.aclose()
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize(
    "damage",
    [
        {"credits": "9e99", "held:windows": "lots"},
        {"h:x": "short", "next": "0"},
        {"w:7d": "none", "s:7d": "short"},
    ],
)
async def test_an_account_no_script_can_read_is_restored_and_redis_is_not_away(
    server: RedisServer, damage: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """One account's data are no outage: all others go on, and this one comes from the ledger."""
    async with failing_over(server, budgets="refuse") as failover:
        await restored(failover, spent=40)
        hold = await held(failover, "h1", 10)
        with server.client() as client:
            client.hset("penstock:{a}:money", mapping=damage)
        answer = await reserve(failover, "h2", 5)
        if answer is None:
            await restored(failover, spent=40)
            answer = await held(failover, "h2", 5)
        failover.resize(hold, 3)
        assert isinstance(answer, Hold)
        await failover.convert([hold, answer])
        assert (await failover.admit("k", CHECK)).admitted
        assert not failover.away
    assert "away" not in caplog.text


async def test_money_key_of_another_type_is_no_outage(server: RedisServer) -> None:
    async with failing_over(server, budgets="refuse") as failover:
        with server.client() as client:
            client.set("penstock:{a}:money", "text")
        await failover.invalidate("a")
        await restored(failover, spent=40)
        assert await used_and_held(failover) == (40, 0)
        with server.client() as client:
            client.delete("penstock:{a}:money")
            client.set("penstock:{a}:money", "text")
        assert await failover.status("a", BUDGET, NOW) is None
        assert not failover.away


async def test_rates_of_one_principal_that_cannot_be_read_are_counted_here(
    server: RedisServer,
) -> None:
    async with failing_over(server) as failover:
        with server.client() as client:
            client.set("penstock:{k}:rates", "text")
        assert [(await failover.admit("k", CHECK)).admitted for _ in range(3)] == [1, 1, 0]
        assert len((await failover.levels("k", CHECK))[0]) == 1
        assert not failover.away


@asynccontextmanager
async def through(cutting: Cutting) -> AsyncIterator[Failover]:
    async with tcp(cutting.serve) as port:
        failover = Failover(
            RedisCounters(f"redis://127.0.0.1:{port}", timeout=30.0, quarantine=0.0),
            rates="local",
            budgets="refuse",
            local=MemoryCounters(),
        )
        await failover.start()
        try:
            yield failover
        finally:
            await failover.aclose()


async def test_lost_connection_refuses_no_budget_and_runs_nothing_twice(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Each command about money is carried out, its answer lost with the connection, in turn."""
    cutting = Cutting(server.path)
    async with through(cutting) as failover:
        await restored(failover)
        cutting.cut_at(RESERVE)
        first = await held(failover, "h1", 30)
        cutting.cut_at(RESERVE)
        second, third = await asyncio.gather(held(failover, "h2", 30), held(failover, "h3", 20))
        assert await used_and_held(failover) == (0, 80)
        assert isinstance(await reserve(failover, "h4", 30), InsufficientFunds)
        cutting.cut_at(PUT_HOLDS)
        failover.resize(first, 10)
        assert await used_and_held(failover) == (0, 60)
        cutting.cut_at(DROP_HOLD)
        failover.drop(second)
        assert await used_and_held(failover) == (0, 30)
        cutting.cut_at(READ_ACCOUNT)
        assert await used_and_held(failover) == (0, 30)
        # Whether these are spent now is not known: the ledger is asked.
        cutting.cut_at(CONVERT)
        assert await failover.convert([first, third]) == [first, third]
        await failover.invalidate("a")
        seen, open_ones = await failover.version("a")
        cutting.cut_at(RESTORE)
        while not await failover.restore("a", Spent({"7d": NOW}, {"7d": 30}), open_ones, seen):
            seen, open_ones = await failover.version("a")
        assert await used_and_held(failover) == (30, 0)
        cutting.cut_at(INVALIDATE)
        await failover.invalidate("a")
        assert await reserve(failover, "h5", 10) is None
        assert not failover.away
    assert cutting.cuts == 8
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_rate_whose_answer_is_lost_is_not_taken_twice(server: RedisServer) -> None:
    cutting = Cutting(server.path)
    async with through(cutting) as failover:
        cutting.cut_at(ADMIT)
        verdict = await failover.admit("k", CHECK, slots=5, lease="x")
        assert verdict.admitted and not failover.away
        assert cutting.cuts == 1
        (level,), slots = await failover.levels("k", CHECK)
        assert (level.remaining, slots) == (1, 0)
        failover.release("k", "x")
        assert (await failover.admit("k", CHECK, slots=5, lease="y")).admitted
        assert not (await failover.admit("k", CHECK, slots=5, lease="z")).admitted


async def test_demoted_redis_is_left_for_the_new_primary_and_refuses_no_budget(
    server: RedisServer,
) -> None:
    """Scripts say READONLY in the midst of their error; the connection stays open."""
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    primary = RedisServer(folder)
    name = Cutting(server.path)  # where the name of the primary leads to
    try:
        async with through(name) as failover:
            await restored(failover)
            await held(failover, "h1", 60)
            name.path = name.after = primary.path
            with server.client() as client:
                client.execute_command("REPLICAOF", "127.0.0.1", "1")
            assert await reserve(failover, "h2", 30) is None  # another Redis: not known
            await restored(failover)
            assert isinstance(await reserve(failover, "h2", 60), InsufficientFunds)
            await held(failover, "h2", 30)
            assert await used_and_held(failover) == (0, 90)
            assert not failover.away
    finally:
        primary.stop()
        shutil.rmtree(folder, ignore_errors=True)


# A key and its team

TEAM = TeamAccount("team", BUDGET)


async def both_restored(counters: Counters, spent: int = 0) -> None:
    await restored(counters, spent)
    seen, _ = await counters.version("team")
    assert await counters.restore("team", Spent({"7d": NOW}, {"7d": spent}), (), seen)


async def held_in_both(counters: Counters, hold: str, amount: int) -> Hold:
    answer = await counters.reserve("a", hold, amount, amount, BUDGET, NOW, TEAM)
    assert isinstance(answer, Hold) and answer.team is not None
    return answer


async def team_used_and_held(counters: Counters) -> tuple[int, int]:
    status = await counters.status("team", BUDGET, NOW)
    assert status is not None
    return status.windows[0].used, status.held["windows"]


async def test_holds_of_a_team_are_handed_over_both_ways(server: RedisServer) -> None:
    async with failing_over(server) as failover:
        await both_restored(failover)
        before = await held_in_both(failover, "before", 40)
        server.stop()
        await both_restored(failover)
        assert failover.away
        # The same caps hold here, with what ran before.
        assert await team_used_and_held(failover) == (0, 40)
        refused = await failover.reserve("a", "much", 70, 70, BUDGET, NOW, TEAM)
        assert isinstance(refused, InsufficientFunds)
        meanwhile = await held_in_both(failover, "meanwhile", 30)
        for part in before.parts():
            failover.resize(part, 25)
        assert await failover.convert(before.parts()) == []
        assert await team_used_and_held(failover) == (25, 30)
        server.start()
        await back(failover)
        await both_restored(failover, 25)  # as the ledger says
        assert await used_and_held(failover) == (25, 30)
        assert await team_used_and_held(failover) == (25, 30)
        assert await failover.convert(meanwhile.parts()) == []
        assert await team_used_and_held(failover) == (55, 0)
