"""Counters and ledger together: money is spent once, wherever and however it is counted."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middlewares.limits import Budget, Window
from middlewares.stores import StoreUnavailable
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import (
    LIFETIME,
    Hold,
    InsufficientFunds,
    Spent,
    TeamAccount,
    Unknown,
)
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.memory import MemoryLedgerStore

pytestmark = pytest.mark.simulated_time

HOUR = 3600.0
NOON = 20_000 * 24 * HOUR + 12 * HOUR
BUDGET = Budget(windows=(Window("5h", 5 * HOUR, 1000),))


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


class Ledger(MemoryLedgerStore):
    """Counts its questions; fails or waits on request."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.gone = False
        self.gate: asyncio.Event | None = None

    async def spent(
        self, account: str, now: float, ids: Sequence[str]
    ) -> tuple[Spent, tuple[str, ...]]:
        self.asked += 1
        if self.gone:
            raise StoreUnavailable("no answer in time")
        answer = await super().spent(account, now, ids)
        if self.gate is not None:
            await self.gate.wait()
        return answer


class Billing:
    def __init__(self) -> None:
        self.clock = Clock()
        self.counters = MemoryCounters(clock=self.clock)
        self.ledger = Ledger()
        self.accounts = self.process()

    def process(self) -> Accounts:
        return Accounts(self.counters, self.ledger, clock=self.clock)

    async def hold(self, amount: int = 100, id_: str = "r1", account: str = "a") -> Hold:
        hold = await self.accounts.reserve(account, id_, amount, amount, BUDGET)
        assert isinstance(hold, Hold)
        return hold

    async def used(self, account: str = "a", budget: Budget = BUDGET) -> tuple[int, int, int]:
        """Spent of the window, credits left, held."""
        standing = await self.accounts.status(account, budget)
        return standing.windows[0].used, standing.credits, sum(standing.held.values())

    async def commit(self, *entries: Entry) -> None:
        await self.ledger.append(entries)
        await self.accounts.committed(entries)


@pytest.fixture
def billing() -> Billing:
    return Billing()


def entry(hold: Hold, cost: int, **fields: Any) -> Entry:
    prepaid = hold.source == "credits"
    if hold.team is not None:
        fields |= {
            "team": hold.team.account,
            "team_starts": hold.team.starts,
            "from_team_credits": cost if hold.team.source == "credits" else 0,
        }
    return Entry(
        id=hold.id,
        account=hold.account,
        at=hold.at,
        ended_at=hold.at,
        cost=cost,
        from_credits=cost if prepaid else 0,
        starts={} if prepaid else hold.starts,
        **fields,
    )


def grant(id_: str, account: str, amount: int) -> Entry:
    return Entry(id=id_, kind="credit", account=account, at=NOON, ended_at=NOON, granted=amount)


async def test_from_held_to_spent(billing: Billing) -> None:
    hold = await billing.hold(100)
    assert await billing.used() == (0, 0, 100)
    billing.accounts.resize(hold, 60)
    assert await billing.used() == (0, 0, 60)
    await billing.commit(entry(hold, 60))
    assert await billing.used() == (60, 0, 0)
    assert billing.accounts.holds == 0
    assert billing.ledger.asked == 1


async def test_what_is_dropped_is_forgotten(billing: Billing) -> None:
    billing.accounts.drop(await billing.hold(100))
    assert await billing.used() == (0, 0, 0)
    assert billing.accounts.holds == 0


async def test_lost_account_is_restored_from_the_ledger(billing: Billing) -> None:
    await billing.ledger.append(
        [entry(Hold("a", "r0", 0, "windows", NOON, {"5h": NOON}), 950), grant("g", "a", 7)]
    )
    assert await billing.used() == (950, 7, 0)
    answer = await billing.accounts.reserve("a", "r1", 100, 100, BUDGET)
    assert isinstance(answer, InsufficientFunds)
    assert (answer.window, answer.remaining, answer.reset) == ("5h", 50, NOON + 5 * HOUR)


