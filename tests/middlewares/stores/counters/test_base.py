"""What all counters have to do, in memory and in a real Redis, by a clock of the test's own."""

import asyncio
import multiprocessing
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewares.limits import Budget, Limits, Rate, Window
from middlewares.stores.counters.base import (
    LIFETIME,
    AccountStatus,
    Check,
    Counters,
    Hold,
    InsufficientFunds,
    Spent,
    Unknown,
)
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.counters.redis import RedisCounters
from middlewares.stores.errors import CountersUnavailable
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import NOON, Clock

HOURS = Window("5h", 18_000.0, 100)
WEEK = Window("7d", 604_800.0, 300)
BOTH = Budget(windows=(HOURS, WEEK))
PREPAID = Budget(credits=True)
EMPTY = Spent()


async def restored(
    counters: Counters, spent: Spent = EMPTY, settled: Sequence[str] = (), account: str = "a"
) -> None:
    seen, _ = await counters.version(account)
    assert await counters.restore(account, spent, settled, seen)


async def reserve(
    counters: Counters,
    hold: str,
    amount: int,
    budget: Budget = BOTH,
    *,
    least: int = 1000,
    now: float = NOON,
) -> Hold | InsufficientFunds | None:
    answer = await counters.reserve("a", hold, amount, least, budget, now)
    return None if isinstance(answer, Unknown) else answer


async def held(counters: Counters, hold: str, amount: int, budget: Budget = BOTH) -> Hold:
    answer = await reserve(counters, hold, amount, budget)
    assert isinstance(answer, Hold)
    return answer


async def status(counters: Counters, budget: Budget = BOTH, now: float = NOON) -> AccountStatus:
    answer = await counters.status("a", budget, now)
    assert answer is not None
    return answer


# Rates


async def test_a_rate_with_burst(counters: Counters) -> None:
    """60/min + 10: 70 at once, then one each second."""
    check = [Check("requests", Rate(60, 60.0, 10))]
    first = await counters.admit("k", check, now=NOON)
    assert first.admitted
    [level] = first.levels
    assert (level.name, level.limit, level.remaining) == ("requests", 60, 59)
    assert level.reset == NOON + 1
    for _ in range(69):
        assert (await counters.admit("k", check, now=NOON)).admitted
    refused = await counters.admit("k", check, now=NOON)
    assert not refused.admitted
    assert refused.lacking == "requests"
    assert refused.wait == pytest.approx(1.0)
    assert (refused.levels[0].remaining, refused.levels[0].reset) == (0, NOON + 70)
    assert not (await counters.admit("k", check, now=NOON + 0.99)).admitted
    assert (await counters.admit("k", check, now=NOON + 1)).admitted
    assert not (await counters.admit("k", check, now=NOON + 1)).admitted
    assert (await counters.admit("another", check, now=NOON)).admitted
    [rested], _ = await counters.levels("k", check, now=NOON + 100)
    assert (rested.remaining, rested.reset) == (60, NOON + 100)


@pytest.mark.parametrize(
    "rate", [Rate(60, 60.0, 10), Rate(5000, 600.0), Rate(7, 3.0, 2), Rate(1_000_003, 60.0)]
)
async def test_after_the_wait_it_is_admitted(counters: Counters, rate: Rate) -> None:
    bulk = [Check("requests", rate, rate.count + rate.burst)]
    one = [Check("requests", rate)]
    assert (await counters.admit("k", bulk, now=NOON)).admitted
    now = NOON
    for _ in range(50):
        refused = await counters.admit("k", one, now=now)
        assert not refused.admitted and refused.wait > 0
        now += refused.wait
        assert (await counters.admit("k", one, now=now)).admitted


async def exact(counters: Counters, who: str, rate: Rate, moments: Sequence[int]) -> None:
    """Against the same rate in fractions. moments: in milliseconds, ascending."""
    check = [Check("requests", rate)]
    speed = Fraction(rate.count) / Fraction(rate.seconds)
    depth = rate.count + rate.burst
    level, at, admitted = Fraction(0), Fraction(0), 0
    for moment in moments:
        now = Fraction(moment, 1000)
        level, at = max(Fraction(0), level - (now - at) * speed), now
        if level + 1 <= depth:
            level += 1
            admitted += 1
        verdict = await counters.admit(who, check, now=NOON + moment / 1000)
        admitted -= verdict.admitted
        assert abs(admitted) <= 1


RATES = st.builds(
    Rate,
    st.integers(1, 400),
    st.sampled_from([1.0, 60.0, 600.0, 7.0]),
    st.integers(0, 20),
)
GAPS = st.lists(st.one_of(st.just(0), st.integers(0, 40), st.integers(0, 5_000)), max_size=300)


@given(RATES, GAPS)
@settings(max_examples=150)
async def test_exact_to_one_request_in_memory(rate: Rate, gaps: list[int]) -> None:
    moments = [sum(gaps[: n + 1]) for n in range(len(gaps))]
    await exact(MemoryCounters(), "k", rate, moments)


