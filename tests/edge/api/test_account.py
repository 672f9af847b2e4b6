"""GET /v1/limits, /v1/usage and /v1/requests/{id}: what is shown, and of which key."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from edge.api.account import AccountApp
from edge.billing.plans import Plans
from edge.billing.usage_report import UsageReport
from edge.config.load import parse
from middlewares import ErrorsMiddleware, Exchange, Principal
from middlewares.asgi import Receive, Scope, Send
from middlewares.exchange import Team
from middlewares.limits import Budget, Rate
from middlewares.pricing import NANO
from middlewares.stores import StoreUnavailable
from middlewares.stores.accounts import Accounts
from middlewares.stores.counters.base import Check, Hold
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.keys.sql import Database
from middlewares.stores.ledger.base import AttemptRecord, Entry, Sum
from middlewares.stores.ledger.memory import MemoryLedgerStore
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.ledger.writer import LedgerWriter
from tests.asgi import Recorded, request
from tests.middlewares.stores.sqlite_files import new_sqlite

NOW = 1_795_255_200.0
"""2026-11-21T10:00:00Z, a Saturday."""
DAY = 86400.0

PRO: dict[str, Any] = {
    "id": "pro",
    "requests": "60/min",
    "burst": 10,
    "tokens": "200k/min",
    "concurrency": 5,
    "on_excess": "throttle",
    "windows": [
        {"length": "5h", "credits": "5.00"},
        {"length": "calendar month", "credits": "40"},
    ],
    "overflow": "credits",
}
ANN = Principal("key_ann", plan="pro")
BOB = Principal("key_bob", plan="pro")
FREE = Principal("key_free")


class AccountGateway:
    """The app with all that it looks at, at a moment of its own."""

    def __init__(self, ledger: Any = None, flush: Any = None, **options: Any) -> None:
        self.now = NOW
        self.ledger = MemoryLedgerStore() if ledger is None else ledger
        self.counters = MemoryCounters(clock=lambda: self.now)
        self.accounts = Accounts(self.counters, self.ledger, clock=lambda: self.now)
        plans = Plans(parse({"plans": [PRO]}))
        self.usage_report = UsageReport(
            limits=plans.limits,
            team_limits=plans.team_limits,
            accounts=self.accounts,
            rates=self.counters,
            ledger=self.ledger,
            clock=lambda: self.now,
        )
        self.budget: Budget = plans.limits(ANN).budget
        self.limits = plans.limits(ANN).limits
        if flush is not None:
            options["flush"] = flush
        self.app = AccountApp(self.usage_report, **{"patience": 0.0, **options})

    async def get(
        self, path: str, principal: Principal | None = ANN, query: str = "", method: str = "GET"
    ) -> Recorded:
        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            exchange = Exchange.of(scope)
            exchange.principal = principal
            exchange.endpoint = path.rstrip("/").split("/")[2]
            await self.app(scope, receive, send)

        return await request(ErrorsMiddleware(routed), method, path, query=query)


@pytest.fixture
def gateway() -> AccountGateway:
    return AccountGateway()


def name(n: int) -> str:
    """The id of a request."""
    return str(UUID(int=n))


def row(n: int, **fields: Any) -> Entry:
    return Entry(
        **{
            "id": name(n),
            "account": ANN.id,
            "at": NOW - 2.0,
            "ended_at": NOW - 1.0,
            "endpoint": "chat.completions",
            "model": "m1",
            "asked": "acme/m1",
            "status": 200,
            "input": 100,
            "output": 20,
            "cost": 1_230_000,
            **fields,
        }
    )


# Limits


async def test_an_account_that_was_never_used(gateway: AccountGateway) -> None:
    answer = await gateway.get("/v1/limits")
    assert (answer.status, answer.header("content-type")) == (200, "application/json")
    assert answer.json() == {
        "object": "limits",
        "plan": "pro",
        "windows": [
            {
                "length": "5h",
                "cap": "5.00",
                "used": "0.00",
                "reserved": "0.00",
                "remaining": "5.00",
                "resets_at": None,
            },
            {
                "length": "calendar month",
                "cap": "40.00",
                "used": "0.00",
                "reserved": "0.00",
                "remaining": "40.00",
                "resets_at": "2026-12-01T00:00:00.000Z",
            },
        ],
        "credits": {"balance": "0.00", "reserved": "0.00"},
        "rates": [
            {
                "name": "requests",
                "limit": 60,
                "per": "1m",
                "burst": 10,
                "remaining": 60,
                "resets_at": "2026-11-21T10:00:00.000Z",
            },
            {
                "name": "tokens",
                "limit": 200_000,
                "per": "1m",
                "burst": 0,
                "remaining": 200_000,
                "resets_at": "2026-11-21T10:00:00.000Z",
            },
        ],
        "concurrency": {"limit": 5, "in_use": 0},
        "on_excess": "throttle",
        "team": None,
    }


async def test_what_is_used_and_what_is_held(gateway: AccountGateway) -> None:
    await gateway.ledger.append([row(1, kind="credit", cost=0, granted=7 * NANO)])
    first = await gateway.accounts.reserve(ANN.id, name(2), 2 * NANO, 1, gateway.budget)
    assert isinstance(first, Hold)
    gateway.accounts.resize(first, NANO // 2)
    spent = row(2, at=NOW, cost=NANO // 2, starts=first.starts)
    await gateway.ledger.append([spent])
    await gateway.accounts.committed([spent])
    assert isinstance(
        await gateway.accounts.reserve(ANN.id, name(3), 4 * NANO, 1, gateway.budget), Hold
    )
    by_credits = await gateway.accounts.reserve(ANN.id, name(4), 3 * NANO, 3 * NANO, gateway.budget)
    assert isinstance(by_credits, Hold)
    assert by_credits.source == "credits"
    said = (await gateway.get("/v1/limits")).json()
    assert said["windows"][0] == {
        "length": "5h",
        "cap": "5.00",
        "used": "0.50",
        "reserved": "4.00",
        "remaining": "0.50",
        "resets_at": "2026-11-21T15:00:00.000Z",
    }
    assert said["windows"][1]["remaining"] == "35.50"
    assert said["credits"] == {"balance": "7.00", "reserved": "3.00"}
    assert (await gateway.get("/v1/limits", BOB)).json()["windows"][0]["used"] == "0.00"


async def test_rates_are_those_that_the_limiter_counts(gateway: AccountGateway) -> None:
    """Under the name by which `RateLimitMiddleware` knows a principal; looking takes nothing."""
    rate = gateway.limits.requests
    assert rate is not None
    for lease in "ab":
        who = f"key:{ANN.id}"
        await gateway.counters.admit(who, [Check("requests", rate)], slots=5, lease=lease)
    for _ in range(3):
        said = (await gateway.get("/v1/limits")).json()
        assert said["rates"][0]["remaining"] == 58
        assert said["concurrency"] == {"limit": 5, "in_use": 2}
    assert said["rates"][0]["resets_at"] == "2026-11-21T10:00:02.000Z"
    assert (await gateway.get("/v1/limits", BOB)).json()["concurrency"]["in_use"] == 0


async def test_without_a_plan_nothing_is_limited(gateway: AccountGateway) -> None:
    said = (await gateway.get("/v1/limits", FREE)).json()
    assert said == {
        "object": "limits",
        "plan": None,
        "windows": [],
        "credits": None,
        "rates": [],
        "concurrency": None,
        "on_excess": "reject",
        "team": None,
    }


async def test_limits_of_the_team_are_under_team(gateway: AccountGateway) -> None:
    """Over all its keys: what another key of the team used counts, unnamed."""
    team = Team("team_a", "Search", plan="pro", limits={"requests": "9/min"})
    ann, eve = Principal("key_ann", team=team), Principal("key_eve", team=team)
    await gateway.ledger.append([row(1, kind="credit", cost=0, granted=7 * NANO, account=team.id)])
    rate = Rate(9, 60.0)
    await gateway.counters.admit(f"team:{team.id}", [Check("requests", rate)], slots=5, lease="a")
    mine = (await gateway.get("/v1/limits", ann)).json()
    assert (mine["windows"], mine["rates"], mine["concurrency"]) == ([], [], None)
    said = mine["team"]
    assert said == (await gateway.get("/v1/limits", eve)).json()["team"]
    assert (said["id"], said["name"], said["plan"]) == ("team_a", "Search", "pro")
    assert [window["cap"] for window in said["windows"]] == ["5.00", "40.00"]
    assert said["credits"] == {"balance": "7.00", "reserved": "0.00"}
    assert [(one["name"], one["limit"], one["remaining"]) for one in said["rates"]] == [
        ("requests", 9, 8),
        ("tokens", 200_000, 200_000),
    ]
    assert said["concurrency"] == {"limit": 5, "in_use": 1}
    assert "key_" not in str(said)


async def test_limits_of_a_team_without_a_plan_are_none(gateway: AccountGateway) -> None:
    said = (await gateway.get("/v1/limits", Principal("k", plan="pro", team=Team("t")))).json()
    assert len(said["windows"]) == 2
    assert said["team"] == {
        "id": "t",
        "name": "",
        "plan": None,
        "windows": [],
        "credits": None,
        "rates": [],
        "concurrency": None,
        "on_excess": "reject",
    }


async def test_limits_of_a_team_whose_plan_is_missing_are_refused(
    gateway: AccountGateway,
) -> None:
    answer = await gateway.get("/v1/limits", Principal("k", team=Team("t", plan="gone")))
    assert answer.status >= 400
    assert "gone" not in answer.text


async def test_own_limits_go_before_those_of_the_plan(gateway: AccountGateway) -> None:
    own = {"requests": "5/s", "windows": [{"length": "1d", "credits": "1"}], "overflow": "none"}
    said = (await gateway.get("/v1/limits", Principal("k", plan="pro", limits=own))).json()
    assert [window["length"] for window in said["windows"]] == ["1d"]
    assert said["credits"] is None
    assert (said["rates"][0]["limit"], said["rates"][0]["per"]) == (5, "1s")


async def test_counters_that_do_not_answer(
    gateway: AccountGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any, **__: Any) -> None:
        raise CountersUnavailable("redis://secret-host is gone")

    monkeypatch.setattr(MemoryCounters, "status", gone)
    answer = await gateway.get("/v1/limits")
    assert (answer.status, answer.header("retry-after")) == (503, "1")
    assert "secret-host" not in answer.text


# Usage


async def test_usage_by_day_and_model_of_this_key_alone(gateway: AccountGateway) -> None:
    await gateway.ledger.append(
        [
            row(1),
            row(2, cache_read=7, cache_write=3),
            row(3, model="m2", at=NOW - DAY),
            row(4, account=BOB.id),
            row(5, kind="credit", granted=NANO, cost=0),
            row(6, at=NOW - 40 * DAY),
        ]
    )
    said = (await gateway.get("/v1/usage")).json()
    used = {
        "requests": 1,
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "credits": "0.00123",
    }
    twice = {
        **{name: value * 2 for name, value in used.items() if isinstance(value, int)},
        "cache_read_tokens": 7,
        "cache_write_tokens": 3,
        "credits": "0.00246",
    }
    assert said["object"] == "list"
    assert said["data"] == [
        {"day": "2026-11-20", "model": "m2", **used},
        {"day": "2026-11-21", "model": "m1", **twice},
    ]
    assert said["total"] == {
        **twice,
        "requests": 3,
        "input_tokens": 300,
        "output_tokens": 60,
        "credits": "0.00369",
    }
    assert (await gateway.get("/v1/usage", FREE)).json()["total"]["requests"] == 0


async def test_usage_of_the_team_is_under_team(gateway: AccountGateway) -> None:
    """Of all its keys, by day and model, without their names; also of a key that has left it."""
    team = Team("team_a", "Search")
    ann = Principal("key_ann", team=team)
    await gateway.ledger.append(
        [
            row(1, team="team_a"),
            row(2, account="key_eve", team="team_a", model="m2", at=NOW - DAY),
            row(3, account="key_eve", team="team_a"),
            row(4),  # before it joined
            row(5, account="key_bob", team="team_b"),
        ]
    )
    said = (await gateway.get("/v1/usage", ann)).json()
    assert [(one["day"], one["model"], one["requests"]) for one in said["data"]] == [
        ("2026-11-21", "m1", 2)
    ]
    assert set(said["team"]) == {"id", "name", "data", "total"}
    assert (said["team"]["id"], said["team"]["name"]) == ("team_a", "Search")
    assert [(one["day"], one["model"], one["requests"]) for one in said["team"]["data"]] == [
        ("2026-11-20", "m2", 1),
        ("2026-11-21", "m1", 2),
    ]
    assert (said["team"]["total"]["requests"], said["team"]["total"]["credits"]) == (3, "0.00369")
    assert "key_" not in str(said)
    assert (await gateway.get("/v1/usage", FREE)).json()["team"] is None
    narrow = (await gateway.get("/v1/usage", ann, "days=1")).json()
    assert narrow["team"]["total"]["requests"] == 2


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("", "2026-10-23T00:00:00.000Z", "2026-11-22T00:00:00.000Z"),
        ("days=1", "2026-11-21T00:00:00.000Z", "2026-11-22T00:00:00.000Z"),
        ("days=366", "2025-11-21T00:00:00.000Z", "2026-11-22T00:00:00.000Z"),
        ("days=2&end=2026-01-31", "2026-01-30T00:00:00.000Z", "2026-02-01T00:00:00.000Z"),
        ("start=2026-01-31&end=2026-01-31", "2026-01-31T00:00:00.000Z", "2026-02-01T00:00:00.000Z"),
        ("start=2026-11-01", "2026-11-01T00:00:00.000Z", "2026-11-22T00:00:00.000Z"),
        (
            "start=2026-11-01T06:00:00.5%2B02:00&end=2026-11-02T00:00:00Z",
            "2026-11-01T04:00:00.500Z",
            "2026-11-02T00:00:00.000Z",
        ),
        (
            "start=2026-11-01T06:00:00+02:00&end=2026-11-02t00:00:00z",
            "2026-11-01T04:00:00.000Z",
            "2026-11-02T00:00:00.000Z",
        ),
    ],
)
async def test_periods(gateway: AccountGateway, query: str, start: str, end: str) -> None:
    said = (await gateway.get("/v1/usage", query=query)).json()
    assert (said["start"], said["end"]) == (start, end)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("days=0", "days"),
        ("days=367", "days"),
        ("days=-1", "days"),
        ("days=", "days"),
        ("days=1.5", "days"),
        ("days=%D9%A3", "days"),
        ("days=3&start=2026-11-01", "days"),
        ("start=yesterday", "start"),
        ("start=2026-02-30", "start"),
        ("start=2026-11-01T10:00:00", "start"),
        ("start=2026-11-01T10:00:00%2B99:00", "start"),
        ("start=1795255200", "start"),
        ("end=9999-12-31", "end"),
        ("end=", "end"),
        ("start=2026-11-22", "start"),
        ("start=2026-11-03&end=2026-11-01", "start"),
        ("start=2025-11-20", "start"),
        ("start=0001-01-01&end=2026-01-01", "start"),
        ("end=0001-01-02", "end"),
        ("end=1969-12-30", "end"),
        ("start=9999-06-01&end=9999-12-31T23:59:59-23:59", "end"),
        ("start=0001-01-01T00:00:00%2B23:59&end=0001-01-03", "end"),
    ],
)
async def test_a_period_that_cannot_be_names_the_field(
    gateway: AccountGateway, query: str, field: str
) -> None:
    answer = await gateway.get("/v1/usage", query=query)
    assert (answer.status, answer.json()["error"]["param"]) == (400, field)
    assert f"`{field}`: expected " in answer.json()["error"]["message"]


async def test_a_ledger_that_does_not_answer(
    gateway: AccountGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> list[Sum]:
        raise StoreUnavailable("postgresql://secret-host is gone")

    monkeypatch.setattr(MemoryLedgerStore, "sums", gone)
    answer = await gateway.get("/v1/usage")
    assert answer.status == 503
    assert "secret-host" not in answer.text


# Requests


async def test_a_finished_request_in_full_and_without_upstreams(gateway: AccountGateway) -> None:
    tried = [
        AttemptRecord("far", "theirs", 500, "m0", "upstream_error", 3.0, "boom"),
        AttemptRecord("near", "theirs-too", 200, "m1", ms=9.0),
    ]
    await gateway.ledger.append(
        [
            row(
                1,
                attempts=tried,
                fallback_from="m0",
                stream=True,
                ended="cut",
                measured=False,
                reasoning=5,
                first_content_ms=12.5,
                upstream_ms=20.25,
                duration_ms=1000.0,
                owner="ann",
                note="a note",
            )
        ]
    )
    answer = await gateway.get(f"/v1/requests/{name(1)}")
    assert answer.json() == {
        "id": name(1),
        "object": "request",
        "endpoint": "chat.completions",
        "model": "m1",
        "asked": "acme/m1",
        "fallback_from": "m0",
        "attempts": 2,
        "path": [
            {"model": "m0", "problem": "upstream_error", "ms": 3.0},
            {"model": "m1", "problem": None, "ms": 9.0},
        ],
        "stream": True,
        "status": 200,
        "ended": "cut",
        "usage": {
            "input_tokens": 100,
            "output_tokens": 20,
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
            "reasoning_tokens": 5,
            "images": 0,
            "audio_ms": 0,
            "jobs": 0,
            "characters": 0,
            "video_ms": 0,
        },
        "measured": False,
        "credits": "0.00123",
        "included": {},
        "timings": {"first_content_ms": 12.5, "upstream_ms": 20.25, "duration_ms": 1000.0},
        "started_at": "2026-11-21T09:59:58.000Z",
        "ended_at": "2026-11-21T09:59:59.000Z",
    }
    for theirs in ("far", "near", "theirs", "boom", "a note"):
        assert theirs not in answer.text


async def test_a_request_of_another_key_is_as_one_that_never_was(gateway: AccountGateway) -> None:
    credit = row(3, kind="credit", granted=NANO)
    await gateway.ledger.append([row(1, account=BOB.id), credit])
    answers = [
        await gateway.get(f"/v1/requests/{which}")
        for which in (name(1), name(2), name(3), "x", "", "%00", "'; DROP TABLE ledger; --")
    ]
    assert {(answer.status, answer.text) for answer in answers} == {(404, answers[0].text)}
    assert answers[0].json()["error"]["code"] == "not_found"
    assert (await gateway.get(f"/v1/requests/{name(1)}", BOB)).status == 200


async def test_the_path_may_be_written_unusually(gateway: AccountGateway) -> None:
    await gateway.ledger.append([row(1)])
    assert (await gateway.get(f"/v1/requests/{name(1)}/")).status == 200


async def test_head_answers_like_get_without_the_body(gateway: AccountGateway) -> None:
    await gateway.ledger.append([row(1)])
    for path in ("/v1/limits", "/v1/usage", f"/v1/requests/{name(1)}"):
        got, head = await gateway.get(path), await gateway.get(path, method="HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.header("content-length") == str(len(got.body))


async def test_no_principal_has_nothing(gateway: AccountGateway) -> None:
    for path in ("/v1/limits", "/v1/usage", f"/v1/requests/{name(1)}"):
        assert (await gateway.get(path, None)).status == 401


async def test_a_row_that_this_process_is_about_to_write_is_waited_for(tmp_path: Path) -> None:
    """The client has its answer before the row is in SQL, here an hour before."""
    database = await Database.open(new_sqlite(tmp_path / "ledger.db"))
    ledger = SqlLedgerStore(database)
    ledger_writer = LedgerWriter(ledger, None, period=3600.0)
    await ledger_writer.start()
    try:
        gateway = AccountGateway(ledger, ledger_writer.flush, patience=20.0)
        ledger_writer.close(row(1))
        assert await ledger.get(ANN.id, name(1)) is None
        assert (await gateway.get(f"/v1/requests/{name(1)}")).json()["credits"] == "0.00123"
    finally:
        await ledger_writer.aclose()
        await database.aclose()


async def test_a_row_that_another_process_writes_is_waited_for() -> None:
    asked = asyncio.Event()

    async def flush() -> None:
        asked.set()

    gateway = AccountGateway(flush=flush, patience=20.0)
    asking = asyncio.create_task(gateway.get(f"/v1/requests/{name(1)}"))
    await asked.wait()
    await gateway.ledger.append([row(1)])
    assert (await asking).status == 200


async def test_a_flush_that_hangs_is_not_waited_for_long() -> None:
    async def flush() -> None:
        await asyncio.Event().wait()

    gateway = AccountGateway(flush=flush, patience=0.01)
    assert (await gateway.get(f"/v1/requests/{name(1)}")).status == 404


async def test_usage_of_a_key_by_groups_is_its_own(gateway: AccountGateway) -> None:
    await gateway.ledger.append(
        [
            row(1, tags="a"),
            row(2, tags="a,b", endpoint="messages"),
            row(3, purpose="describe", endpoint="describe", model="hidden", parent=name(1)),
            row(4, account=BOB.id, tags="c"),
        ]
    )
    found = (await gateway.get("/v1/usage", query="group_by=model,endpoint")).json()
    assert [(one["model"], one["endpoint"], one["requests"]) for one in found["data"]] == [
        ("describe", "describe", 1),
        ("m1", "chat.completions", 1),
        ("m1", "messages", 1),
    ]
    assert found["total"]["requests"] == 3
    found = (await gateway.get("/v1/usage", query="group_by=tag,day&model=m1")).json()
    assert [(one["tag"], one["requests"]) for one in found["data"]] == [("a", 2), ("b", 1)]
    page = (await gateway.get("/v1/usage", query="group_by=tag&limit=1")).json()
    more = (await gateway.get("/v1/usage", query=f"group_by=tag&after={page['next']}")).json()
    assert [one["tag"] for one in (*page["data"], *more["data"])] == ["", "a", "b"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("group_by=key", "group_by"),
        ("group_by=owner,model", "group_by"),
        ("group_by=model&limit=0", "limit"),
        ("group_by=model&after=!", "after"),
    ],
)
async def test_usage_of_a_key_by_other_groups_is_refused(
    gateway: AccountGateway, query: str, param: str
) -> None:
    answer = await gateway.get("/v1/usage", query=query)
    assert answer.status == 400
    assert answer.json()["error"]["param"] == param
