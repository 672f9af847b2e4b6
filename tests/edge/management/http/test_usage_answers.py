"""/admin/v1/usage by groups: JSON, CSV, filters, pages; and filters of /admin/v1/ledger."""

import csv
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from edge.billing.plans import Plans
from edge.billing.usage_report import UsageReport
from edge.config.load import parse
from edge.management.http import AdminApp
from edge.routing.catalog import Catalog
from middlewares import ErrorsMiddleware
from middlewares.stores.audit.sql import SqlAuditStore
from middlewares.stores.keys.base import Key
from middlewares.stores.keys.sql import Database, SqlKeyStore
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.teams.sql import SqlTeamStore
from tests.asgi import Recorded, request
from tests.edge.scripted import DOCUMENT
from tests.middlewares.stores.sqlite_files import new_sqlite

NOW = 1_795_255_200.0
"""2026-11-21T10:00:00Z"""
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", '=HYPERLINK("http://x.test")', 'a"b', "a,b", "plain"]


class UsageAPI:
    """The app on real stores."""

    def __init__(self, database: Database) -> None:
        settings = parse(DOCUMENT)
        self.keys = SqlKeyStore(database)
        self.ledger = SqlLedgerStore(database)
        plans = Plans(settings)
        report = UsageReport(
            limits=plans.limits,
            team_limits=plans.team_limits,
            accounts=None,
            rates=None,
            ledger=self.ledger,
            clock=lambda: NOW,
        )
        self.app = ErrorsMiddleware(
            AdminApp(
                token="t",
                settings=settings,
                catalog=Catalog.build(settings),
                keys=self.keys,
                teams=SqlTeamStore(database),
                audit=SqlAuditStore(database),
                usage_report=report,
                clock=lambda: NOW,
            )
        )

    async def ask(self, query: str, path: str = "usage", method: str = "GET") -> Recorded:
        headers = {"authorization": "Bearer t"}
        return await request(self.app, method, f"/admin/v1/{path}", query=query, headers=headers)

    async def get(self, query: str, path: str = "usage") -> Any:
        answer = await self.ask(query, path)
        assert answer.status == 200, answer.text
        return answer.json()

    async def refused(self, query: str) -> str:
        answer = await self.ask(query)
        assert answer.status == 400, answer.text
        return str(answer.json()["error"]["param"])


def use(n: int, **fields: Any) -> Entry:
    at = NOW - n * 3600.0
    made: dict[str, Any] = {
        "id": f"r{n:04d}",
        "account": "key_1",
        "at": at,
        "ended_at": at + 1,
        "model": "m",
        "endpoint": "chat.completions",
        "input": 10,
        "cost": 1_500_000_000,
        "status": 200,
        **fields,
    }
    return Entry(**made)


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[UsageAPI]:
    database = await Database.open(new_sqlite(tmp_path / "keys.db"))
    yield UsageAPI(database)
    await database.aclose()


async def test_groups_have_sums_and_current_names_and_one_total(api: UsageAPI) -> None:
    await api.keys.insert(Key(id="key_1", digest=b"1" * 32, prefix="p", created_at=1.0, name="new"))
    await api.ledger.append(
        [
            use(1, tags="a,b", key_name="old", owner="ann"),
            use(2, owner="ann", ended="failed", status=502, images=3),
            use(30, account="key_2", tags="b"),
        ]
    )
    found = await api.get("group_by=key,tag&days=7")
    assert found["group_by"] == ["key", "tag"]
    assert (found["start"], found["end"]) == (
        "2026-11-15T00:00:00.000Z",
        "2026-11-22T00:00:00.000Z",
    )
    assert found["next"] is None
    shown = [(one["tag"], one["key"], one["key_name"], one["credits"]) for one in found["data"]]
    assert shown == [
        ("", "key_1", "new", "1.50"),
        ("a", "key_1", "new", "1.50"),
        ("b", "key_1", "new", "1.50"),
        ("b", "key_2", "", "1.50"),
    ]
    assert found["total"]["credits"] == "4.50"
    assert (found["total"]["requests"], found["total"]["errors"]) == (3, 1)
    assert found["data"][0]["images"] == 3
    by_day = await api.get("group_by=day&start=2026-11-20&end=2026-11-21")
    assert [(one["day"], one["requests"]) for one in by_day["data"]] == [
        ("2026-11-20", 1),
        ("2026-11-21", 2),
    ]
    hour = await api.get("group_by=model&start=2026-11-21T08:30:00Z&end=2026-11-21T10:00:00Z")
    assert hour["total"]["requests"] == 1


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        ("", 4),
        ("&key=key_1", 3),
        ("&owner=ann", 2),
        ("&owner=", 2),
        ("&team=team_x", 1),
        ("&model=n", 1),
        ("&endpoint=messages", 1),
        ("&tag=a", 2),
        ("&tag=", 2),
        ("&tag=a&owner=ann&key=key_1", 1),
        ("&key=none", 0),
    ],
)
async def test_filters_choose_rows_with_all_of_them(
    api: UsageAPI, query: str, requests: int
) -> None:
    await api.ledger.append(
        [
            use(1, owner="ann", tags="a"),
            use(2, owner="ann", team="team_x"),
            use(3, model="n", tags="a,b"),
            use(4, account="key_2", endpoint="messages"),
        ]
    )
    found = await api.get(f"group_by=model{query}")
    assert found["total"]["requests"] == requests
    assert sum(one["requests"] for one in found["data"]) == requests