@pytest.mark.parametrize("gap", [0.7, 1.0, 93.0, 119.0, 121.0, 250.0])
async def test_ten_minutes(counters: Counters, gap: float) -> None:
    """Steady arrivals around the rate of 5000 in ten minutes, one each 120 ms."""
    moments = [int(n * gap) for n in range(min(6000, int(600_000 / gap)))]
    await exact(counters, "k", Rate(5000, 600.0), moments)


async def test_all_or_nothing(counters: Counters) -> None:
    requests, tokens = Rate(2, 60.0), Rate(1000, 60.0)
    first = await counters.admit(
        "k", [Check("requests", requests), Check("tokens", tokens, 900)], now=NOON
    )
    assert first.admitted and [level.name for level in first.levels] == ["requests", "tokens"]
    refused = await counters.admit(
        "k", [Check("requests", requests), Check("tokens", tokens, 400)], now=NOON
    )
    assert (refused.admitted, refused.lacking) == (False, "tokens")
    assert refused.wait == pytest.approx(18.0)  # 300 tokens at 1000 a minute
    assert [level.remaining for level in refused.levels] == [1, 100]
    # Both lack: the longer wait, and its name.
    assert (await counters.admit("k", [Check("requests", requests)], now=NOON)).admitted
    refused = await counters.admit(
        "k", [Check("requests", requests), Check("tokens", tokens, 400)], now=NOON
    )
    assert refused.lacking == "requests"
    assert refused.wait == pytest.approx(30.0)


async def test_more_than_there_ever_is_can_be_owed(counters: Counters) -> None:
    rate = Rate(100, 60.0)
    assert (await counters.admit("k", [Check("tokens", rate, 250)], now=NOON)).admitted
    refused = await counters.admit("k", [Check("tokens", rate, 250)], now=NOON)
    assert not refused.admitted
    assert refused.wait == pytest.approx(150.0)
    assert refused.levels[0].remaining == 0
    assert not (await counters.admit("k", [Check("tokens", rate, 0)], now=NOON + 89)).admitted
    assert (await counters.admit("k", [Check("tokens", rate, 0)], now=NOON + 90)).admitted
    assert (await counters.admit("k", [Check("tokens", rate, 250)], now=NOON + 150)).admitted


async def test_charged_after_the_fact(counters: Counters) -> None:
    rate = Rate(100, 100.0)
    counters.charge("k", Check("tokens", rate, 130), NOON)
    [level], _ = await counters.levels("k", [Check("tokens", rate)], now=NOON)
    assert (level.remaining, level.reset) == (0, NOON + 130)
    counters.charge("k", Check("tokens", rate, -60), NOON)
    [level], _ = await counters.levels("k", [Check("tokens", rate)], now=NOON)
    assert (level.remaining, level.reset) == (30, NOON + 70)
    counters.charge("k", Check("tokens", rate, -500), NOON)
    [level], _ = await counters.levels("k", [Check("tokens", rate)], now=NOON)
    assert (level.remaining, level.reset) == (100, NOON)


async def test_time_that_goes_back_gives_nothing(counters: Counters) -> None:
    check = [Check("requests", Rate(1, 10.0))]
    assert (await counters.admit("k", check, now=NOON)).admitted
    assert not (await counters.admit("k", check, now=NOON - 5)).admitted
    assert not (await counters.admit("k", check, now=NOON + 9)).admitted
    assert (await counters.admit("k", check, now=NOON + 10)).admitted
    # A clock that was set back by an hour does not lock anybody out for one.
    assert not (await counters.admit("k", check, now=NOON - 3600)).admitted
    assert (await counters.admit("k", check, now=NOON - 3590)).admitted


async def test_without_a_time_the_clock_counts(counters: Counters, clock: Clock) -> None:
    check = [Check("requests", Rate(1, 10.0))]
    assert (await counters.admit("k", check)).admitted
    assert not (await counters.admit("k", check)).admitted
    clock.now += 10
    assert (await counters.admit("k", check)).admitted


async def test_processes_with_clocks_that_differ_agree(redis_url: str) -> None:
    """Without a clock of their own Redis' counts."""
    check = [Check("requests", Rate(2, 3600.0))]
    one, other = (
        RedisCounters(redis_url, timeout=10.0, quarantine=0.0),
        RedisCounters(redis_url, timeout=10.0),
    )
    await one.start()
    await other.start()
    verdicts = [await counters.admit("k", check) for counters in (one, other, one, other)]
    assert [verdict.admitted for verdict in verdicts] == [True, True, False, False]
    assert verdicts[0].levels[0].reset > 1.7e9
    await one.aclose()
    await other.aclose()


# Slots


async def test_slots(counters: Counters) -> None:
    check = [Check("requests", Rate(100, 60.0))]
    for lease in ("one", "two"):
        assert (await counters.admit("k", check, slots=2, lease=lease, now=NOON)).admitted
    refused = await counters.admit("k", check, slots=2, lease="three", now=NOON)
    assert (refused.admitted, refused.lacking, refused.wait) == (False, "concurrency", 1.0)
    levels, used = await counters.levels("k", check, now=NOON)
    assert (levels[0].remaining, used) == (98, 2)  # nothing was taken
    # The same lease again needs no second slot.
    assert (await counters.admit("k", (), slots=2, lease="one", now=NOON)).admitted
    counters.release("k", "one")
    counters.release("k", "one")
    counters.release("unknown", "one")
    assert (await counters.levels("k", (), now=NOON))[1] == 1
    assert (await counters.admit("k", (), slots=2, lease="three", now=NOON)).admitted


