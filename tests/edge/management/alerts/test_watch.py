"""When alerts are raised, over real rows of a SQLite ledger."""

import json
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import pytest

from edge.management.alerts.watch import MAX_TOUCHED, BudgetWatch, Thresholds
from middlewares.exchange import Principal, Team
from middlewares.limits import Budget, PlanLimits, Window
from middlewares.problem import Problem
from middlewares.stores.alerts.base import Alert, AlertStore
from middlewares.stores.alerts.sql import SqlAlertStore
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.keys.base import Key
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.sql.database import Database
from middlewares.stores.teams.base import TeamRecord
from tests.middlewares.stores.entries import credit, use
from tests.middlewares.stores.sqlite_files import new_sqlite

NOW = 1_800_000_000.0
HOUR = 3600.0
HOURLY = Window("1h", HOUR, 1000)
DAILY = Window("1d", 86400.0, 2000)


class Records:
    """Keys and teams, which have these ids and no other."""

    async def get_many(self, ids: Collection[str]) -> list[Any]:
        return [self.made(one) for one in ids if not one.endswith("unknown")]

    def made(self, record_id: str) -> Any:
        plan = "gone" if record_id.endswith("misconfigured") else "small"
        if record_id.startswith("team_"):
            return TeamRecord(id=record_id, created_at=0, name="Research", plan=plan)
        return Key(
            id=record_id,
            digest=b"",
            prefix="sk-",
            created_at=0,
            name="laptop",
            owner="alice",
            plan=plan,
        )


class Budgets:
    """Plans with one budget for all."""

    def __init__(self, *windows: Window, prepaid: bool = False) -> None:
        self.budget = Budget(windows, prepaid)

    def limits(self, principal: Principal | None) -> PlanLimits:
        assert principal is not None
        return self._of(principal.plan)

    def team_limits(self, team: Team) -> PlanLimits:
        return self._of(team.plan)

    def _of(self, plan: str | None) -> PlanLimits:
        if plan == "gone":
            raise Problem("key_misconfigured")
        return PlanLimits(budget=self.budget)


