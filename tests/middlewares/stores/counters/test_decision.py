"""The rule by which a key and its team pay, alone and as all counters carry it out."""

import random
from collections.abc import Sequence
from math import inf

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewares.limits import Budget, Window
from middlewares.stores.counters.base import (
    AccountStatus,
    Counters,
    Hold,
    InsufficientFunds,
    Spent,
    TeamAccount,
    Unknown,
)
from middlewares.stores.counters.decision import Room, Share, decide, in_the_way
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.counters.redis import RedisCounters
from middlewares.stores.errors import CountersRefused
from tests.middlewares.stores.redis_server import RedisServer

from .conftest import NOON, Clock

HOURS = Window("5h", 18_000.0, 100)
WEEK = Window("7d", 604_800.0, 300)
CAPPED = Budget(windows=(HOURS,))
BOTH = Budget(windows=(HOURS,), credits=True)
PREPAID = Budget(credits=True)
TEAM = TeamAccount("team", CAPPED)


# The rule itself

NO = -inf
"""Credits of a budget that does not allow them."""


@pytest.mark.parametrize(
    ("key", "team", "shares"),
    [
        # Windows of both.
        (Room(60, NO, 10), Room(60, NO, 10), ("windows 60", "windows 60")),
        (Room(inf, NO, 10), Room(60, 99, 10), ("windows 60", "windows 60")),
        # Credits of the key before those of the team; a team with room counts it all the same.
        (Room(20, 60, 10), Room(60, 60, 10), ("credits 60", "windows 60")),
        (Room(NO, 60, 10), Room(NO, 60, 10), ("credits 60", "other 60")),
        (Room(60, 60, 10), Room(5, 0, 10), ("credits 60", "other 60")),
        # The team pays for a key that allows credits and has none, or has room itself.
        (Room(20, 0, 10), Room(20, 60, 10), ("other 60", "credits 60")),
        (Room(60, NO, 10), Room(NO, 60, 10), ("windows 60", "credits 60")),
        # Not for one that does not allow credits.
        (Room(5, NO, 10), Room(NO, 60, 10), None),
        (Room(60, 99, 10), Room(5, NO, 10), None),
        # What is left, each its own.
        (Room(20, NO, 10), Room(99, NO, 10), ("windows 20", "windows 60")),
        (Room(20, NO, 10), Room(15, NO, 10), ("windows 20", "windows 15")),
        (Room(9, 30, 10), Room(40, NO, 10), ("credits 30", "windows 40")),
        (Room(9, 8, 10), Room(9, 40, 10), ("other 60", "credits 40")),
        # Needed is all of it while another tight hold is open.
        (Room(20, NO, 60), Room(99, NO, 10), None),
        (Room(20, NO, 10), Room(20, NO, 60), None),
    ],
)
def test_decide_key_and_team_shares(key: Room, team: Room, shares: tuple[str, str] | None) -> None:
    found = decide(60, key, team)
    assert (found and tuple(f"{one.source} {one.amount}" for one in found)) == shares


def test_decide_without_team_sets_nothing_aside_for_one() -> None:
    assert decide(60, Room(80, NO, 10)) == (Share("windows", 60), Share("windows", 60))
    assert decide(60, Room(5, 70, 10)) == (Share("credits", 60), Share("windows", 60))
    assert decide(60, Room(5, 7, 10)) is None


@pytest.mark.parametrize(
    ("key", "team", "lacks"),
    [
        (Room(5, NO, 10), Room(99, NO, 10), "key"),
        (Room(99, NO, 10), Room(5, NO, 10), "team"),
        (Room(5, NO, 10), Room(5, NO, 10), "key team"),
        (Room(5, NO, 10), Room(NO, 99, 10), "key"),  # the team could pay
        (Room(5, 99, 10), Room(5, NO, 10), "team"),
        (Room(NO, 5, 10), Room(99, NO, 10), "key"),
        (Room(5, 5, 10), Room(NO, 5, 10), "key team"),
    ],
)
def test_refusal_names_the_level_that_lacks(key: Room, team: Room, lacks: str) -> None:
    assert decide(60, key, team) is None
    by_key, by_team = in_the_way(key, team)
    assert " ".join(["key"] * by_key + ["team"] * by_team) == lacks