async def test_a_lease_ends_unless_renewed(
    counters: MemoryCounters | RedisCounters, clock: Clock
) -> None:
    assert (await counters.admit("k", (), slots=1, lease="one")).admitted
    clock.now += LIFETIME - 1
    assert not (await counters.admit("k", (), slots=1, lease="two")).admitted
    counters.renew()
    clock.now += LIFETIME - 1
    assert not (await counters.admit("k", (), slots=1, lease="two")).admitted
    clock.now += 2
    assert (await counters.admit("k", (), slots=1, lease="two")).admitted
    counters.release("k", "one")
    assert (await counters.levels("k", ()))[1] == 1


async def test_one_slot_too_few_is_taken_by_one(counters: Counters) -> None:
    verdicts = await asyncio.gather(
        *[counters.admit("k", (), slots=7, lease=str(n), now=NOON) for n in range(50)]
    )
    assert sum(verdict.admitted for verdict in verdicts) == 7


# Money


async def test_an_unknown_account_has_to_be_restored(counters: Counters) -> None:
    assert await reserve(counters, "h", 10) is None
    assert await counters.status("a", BOTH, NOON) is None
    await restored(counters)
    assert (await held(counters, "h", 10)).starts == {"5h": NOON, "7d": NOON}
    await counters.invalidate("a")
    assert await reserve(counters, "h2", 10) is None
    await restored(counters)
    now = await status(counters)
    assert (now.holds, now.held) == (("h",), {"windows": 10, "credits": 0})


async def test_reserve_resize_convert(counters: Counters) -> None:
    await restored(counters)
    hold = await held(counters, "h", 80)
    assert (hold.amount, hold.source, hold.tight, hold.at) == (80, "windows", False, NOON)
    refused = await reserve(counters, "h2", 30)
    assert refused == InsufficientFunds("5h", 20, NOON + 18_000, held=True)
    counters.resize(hold, 50)
    assert hold.amount == 50
    assert (await status(counters)).held["windows"] == 50
    assert await counters.convert([hold]) == []
    now = await status(counters)
    assert [level.used for level in now.windows] == [50, 50]
    assert [level.reset for level in now.windows] == [NOON + 18_000, NOON + 604_800]
    assert (now.held, now.holds) == ({"windows": 0, "credits": 0}, ())
    assert await reserve(counters, "h2", 60) == InsufficientFunds(
        "5h", 50, NOON + 18_000, held=False
    )


async def test_the_window_named_is_the_one_that_resets_last(counters: Counters) -> None:
    await restored(counters, Spent({"5h": NOON, "7d": NOON}, {"5h": 95, "7d": 295}))
    assert await reserve(counters, "h", 10) == InsufficientFunds(
        "7d", 5, NOON + 604_800, held=False
    )


async def test_the_same_hold_twice_is_one(counters: Counters) -> None:
    await restored(counters, Spent(credits=50))
    for budget, amount in ((BOTH, 60), (PREPAID, 40)):
        first = await held(counters, f"h{amount}", amount, budget)
        assert await held(counters, f"h{amount}", amount, budget) == first
    assert (await status(counters)).held == {"windows": 60, "credits": 40}


async def test_nothing_costs_nothing(counters: Counters) -> None:
    hold = await held(counters, "free", 0)
    assert (hold.amount, hold.source, hold.starts) == (0, "windows", {})
    await restored(counters)
    hold = await held(counters, "free", 0)
    now = await status(counters)
    assert now.holds == () and now.windows[0].start is None
    counters.resize(hold, 0)
    assert await counters.convert([hold]) == []
    counters.drop(hold)


async def test_without_windows_and_credits_nothing_is_refused(counters: Counters) -> None:
    await restored(counters)
    assert (await held(counters, "h", 10**15, Budget())).source == "windows"


async def test_drop(counters: Counters) -> None:
    await restored(counters)
    hold = await held(counters, "h", 100)
    counters.drop(hold)
    counters.drop(hold)
    assert (await status(counters)).held == {"windows": 0, "credits": 0}
    assert (await held(counters, "h2", 100)).amount == 100


# Which purse


async def test_the_order_of_purses(counters: Counters) -> None:
    both = Budget(windows=(HOURS,), credits=True)
    await restored(counters, Spent(credits=70))
    assert (await held(counters, "windows", 60, both)).source == "windows"
    hold = await held(counters, "credits", 60, both)
    assert (hold.source, hold.starts, hold.tight) == ("credits", {}, False)
    # Neither has 60: what is left of the windows, before what is left of the credits.
    answer = await reserve(counters, "tight", 60, both, least=10)
    assert isinstance(answer, Hold)
    assert (answer.source, answer.amount, answer.tight) == ("windows", 40, True)
    # One tight hold at a time.
    assert await reserve(counters, "second", 60, both, least=5) == InsufficientFunds(
        "5h", 0, NOON + 18_000, held=True
    )
    assert (await status(counters, both)).held == {"windows": 100, "credits": 60}
    counters.resize(answer, 45)  # it cost more: known now, so another may be tight
    second = await reserve(counters, "second", 60, both, least=5)
    assert isinstance(second, Hold)
    assert (second.source, second.amount, second.tight) == ("credits", 10, True)
    assert await counters.convert([hold, answer]) == []
    now = await status(counters, both)
    assert (now.credits, now.windows[0].used) == (10, 45)