async def test_many_at_once_ask_the_ledger_once(billing: Billing) -> None:
    billing.ledger.gate = asyncio.Event()
    waiting = [asyncio.create_task(billing.hold(1, f"r{n}")) for n in range(100)]
    other = asyncio.create_task(billing.hold(1, "other", "b"))
    while billing.ledger.asked < 2:
        await asyncio.sleep(0)
    billing.ledger.gate.set()
    holds = await asyncio.gather(*waiting, other)
    assert len({hold.id for hold in holds}) == 101
    assert billing.ledger.asked == 2


async def test_cancelled_waiter_cancels_no_other(billing: Billing) -> None:
    billing.ledger.gate = asyncio.Event()
    first = asyncio.create_task(billing.hold(1, "first"))
    second = asyncio.create_task(billing.hold(1, "second"))
    while not billing.ledger.asked:
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait({first})
    assert first.cancelled()
    billing.ledger.gate.set()
    assert (await second).id == "second"
    assert billing.ledger.asked == 1
    assert (await billing.used())[2] == 1


async def test_what_was_committed_meanwhile_is_asked_for_again(billing: Billing) -> None:
    """A row lands after the ledger has answered and before the answer is written down."""
    hold = await billing.hold(100)
    billing.accounts.resize(hold, 60)
    await billing.counters.invalidate("a")
    billing.ledger.gate = asyncio.Event()
    restoring = asyncio.create_task(billing.used())
    while billing.ledger.asked < 2:
        await asyncio.sleep(0)
    await billing.commit(entry(hold, 60))
    billing.ledger.gate.set()
    assert await restoring == (60, 0, 0)
    assert billing.ledger.asked == 3


async def test_an_account_that_never_rests(billing: Billing) -> None:
    class Restless(MemoryCounters):
        async def restore(self, *args: Any) -> bool:
            return False

    accounts = Accounts(Restless(clock=billing.clock), billing.ledger, clock=billing.clock)
    with pytest.raises(CountersUnavailable, match="'a' changes faster"):
        await accounts.reserve("a", "r1", 1, 1, BUDGET)
    with pytest.raises(CountersUnavailable, match="'a' changes faster"):
        await accounts.status("a", BUDGET)
    assert billing.ledger.asked == 10


# A key and its team

TEAM_OF_A = TeamAccount("t", Budget(windows=(Window("7d", 168 * HOUR, 500),)))
UNLIMITED = Budget()


async def test_either_account_is_restored_by_itself(billing: Billing) -> None:
    """A team is not restored again for each key that is used for the first time."""
    await billing.ledger.append(
        [entry(Hold("x", "r0", 0, "windows", NOON), 40, team="t", team_starts={"7d": NOON})]
    )
    first = await billing.accounts.reserve("a", "r1", 100, 100, BUDGET, TEAM_OF_A)
    assert isinstance(first, Hold) and first.team is not None
    assert billing.ledger.asked == 2
    second = await billing.accounts.reserve("b", "r2", 100, 100, BUDGET, TEAM_OF_A)
    assert isinstance(second, Hold)
    assert billing.ledger.asked == 3
    assert await billing.used("t", TEAM_OF_A.budget) == (40, 0, 200)
    await billing.counters.invalidate("t")
    third = await billing.accounts.reserve("a", "r3", 300, 300, BUDGET, TEAM_OF_A)
    assert billing.ledger.asked == 4
    assert third == InsufficientFunds("7d", 260, NOON + 168 * HOUR, held=True, whose="team")


async def test_row_of_a_team_is_spent_in_both_accounts(billing: Billing) -> None:
    hold = await billing.accounts.reserve("a", "r1", 100, 100, BUDGET, TEAM_OF_A)
    other = await billing.accounts.reserve("b", "r2", 100, 100, BUDGET, TEAM_OF_A)
    assert isinstance(hold, Hold) and isinstance(other, Hold)
    billing.accounts.resize(hold, 60)
    billing.accounts.drop(other)
    assert await billing.used("t", TEAM_OF_A.budget) == (0, 0, 60)
    await billing.commit(entry(hold, 60))
    assert await billing.used("a") == (60, 0, 0)
    assert await billing.used("b") == (0, 0, 0)
    assert await billing.used("t", TEAM_OF_A.budget) == (60, 0, 0)
    assert billing.accounts.holds == 0