# All counters


async def restored(counters: Counters, account: str, spent: Spent = Spent()) -> None:  # noqa: B008
    seen, _ = await counters.version(account)
    assert await counters.restore(account, spent, (), seen)


async def reserve(
    counters: Counters,
    hold: str,
    amount: int,
    budget: Budget = CAPPED,
    team: TeamAccount = TEAM,
    *,
    account: str = "key",
    least: int = 1000,
) -> Hold | InsufficientFunds | Unknown:
    return await counters.reserve(account, hold, amount, least, budget, NOON, team)


async def held(counters: Counters, hold: str, amount: int, **rest: Budget | TeamAccount) -> Hold:
    answer = await reserve(counters, hold, amount, **rest)  # type: ignore[arg-type]
    assert isinstance(answer, Hold) and answer.team is not None
    return answer


async def status(counters: Counters, account: str, budget: Budget = CAPPED) -> AccountStatus:
    answer = await counters.status(account, budget, NOON)
    assert answer is not None
    return answer


async def used_and_held(counters: Counters, account: str) -> tuple[int, int]:
    now = await status(counters, account)
    return now.windows[0].used, now.held["windows"]


def finish(counters: Counters, hold: Hold, cost: int) -> None:
    for part in hold.parts():
        counters.resize(part, cost)


async def test_reserve_either_account_unknown_names_it_and_holds_nothing(
    counters: Counters,
) -> None:
    assert await reserve(counters, "h", 10) == Unknown("key")
    await restored(counters, "key")
    assert await reserve(counters, "h", 10) == Unknown("team")
    assert await used_and_held(counters, "key") == (0, 0)
    await restored(counters, "team")
    hold = await held(counters, "h", 10)
    assert hold.team is not None and (hold.account, hold.team.account) == ("key", "team")
    assert hold.id == hold.team.id == "h"
    await counters.invalidate("key")
    assert await reserve(counters, "h2", 10) == Unknown("key")
    await counters.invalidate("team")
    await restored(counters, "key")
    assert await reserve(counters, "h2", 10) == Unknown("team")
    assert await used_and_held(counters, "key") == (0, 10)


async def test_hold_of_both_is_resized_dropped_and_converted_in_each(counters: Counters) -> None:
    for account in ("key", "other key", "team"):
        await restored(counters, account)
    one = await held(counters, "one", 40)
    other = await reserve(counters, "two", 30, account="other key")
    assert isinstance(other, Hold)
    assert await used_and_held(counters, "team") == (0, 70)
    finish(counters, one, 25)
    assert await used_and_held(counters, "key") == (0, 25)
    assert await used_and_held(counters, "team") == (0, 55)
    for part in other.parts():
        counters.drop(part)
    assert await counters.convert(one.parts()) == []
    assert await used_and_held(counters, "key") == (25, 0)
    assert await used_and_held(counters, "other key") == (0, 0)
    assert await used_and_held(counters, "team") == (25, 0)
    assert await counters.convert(one.parts()) == one.parts()


async def test_refusal_by_the_team_holds_nothing_of_the_key(counters: Counters) -> None:
    await restored(counters, "key")
    await restored(counters, "team", Spent({"5h": NOON - 60}, {"5h": 80}))
    refused = await reserve(counters, "h", 30)
    assert refused == InsufficientFunds("5h", 20, NOON - 60 + 18_000, held=False, whose="team")
    assert await used_and_held(counters, "key") == (0, 0)
    assert (await status(counters, "key")).windows[0].start is None
    await restored(counters, "key", Spent({"5h": NOON}, {"5h": 90}))
    # Both lack it: the one that resets later.
    refused = await reserve(counters, "h", 30)
    assert refused == InsufficientFunds("5h", 10, NOON + 18_000, held=False, whose="key")