async def test_credits_alone(counters: Counters) -> None:
    await restored(counters, Spent(credits=70))
    hold = await held(counters, "h", 50, PREPAID)
    assert await reserve(counters, "h2", 50, PREPAID) == InsufficientFunds("", 20, None, held=True)
    counters.resize(hold, 65)
    assert await counters.convert([hold]) == []
    assert (await status(counters, PREPAID)).credits == 5
    assert await reserve(counters, "h3", 50, PREPAID) == InsufficientFunds("", 5, None, held=False)
    least = await reserve(counters, "h4", 50, PREPAID, least=5)
    assert isinstance(least, Hold) and (least.amount, least.tight) == (5, True)


async def test_debt_of_credits(counters: Counters) -> None:
    await restored(counters, Spent(credits=-20))
    assert await reserve(counters, "h", 1, PREPAID, least=0) == InsufficientFunds(
        "", 0, None, held=False
    )


# Periods


async def test_a_first_use_window_begins_with_the_reserve_after_its_end(
    counters: MemoryCounters | RedisCounters, clock: Clock
) -> None:
    await restored(counters)
    late = await held(counters, "late", 30)
    assert await counters.convert([await held(counters, "h", 60)]) == []
    over = NOON + 18_000
    clock.now = over - 1
    counters.renew()
    assert (await status(counters, now=over - 1)).windows[0].used == 60
    clock.now = over + 300
    counters.renew()
    idle = (await status(counters, now=over + 100)).windows
    assert (idle[0].used, idle[0].start, idle[0].reset) == (0, None, None)
    assert idle[1].used == 60
    # 30 run still: they count in no later period, but until then they are in the way.
    answer = await reserve(counters, "next", 70, now=over + 200)
    assert isinstance(answer, Hold)
    assert answer.starts == {"5h": over + 200, "7d": NOON}
    assert await counters.convert([late, answer]) == []
    windows = (await status(counters, now=over + 300)).windows
    assert [level.used for level in windows] == [70, 160]


async def test_a_refusal_begins_no_window(counters: Counters) -> None:
    await restored(counters)
    refused = await reserve(counters, "h", 200, least=150)
    assert refused == InsufficientFunds("5h", 100, NOON + 18_000, held=False)
    assert (await status(counters)).windows[0].start is None


@pytest.mark.parametrize(
    ("window", "before", "after", "start"),
    [
        (Window("1d", 86_400.0, 100, aligned=True), NOON, NOON + 43_200, NOON + 43_200),
        # 2026-11-23 was a Monday.
        (Window("7d", 604_800.0, 100, aligned=True), NOON, NOON + 129_600, NOON + 129_600),
        # 2026-12-01
        (Window("calendar month", None, 100), NOON, NOON + 820_800, NOON + 820_800),
    ],
)
async def test_aligned_windows(
    counters: Counters, window: Window, before: float, after: float, start: float
) -> None:
    budget = Budget(windows=(window,))
    await restored(counters)
    answer = await reserve(counters, "h", 100, budget, now=before)
    assert isinstance(answer, Hold)
    assert await counters.convert([answer]) == []
    refused = await reserve(counters, "h2", 10, budget, now=after - 1)
    assert refused == InsufficientFunds(window.name, 0, start, held=False)
    answer = await reserve(counters, "h3", 10, budget, now=after + 5)
    assert isinstance(answer, Hold) and answer.starts == {window.name: start}
    # A process whose clock is behind does not take the period back.
    answer = await reserve(counters, "h4", 10, budget, now=after - 1)
    assert isinstance(answer, Hold) and answer.starts == {window.name: start}


# What is lost


def its_process_dies(counters: MemoryCounters | RedisCounters) -> None:
    """Open holds and leases are not renewed any more."""
    if isinstance(counters, RedisCounters):
        counters._holds.clear()


async def test_a_hold_ends_unless_renewed(
    counters: MemoryCounters | RedisCounters, clock: Clock
) -> None:
    await restored(counters)
    await held(counters, "h", 100)
    clock.now += LIFETIME - 1
    counters.renew()
    clock.now += LIFETIME - 1
    refused = await reserve(counters, "h2", 10, now=clock.now)
    assert isinstance(refused, InsufficientFunds) and refused.held
    clock.now += 2
    its_process_dies(counters)
    # What became of its request only the ledger knows.
    assert await reserve(counters, "h2", 10, now=clock.now) is None
    await restored(counters)
    for _ in range(2):
        now = await status(counters, now=clock.now)
        assert (now.held, now.holds) == ({"windows": 0, "credits": 0}, ())


async def test_a_hold_that_has_ended_is_not_found(
    counters: MemoryCounters | RedisCounters, clock: Clock
) -> None:
    await restored(counters)
    hold = await held(counters, "h", 100)
    its_process_dies(counters)
    clock.now += LIFETIME + 1
    assert await counters.status("a", BOTH, clock.now) is None
    assert await counters.convert([hold]) == [hold]


