"""Limits of a key and of its team in one decision, in memory and in a real Redis."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Sequence
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewares.limits import Level, Limits, Rate, tightest
from middlewares.stores.counters.base import LIFETIME, Check, Counters, TeamClaim, Verdict
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.counters.redis import RedisCounters
from tests.middlewares.stores.redis_server import RedisServer

NOON = 1_795_262_400.0  # 2026-11-21 12:00 UTC
OWN, TEAM = Rate(10, 60.0), Rate(4, 60.0)
CHECK = [Check("requests", OWN)]
ITS = TeamClaim("team:t", (Check("requests", TEAM),))


@pytest.fixture(params=["memory", "redis"])
async def counters(request: pytest.FixtureRequest) -> AsyncIterator[Counters]:
    made: MemoryCounters | RedisCounters
    if request.param == "memory":
        made = MemoryCounters(clock=lambda: NOON)
    else:
        url = request.getfixturevalue("redis_url")
        made = RedisCounters(url, timeout=10.0, clock=lambda: NOON, quarantine=0.0)
        await made.start()
    yield made
    await made.aclose()


async def remaining(counters: Counters, who: str, rate: Rate) -> int:
    [level], _ = await counters.levels(who, [Check("requests", rate, 0)], now=NOON)
    return level.remaining


async def slots(counters: Counters, who: str) -> int:
    return (await counters.levels(who, (), now=NOON))[1]


async def test_admit_with_team_takes_of_both_or_of_neither(counters: Counters) -> None:
    for n in range(4):
        verdict = await counters.admit(f"key:{n % 2}", CHECK, now=NOON, team=ITS)
        assert verdict.admitted
        assert [(one.limit, one.remaining) for one in verdict.levels] == [(4, 3 - n)]
    refused = await counters.admit("key:0", CHECK, now=NOON, team=ITS)
    assert (refused.admitted, refused.lacking, refused.whose, refused.both) == (
        False,
        "requests",
        "team",
        False,
    )
    assert refused.wait == pytest.approx(15.0)
    assert await remaining(counters, "key:0", OWN) == 8
    assert await remaining(counters, "team:t", TEAM) == 0
    # A key of no team, and one of another, go on.
    assert (await counters.admit("key:2", CHECK, now=NOON)).admitted
    other = TeamClaim("team:other", (Check("requests", TEAM),))
    assert (await counters.admit("key:3", CHECK, now=NOON, team=other)).admitted


async def test_admit_with_team_refuses_for_the_key_and_takes_none_of_the_team(
    counters: Counters,
) -> None:
    one = [Check("requests", Rate(1, 60.0))]
    assert (await counters.admit("key:0", one, now=NOON, team=ITS)).admitted
    refused = await counters.admit("key:0", one, now=NOON, team=ITS)
    assert (refused.lacking, refused.whose, refused.both) == ("requests", "key", False)
    assert [(level.limit, level.remaining) for level in refused.levels] == [(1, 0)]
    assert await remaining(counters, "team:t", TEAM) == 3


async def test_admit_where_both_lack_names_the_longer_wait(counters: Counters) -> None:
    both = [Check("requests", Rate(1, 600.0))]
    its = TeamClaim("team:t", (Check("requests", Rate(1, 60.0)),))
    assert (await counters.admit("key:0", both, now=NOON, team=its)).admitted
    refused = await counters.admit("key:0", both, now=NOON, team=its)
    assert (refused.whose, refused.both) == ("key", True)
    assert refused.wait == pytest.approx(600.0)
    longer = TeamClaim("team:t", (Check("requests", Rate(1, 6000.0)),))
    refused = await counters.admit("key:0", both, now=NOON, team=longer)
    assert (refused.whose, refused.both) == ("team", True)
    assert refused.wait == pytest.approx(6000.0)


async def test_admit_with_team_names_which_rate_lacks(counters: Counters) -> None:
    tokens = Rate(1000, 60.0)
    own = [Check("requests", OWN), Check("tokens", Rate(5000, 60.0), 800)]
    its = TeamClaim("team:t", (Check("requests", TEAM), Check("tokens", tokens, 800)))
    first = await counters.admit("key:0", own, now=NOON, team=its)
    assert [(level.name, level.limit, level.remaining) for level in first.levels] == [
        ("requests", 4, 3),
        ("tokens", 1000, 200),
    ]
    refused = await counters.admit("key:1", own, now=NOON, team=its)
    assert (refused.lacking, refused.whose) == ("tokens", "team")
    counters.charge("team:t", Check("tokens", tokens, -800), NOON)
    assert (await counters.admit("key:1", own, now=NOON, team=its)).admitted
    counters.charge("key:1", Check("tokens", Rate(5000, 60.0), 4000), NOON)
    counters.charge("team:t", Check("tokens", tokens, -800), NOON)
    refused = await counters.admit("key:1", own, now=NOON, team=its)
    assert (refused.lacking, refused.whose) == ("tokens", "key")
    # A rate that only the team has shows too.
    bare = await counters.admit("key:2", (), now=NOON, team=its)
    assert bare.admitted
    assert [level.name for level in bare.levels] == ["requests", "tokens"]


async def test_slots_of_a_team_are_taken_with_those_of_the_key(counters: Counters) -> None:
    its = TeamClaim("team:t", (), 3)
    for n in range(3):
        asked = await counters.admit(f"key:{n % 2}", (), slots=2, lease=f"l{n}", now=NOON, team=its)
        assert asked.admitted
    refused = await counters.admit("key:1", (), slots=2, lease="l3", now=NOON, team=its)
    assert (refused.lacking, refused.whose, refused.both) == ("concurrency", "team", False)
    assert await slots(counters, "key:1") == 1
    refused = await counters.admit("key:0", (), slots=2, lease="l4", now=NOON, team=its)
    assert (refused.lacking, refused.whose, refused.both) == ("concurrency", "key", True)
    # The same lease again is the same request, in both.
    again = await counters.admit("key:0", (), slots=2, lease="l0", now=NOON, team=its)
    assert again.admitted
    assert await slots(counters, "team:t") == 3
    counters.release("team:t", "l0")
    counters.release("key:0", "l0")
    assert (await counters.admit("key:1", (), slots=2, lease="l3", now=NOON, team=its)).admitted
    # A team that limits slots, and a key that does not.
    refused = await counters.admit("key:5", (), lease="l5", now=NOON, team=its)
    assert (refused.lacking, refused.whose) == ("concurrency", "team")


async def test_slots_of_a_team_end_by_their_lifetime(counters: Counters) -> None:
    """A process that was killed gives nothing back."""
    its = TeamClaim("team:t", (), 1)
    assert (await counters.admit("key:0", (), lease="dead", now=NOON, team=its)).admitted
    almost, later = NOON + LIFETIME - 1, NOON + LIFETIME + 1
    assert not (await counters.admit("key:1", (), lease="l", now=almost, team=its)).admitted
    assert (await counters.admit("key:1", (), lease="l", now=later, team=its)).admitted


async def test_slots_of_a_team_are_renewed(redis_url: str) -> None:
    now = NOON
    async with asyncio.timeout(60):
        one = RedisCounters(redis_url, timeout=10.0, clock=lambda: now, quarantine=0.0)
        await one.start()
        its = TeamClaim("team:t", (), 1)
        assert (await one.admit("key:0", (), slots=1, lease="long", team=its)).admitted
        now += LIFETIME - 1
        one.renew()
        now += LIFETIME - 1
        assert not (await one.admit("key:1", (), slots=1, lease="l", team=its)).admitted
        await one.aclose()


@pytest.mark.parametrize("where", ["memory", "redis"])
async def test_team_of_five_keys_at_once_gets_its_rate_to_the_request(
    request: pytest.FixtureRequest, where: str
) -> None:
    counters: Counters = MemoryCounters(clock=lambda: NOON)
    if where == "redis":
        url = request.getfixturevalue("redis_url")
        counters = RedisCounters(url, timeout=30.0, clock=lambda: NOON, quarantine=0.0)
    await counters.start()
    wide, its = Rate(1000, 60.0), TeamClaim("team:t", (Check("requests", Rate(37, 60.0, 5)),), 40)

    async def one(n: int) -> Verdict:
        checks = [Check("requests", wide)]
        return await counters.admit(
            f"key:{n % 5}", checks, slots=100, lease=f"l{n}", now=NOON, team=its
        )

    verdicts = await asyncio.gather(*[one(n) for n in range(800)])
    assert sum(verdict.admitted for verdict in verdicts) == 40  # the slots, of 42
    for n in range(800):
        counters.release("team:t", f"l{n}")
    verdicts = await asyncio.gather(*[one(n) for n in range(800, 1600)])
    assert sum(verdict.admitted for verdict in verdicts) == 2
    taken = sum([1000 - await remaining(counters, f"key:{n}", wide) for n in range(5)])
    assert taken == 42
    await counters.aclose()


def _ask_from_process(url: str, number: int, count: int, at_once: int) -> int:
    async def main() -> int:
        counters = RedisCounters(url, timeout=60.0, clock=lambda: NOON, quarantine=0.0)
        await counters.start()
        its = TeamClaim(
            "team:t", (Check("requests", Rate(123, 60.0, 4)), Check("tokens", Rate(10**6, 60.0), 7))
        )
        admitted = 0

        async def some(first: int) -> None:
            nonlocal admitted
            for n in range(first, count, at_once):
                checks = [Check("requests", Rate(40, 60.0))]
                verdict = await counters.admit(f"key:{n % 5}", checks, now=NOON, team=its)
                admitted += verdict.admitted

        await asyncio.gather(*[some(first) for first in range(at_once)])
        await counters.aclose()
        return admitted

    return asyncio.run(main())


async def test_four_processes_and_five_keys_get_the_rate_of_their_team_to_the_request(
    redis_url: str, full: bool
) -> None:
    count = 20_000 if full else 400
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        asked = [(redis_url, n, count, 50) for n in range(4)]
        admitted = await asyncio.to_thread(pool.starmap, _ask_from_process, asked)
    assert sum(admitted) == 127
    counters = RedisCounters(redis_url, timeout=10.0, clock=lambda: NOON, quarantine=0.0)
    await counters.start()
    assert await remaining(counters, "team:t", Rate(123, 60.0, 4)) == 0
    keys = [await remaining(counters, f"key:{n}", Rate(40, 60.0)) for n in range(5)]
    assert sum(40 - left for left in keys) == 127  # nothing was taken of what was refused
    await counters.aclose()


# The short way of one process decides as the long one

MOVES = st.tuples(
    st.sampled_from((0.0, 1e-6, 0.3, 1.0, 7.0, -0.5, 61.0, -3600.0)),
    st.integers(0, 40),
    st.integers(0, 2),
    st.booleans(),
)
RATES = st.sampled_from((None, Rate(5, 10.0, 2), Rate(3, 1.0)))
TOKENS = st.sampled_from((None, Rate(100, 60.0), Rate(7, 0.5)))
SLOTS = st.sampled_from((None, 1, 3))
LIMITS = st.builds(Limits, RATES, TOKENS, SLOTS)


def checks_of(limits: Limits, cost: int) -> list[Check]:
    checks = [] if limits.requests is None else [Check("requests", limits.requests)]
    return checks if limits.tokens is None else [*checks, Check("tokens", limits.tokens, cost)]


@given(st.lists(MOVES, max_size=60), LIMITS, LIMITS)
@settings(max_examples=300)
async def test_take_of_both_decides_as_admit(
    moves: list[tuple[float, int, int, bool]], own: Limits, its: Limits
) -> None:
    short, long = MemoryCounters(), MemoryCounters()
    now = NOON
    leases: list[tuple[str, str]] = []
    for n, (step, cost, key, over) in enumerate(moves):
        now += step
        who, lease = f"key:{key}", f"lease {n}" if own.concurrency or its.concurrency else ""
        claim = TeamClaim("team:t", checks_of(its, cost), its.concurrency or 0)
        checks = checks_of(own, cost)
        slots = own.concurrency or 0
        asked = await long.admit(who, checks, slots=slots, lease=lease, now=now, team=claim)
        levels = short.take_of_both(who, own, ("team:t", its), cost, lease, now, True)
        if levels is None:
            answer = await short.admit(who, checks, slots=slots, lease=lease, now=now, team=claim)
            assert (answer.admitted, answer.whose, answer.both) == (
                asked.admitted,
                asked.whose,
                asked.both,
            )
            levels = answer.levels
        else:
            assert asked.admitted
        same(levels, asked.levels, now)
        if asked.admitted and lease:
            leases.append((who, lease))
        if over and leases:
            who, lease = leases.pop(0)
            for counters in (short, long):
                counters.release(who, lease)
                counters.release("team:t", lease)


def same(levels: Sequence[Level], others: Sequence[Level], now: float) -> None:
    by_name = attrgetter("name")
    for one, other in zip(sorted(levels, key=by_name), sorted(others, key=by_name), strict=True):
        assert one.name == other.name
        assert one.remaining == pytest.approx(other.remaining, abs=1)  # at its edge


def test_tightest_has_of_each_rate_what_leaves_less() -> None:
    own = (Level("requests", 60, 5, 1.0), Level("tokens", 900, 10, 1.0))
    its = (Level("requests", 600, 4, 2.0), Level("tokens", 9000, 10, 2.0))
    assert tightest(own, its) == (its[0], own[1])
    assert tightest((), its) == its
    assert tightest(own, ()) == own


async def test_redis_without_the_connection_gives_back_both_slots(
    redis_server: RedisServer,
) -> None:
    """What may have been taken by a call without an answer is taken back, of the team too."""
    its = TeamClaim("team:t", (), 1)
    one = RedisCounters(redis_server.url(0), timeout=0.2, quarantine=0.0)
    other = RedisCounters(redis_server.url(0), timeout=10.0, quarantine=0.0)
    await other.start()
    await one.start()
    redis_server.freeze()
    try:
        with pytest.raises(Exception, match="Redis"):
            await one.admit("key:0", (), slots=1, lease="lost", team=its)
    finally:
        redis_server.thaw()
    async with asyncio.timeout(60):
        while not one.up or await slots(other, "team:t") or await slots(other, "key:0"):
            await asyncio.sleep(0.05)
    assert (await other.admit("key:0", (), slots=1, lease="next", team=its)).admitted
    await one.aclose()
    await other.aclose()