async def test_key_without_limits_is_held_in_the_account_of_its_team_only(billing: Billing) -> None:
    hold = await billing.accounts.reserve("a", "r1", 100, 100, UNLIMITED, TEAM_OF_A)
    assert isinstance(hold, Hold) and hold.team is not None
    assert (hold.source, hold.starts, hold.parts()) == ("other", {}, [hold.team])
    assert billing.ledger.asked == 1, "the account of the key was asked for"
    now = billing.accounts.reserve_now("a", "r2", 100, UNLIMITED, TEAM_OF_A)
    assert now is not None and now.parts() == [now.team]
    assert await billing.used("t", TEAM_OF_A.budget) == (0, 0, 200)
    refused = await billing.accounts.reserve("a", "r3", 400, 400, UNLIMITED, TEAM_OF_A)
    assert isinstance(refused, InsufficientFunds) and refused.whose == "team"
    billing.accounts.resize(hold, 70)
    billing.accounts.drop(now)
    await billing.commit(entry(hold, 70))
    assert await billing.used("t", TEAM_OF_A.budget) == (70, 0, 0)
    assert billing.accounts.holds == 0


async def test_row_of_a_dead_process_makes_both_accounts_stale(billing: Billing) -> None:
    lost = await billing.process().reserve("a", "lost", 100, 100, BUDGET, TEAM_OF_A)
    assert isinstance(lost, Hold)
    assert await billing.used("t", TEAM_OF_A.budget) == (0, 0, 100)
    await billing.commit(entry(lost, 60))
    assert await billing.used("a") == (60, 0, 0)
    assert await billing.used("t", TEAM_OF_A.budget) == (60, 0, 0)


async def test_an_answer_that_never_came_holds_nothing_in_either_account(billing: Billing) -> None:
    class Deaf(MemoryCounters):
        in_process = False

        async def reserve(self, *args: Any, **rest: Any) -> Any:
            answer = await super().reserve(*args, **rest)
            if isinstance(answer, Unknown):
                return answer
            raise CountersUnavailable("no answer in time")

    billing.counters = Deaf(clock=billing.clock)
    billing.accounts = billing.process()
    with pytest.raises(CountersUnavailable):
        await billing.accounts.reserve("a", "r1", 100, 100, BUDGET, TEAM_OF_A)
    assert await billing.used("a") == (0, 0, 0)
    assert await billing.used("t", TEAM_OF_A.budget) == (0, 0, 0)


async def test_a_team_that_never_rests_is_named(billing: Billing) -> None:
    class Restless(MemoryCounters):
        async def restore(self, account: str, *args: Any) -> bool:
            return account != "t" and await super().restore(account, *args)

    accounts = Accounts(Restless(clock=billing.clock), billing.ledger, clock=billing.clock)
    with pytest.raises(CountersUnavailable, match="'t' changes faster"):
        await accounts.reserve("a", "r1", 1, 1, BUDGET, TEAM_OF_A)
    assert billing.ledger.asked <= 6


async def test_a_row_of_a_dead_process_makes_its_account_stale(billing: Billing) -> None:
    lost = await billing.process().reserve("a", "lost", 100, 100, BUDGET)
    assert isinstance(lost, Hold)
    await billing.commit(entry(lost, 40))
    assert await billing.used() == (40, 0, 0)


async def test_rows_without_money_cost_no_call(billing: Billing) -> None:
    """Free models; principals without a budget."""
    await billing.used()
    await billing.commit(
        Entry(id="r1", account="a", at=NOON, ended_at=NOON, cost=50),
        Entry(id="r2", account="a", at=NOON, ended_at=NOON, starts={"5h": NOON}),
    )
    await billing.used()
    assert billing.ledger.asked == 1