async def test_resize_of_a_lost_hold_makes_it_again(
    counters: MemoryCounters | RedisCounters, clock: Clock
) -> None:
    await restored(counters)
    hold = await held(counters, "h", 100)
    its_process_dies(counters)
    clock.now += LIFETIME + 1
    assert await counters.status("a", BOTH, clock.now) is None
    await restored(counters)
    counters.resize(hold, 40)
    assert (await status(counters)).held["windows"] == 40
    assert await counters.convert([hold]) == []
    assert (await status(counters)).held["windows"] == 0


async def test_a_conversion_during_a_restoration(counters: Counters) -> None:
    await restored(counters)
    hold = await held(counters, "h", 60)
    counters.resize(hold, 50)
    await counters.invalidate("a")
    seen, ids = await counters.version("a")
    assert ids == ("h",)
    # The ledger is asked, and then the row is written and converted:
    assert await counters.convert([hold]) == []
    assert not await counters.restore("a", Spent(), (), seen)
    assert await counters.status("a", BOTH, NOON) is None
    seen, ids = await counters.version("a")
    assert ids == ()
    assert await counters.restore("a", Spent({"5h": NOON}, {"5h": 50}), (), seen)
    assert (await status(counters)).windows[0].used == 50


async def test_what_the_ledger_has_already_is_not_converted_twice(counters: Counters) -> None:
    await restored(counters)
    hold = await held(counters, "h", 60)
    other = await held(counters, "other", 10)
    await counters.invalidate("a")
    await restored(counters, Spent({"5h": NOON, "7d": NOON}, {"5h": 60, "7d": 60}), ("h",))
    now = await status(counters)
    assert (now.windows[0].used, now.held["windows"], now.holds) == (60, 10, ("other",))
    assert await counters.convert([hold, other]) == []  # known to be settled: not lost
    assert [level.used for level in (await status(counters)).windows] == [70, 70]
    assert await counters.convert([hold]) == [hold]


async def test_a_second_restoration_sees_the_first(counters: Counters) -> None:
    seen, _ = await counters.version("a")
    assert await counters.restore("a", Spent(), (), seen)
    hold = await held(counters, "h", 60)
    # Its row is in the ledger, which answers somebody who asked for the version before:
    stale = Spent({"5h": NOON, "7d": NOON}, {"5h": 60, "7d": 60})
    assert not await counters.restore("a", stale, (), seen)
    assert await counters.convert([hold]) == []
    assert (await status(counters)).windows[0].used == 60


async def test_restored_periods_that_are_over_do_not_count(counters: Counters) -> None:
    old = NOON - 20_000
    await restored(counters, Spent({"5h": old, "7d": old}, {"5h": 99, "7d": 99}))
    windows = (await status(counters)).windows
    assert [(level.used, level.start) for level in windows] == [(0, None), (99, old)]


async def test_convert_of_many_accounts(counters: Counters) -> None:
    holds = []
    for n in range(300):
        account = f"account {n % 5}"
        if n < 5:
            await restored(counters, account=account)
        answer = await counters.reserve(account, f"h{n}", 1, 1, BOTH, NOON)
        assert isinstance(answer, Hold)
        holds.append(answer)
    stranger = Hold("account 3", "stranger", 7, "windows", NOON, {"5h": NOON})
    missing = await counters.convert([*holds[:100], stranger, *holds[100:]])
    assert missing == [stranger]
    for n in range(5):
        answer_ = await counters.status(f"account {n}", BOTH, NOON)
        assert answer_ is not None
        assert (answer_.windows[0].used, answer_.held["windows"]) == (60, 0)


STEPS = st.tuples(st.integers(1, 60), st.integers(0, 3), st.integers(0, 80))


@given(st.lists(STEPS, max_size=60))
@settings(max_examples=150)
async def test_spent_and_held_add_up(steps: list[tuple[int, int, int]]) -> None:
    """Whatever happens in whatever order: what is open is held, what ended is spent, once."""
    counters = MemoryCounters()
    await restored(counters)
    holds: list[Hold] = []
    spent = 0
    for n, (amount, deed, cost) in enumerate(steps):
        answer = await reserve(counters, f"h{n}", amount, least=1)
        if isinstance(answer, Hold):
            holds.append(answer)
            assert spent + sum(hold.amount for hold in holds) <= 100 or answer.amount == 0
        if deed == 1 and holds:
            counters.drop(holds.pop(0))
        elif deed == 2 and holds:
            hold = holds.pop()
            cost = min(cost, hold.amount)
            counters.resize(hold, cost)
            assert await counters.convert([hold]) == []
            spent += cost
        now = await status(counters)
        assert now.held["windows"] == sum(hold.amount for hold in holds)
        assert now.windows[0].used == spent


# The short ways of one process decide as the long ones

MOVES = st.tuples(
    st.sampled_from((0.0, 1e-6, 0.3, 1.0, 7.0, -0.5, -3.0, 61.0, -3600.0)),
    st.integers(0, 40),
    st.booleans(),
    st.integers(-30, 30),
)