async def test_pages_continue_and_only_the_first_has_the_total(api: UsageAPI) -> None:
    await api.ledger.append([use(n, account=f"key_{n % 7}", tags="t") for n in range(20)])
    keys: list[str] = []
    query = "group_by=key,tag&limit=3"
    found = await api.get(query)
    assert found["total"]["requests"] == 20
    while True:
        keys += [one["key"] for one in found["data"]]
        if found["next"] is None:
            break
        found = await api.get(f"{query}&after={found['next']}")
        assert found["total"] is None
    assert keys == [f"key_{n}" for n in range(7)]


async def test_csv_has_all_groups_and_no_cell_that_is_a_formula(api: UsageAPI) -> None:
    await api.ledger.append(
        [use(n, owner=owner, account=f"key_{n}") for n, owner in enumerate(FORMULAS)]
    )
    answer = await api.ask("group_by=owner,day&format=csv")
    assert answer.status == 200
    assert dict(answer.headers)[b"content-type"] == b"text/csv; charset=utf-8"
    assert (
        dict(answer.headers)[b"content-disposition"]
        == b'attachment; filename="usage-2026-10-23.csv"'
    )
    head, *rows = csv.reader(StringIO(answer.text, newline=""))
    assert head[:4] == ["owner", "day", "requests", "errors"]
    assert head[-1] == "credits"
    safe = {f"'{one}" if one[0] in "=+-@" else one for one in FORMULAS}
    assert {row[0] for row in rows} == safe
    assert {len(row) for row in rows} == {len(head)}
    assert answer.text.count("\r\n") == len(FORMULAS) + 1
    assert (await api.ask("group_by=owner&format=csv", method="HEAD")).body == b""


async def test_csv_of_many_groups_is_sent_in_parts(api: UsageAPI) -> None:
    await api.ledger.append(
        [use(1, id=f"r{n}", account=f"key_{n:04d}", cost=n) for n in range(2300)]
    )
    answer = await api.ask("group_by=key&format=csv")
    assert len(answer.text.splitlines()) == 2301
    assert len(answer.chunks) >= 3


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("group_by=", "group_by"),
        ("group_by=modell", "group_by"),
        ("group_by=model,model", "group_by"),
        ("group_by=model,", "group_by"),
        ("group_by=model&limit=0", "limit"),
        ("group_by=model&limit=1001", "limit"),
        ("group_by=model&limit=x", "limit"),
        ("group_by=model&after=x", "after"),
        ("group_by=model&after=W10=", "after"),
        ("group_by=model&after=WzFd", "after"),
        ("group_by=day&after=Wzk5OTk5OTk5OTk5OTk5OTk5OTldCg==", "after"),
        ("group_by=model&after=WyJcdWQ4MDAiXQ==", "after"),
        ("group_by=model&format=xml", "format"),
        ("group_by=model&format=csv&limit=5", "limit"),
        ("group_by=model&start=x", "start"),
        ("group_by=model&account=key_1", "account"),
        ("group_by=model&tag=%00", "tag"),
        ("by=model", "by"),
    ],
)
async def test_invalid_questions_name_what_is_wrong(api: UsageAPI, query: str, param: str) -> None:
    assert await api.refused(query) == param


async def test_usage_without_groups_is_by_day_and_model_as_before(api: UsageAPI) -> None:
    await api.ledger.append([use(1)])
    found = await api.get("account=key_1")
    assert set(found) == {"object", "start", "end", "data", "total"}
    assert [(one["day"], one["model"]) for one in found["data"]] == [("2026-11-21", "m")]


async def test_ledger_is_filtered(api: UsageAPI) -> None:
    await api.ledger.append(
        [
            use(1, tags="a", owner="ann"),
            use(2, status=502, ended="failed", model="n"),
            use(3, team="team_x", endpoint="messages"),
        ]
    )
    for query, ids in [
        ("tag=a", ["r0001"]),
        ("status=5xx", ["r0002"]),
        ("ended=failed&model=n", ["r0002"]),
        ("team=team_x", ["r0003"]),
        ("owner=", ["r0002", "r0003"]),
        ("endpoint=messages&kind=use", ["r0003"]),
    ]:
        found = await api.get(query, "ledger")
        assert [row["id"] for row in found["data"]] == ids, query