async def test_a_hold_that_had_ended_is_found_in_the_ledger(billing: Billing) -> None:
    hold = await billing.hold(100)
    billing.clock.now += LIFETIME + 1
    assert (await billing.used())[2] == 0
    hold.amount = 60  # as if the counters had never heard of the end
    await billing.commit(entry(hold, 60))
    assert await billing.used() == (60, 0, 0)


async def test_a_hold_that_comes_back_begins_its_window_again(billing: Billing) -> None:
    """It lapsed, and the account was restored from a ledger that had no row of the period."""
    hold = await billing.hold(100)
    billing.clock.now += LIFETIME + 1
    assert await billing.used() == (0, 0, 0)
    billing.accounts.resize(hold, 60)
    assert await billing.used() == (0, 0, 60)
    asked = billing.ledger.asked
    await billing.commit(entry(hold, 60))
    assert await billing.used() == (60, 0, 0)
    assert billing.ledger.asked == asked


async def test_commits_are_repeated_when_the_counters_did_not_answer(billing: Billing) -> None:
    """Whatever was done before the answer was lost is not done twice."""

    class Halting(MemoryCounters):
        left = 2

        async def convert(self, holds: Sequence[Hold]) -> list[Hold]:
            if self.left:
                self.left -= 1
                await super().convert(holds[:2])
                raise CountersUnavailable("no answer in time")
            return await super().convert(holds)

    billing.counters = Halting(clock=billing.clock)
    billing.accounts = billing.process()
    holds = [await billing.hold(100, f"r{n}") for n in range(3)]
    for hold in holds:
        billing.accounts.resize(hold, 60)
    entries = [entry(hold, 60) for hold in holds]
    await billing.ledger.append(entries)
    for _ in range(2):
        with pytest.raises(CountersUnavailable):
            await billing.accounts.committed(entries)
        assert billing.accounts.holds == 3
    await billing.accounts.committed(entries)
    assert await billing.used() == (180, 0, 0)
    assert billing.accounts.holds == 0


async def test_an_answer_that_never_came_holds_nothing(billing: Billing) -> None:
    class Deaf(MemoryCounters):
        in_process = False

        async def reserve(self, *args: Any, **rest: Any) -> Any:
            answer = await super().reserve(*args, **rest)
            if isinstance(answer, Unknown):
                return answer
            raise CountersUnavailable("no answer in time")

    billing.counters = Deaf(clock=billing.clock)
    billing.accounts = billing.process()
    with pytest.raises(CountersUnavailable):
        await billing.hold()
    assert await billing.used() == (0, 0, 0)


async def test_a_ledger_that_does_not_answer(billing: Billing) -> None:
    billing.ledger.gone = True
    waiting = [asyncio.create_task(billing.hold(1, f"r{n}")) for n in range(3)]
    raised = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(one) for one in raised] == ["no answer in time"] * 3
    assert all(isinstance(one, StoreUnavailable) for one in raised)
    billing.ledger.gone = False
    assert (await billing.hold(1)).amount == 1
    assert (await billing.used())[2] == 1


# Grants of credit


async def test_credit_that_another_process_grants_is_heard_of(billing: Billing) -> None:
    budget = Budget(credits=True)
    accounts = Accounts(billing.counters, billing.ledger, period=0.005, clock=billing.clock)
    assert (await accounts.status("a", budget)).credits == 0
    await accounts.start()
    try:
        await billing.ledger.append([grant("g1", "a", 5), grant("g2", "b", 7)])
        async with asyncio.timeout(10):
            while (await accounts.status("a", budget)).credits != 5:
                await asyncio.sleep(0.001)
    finally:
        await accounts.aclose()
        await accounts.aclose()


async def test_credit_granted_while_no_process_ran_is_counted(billing: Billing) -> None:
    """The counters may have outlived all gateways."""
    budget = Budget(credits=True)
    assert (await billing.accounts.status("a", budget)).credits == 0
    await billing.ledger.append([grant(f"g{n}", f"a{n}", 1) for n in range(600)])
    await billing.ledger.append([grant("g", "a", 5)])
    accounts = billing.process()
    await accounts.start()
    await accounts.aclose()
    assert (await accounts.status("a", budget)).credits == 5