@given(
    st.lists(MOVES, max_size=60),
    st.sampled_from((None, Rate(5, 10.0, 2), Rate(3, 1.0), Rate(2_000_000, 1.0))),
    st.sampled_from((None, Rate(100, 60.0), Rate(7, 0.5))),
    st.sampled_from((None, 1, 3)),
)
@settings(max_examples=300)
async def test_to_take_is_to_be_admitted(
    moves: list[tuple[float, int, bool, int]],
    requests: Rate | None,
    tokens: Rate | None,
    concurrency: int | None,
) -> None:
    limits = Limits(requests, tokens, concurrency)
    short, long = MemoryCounters(), MemoryCounters()
    now, leases = NOON, list[str]()
    for n, (step, cost, over, more) in enumerate(moves):
        now += step
        checks = [] if requests is None else [Check("requests", requests)]
        if tokens is not None:
            checks.append(Check("tokens", tokens, cost))
        lease = f"lease {n}" if concurrency else ""
        asked = await long.admit("k", checks, slots=concurrency or 0, lease=lease, now=now)
        levels = short.take("k", limits, cost, lease, now, True)
        if levels is None:
            answer = await short.admit("k", checks, slots=concurrency or 0, lease=lease, now=now)
            assert (answer.admitted, answer.lacking) == (asked.admitted, asked.lacking)
            assert answer.wait == pytest.approx(asked.wait, abs=1e-5)
            levels = answer.levels
        else:
            assert asked.admitted
        for one, other in zip(levels, asked.levels, strict=True):
            assert (one.name, one.limit) == (other.name, other.limit)
            assert one.remaining == pytest.approx(other.remaining, abs=1)  # at its edge
            assert max(now, one.reset) == pytest.approx(max(now, other.reset), abs=1e-5)
        if asked.admitted:
            leases.append(lease)
        if over and leases:
            lease = leases.pop(0)
            for counters in (short, long):
                counters.release("k", lease)
                if tokens is not None:
                    counters.charge("k", Check("tokens", tokens, more), now)


@given(st.lists(st.tuples(STEPS, st.sampled_from((0.0, 1.0, 17_000.0))), max_size=60))
@settings(max_examples=200)
async def test_to_set_aside_is_to_reserve(steps: list[tuple[tuple[int, int, int], float]]) -> None:
    clock = Clock()
    short, long = MemoryCounters(clock=clock), MemoryCounters(clock=clock)
    for counters in (short, long):
        await restored(counters)
    holds: list[tuple[Hold, Hold]] = []
    for n, ((amount, deed, cost), later) in enumerate(steps):
        clock.now += later
        short.renew()
        long.renew()
        asked = await reserve(long, f"h{n}", amount, least=1, now=clock.now)
        answer: Hold | InsufficientFunds | None = short.set_aside(
            "a", f"h{n}", amount, BOTH, clock.now
        )
        if answer is None:
            answer = await reserve(short, f"h{n}", amount, least=1, now=clock.now)
        assert answer == asked
        if isinstance(answer, Hold) and isinstance(asked, Hold):
            holds.append((answer, asked))
        if deed == 1 and holds:
            short.drop(holds[0][0])
            long.drop(holds.pop(0)[1])
        elif deed == 2 and holds:
            pair = holds.pop()
            for counters, hold in zip((short, long), pair, strict=True):
                counters.resize(hold, min(cost, hold.amount))
                assert await counters.convert([hold]) == []
        elif deed == 3:
            for counters in (short, long):
                await counters.invalidate("a")
                await restored(counters, Spent({"5h": clock.now}, {"5h": cost}))
        assert await status(short, now=clock.now) == await status(long, now=clock.now)


# Memory does not grow


async def test_idle_addresses_are_forgotten(clock: Clock) -> None:
    counters = MemoryCounters(clock=clock)
    check = [Check("requests", Rate(5000, 600.0))]
    await counters.admit("with a slot", check, slots=1, lease="x")
    for n in range(5000):
        clock.now += 0.01  # each is full again after 0.12 s
        await counters.admit(f"address {n}", check)
        assert len(counters._places) < 50
    assert (await counters.levels("with a slot", ()))[1] == 1


async def test_idle_accounts_are_forgotten_but_not_their_holds() -> None:
    counters = MemoryCounters(most=10)
    await restored(counters)
    await held(counters, "h", 100)
    for n in range(100):
        await restored(counters, account=f"account {n}")
    assert len(counters._accounts) <= 11
    assert isinstance(await reserve(counters, "h2", 10), InsufficientFunds)
    forgotten = await counters.reserve("account 0", "h", 10, 10, BOTH, NOON)
    assert forgotten == Unknown("account 0")


# Redis alone