class Bench:
    """One process: `spend` writes a row, `raised` are the alerts that are to be sent."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ledger = SqlLedgerStore(database)
        self.store = SqlAlertStore(database)
        self.now = NOW
        self.counted = 0
        self.watch = self.process()

    def process(self, store: AlertStore | None = None) -> BudgetWatch:
        records = Records()
        watch = BudgetWatch(
            store or self.store, records, records, raised=self._count, clock=lambda: self.now
        )
        watch.thresholds = Thresholds((80, 100), None, Budgets(HOURLY))
        return watch

    def _count(self, more: int) -> None:
        self.counted += more

    async def spend(self, cost: int, account: str = "key_1", **fields: Any) -> None:
        start = self.now // HOUR * HOUR
        fields = {"starts": {"1h": start, "1d": start // 86400 * 86400}, **fields}
        row = use(account=account, at=self.now, cost=cost, **fields)
        await self.ledger.append([row])
        self.watch.note([row])

    async def raised(self) -> list[dict[str, Any]]:
        """What was raised since the last call."""
        await self.watch.sweep()
        alerts = await self.store.take(self.now, self.now + 10**9, 100)
        for one in alerts:
            assert json.loads(one.body)["id"] == one.id
        return [json.loads(one.body) for one in sorted(alerts, key=_order)]


def _order(alert: Alert) -> tuple[str, str, int]:
    return alert.account, alert.name, alert.share


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = await Database.open(new_sqlite(tmp_path / "alerts.db"))
    yield Bench(database)
    await database.aclose()


async def test_alert_says_whose_window_and_what_is_left(bench: Bench) -> None:
    await bench.spend(799)
    assert await bench.raised() == []
    await bench.spend(1)
    (alert,) = await bench.raised()
    assert alert["type"] == "budget.threshold"
    assert alert["created_at"] == int(NOW)
    assert alert["data"] == {
        "whose": "key",
        "id": "key_1",
        "name": "laptop",
        "owner": "alice",
        "plan": "small",
        "window": "1h",
        "share": 80,
        "used": "0.0000008",
        "cap": "0.000001",
        "remaining": "0.0000002",
        "starts_at": "2027-01-15T08:00:00.000Z",
        "resets_at": "2027-01-15T09:00:00.000Z",
    }
    assert bench.counted == 1


async def test_share_is_raised_once_in_a_period_and_again_in_the_next(bench: Bench) -> None:
    await bench.spend(850)
    assert [one["data"]["share"] for one in await bench.raised()] == [80]
    await bench.spend(10)
    assert await bench.raised() == []
    await bench.spend(200)
    assert [one["data"]["share"] for one in await bench.raised()] == [100]
    await bench.spend(200)
    assert await bench.raised() == []
    bench.now += HOUR
    await bench.spend(801)
    assert [one["data"]["share"] for one in await bench.raised()] == [80]
    assert bench.counted == 3


async def test_several_shares_at_once_raise_the_highest_only(bench: Bench) -> None:
    await bench.spend(1300)
    (alert,) = await bench.raised()
    assert (alert["data"]["share"], alert["data"]["remaining"]) == (100, "0.00")
    another = bench.process()
    another.note_account("key_1")
    await another.sweep()
    assert await bench.store.take(NOW, NOW + 10**9, 100) == []
    assert bench.counted == 1


async def test_each_window_and_the_team_have_alerts_of_their_own(bench: Bench) -> None:
    bench.watch.thresholds = Thresholds((50,), None, Budgets(HOURLY, DAILY))
    starts = {"1h": NOW // HOUR * HOUR, "1d": NOW // 86400 * 86400}
    for account in ("key_1", "key_2"):
        row = use(account=account, at=NOW, cost=600, starts=starts, team="team_1")
        await bench.ledger.append([row, use(account="team_1", at=NOW, cost=600, starts=starts)])
        bench.watch.note([row])
    found = [(one["data"]["id"], one["data"]["window"]) for one in await bench.raised()]
    assert found == [("key_1", "1h"), ("key_2", "1h"), ("team_1", "1d"), ("team_1", "1h")]
    alert = json.loads((await _first(bench, "team_1")).body)
    assert {name: alert["data"][name] for name in ("whose", "name", "owner", "plan")} == {
        "whose": "team",
        "name": "Research",
        "owner": None,
        "plan": "small",
    }


async def _first(bench: Bench, account: str) -> Alert:
    alerts = await bench.store.take(NOW + 10**9, NOW + 10**9, 100)
    return next(one for one in alerts if one.account == account)


async def test_process_after_a_dead_one_checks_what_that_had_not(bench: Bench) -> None:
    await bench.spend(900)
    await bench.spend(1000, "key_2", team="team_1")
    dead, bench.watch = bench.watch, bench.process()
    assert [one["data"]["id"] for one in await bench.raised()] == ["key_1", "key_2"]
    await dead.sweep()
    assert await bench.raised() == []
    assert bench.counted == 2


async def test_cap_that_a_reload_lowers_is_the_one_that_counts(bench: Bench) -> None:
    await bench.spend(500)
    assert await bench.raised() == []
    bench.watch.thresholds = Thresholds((80, 100), None, Budgets(Window("1h", HOUR, 600)))
    await bench.spend(1)
    (alert,) = await bench.raised()
    assert (alert["data"]["share"], alert["data"]["cap"]) == (80, "0.0000006")
    bench.watch.thresholds = Thresholds((80, 100), None, Budgets(Window("1h", HOUR, 6000)))
    await bench.spend(4300)
    assert await bench.raised() == [], "80 was said in this period"
    await bench.spend(1200)
    assert [one["data"]["share"] for one in await bench.raised()] == [100]


async def test_period_that_is_over_raises_nothing(bench: Bench) -> None:
    await bench.spend(900)
    bench.now += HOUR
    assert await bench.raised() == []


async def test_cap_of_nothing_raises_once_something_was_spent(bench: Bench) -> None:
    bench.watch.thresholds = Thresholds((100,), None, Budgets(Window("1h", HOUR, 0)))
    await bench.spend(0)
    assert await bench.raised() == []
    await bench.spend(1)
    assert [one["data"]["share"] for one in await bench.raised()] == [100]


async def test_credits_raise_once_after_each_grant(bench: Bench) -> None:
    bench.watch.thresholds = Thresholds((), 500, Budgets(prepaid=True))
    await bench.ledger.append([credit(1000, account="key_1")])
    await bench.spend(400, from_credits=400, starts={})
    assert await bench.raised() == []
    await bench.spend(101, from_credits=101, starts={})
    (alert,) = await bench.raised()
    assert alert["type"] == "credits.low"
    assert (alert["data"]["balance"], alert["data"]["below"]) == ("0.000000499", "0.0000005")
    await bench.spend(1, from_credits=1, starts={})
    assert await bench.raised() == []
    await bench.ledger.append([credit(1000, account="key_1")])
    await bench.spend(999, from_credits=999, starts={})
    assert [one["type"] for one in await bench.raised()] == ["credits.low"]


async def test_credits_of_a_plan_without_them_raise_nothing(bench: Bench) -> None:
    bench.watch.thresholds = Thresholds((), 500, Budgets())
    await bench.ledger.append([credit(100, account="key_1")])
    await bench.spend(10, from_credits=10, starts={})
    assert await bench.raised() == []


async def test_accounts_without_a_record_or_a_plan_do_not_hold_up_others(bench: Bench) -> None:
    for account in ("key_unknown", "key_misconfigured", "team_misconfigured", "key_1"):
        await bench.spend(1000, account)
    assert [one["data"]["id"] for one in await bench.raised()] == ["key_1"]


async def test_without_thresholds_nothing_is_noted_and_nothing_asked(bench: Bench) -> None:
    await bench.spend(1000)
    bench.watch.thresholds = None
    assert await bench.raised() == []
    bench.watch.thresholds = Thresholds((80,), None, Budgets(HOURLY))
    assert [one["data"]["share"] for one in await bench.raised()] == [80], "by the newest rows"


class Failing(SqlAlertStore):
    """A store that answers only when it may."""

    raised: Exception | None

    async def add(self, alerts: Any) -> set[str]:
        if self.raised is not None:
            raise self.raised
        return await super().add(alerts)


@pytest.mark.parametrize("raised", [StoreUnavailable("away"), RuntimeError("a deadlock")])
async def test_failure_of_the_store_forgets_no_account(bench: Bench, raised: Exception) -> None:
    store = Failing(bench.database)
    store.raised = raised
    bench.watch = bench.process(store)
    await bench.spend(900)
    with pytest.raises(type(raised)):
        await bench.watch.sweep()
    store.raised = None
    assert [one["data"]["share"] for one in await bench.raised()] == [80]


async def test_accounts_that_wait_are_bounded(bench: Bench) -> None:
    for number in range(MAX_TOUCHED + 500):
        bench.watch.note_account(f"key_{number}_unknown")
    assert bench.watch.waiting == MAX_TOUCHED
    await bench.watch.sweep()
    assert bench.watch.waiting == 0