async def test_credit_granted_here_is_there_at_once(billing: Billing) -> None:
    budget = Budget(credits=True)
    assert (await billing.accounts.status("a", budget)).credits == 0
    await billing.commit(grant("g1", "a", 5))
    assert (await billing.accounts.status("a", budget)).credits == 5


async def test_grants_that_cannot_be_asked_for_are_one_line(
    billing: Billing, caplog: pytest.LogCaptureFixture
) -> None:
    class Away(Ledger):
        asked_for = 0

        async def grants(self, since: int) -> tuple[int, list[str]]:
            self.asked_for += 1
            if self.gone:
                raise StoreUnavailable("no answer in time")
            return await super().grants(since)

    billing.ledger = ledger = Away()
    ledger.gone = True
    accounts = Accounts(billing.counters, ledger, period=0.002, clock=billing.clock)
    await accounts.start()
    with pytest.raises(RuntimeError, match="twice"):
        await accounts.start()
    try:
        async with asyncio.timeout(10):
            while ledger.asked_for < 3:
                await asyncio.sleep(0.001)
            assert len(caplog.records) == 1
            ledger.gone = False
            while len(caplog.records) < 2:
                await asyncio.sleep(0.001)
    finally:
        await accounts.aclose()
    assert caplog.messages[0] == "cannot read new credit grants: no answer in time"
    assert caplog.messages[1] == "credit grants are read again"


def test_a_period_is_more_than_nothing(billing: Billing) -> None:
    with pytest.raises(ValueError, match="period 0: expected more than 0"):
        Accounts(billing.counters, billing.ledger, period=0)


# Whatever happens in whatever order


class LaggingCounters(MemoryCounters):
    """Asked over a network: others come between question, decision and answer."""

    in_process = False

    def __init__(self, clock: Clock, lag: Random) -> None:
        super().__init__(clock=clock)
        self._lag = lag

    __slots__ = ("_lag",)

    async def _wait(self) -> None:
        for _ in range(self._lag.randrange(3)):
            await asyncio.sleep(0)

    async def reserve(self, *args: Any, **rest: Any) -> Any:
        await self._wait()
        answer = await super().reserve(*args, **rest)
        await self._wait()
        return answer

    async def convert(self, holds: Sequence[Hold]) -> list[Hold]:
        await self._wait()
        missing = await super().convert(holds)
        await self._wait()
        if self._lag.random() < 0.1:
            raise CountersUnavailable("no answer in time")
        return missing

    async def restore(self, *args: Any) -> bool:
        await self._wait()
        return await super().restore(*args)

    async def version(self, account: str) -> tuple[int, tuple[str, ...]]:
        answer = await super().version(account)
        await self._wait()
        return answer

    async def invalidate(self, account: str) -> None:
        await self._wait()
        await super().invalidate(account)

    def flush(self) -> None:
        """All is lost, holds too."""
        self._accounts.clear()


class LaggingLedger(MemoryLedgerStore):
    def __init__(self, lag: Random) -> None:
        super().__init__()
        self._lag = lag

    async def spent(self, *args: Any) -> tuple[Spent, tuple[str, ...]]:
        for _ in range(self._lag.randrange(3)):
            await asyncio.sleep(0)
        answer = await super().spent(*args)
        for _ in range(self._lag.randrange(3)):
            await asyncio.sleep(0)
        return answer


class Process:
    """A gateway: its accounts, the requests that run in it, and rows on their way."""

    def __init__(self, owner: "TwoProcesses") -> None:
        self.accounts = Accounts(owner.counters, owner.ledger, clock=owner.clock)
        self.running: list[tuple[Hold, int]] = []
        self.rows: list[Entry] = []