async def test_every_key_expires(redis_server: RedisServer, redis_url: str, clock: Clock) -> None:
    counters = RedisCounters(redis_url, timeout=10.0, clock=clock, quarantine=0.0)
    await counters.start()
    await counters.admit("k", [Check("requests", Rate(60, 60.0))], slots=3, lease="x")
    counters.charge("only charged", Check("tokens", Rate(60, 60.0), 30))
    await counters.version("only asked for")
    await counters.convert([Hold("only converted", "h", 5, "windows", NOON)])
    counters.resize(Hold("only resized", "h", 5, "windows", NOON), 5)
    await restored(counters)
    await held(counters, "h", 10)
    counters.renew()
    await counters.levels("k", ())
    with redis_server.client() as client:
        keys = client.keys()
        assert isinstance(keys, list) and len(keys) == 8
        assert all(0 < int(str(client.ttl(key))) <= 3600 for key in keys)
    await counters.aclose()


async def test_a_flush_loses_nothing_in_flight(
    redis_server: RedisServer, redis_url: str, clock: Clock
) -> None:
    counters = RedisCounters(redis_url, timeout=10.0, clock=clock, quarantine=0.0)
    await counters.start()
    await restored(counters)
    hold = await held(counters, "h", 60)
    await counters.admit("k", (), slots=1, lease="x")
    redis_server.flush()
    assert await reserve(counters, "h2", 60) is None
    await restored(counters)
    assert isinstance(await reserve(counters, "h2", 60), InsufficientFunds)
    counters.renew()
    assert not (await counters.admit("k", (), slots=1, lease="y")).admitted
    assert await counters.convert([hold]) == []
    counters.renew()
    assert (await status(counters)).holds == ()
    await counters.aclose()


async def test_scripts_that_were_forgotten(redis_server: RedisServer, redis_url: str) -> None:
    counters = RedisCounters(redis_url, timeout=10.0, quarantine=0.0)
    await counters.start()
    await restored(counters)
    hold = await held(counters, "h", 60)
    with redis_server.client() as client:
        client.script_flush()
    counters.resize(hold, 40)
    assert (await counters.admit("k", [Check("requests", Rate(1, 60.0))])).admitted
    assert (await status(counters)).held["windows"] == 40
    await counters.aclose()


async def test_a_request_that_leaves_while_it_asks_keeps_nothing(redis_url: str) -> None:
    counters = RedisCounters(redis_url, timeout=10.0, quarantine=0.0)
    await counters.start()
    await restored(counters)
    admit = asyncio.create_task(counters.admit("k", (), slots=1, lease="x"))
    asked = asyncio.create_task(reserve(counters, "h", 60))
    await asyncio.sleep(0)
    for task in (admit, asked):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await counters.levels("k", ()))[1] == 0
    assert (await status(counters)).holds == ()
    await counters.aclose()


async def test_not_started_is_unavailable(redis_url: str) -> None:
    counters = RedisCounters(redis_url)
    with pytest.raises(CountersUnavailable):
        await counters.admit("k", [Check("requests", Rate(1, 60.0))])
    await counters.aclose()


def race(url: str, process: int, results: "multiprocessing.Queue[list[int]]") -> None:
    async def run() -> list[int]:
        counters = RedisCounters(url, timeout=30.0, quarantine=0.0)
        await counters.start()
        answers = await asyncio.gather(
            *[reserve(counters, f"{process}-{n}", 3, least=1) for n in range(200)]
        )
        holds = [answer for answer in answers if isinstance(answer, Hold)]
        for hold in holds[::2]:
            counters.resize(hold, hold.amount)
        assert await counters.convert(holds) == []
        await counters.aclose()
        return [hold.amount for hold in holds]

    results.put(asyncio.run(run()))


async def test_processes_race_for_one_account(redis_url: str) -> None:
    counters = RedisCounters(redis_url, timeout=10.0, quarantine=0.0)
    await counters.start()
    await restored(counters)
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[list[int]] = context.Queue()
    racers = [context.Process(target=race, args=(redis_url, n, results)) for n in range(4)]
    for racer in racers:
        racer.start()
    amounts = [amount for _ in racers for amount in await asyncio.to_thread(results.get, True, 90)]
    for racer in racers:
        racer.join()
    assert sum(amounts) == 100  # 33 of 3 and a tight one of 1
    now = await status(counters)
    assert now.windows[0].used == 100
    assert (now.held["windows"], now.holds) == (0, ())
    await counters.aclose()


# What is remembered of a budget between two requests


async def test_window_that_was_only_read_begins_with_its_first_payment(
    counters: Counters,
) -> None:
    """Refused at noon, and paid by credits after that: neither begins a window."""
    budget = Budget(windows=(Window("30s", 30.0, 100),), credits=True)
    await restored(counters, Spent(credits=500))
    assert isinstance(await reserve(counters, "much", 600, budget), InsufficientFunds)
    paid = await reserve(counters, "paid", 200, budget, now=NOON + 10)
    assert isinstance(paid, Hold) and (paid.source, paid.starts) == ("credits", {})
    first = await reserve(counters, "first", 60, budget, now=NOON + 20)
    assert isinstance(first, Hold) and first.starts == {"30s": NOON + 20}
    second = await reserve(counters, "second", 30, budget, now=NOON + 30)
    assert isinstance(second, Hold) and second.starts == {"30s": NOON + 20}
    later = await reserve(counters, "later", 10, budget, now=NOON + 50)
    assert isinstance(later, Hold) and later.starts == {"30s": NOON + 50}


