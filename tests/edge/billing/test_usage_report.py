"""What /v1/limits says of jobs that run: reserved, and used while the store is away."""

from collections.abc import Sequence
from typing import Any

import pytest

from edge.billing.usage_report import UsageReport
from middlewares.exchange import Principal, Team
from middlewares.limits import Budget, PlanLimits, Window
from middlewares.stores.counters.base import AccountStatus, WindowLevel
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.memory import MemoryLedgerStore

CREDIT = 10**9
BUDGET = Budget(windows=(Window("5h", 18000.0, 10 * CREDIT),), credits=True)


class Statuses:
    async def status(self, account: str, budget: Budget) -> AccountStatus:
        level = WindowLevel("5h", 10 * CREDIT, 5 * CREDIT, 100.0, 18_100.0)
        return AccountStatus((level,), 3 * CREDIT, {"windows": CREDIT})


def job(number: int, start: float = 100.0, prepaid: bool = False) -> Entry:
    return Entry(
        str(number),
        "alice",
        100.0,
        100.0,
        cost=CREDIT,
        from_credits=CREDIT if prepaid else 0,
        starts={} if prepaid else {"5h": start},
    )


async def test_limits_of_a_team_show_what_jobs_of_its_keys_reserve() -> None:
    async def running(team: str) -> Sequence[Entry]:
        assert team == "team_a"
        fields: dict[str, Any] = {"team": "team_a", "cost": CREDIT}
        return [
            Entry("1", "alice", 100.0, 100.0, team_starts={"5h": 100.0}, **fields),
            Entry("2", "bob", 100.0, 100.0, team_starts={"5h": 50.0}, **fields),
            Entry("3", "bob", 100.0, 100.0, from_team_credits=CREDIT, **fields),
            Entry("4", "bob", 100.0, 100.0, starts={"5h": 100.0}, from_credits=CREDIT, **fields),
        ]

    report = UsageReport(
        limits=lambda _principal: PlanLimits(),
        team_limits=lambda _team: PlanLimits(budget=BUDGET),
        accounts=Statuses(),
        rates=None,
        ledger=MemoryLedgerStore(),
        team_running=running,
    )
    found = await report.limits(Principal("alice", team=Team("team_a")))
    (window,) = found["team"]["windows"]
    assert (window["used"], window["reserved"]) == ("4.00", "2.00")
    assert found["team"]["credits"] == {"balance": "4.00", "reserved": "1.00"}
    assert found["windows"] == []


async def limits(jobs: Sequence[Entry] | Exception) -> dict[str, Any]:
    async def running(account: str) -> Sequence[Entry]:
        if isinstance(jobs, Exception):
            raise jobs
        return jobs

    report = UsageReport(
        limits=lambda _principal: PlanLimits(budget=BUDGET),
        accounts=Statuses(),
        rates=None,
        ledger=MemoryLedgerStore(),
        running=running,
    )
    return await report.limits(Principal("alice"))


@pytest.mark.parametrize(
    ("jobs", "used", "reserved", "balance", "prepaid"),
    [
        ([], "5.00", "1.00", "3.00", "0.00"),
        ([job(1), job(2)], "3.00", "3.00", "3.00", "0.00"),
        ([job(1, start=50.0)], "5.00", "1.00", "3.00", "0.00"),
        ([job(1, prepaid=True)], "5.00", "1.00", "4.00", "1.00"),
        (StoreUnavailable("away"), "5.00", "1.00", "3.00", "0.00"),
    ],
    ids=["none", "two", "of a period that is over", "prepaid", "store away"],
)
async def test_limits_show_what_jobs_reserve(
    jobs: Sequence[Entry] | Exception, used: str, reserved: str, balance: str, prepaid: str
) -> None:
    found = await limits(jobs)
    (window,) = found["windows"]
    assert (window["used"], window["reserved"], window["remaining"]) == (used, reserved, "4.00")
    assert found["credits"] == {"balance": balance, "reserved": prepaid}