async def test_credits_pay_once_and_count_where_they_are(counters: Counters) -> None:
    theirs = TeamAccount("team", BOTH)
    await restored(counters, "key", Spent({"5h": NOON}, {"5h": 95}))
    await restored(counters, "team", Spent({"5h": NOON}, {"5h": 95}, 50))
    hold = await held(counters, "h", 30, budget=BOTH, team=theirs)
    assert hold.team is not None
    assert (hold.source, hold.team.source, hold.team.starts) == ("other", "credits", {})
    assert hold.parts() == [hold.team]
    assert (await status(counters, "key", BOTH)).holds == ()
    finish(counters, hold, 20)
    assert await counters.convert(hold.parts()) == []
    assert (await status(counters, "team", BOTH)).credits == 30
    assert (await status(counters, "key", BOTH)).windows[0].used == 95
    # The key does not allow credits: those of the team do not help it.
    refused = await reserve(counters, "h2", 30, CAPPED, theirs)
    assert isinstance(refused, InsufficientFunds) and refused.whose == "key"


@pytest.mark.parametrize(
    ("key", "team", "whose", "remaining"),
    [(0, 5, "team", 5), (5, 0, "key", 5), (4, 5, "team", 5), (0, 0, "key", 0)],
)
async def test_refusal_for_lack_of_credits_of_both_names_who_has_more(
    key: int, team: int, whose: str, remaining: int, counters: Counters
) -> None:
    await restored(counters, "key", Spent({}, {}, key))
    await restored(counters, "team", Spent({}, {}, team))
    refused = await reserve(counters, "h", 30, PREPAID, TeamAccount("team", PREPAID), least=30)
    assert isinstance(refused, InsufficientFunds) and refused.window == ""
    assert (refused.whose, refused.remaining, refused.reset) == (whose, remaining, None)


async def test_the_same_hold_in_both_twice_is_one(counters: Counters) -> None:
    for account in ("key", "team"):
        await restored(counters, account)
    first = await held(counters, "h", 40)
    assert await held(counters, "h", 40) == first
    assert await used_and_held(counters, "team") == (0, 40)


async def test_hold_left_in_one_account_is_decided_again(counters: Counters) -> None:
    """The other account was lost after an answer that never came."""
    for account in ("key", "team"):
        await restored(counters, account)
    hold = await held(counters, "h", 40)
    counters.drop(hold)
    again = await held(counters, "h", 60)
    assert again.team is not None and (again.amount, again.team.amount) == (60, 60)
    assert await used_and_held(counters, "key") == (0, 60)
    assert await used_and_held(counters, "team") == (0, 60)


async def test_each_level_holds_what_it_has_left(counters: Counters) -> None:
    await restored(counters, "key", Spent({"5h": NOON}, {"5h": 70}))
    await restored(counters, "team", Spent({"5h": NOON}, {"5h": 80}))
    answer = await reserve(counters, "h", 50, least=10)
    assert isinstance(answer, Hold) and answer.team is not None
    assert (answer.amount, answer.tight) == (30, True)
    assert (answer.team.amount, answer.team.tight) == (20, True)
    # One tight hold at a time: another key of the team waits for it.
    await restored(counters, "other key")
    refused = await reserve(counters, "h2", 5, account="other key", least=1)
    assert isinstance(refused, InsufficientFunds)
    assert (refused.whose, refused.remaining, refused.held) == ("team", 0, True)


async def test_nothing_costs_nothing_of_both(counters: Counters) -> None:
    answer = await reserve(counters, "h", 0)
    assert isinstance(answer, Hold) and (answer.amount, answer.team) == (0, None)


# Against a plain model of the rule

PLANS = ["WW", "CW", "CO", "WC", "OC", "ww", "cW", "cO", "cw", "Wc", "Oc", "wc"]
"""What pays, of the key and of the team, in the order in which it is tried. W: windows that have
all of it; w: windows that have the least; C and c: credits; O: the other level's credits."""

BUDGETS = [
    CAPPED,
    Budget(windows=(HOURS, WEEK)),
    BOTH,
    PREPAID,
    Budget(windows=(Window("5h", 18_000.0, 250), WEEK)),
]