async def test_what_is_converted_together_counts_for_each_account_and_source(
    counters: Counters,
) -> None:
    budget = Budget(windows=(HOURS, WEEK), credits=True)
    for account in "ab":
        await restored(counters, Spent(credits=1000), account=account)
    holds = []
    for n in range(6):
        account = "ab"[n // 2 % 2]
        amount = 20 if n % 2 else 500  # more than the window has: credits pay
        hold = await counters.reserve(account, f"h{n}", amount, amount, budget, NOON)
        assert isinstance(hold, Hold)
        holds.append(hold)
    lost = Hold("b", "lost", 7, "windows", NOON, {"5h": NOON})
    assert [hold.id for hold in await counters.convert([*holds, lost])] == ["lost"]
    for account, times in (("a", 2), ("b", 1)):
        answer = await counters.status(account, budget, NOON)
        assert answer is not None
        assert [level.used for level in answer.windows] == [20 * times, 20 * times]
        assert answer.credits == 1000 - 500 * times
        assert dict(answer.held) == {"windows": 0, "credits": 0}


async def test_another_budget_of_one_account_is_checked_by_itself(counters: Counters) -> None:
    await restored(counters)
    await held(counters, "one", 90)
    assert isinstance(await reserve(counters, "two", 20), InsufficientFunds)
    wider = Budget(windows=(Window("5h", 18_000.0, 200), WEEK))
    await held(counters, "two", 20, wider)
    assert isinstance(await reserve(counters, "three", 20), InsufficientFunds)
    assert [level.used for level in (await status(counters, wider)).windows] == [0, 0]


DAY = 86_400.0


@pytest.mark.parametrize("aligned", [True, False])
async def test_period_from_before_a_clock_was_set_back_does_not_count(
    counters: Counters, clock: Clock, aligned: bool
) -> None:
    """What is asked next is restored from the ledger, which may know the period of now."""
    day = Budget(windows=(Window("1d", DAY, 100, aligned=aligned),))
    begun = NOON - (43_200 if aligned else 10)
    await restored(counters, Spent({"1d": begun}, {"1d": 30}))
    clock.now = NOON + 3 * DAY
    later = await reserve(counters, "later", 60, day, now=clock.now)
    assert isinstance(later, Hold)
    assert later.starts["1d"] > NOON + DAY
    clock.now = NOON
    assert await counters.status("a", day, NOON) is None
    assert await reserve(counters, "back", 5, day) is None
    await restored(counters, Spent({"1d": begun}, {"1d": 30}))
    back = await reserve(counters, "back", 5, day)
    assert isinstance(back, Hold)
    assert back.starts == {"1d": begun}
    counters.resize(later, 50)
    assert await counters.convert([later]) == []
    if await reserve(counters, "again", 5, day) is None:  # its period was begun by that
        await restored(counters, Spent({"1d": begun}, {"1d": 30}))
    [level] = (await status(counters, day)).windows
    assert (level.start, level.used) == (begun, 30)


async def test_period_that_a_clock_of_another_machine_has_begun_counts(counters: Counters) -> None:
    await restored(counters)
    early = await reserve(counters, "early", 10, now=NOON + 200)
    assert isinstance(early, Hold)
    late = await reserve(counters, "late", 10, now=NOON)
    assert isinstance(late, Hold)
    assert late.starts == early.starts


async def test_slots_taken_before_a_clock_was_set_back_end(
    counters: MemoryCounters | RedisCounters, clock: Clock
) -> None:
    """Slots of a process that died meanwhile are not renewed."""
    clock.now = NOON + DAY
    assert (await counters.admit("k", (), slots=1, lease="dead")).admitted
    if isinstance(counters, MemoryCounters):
        counters.renew()
    else:
        counters._leases.clear()  # it has died
    clock.now = NOON
    counters.renew()
    clock.now = NOON + LIFETIME + 1
    assert (await counters.admit("k", (), slots=1, lease="next")).admitted


async def test_a_debt_of_any_size_is_kept_and_disturbs_no_other(counters: Counters) -> None:
    """An upstream may count whatever it likes; a key that never expires may not be asked for."""
    check = Check("tokens", Rate(60, 60.0))
    for cost in (10**15, 2**64, 10**30):
        counters.charge("k", Check("tokens", Rate(60, 60.0), cost), now=NOON)
        assert not (await counters.admit("k", [check], now=NOON)).admitted
    assert (await counters.admit("other", [check], now=NOON)).admitted
    [level], _ = await counters.levels("k", [check], now=NOON)
    assert level.remaining == 0


async def test_money_beyond_64_bits_saturates(counters: Counters) -> None:
    budget = Budget(windows=(Window("5h", 18_000.0, 10**30),))
    await restored(counters, Spent({"5h": NOON}, {"5h": 2**63 - 10}, 2**63 - 10))
    for number in range(3):
        hold = await held(counters, f"h{number}", 10**15, budget)
        counters.resize(hold, 10**15)
        await counters.convert([hold])
    level = (await status(counters, budget)).windows[0]
    assert level.used >= 2**63 - 10
    await counters.invalidate("a")
    assert await counters.status("a", budget, NOON) is None
    await restored(counters, Spent({"5h": NOON}, {"5h": 5}))
    assert (await status(counters, budget)).windows[0].used == 5