CAP = 1000
TEAM = TeamAccount("t", Budget(windows=(Window("5h", 5 * HOUR, CAP + CAP // 2),), credits=True))
SHARED_BUDGET = Budget(
    windows=(Window("5h", 5 * HOUR, CAP), Window("1d", 24 * HOUR, 2 * CAP, aligned=True)),
    credits=True,
)


class TwoProcesses:
    """Two processes, one account or those of two keys and their team, and what really happened to
    their money.

    excess: by how much more than a cap may have been spent: what was held when counters were
    flushed or holds had lapsed, of which no process knew any more.
    """

    def __init__(self, lag: Random, team: TeamAccount | None) -> None:
        self.team = team
        self.budgets = {"a": SHARED_BUDGET}
        if team is not None:
            self.budgets |= {"b": SHARED_BUDGET, team.account: team.budget}
        self.keys = [account for account in self.budgets if account != "t"]
        self.clock = Clock()
        self.counters = LaggingCounters(self.clock, lag)
        self.ledger = LaggingLedger(lag)
        self.processes = [Process(self), Process(self)]
        self.tasks: list[asyncio.Task[None]] = []
        self.writing = asyncio.Lock()
        self.count = 0
        self.granted: Counter[str] = Counter()
        self.excess = 0
        self.error = 0
        self.spent: Counter[tuple[str, str, float]] = Counter()
        self.from_credits: Counter[str] = Counter()

    def do(self, step: tuple[Any, ...]) -> None:
        name, *args = step
        done = getattr(self, name)(*args)
        if done is not None:
            self.tasks.append(asyncio.create_task(done))

    async def reserve(self, n: int, amount: int, least: int) -> None:
        process = self.processes[n]
        self.count += 1
        id_ = f"r{self.count}"
        try:
            answer = await process.accounts.reserve(
                self.keys[self.count % len(self.keys)],
                id_,
                amount,
                min(least, amount),
                SHARED_BUDGET,
                self.team,
            )
        except CountersUnavailable:
            return
        if isinstance(answer, InsufficientFunds):
            return
        if process is not self.processes[n]:
            return  # killed while it waited
        process.running.append((answer, amount))
        for part in answer.parts():
            self.error = max(self.error, amount - part.amount)

    def settle(self, n: int, which: int, part: float) -> None:
        process = self.processes[n]
        if not process.running:
            return
        hold, amount = process.running.pop(which % len(process.running))
        cost = int(amount * part)
        row = self.paid(hold, cost)
        if cost:
            process.accounts.resize(hold, cost)
        else:
            process.accounts.drop(hold)
        process.rows.append(row)

    def paid(self, hold: Hold, cost: int) -> Entry:
        row = entry(hold, cost)
        for account, starts, credits_used in (
            (row.account, row.starts, row.from_credits),
            (row.team, row.team_starts, row.from_team_credits),
        ):
            for start in starts.items():
                self.spent[account, *start] += cost
            self.from_credits[account] += credits_used
        return row

    def write(self, n: int) -> Any:
        process = self.processes[n]
        rows, process.rows = process.rows, []
        return self.ledger_writer(process.accounts, rows)

    async def ledger_writer(self, accounts: Accounts, rows: list[Entry]) -> None:
        async with self.writing:
            await self.ledger.append(rows)
            while True:
                try:
                    return await accounts.committed(rows)
                except CountersUnavailable:
                    await asyncio.sleep(0)

    def kill(self, n: int) -> Any:
        """Killed; the other recovers its journal: the input of what ran is charged."""
        dead = self.processes[n]
        rows = [*dead.rows, *(self.paid(hold, hold.amount // 3) for hold, _ in dead.running)]
        self.processes[n] = Process(self)
        return self.ledger_writer(self.processes[1 - n].accounts, rows)

    def flush(self) -> None:
        self.forgotten()
        self.counters.flush()

    def stall(self) -> None:
        """All holds lapse, since none was renewed."""
        self.forgotten()
        self.clock.now += LIFETIME + 1

    def forgotten(self) -> None:
        for process in self.processes:
            self.excess += sum(amount for _, amount in process.running)
            self.excess += sum(row.cost for row in process.rows)
        # And what is just being reserved or written.
        self.excess += 3 * CAP * sum(not task.done() for task in self.tasks)

    def wait(self, seconds: float) -> None:
        while seconds > 0:
            self.clock.now += min(seconds, LIFETIME / 2)
            self.counters.renew()
            seconds -= LIFETIME / 2

    async def grant(self, amount: int) -> None:
        self.count += 1
        account = [*self.budgets][self.count % len(self.budgets)]
        self.granted[account] += amount
        await self.ledger.append([grant(f"g{self.count}", account, amount)])
        for process in self.processes:
            await process.accounts.refresh()

    def stale(self) -> Any:
        return self.counters.invalidate([*self.budgets][self.count % len(self.budgets)])

    async def ask(self) -> None:
        with suppress(CountersUnavailable):
            await self.processes[0].accounts.status("a", SHARED_BUDGET)

    async def end(self) -> None:
        """All requests end, all rows are written."""
        await asyncio.gather(*self.tasks)
        for n, process in enumerate(self.processes):
            while process.running:
                self.settle(n, 0, 1.0)
            await self.write(n)
        self.clock.now += LIFETIME + 1  # for what was being reserved when a process was killed


PROCESS = st.integers(0, 1)
STEPS = st.one_of(
    st.tuples(st.just("reserve"), PROCESS, st.integers(1, 600), st.integers(1, 100)),
    st.tuples(st.just("reserve"), PROCESS, st.integers(200, 400), st.integers(1, 20)),
    st.tuples(st.just("settle"), PROCESS, st.integers(0, 5), st.sampled_from([0.0, 0.3, 1.0])),
    st.tuples(st.just("write"), PROCESS),
    st.tuples(st.just("stale")),
    st.tuples(st.just("ask")),
    st.tuples(st.just("wait"), st.sampled_from([1.0, HOUR, 5 * HOUR])),
    st.tuples(st.just("kill"), PROCESS),
    st.tuples(st.just("grant"), st.integers(1, 500)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("stall")),
)


@settings(max_examples=300)
@given(
    st.lists(st.tuples(STEPS, st.integers(0, 4)), max_size=60),
    st.integers(0, 2**32),
    st.sampled_from((None, TEAM)),
)
def test_no_order_of_events_spends_past_a_cap_or_loses_a_row(
    steps: list[tuple[tuple[Any, ...], int]], seed: int, team: TeamAccount | None
) -> None:
    """What was spent never passes a cap by more than one tight hold's error; and when all is over
    the counters say what the ledger says, which is what really happened."""
    asyncio.run(_play(steps, seed, team))


async def _play(
    steps: list[tuple[tuple[Any, ...], int]], seed: int, team: TeamAccount | None
) -> None:
    owner = TwoProcesses(Random(seed), team)
    for step, turns in steps:
        owner.do(step)
        for _ in range(turns):
            await asyncio.sleep(0)
    await owner.end()
    more = owner.excess + owner.error
    for (account, name, start), spent in owner.spent.items():
        caps = {window.name: window.cap for window in owner.budgets[account].windows}
        assert spent <= caps[name] + more, (account, name, start)
    for account, budget in owner.budgets.items():
        assert owner.from_credits[account] <= owner.granted[account] + more
        await _agree(owner, account, budget)


async def _agree(owner: TwoProcesses, account: str, budget: Budget) -> None:
    """Counters, ledger, and what really happened."""
    standing = await owner.processes[0].accounts.status(account, budget)
    reported, _ = await owner.ledger.spent(account, owner.clock.now, ())
    assert not standing.holds
    assert sum(standing.held.values()) == 0
    left_of_credits = owner.granted[account] - owner.from_credits[account]
    assert standing.credits == reported.credits == left_of_credits
    for level in standing.windows:
        if level.start is not None:
            assert level.used == owner.spent[account, level.name, level.start]
    # Nothing is kept from anybody either: all that is left can be had.
    left = min(level.cap - level.used for level in standing.windows)
    if left > 0:
        answer = await owner.processes[1].accounts.reserve(account, "all", left, left, budget)
        assert isinstance(answer, Hold)
        assert (answer.amount, answer.source, answer.tight) == (left, "windows", False)