class Account(msgspec.Struct):
    budget: Budget
    used: dict[str, int] = msgspec.field(default_factory=dict)
    credits: int = 0
    holds: dict[str, Hold] = msgspec.field(default_factory=dict)

    def held(self, source: str) -> int:
        return sum(hold.amount for hold in self.holds.values() if hold.source == source)

    def left(self, purse: str) -> int:
        if purse.lower() == "c":
            return self.credits - self.held("credits")
        caps = [(window.cap, window.name) for window in self.budget.windows]
        if not caps:
            return -1 if self.budget.credits else 10**9
        return min(cap - self.used.get(name, 0) for cap, name in caps) - self.held("windows")

    def pays(self, purse: str, amount: int, least: int) -> bool:
        if purse in "OCc" and not self.budget.credits:
            return False
        tight = any(hold.tight for hold in self.holds.values())
        wanted = amount if purse.isupper() or tight else min(amount, max(least, 1))
        return purse == "O" or self.left(purse) >= wanted

    def expected(self, purse: str, amount: int) -> tuple[str, int]:
        source = {"w": "windows", "c": "credits", "o": "other"}[purse.lower()]
        return source, amount if purse == "O" else min(amount, self.left(purse))

    def lacks(self, amount: int, least: int, paid: bool) -> bool:
        return not self.pays("w", amount, least) and not (paid and self.budget.credits)


class Model:
    """Four keys of two teams, and what has to be there."""

    def __init__(self, counters: Counters, name: str, dice: random.Random) -> None:
        self.counters = counters
        self.dice = dice
        self.teams = [f"{name} team {n}" for n in range(2)]
        self.keys = [f"{name} key {n}" for n in range(4)]
        self.accounts = {
            account: Account(dice.choice(BUDGETS), credits=dice.choice((0, 40, 300)))
            for account in (*self.teams, *self.keys)
        }
        self.open: list[Hold] = []
        self.ended: list[Hold] = []
        self.asked = 0

    async def run(self, steps: int) -> None:
        for account in self.accounts:
            await self.restore(account)
        for _ in range(steps):
            deed = self.dice.choice((self.reserve, self.reserve, self.reserve, self.end, self.end))
            await deed()
            if self.ended and self.dice.random() < 0.4:
                await self.convert()
            if self.dice.random() < 0.1:
                account = self.dice.choice((*self.teams, *self.keys))
                self.accounts[account].credits += self.dice.choice((0, 25, -10))
                await self.counters.invalidate(account)
                await self.restore(account)
            await self.compare()

    async def restore(self, account: str) -> None:
        known = self.accounts[account]
        seen, _ = await self.counters.version(account)
        spent = Spent(dict.fromkeys(known.used, NOON), known.used, known.credits)
        assert await self.counters.restore(account, spent, (), seen)

    async def reserve(self) -> None:
        self.asked += 1
        number = self.dice.randrange(4)
        names = self.keys[number], self.teams[number % 2]
        key, team = (self.accounts[name] for name in names)
        amount, least = self.dice.randint(1, 60), self.dice.randint(0, 40)
        hold_id = f"h{self.asked}"
        asked = TeamAccount(names[1], team.budget)
        answer = await self.counters.reserve(
            names[0], hold_id, amount, least, key.budget, NOON, asked
        )
        fits = [
            plan
            for plan in PLANS
            if key.pays(plan[0], amount, least) and team.pays(plan[1], amount, least)
        ]
        if not fits:
            assert isinstance(answer, InsufficientFunds)
            paid = key.pays("c", amount, least) or team.pays("c", amount, least)
            assert {"key": key, "team": team}[answer.whose].lacks(amount, least, paid)
            return
        assert isinstance(answer, Hold) and answer.team is not None
        for part, account, purse in zip((answer, answer.team), (key, team), fits[0], strict=True):
            assert (part.source, part.amount) == account.expected(purse, amount)
            assert part.tight == (part.amount < amount)
            assert set(part.starts) == (
                {window.name for window in account.budget.windows} if purse in "Ww" else set()
            )
        for part in answer.parts():
            self.accounts[part.account].holds[hold_id] = msgspec.structs.replace(part)
        self.open.append(answer)

    async def end(self) -> None:
        if not self.open:
            return
        hold = self.open.pop(self.dice.randrange(len(self.open)))
        cost = self.dice.choice((0, self.dice.randint(1, 70)))
        for part in hold.parts():
            if cost:
                self.counters.resize(part, cost)
                kept = self.accounts[part.account].holds[part.id]
                kept.amount, kept.tight = cost, False
            else:
                self.counters.drop(part)
                del self.accounts[part.account].holds[part.id]
        if cost:
            self.ended.append(hold)

    async def convert(self) -> None:
        parts = [part for hold in self.ended for part in hold.parts()]
        self.dice.shuffle(parts)
        assert await self.counters.convert(parts) == []
        for part in parts:
            account = self.accounts[part.account]
            del account.holds[part.id]
            if part.source == "credits":
                account.credits -= part.amount
            for name in part.starts:
                account.used[name] = account.used.get(name, 0) + part.amount
        self.ended = []

    async def compare(self) -> None:
        for name, account in self.accounts.items():
            now = await self.counters.status(name, account.budget, NOON)
            assert now is not None
            assert {level.name: level.used for level in now.windows} == {
                window.name: account.used.get(window.name, 0) for window in account.budget.windows
            }
            assert now.credits == account.credits
            assert dict(now.held) == {
                "windows": account.held("windows"),
                "credits": account.held("credits"),
            }
            assert set(now.holds) == set(account.holds)


@given(st.randoms(use_true_random=False), st.integers(1, 60))
@settings(max_examples=150)
async def test_random_sequences_in_memory_agree_with_the_model(
    dice: random.Random, steps: int
) -> None:
    await Model(MemoryCounters(clock=Clock()), "m", dice).run(steps)


async def test_random_sequences_agree_with_the_model(counters: Counters) -> None:
    for seed in range(40):
        await Model(counters, f"n{seed}", random.Random(seed)).run(40)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2), st.booleans()), max_size=60),
    st.sampled_from((CAPPED, BOTH)),
)
@settings(max_examples=150)
async def test_to_set_aside_in_both_is_to_reserve(
    steps: Sequence[tuple[int, int, bool]], budget: Budget
) -> None:
    short, long = MemoryCounters(clock=Clock()), MemoryCounters(clock=Clock())
    team = TeamAccount("team", Budget(windows=(Window("5h", 18_000.0, 150),)))
    for each in (short, long):
        for account in ("key 0", "key 1", "team"):
            await restored(each, account)
    holds: list[tuple[Hold, Hold]] = []
    for n, (amount, deed, first) in enumerate(steps):
        account = f"key {first:d}"
        asked = await reserve(long, f"h{n}", amount, budget, team, account=account, least=1)
        answer: Hold | InsufficientFunds | Unknown | None
        answer = short.set_aside_in_both(account, f"h{n}", amount, budget, NOON, team)
        if answer is None:
            answer = await reserve(short, f"h{n}", amount, budget, team, account=account, least=1)
        assert answer == asked
        if isinstance(answer, Hold) and isinstance(asked, Hold):
            holds.append((answer, asked))
        if deed and holds:
            for each, hold in zip((short, long), holds.pop(0), strict=True):
                finish(each, hold, amount if deed == 1 else 0)
                assert await each.convert(hold.parts()) == []
        for name in ("key 0", "key 1", "team"):
            assert await status(short, name) == await status(long, name)


# Redis alone


async def test_cluster_with_accounts_in_two_slots_is_refused_with_a_sentence(
    cluster: RedisServer,
) -> None:
    counters = RedisCounters(cluster.url(), timeout=10.0, quarantine=0.0)
    await counters.start()
    for account in ("key", "team"):
        await restored(counters, account)
    assert isinstance(await counters.reserve("key", "h", 10, 10, CAPPED, NOON), Hold)
    with pytest.raises(CountersRefused, match="needs a Redis that is not a cluster"):
        await reserve(counters, "h2", 10)
    assert await used_and_held(counters, "key") == (0, 10)  # it was not forgotten
    await counters.aclose()
