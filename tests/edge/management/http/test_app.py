"""The management API: access, answers, audit."""

import itertools
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import asdict

from edge.billing.plans import Plans
from edge.billing.usage_report import UsageReport
from edge.config.load import parse
from edge.management.http import AdminApp
from edge.observability.request_log import RequestLogMiddleware
from edge.routing.catalog import Catalog
from middlewares import ErrorsMiddleware, Exchange, RequestIDMiddleware
from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.pricing import NANO
from middlewares.stores import KeyStore, StoreUnavailable, digest
from middlewares.stores.accounts import Accounts
from middlewares.stores.audit.base import AuditChange
from middlewares.stores.audit.sql import SqlAuditStore
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.keys.base import is_secret
from middlewares.stores.keys.sql import Database, SqlKeyStore
from middlewares.stores.ledger.base import AttemptRecord, Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from middlewares.stores.teams.sql import SqlTeamStore
from tests.asgi import Recorded, request
from tests.edge.scripted import DOCUMENT
from tests.middlewares.stores.sqlite_files import new_sqlite

TOKEN = "admin-canary-51e0b7aa43"
NOW = 1_795_255_200.0
"""2026-11-21T10:00:00Z"""
PRO = {"id": "pro", "requests": "60/min", "windows": [{"length": "5h", "credits": "5"}]}
UNKNOWN = "key_" + "0" * 20
WRITING = ("POST", "PATCH", "PUT", "DELETE")


class ManagementAPI:
    """The app on real stores, and requests with its token."""

    def __init__(self, database: Database) -> None:
        self.now = NOW
        self.log: list[dict[str, Any]] = []
        self.keys = SqlKeyStore(database)
        self.teams = SqlTeamStore(database)
        self.ledger = SqlLedgerStore(database)
        self.audit = SqlAuditStore(database)
        self.inner = self.build()

    def build(self, **options: Any) -> AdminApp:
        settings = parse({**DOCUMENT, "plans": [PRO]})
        counters = MemoryCounters(clock=lambda: self.now)
        plans = Plans(settings)
        given: dict[str, Any] = {
            "token": TOKEN,
            "settings": settings,
            "catalog": Catalog.build(settings),
            "keys": self.keys,
            "teams": self.teams,
            "audit": self.audit,
            "usage_report": UsageReport(
                limits=plans.limits,
                team_limits=plans.team_limits,
                accounts=Accounts(counters, self.ledger, clock=lambda: self.now),
                rates=counters,
                ledger=self.ledger,
                clock=lambda: self.now,
            ),
            "clock": lambda: self.now,
        }
        return AdminApp(**{**given, **options})

    @property
    def app(self) -> ASGIApp:
        def log(event: str, fields: dict[str, Any]) -> None:
            self.log.append({"event": event, **fields})

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            await self.inner(scope, receive, send)
            outcomes.append(Exchange.of(scope).outcome)

        outcomes = self.outcomes = []
        errors = ErrorsMiddleware(inner, details=True)
        return RequestIDMiddleware(RequestLogMiddleware(errors, log=log))

    outcomes: list[str]

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        token: str = TOKEN,
    ) -> Recorded:
        given = {"authorization": f"Bearer {token}"} if token else {}
        given |= headers or {}
        options: dict[str, Any] = {"query": query, "headers": given}
        if isinstance(body, bytes):
            options["body"] = body
        elif body is not None:
            options["json"] = body
        return await request(self.app, method, f"/admin/v1{path}", **options)

    async def get(self, path: str, query: str = "") -> Any:
        answer = await self.ask("GET", path, query=query)
        assert answer.status == 200, answer.text
        return answer.json()

    async def post(self, path: str, body: Any = None, status: int = 200) -> Any:
        answer = await self.ask("POST", path, body)
        assert answer.status == status, answer.text
        return answer.json()

    async def key(self, name: str = "ann", **fields: Any) -> Any:
        return await self.post("/keys", {"name": name, **fields}, 201)

    async def team(self, name: str = "Search", **fields: Any) -> Any:
        return await self.post("/teams", {"name": name, **fields}, 201)

    async def patch(self, path: str, body: Any) -> Any:
        answer = await self.ask("PATCH", path, body)
        assert answer.status == 200, answer.text
        return answer.json()

    async def changes(self) -> list[AuditChange]:
        """The audit, oldest first."""
        return (await self.audit.page(limit=500))[::-1]

    async def state(self) -> Any:
        """Everything that a request could have changed."""
        return (
            await self.keys.every(),
            await self.ledger.page(),
            await self.changes(),
            await self.teams.page(None, 500),
        )


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ManagementAPI]:
    database = await Database.open(new_sqlite(tmp_path / "penstock.db"))
    yield ManagementAPI(database)
    await database.aclose()


def error(answer: Recorded) -> Any:
    return answer.json()["error"]


# Who comes in


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "missing_key"),
        ({"x-api-key": TOKEN}, 401, "missing_key"),
        ({"authorization": TOKEN}, 401, "missing_key"),
        ({"authorization": f"Basic {TOKEN}"}, 401, "missing_key"),
        ({"authorization": "Bearer "}, 401, "missing_key"),
        ({"cookie": f"token={TOKEN}"}, 401, "missing_key"),
        ({"authorization": f"Bearer {TOKEN[:-1]}"}, 401, "invalid_key"),
        ({"authorization": f"Bearer {TOKEN}x"}, 401, "invalid_key"),
        ({"authorization": f"Bearer {TOKEN.upper()}"}, 401, "invalid_key"),
        ({"authorization": "Bearer \xff\xfe"}, 401, "invalid_key"),
        ({"authorization": "Bearer ' OR '1'='1"}, 401, "invalid_key"),
        ({"authorization": f"Bearer {TOKEN}", "origin": "https://evil.example"}, 403, None),
        ({"authorization": f"Bearer {TOKEN}", "origin": "null"}, 403, None),
        ({"authorization": f"Bearer {TOKEN}", "origin": "http://127.0.0.1:8000"}, 403, None),
    ],
)
async def test_unauthorized_request_changes_nothing(
    api: ManagementAPI, headers: dict[str, str], status: int, code: str | None
) -> None:
    """CVE-2026-9306, decolua/9router#797: a crawl of every path with every method."""
    made = await api.key()
    before = await api.state()
    paths = [path.removeprefix("/admin/v1") for path in api.inner.addresses]
    assert len(paths) >= 11
    for path, method in itertools.product(
        [*paths, "", "/", "/nothing"], ("GET", "HEAD", "OPTIONS", *WRITING)
    ):
        answer = await api.ask(
            method, path.replace("{id}", made["id"]), {"name": "x"}, headers=headers, token=""
        )
        assert answer.status == status, (method, path)
        if code is not None and method != "HEAD":
            assert error(answer)["code"] == code
        assert made["id"] not in answer.text
    assert await api.state() == before


async def test_api_key_gives_no_access(api: ManagementAPI) -> None:
    made = await api.key()
    answer = await api.ask("GET", "/keys", token=made["secret"])
    assert (answer.status, error(answer)["code"]) == (401, "invalid_key")


async def test_token_given_twice_is_refused(api: ManagementAPI) -> None:
    pairs = [("authorization", f"Bearer {TOKEN}")] * 2
    answer = await request(api.app, "GET", "/admin/v1/keys", headers=pairs)
    assert answer.status == 401


async def test_without_a_token_every_path_is_404(api: ManagementAPI) -> None:
    before = await api.state()
    api.inner = api.build(token=None)
    for path, methods in api.inner.addresses.items():
        for method in methods:
            for token in ("", TOKEN, "None"):
                answer = await api.ask(
                    method, path.removeprefix("/admin/v1"), {"name": "x"}, token=token
                )
                assert answer.status == 404
    assert await api.state() == before
    with pytest.raises(ValueError, match="at least one character"):
        api.build(token="")


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost/#@x", "127.0.0.1/admin/v1/keys?", "", "a b", "\xff"]
)
async def test_host_header_has_no_effect(api: ManagementAPI, host: str) -> None:
    """CVE-2026-49468, CVE-2026-48710: only `scope["path"]` decides."""
    headers = {"host": host, "x-forwarded-host": host, "x-original-url": "/health"}
    assert (await api.ask("GET", "/keys", headers=headers)).status == 200
    assert (await api.ask("GET", "/keys", headers=headers, token="")).status == 401
    assert (await api.ask("GET", "/nothing", headers=headers)).status == 404


async def test_listed_origin_is_admitted(api: ManagementAPI) -> None:
    api.inner = api.build(origins=["https://desk.example"])
    for origin, status in (("https://desk.example", 200), ("https://desk.example.evil", 403)):
        assert (await api.ask("GET", "/keys", headers={"origin": origin})).status == status


async def test_every_path_answers_its_methods_only(api: ManagementAPI) -> None:
    made = await api.key()
    for path, methods in api.inner.addresses.items():
        below = path.removeprefix("/admin/v1").replace("{id}", made["id"])
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"):
            answer = await api.ask(method, below, {"no such member": 1})
            if method in methods:
                assert answer.status in (200, 400, 404), (method, path)
            else:
                assert answer.status == 405
                assert answer.header("allow") == ", ".join(methods)
    for wrong in ("", "/", "/key", "/keys/a/b", "/keys//limits", "/ledger/a/b", "/../v1/models"):
        assert (await api.ask("GET", wrong)).status == 404


async def test_every_method_on_an_unknown_id_is_404(api: ManagementAPI) -> None:
    await api.key()
    before = await api.state()
    for path, methods in api.inner.addresses.items():
        if "{id}" not in path:
            continue
        for method in methods:
            for unknown in (
                UNKNOWN,
                "ann",
                "x" * 3000,
                "%",
                "\x00",
                "sk-penstock-live-" + "a" * 43,
            ):
                body = {"amount": "5"} if path.endswith("credits") else {}
                below = path.removeprefix("/admin/v1").replace("{id}", unknown)
                answer = await api.ask(method, below, body if method in WRITING else None)
                assert answer.status == 404, (method, below[:80])
                assert unknown not in answer.text
    assert await api.state() == before


async def test_documentation_names_every_path(api: ManagementAPI) -> None:
    page = (Path(__file__).parents[4] / "docs/management.md").read_text()
    rows = dict(re.findall(r"^\| `(/admin/v1/[^`]+)` \| ([A-Z, ]+) \|", page, re.MULTILINE))
    said = {path: tuple(methods.split(", ")) for path, methods in rows.items()}
    answered = {
        path: tuple(method for method in methods if method != "HEAD")
        for path, methods in api.inner.addresses.items()
    }
    assert said == answered


# Keys


async def test_create_key_with_every_field(api: ManagementAPI) -> None:
    own = {"requests": "30/min", "windows": [{"length": "1d", "credits": "2"}]}
    made = await api.key(
        owner="ops",
        plan="pro",
        mode="test",
        models=["acme/m1", "priced"],
        endpoints=["messages"],
        networks=["10.0.0.0/8"],
        limits=own,
        expires_in="90d",
    )
    assert is_secret(made["secret"])
    assert made["secret"].startswith("sk-acme-test-")
    shown = await api.get(f"/keys/{made['id']}")
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert shown == {
        "id": made["id"],
        "key": made["secret"][:17] + "…",
        "name": "ann",
        "owner": "ops",
        "plan": "pro",
        "team": None,
        "state": "active",
        "models": ["m1", "priced"],
        "endpoints": ["messages"],
        "networks": ["10.0.0.0/8"],
        "limits": own,
        "metadata": {},
        "created_at": "2026-11-21T10:00:00.000Z",
        "expires_at": "2027-02-19T10:00:00.000Z",
        "revoked_at": None,
        "previous_until": None,
    }
    found = await api.keys.find(digest(made["secret"]))
    assert found is not None
    assert found.id == made["id"]


async def test_edit_changes_given_fields_and_null_clears(api: ManagementAPI) -> None:
    made = await api.key(plan="pro", owner="ops", models=["m1"], expires_in=60)
    key_id = made["id"]
    answer = await api.ask(
        "PATCH", f"/keys/{key_id}", {"plan": None, "disabled": True, "limits": {"tokens": "1k/s"}}
    )
    said = answer.json()
    assert (answer.status, said["state"], said["plan"], said["owner"]) == (
        *(200, "disabled", None),
        "ops",
    )
    assert (said["models"], said["limits"]) == (["m1"], {"tokens": "1k/s"})
    body = {"models": None, "limits": None, "expires_in": None, "disabled": False, "name": "anna"}
    said = (await api.ask("PATCH", f"/keys/{key_id}", body)).json()
    assert (said["models"], said["limits"], said["expires_at"]) == (None, None, None)
    assert (said["state"], said["name"]) == ("active", "anna")
    before = await api.state()
    assert (await api.ask("PATCH", f"/keys/{key_id}", {})).json() == said
    after = await api.state()
    assert after[2] == before[2]


async def test_rotate_and_revoke(api: ManagementAPI) -> None:
    made = await api.key()
    turned = await api.post(f"/keys/{made['id']}/rotate", {"grace": "1h"})
    assert is_secret(turned["secret"])
    assert turned["secret"] != made["secret"]
    assert turned["previous_until"] == "2026-11-21T11:00:00.000Z"
    assert (await api.keys.find(digest(made["secret"]))) is not None
    again = await api.post(f"/keys/{made['id']}/rotate")
    assert (await api.keys.find(digest(turned["secret"]))) is None
    gone = await api.post(f"/keys/{made['id']}/revoke", {})
    assert gone["state"] == "revoked"
    assert "secret" not in gone
    before = await api.state()
    assert await api.post(f"/keys/{made['id']}/revoke") == gone
    for path, method in (("/rotate", "POST"), ("", "PATCH")):
        answer = await api.ask(method, f"/keys/{made['id']}{path}", {})
        assert (answer.status, error(answer)["param"]) == (400, "key")
        assert "revoked" in error(answer)["message"]
    assert await api.state() == before
    assert again["secret"] not in str(before)


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "name", "it is missing"),
        ({"name": ""}, "name", "at least one character"),
        ({"name": 1}, "name", "expected str"),
        ({"name": "x", "digest": "00"}, "digest", "Unknown member `digest`; known here: name"),
        ({"name": "x", "id": "key_1"}, "id", "Unknown member"),
        ({"name": "x", "revoked_at": 1}, "revoked_at", "Unknown member"),
        ({"name": "x", "created_at": 1}, "created_at", "Unknown member"),
        ({"name": "x", "disabled": True}, "disabled", "Unknown member"),
        ({"name": "x", "plan": "max"}, "plan", "none of the plans: pro"),
        ({"name": "x", "mode": "prod"}, "mode", "live or test"),
        ({"name": "x", "models": ["m1", "m9"]}, "models[1]", "a model of the configuration"),
        ({"name": "x", "models": "m1"}, "models", "array"),
        ({"name": "x", "models": [1]}, "models[0]", "str"),
        ({"name": "x", "models": []}, "models", "a list of at least one"),
        ({"name": "x", "networks": ["home"]}, "networks", "CIDR"),
        ({"name": "x", "expires_in": "soon"}, "expires_in", "a duration"),
        ({"name": "x", "expires_in": 0}, "expires_in", "more than 0 seconds"),
        ({"name": "x", "expires_in": 1e300}, "expires_in", "at most a century"),
        ({"name": "x", "expires_in": "99999999d"}, "expires_in", "at most a century"),
        ({"name": "x", "limits": {"requests": "x"}}, "limits.requests", "a rate such as"),
        ({"name": "x", "limits": {"reqests": "1/s"}}, "limits.reqests", "did you mean requests"),
        ({"name": "x", "limits": {"id": "pro"}}, "limits.id", "unknown key"),
        ({"name": "x", "limits": []}, "limits", "object"),
        ({"name": "x", "limits": {"concurrency": 10**30}}, "limits.concurrency", "<= 10"),
        ({"name": "x", "limits": {"concurrency": 10**18}}, "limits.concurrency", "<= 10"),
        (
            {"name": "x", "limits": {"requests": "1/s", "burst": 10**30}},
            "limits.burst",
            "a whole number",
        ),
        ({"name": "x", "limits": {"requests": f"{'9' * 400}/s"}}, "limits.requests", "a rate"),
        ({"name": "x", "limits": {"tokens": f"1/{'9' * 400}d"}}, "limits.tokens", "a rate"),
        (
            {"name": "x", "limits": {"windows": [{"length": "999999d", "credits": "1"}]}},
            "limits.windows[0].length",
            "at most ten years",
        ),
        ([], None, "must be a JSON object"),
        (b"{", None, "not valid JSON"),
        (b'{"name": "\xff"}', None, "not valid JSON"),
        (b"[" * 100_000, None, "The body "),
    ],
)
async def test_invalid_body_names_the_member_and_changes_nothing(
    api: ManagementAPI, body: Any, param: str | None, message: str
) -> None:
    """CVE-2026-47101: unknown members are refused, not stored."""
    answer = await api.ask("POST", "/keys", body)
    assert (answer.status, error(answer)["param"]) == (400, param), answer.text
    assert message in error(answer)["message"]
    assert await api.state() == ([], [], [], [])


async def test_body_too_large_or_not_json_is_refused(api: ManagementAPI) -> None:
    made = await api.key()
    before = await api.state()
    large = b'{"name": "' + b"x" * (1 << 20) + b'"}'
    for path, method in (
        ("/keys", "POST"),
        (f"/keys/{made['id']}", "PATCH"),
        (f"/keys/{made['id']}/rotate", "POST"),
        (f"/keys/{made['id']}/revoke", "POST"),
        (f"/keys/{made['id']}/credits", "POST"),
    ):
        assert (await api.ask(method, path, large)).status == 413
        plain = {"content-type": "text/plain"}
        answer = await api.ask(method, path, b'{"name": "x"}', headers=plain)
        assert answer.status == 415
        assert (await api.ask(method, path, {"nonsense": 1})).status == 400
    assert await api.state() == before


async def test_list_keys_pages_have_each_key_once(api: ManagementAPI) -> None:
    made = []
    for n in range(7):
        api.now += n % 2  # some at the same moment
        made.append((api.now, (await api.key(f"key {n}"))["id"]))
    seen, query = [], "limit=2"
    while True:
        page = await api.get("/keys", query)
        assert len(page["data"]) <= 2
        seen += [key["id"] for key in page["data"]]
        if page["next"] is None:
            break
        query = f"limit=2&after={page['next']}"
    assert seen == [key_id for _, key_id in sorted(made)]
    assert (await api.get("/keys", "limit=7"))["next"] is None


@pytest.mark.parametrize(
    ("path", "query", "param"),
    [
        ("/keys", "limit=0", "limit"),
        ("/keys", "limit=501", "limit"),
        ("/keys", "limit=x", "limit"),
        ("/keys", "limit=1&limit=2", "limit"),
        ("/keys", f"after={UNKNOWN}", "after"),
        ("/keys", "after=", "after"),
        ("/keys", "owner=ann", "owner"),
        ("/plans", "x=1", "x"),
        ("/usage", "days=0", "days"),
        ("/usage", "start=x", "start"),
        ("/usage", "account=", "account"),
        ("/ledger", "kind=all", "kind"),
        ("/ledger", "since=x", "since"),
        ("/ledger", "until=2026-13-01", "until"),
        ("/ledger", "acount=a", "acount"),
        ("/ledger", "after=x", "after"),
        ("/ledger", "after=bmFuX3g=", "after"),
        ("/ledger", "after=%F0%9F%92%A9", "after"),
        ("/audit", "after=-1", "after"),
        ("/audit", "after=" + "9" * 30, "after"),
        ("/audit", "actor=x", "actor"),
    ],
)
async def test_invalid_query_names_the_parameter(
    api: ManagementAPI, path: str, query: str, param: str
) -> None:
    answer = await api.ask("GET", path, query=query)
    assert (answer.status, error(answer)["param"]) == (400, param), answer.text


# Money


async def test_plans_and_limits(api: ManagementAPI) -> None:
    assert [plan["id"] for plan in (await api.get("/plans"))["data"]] == ["pro"]
    made = await api.key(plan="pro", limits={"concurrency": 2})
    said = await api.get(f"/keys/{made['id']}/limits")
    assert said["windows"][0]["remaining"] == "5.00"
    assert said["concurrency"] == {"limit": 2, "in_use": 0}


async def test_credits_are_added_removed_and_listed(api: ManagementAPI) -> None:
    path = f"/keys/{(await api.key())['id']}/credits"
    first = await api.post(path, {"amount": "5.00", "note": "a gift", "id": "gift-1"}, 201)
    assert (first["amount"], first["note"], first["balance"]) == ("5.00", "a gift", "5.00")
    before = await api.state()
    assert await api.post(path, {"amount": "5", "id": "gift-1"}, 201) == first
    assert await api.state() == before
    other = await api.ask("POST", path, {"amount": "6", "id": "gift-1"})
    assert (other.status, error(other)["param"]) == (400, "id")
    for n in range(4):
        api.now += 1
        await api.post(path, {"amount": f"-0.{n + 1}"}, 201)
    page = await api.get(path, "limit=3")
    assert page["balance"] == "4.00"
    assert [one["amount"] for one in page["data"]] == ["-0.40", "-0.30", "-0.20"]
    rest = await api.get(path, f"after={page['next']}")
    assert ([one["amount"] for one in rest["data"]], rest["next"]) == (["-0.10", "5.00"], None)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"amount": 5}, "amount"),
        ({"amount": "0"}, "amount"),
        ({"amount": "5,00"}, "amount"),
        ({"amount": "1e400"}, "amount"),
        ({"amount": "Infinity"}, "amount"),
        ({"note": "x"}, "amount"),
        ({"amount": "5", "note": "x" * 201}, "note"),
        ({"amount": "5", "note": "a\nb"}, "note"),
        ({"amount": "5", "id": ""}, "id"),
        ({"amount": "5", "account": "key_other"}, "account"),
        ({"amount": "5", "granted": 10}, "granted"),
    ],
)
async def test_invalid_credit_is_not_added(api: ManagementAPI, body: Any, param: str) -> None:
    made = await api.key()
    before = await api.state()
    answer = await api.ask("POST", f"/keys/{made['id']}/credits", body)
    assert (answer.status, error(answer)["param"]) == (400, param), answer.text
    assert await api.state() == before


async def test_credits_beyond_the_bound_of_the_ledger_are_refused(api: ManagementAPI) -> None:
    path = f"/keys/{(await api.key())['id']}/credits"
    await api.post(path, {"amount": "999999999"}, 201)
    before = await api.state()
    refused = await api.ask("POST", path, {"amount": "999999999"})
    assert (refused.status, error(refused)["param"]) == (400, "amount"), refused.text
    assert await api.state() == before
    await api.post(path, {"amount": "-999999999"}, 201)
    assert (await api.post(path, {"amount": "-1000000000"}, 201))["balance"].startswith("-")
    assert (await api.ask("POST", path, {"amount": "-0.01"})).status == 400
    assert (await api.get(path))["balance"] == "-1000000000.00"


def row(n: int, **fields: Any) -> Entry:
    return Entry(
        **{
            "id": f"r{n}",
            "account": "key_a",
            "at": NOW + n // 2,
            "ended_at": NOW + n,
            "model": "m1",
            "input": 10,
            "cost": NANO,
            **fields,
        }
    )


async def test_ledger_is_filtered_and_paged(api: ManagementAPI) -> None:
    tried = [AttemptRecord("far", "theirs", 200, ms=1.5)]
    await api.ledger.append([row(n, attempts=tried) for n in range(7)])
    await api.ledger.append([row(8, account="key_b", kind="credit", granted=NANO, cost=0)])
    seen, query = [], "limit=3&account=key_a"
    while True:
        page = await api.get("/ledger", query)
        seen += [entry["id"] for entry in page["data"]]
        if page["next"] is None:
            break
        query = f"limit=3&account=key_a&after={page['next']}"
    assert seen == [f"r{n}" for n in reversed(range(7))]
    assert [one["id"] for one in (await api.get("/ledger", "kind=credit"))["data"]] == ["r8"]
    between = "since=2026-11-21T10:00:01Z&until=2026-11-21T10:00:02Z"
    assert [one["id"] for one in (await api.get("/ledger", between))["data"]] == ["r3", "r2"]
    one = await api.get("/ledger/r3")
    assert (one["id"], one["cost"], one["attempts"]) == ("r3", "1.00", [asdict(tried[0])])
    assert one == (await api.get("/ledger", between))["data"][0]


async def test_usage_of_one_account_and_of_all(api: ManagementAPI) -> None:
    await api.ledger.append([row(1), row(2), row(3, account="key_b", model="m2")])
    said = await api.get("/usage")
    assert [(day["model"], day["requests"]) for day in said["data"]] == [("m1", 2), ("m2", 1)]
    assert said["total"]["credits"] == "3.00"
    one = await api.get("/usage", "account=key_b&days=1")
    assert (one["total"]["requests"], one["total"]["input_tokens"]) == (1, 10)
    assert (await api.get("/usage", "end=2026-11-20"))["data"] == []


async def test_usage_of_unknown_account_is_404(api: ManagementAPI) -> None:
    made = await api.key()
    assert (await api.get("/usage", f"account={made['id']}"))["data"] == []
    answer = await api.ask("GET", "/usage", query="account=key_missing")
    assert (answer.status, error(answer)["code"]) == (404, "not_found")
    secret = await api.ask("GET", "/usage", query=f"account=sk-x-live-{'A' * 43}")
    assert (secret.status, error(secret)["param"]) == (400, "account")  # it is not looked up


async def test_metadata_is_set_changed_and_cleared(api: ManagementAPI) -> None:
    made = await api.key(metadata={"team": "web"})
    assert made["metadata"] == {"team": "web"}
    path = f"/keys/{made['id']}"
    changed = await api.ask("PATCH", path, {"metadata": {"team": "app", "cost": "7"}})
    assert changed.json()["metadata"] == {"team": "app", "cost": "7"}
    cleared = await api.ask("PATCH", path, {"metadata": None})
    assert cleared.json()["metadata"] == {}
    refused = await api.ask("PATCH", path, {"metadata": {f"k{n}": "v" for n in range(17)}})
    assert (refused.status, refused.json()["error"]["param"]) == (400, "metadata")


# Teams


async def test_create_team_with_every_field(api: ManagementAPI) -> None:
    own = {"requests": "30/min", "windows": [{"length": "1d", "credits": "2"}]}
    made = await api.team(" Search ", plan="pro", limits=own, metadata={"cost": "17"})
    assert re.fullmatch(r"team_[0-9a-z]{20}", made["id"])
    assert made == {
        "id": made["id"],
        "name": "Search",
        "plan": "pro",
        "state": "active",
        "limits": own,
        "metadata": {"cost": "17"},
        "created_at": "2026-11-21T10:00:00.000Z",
    }
    assert await api.get(f"/teams/{made['id']}") == made
    assert (await api.get("/teams"))["data"] == [made]


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "name", "it is missing"),
        ({"name": " "}, "name", "at least one character"),
        ({"name": "a\x00b"}, "name", "printable"),
        ({"name": "sk-" + "a1" * 12}, "name", "looks like a secret"),
        ({"name": "x", "plan": "max"}, "plan", "none of the plans: pro"),
        ({"name": "x", "limits": {"reqests": "1/s"}}, "limits.reqests", "did you mean requests"),
        ({"name": "x", "metadata": {"": "v"}}, "metadata", "names of 1 to 64"),
        ({"name": "x", "owner": "ann"}, "owner", "Unknown member `owner`; known here: name"),
        ({"name": "x", "id": "team_1"}, "id", "Unknown member"),
        ({"name": "x", "disabled": True}, "disabled", "Unknown member"),
    ],
)
async def test_invalid_team_names_the_member_and_changes_nothing(
    api: ManagementAPI, body: Any, param: str, message: str
) -> None:
    answer = await api.ask("POST", "/teams", body)
    assert (answer.status, error(answer)["param"]) == (400, param), answer.text
    assert message in error(answer)["message"]
    assert await api.state() == ([], [], [], [])


async def test_edit_team_changes_given_fields_and_null_clears(api: ManagementAPI) -> None:
    made = await api.team(plan="pro", metadata={"a": "b"})
    path = f"/teams/{made['id']}"
    said = await api.patch(path, {"disabled": True, "limits": {"tokens": "1k/s"}, "name": "Find"})
    assert (said["state"], said["limits"], said["name"]) == (
        *("disabled", {"tokens": "1k/s"}),
        "Find",
    )
    assert (said["plan"], said["metadata"]) == ("pro", {"a": "b"})
    said = await api.patch(
        path, {"disabled": False, "limits": None, "plan": None, "metadata": None}
    )
    assert (said["state"], said["limits"], said["plan"], said["metadata"]) == (
        *("active", None),
        *(None, {}),
    )
    before = await api.state()
    assert await api.patch(path, {}) == said
    assert await api.state() == before
    for body, param in (({"name": None}, "name"), ({"disabled": None}, "disabled")):
        answer = await api.ask("PATCH", path, body)
        assert (answer.status, error(answer)["param"]) == (400, param)


async def test_pages_of_teams_have_each_once(api: ManagementAPI) -> None:
    made = [(await api.team(f"team {n}"))["id"] for n in range(5)]
    seen, query = [], "limit=2"
    while True:
        page = await api.get("/teams", query)
        seen += [team["id"] for team in page["data"]]
        if page["next"] is None:
            break
        query = f"limit=2&after={page['next']}"
    assert sorted(seen) == sorted(made)
    answer = await api.ask("GET", "/teams", query="after=team_missing")
    assert (answer.status, error(answer)["param"]) == (400, "after")


async def test_key_joins_moves_between_and_leaves_teams(api: ManagementAPI) -> None:
    first, second = await api.team("Search"), await api.team("Ads")
    key = await api.key(team=first["id"])
    alone = await api.key("bob")
    assert (key["team"], alone["team"]) == (first["id"], None)

    async def keys_of(team: Any) -> list[str]:
        found = await api.get("/keys", f"team={team['id']}")
        return [each["id"] for each in found["data"]]

    assert (await keys_of(first), await keys_of(second)) == ([key["id"]], [])
    path = f"/keys/{key['id']}"
    assert (await api.patch(path, {"team": second["id"]}))["team"] == second["id"]
    assert (await keys_of(first), await keys_of(second)) == ([], [key["id"]])
    assert (await api.patch(path, {"name": "anna"}))["team"] == second["id"]
    assert (await api.patch(path, {"team": None}))["team"] is None
    assert await keys_of(second) == []
    assert await keys_of({"id": "team_missing"}) == []
    moves = next(row.detail["team"] for row in await api.changes() if row.action == "key.edit")
    assert moves == {"from": first["id"], "to": second["id"]}


@pytest.mark.parametrize("team", ["team_" + "0" * 20, "Search", "", "%", "key"])
async def test_key_of_an_unknown_team_is_refused(api: ManagementAPI, team: str) -> None:
    """By its id only: a name may be of two teams."""
    await api.team("Search")
    key = await api.key()
    before = await api.state()
    for method, path in (("POST", "/keys"), ("PATCH", f"/keys/{key['id']}")):
        answer = await api.ask(method, path, {"name": "x", "team": team})
        assert (answer.status, error(answer)["param"]) == (400, "team"), answer.text
        assert "no team has this id" in error(answer)["message"]
    assert await api.state() == before


async def test_credits_of_a_team_are_an_account_of_its_own(api: ManagementAPI) -> None:
    team = await api.team()
    key = await api.key(team=team["id"])
    path = f"/teams/{team['id']}/credits"
    added = await api.post(path, {"amount": "5.00", "note": "March", "id": "bill-1"}, 201)
    assert (added["team"], added["amount"], added["balance"]) == (team["id"], "5.00", "5.00")
    assert "key" not in added
    again = await api.post(path, {"amount": "5.00", "note": "March", "id": "bill-1"}, 201)
    assert again["balance"] == "5.00"
    api.now += 1
    await api.post(path, {"amount": "-1.50"}, 201)
    found = await api.get(path)
    assert (found["balance"], [row["amount"] for row in found["data"]]) == (
        "3.50",
        ["-1.50", "5.00"],
    )
    assert (await api.get(f"/keys/{key['id']}/credits"))["balance"] == "0.00"
    clash = await api.ask("POST", f"/keys/{key['id']}/credits", {"amount": "5.00", "id": "bill-1"})
    assert (clash.status, error(clash)["param"]) == (400, "id")


async def test_limits_of_a_team_and_of_its_key(api: ManagementAPI) -> None:
    team = await api.team(plan="pro", limits={"concurrency": 3})
    key = await api.key(team=team["id"])
    found = await api.get(f"/teams/{team['id']}/limits")
    assert (found["id"], found["name"], found["plan"]) == (team["id"], "Search", "pro")
    assert [window["cap"] for window in found["windows"]] == ["5.00"]
    assert found["concurrency"] == {"limit": 3, "in_use": 0}
    assert [rate["limit"] for rate in found["rates"]] == [60]
    mine = await api.get(f"/keys/{key['id']}/limits")
    assert (mine["team"], mine["windows"]) == (found, [])
    free = await api.team("Free")
    assert (await api.get(f"/teams/{free['id']}/limits"))["windows"] == []


# The audit


async def test_each_change_of_a_team_has_an_audit_row(api: ManagementAPI) -> None:
    made = await api.team(plan="pro")
    path = f"/teams/{made['id']}"
    await api.patch(path, {"disabled": True, "plan": None})
    await api.post(f"{path}/credits", {"amount": "7", "note": "why"}, 201)
    found = (await api.get("/audit", f"subject={made['id']}"))["data"][::-1]
    assert [(row["actor"], row["action"]) for row in found] == [
        ("admin", "team.create"),
        ("admin", "team.edit"),
        ("admin", "credits.add"),
    ]
    assert found[0]["detail"]["name"] == "Search"
    assert found[1]["detail"] == {
        "plan": {"from": "pro", "to": None},
        "disabled": {"from": False, "to": True},
    }


async def test_each_change_has_an_audit_row(api: ManagementAPI) -> None:
    made = await api.key(plan="pro")
    path = f"/keys/{made['id']}"
    api.now += 1
    await api.ask("PATCH", path, {"plan": None, "limits": {"tokens": "1k/s"}})
    turned = await api.post(f"{path}/rotate", {"grace": 60})
    await api.post(f"{path}/credits", {"amount": "-5"}, 201)
    await api.post(f"{path}/credits", {"amount": "7", "note": "why"}, 201)
    await api.post(f"{path}/revoke")
    found = (await api.get("/audit", f"subject={made['id']}"))["data"][::-1]
    assert [one["action"] for one in found] == [
        *("key.create", "key.edit", "key.rotate", "credits.remove", "credits.add", "key.revoke")
    ]
    assert {(one["actor"], one["subject"]) for one in found} == {("admin", made["id"])}
    assert (found[0]["at"], found[1]["at"]) == (
        *("2026-11-21T10:00:00.000Z", "2026-11-21T10:00:01.000Z"),
    )
    assert found[1]["detail"] == {
        "plan": {"from": "pro", "to": None},
        "limits": {"from": None, "to": {"tokens": "1k/s"}},
    }
    assert found[2]["detail"]["prefix"] == {
        "from": made["key"].removesuffix("…"),
        "to": turned["key"].removesuffix("…"),
    }
    assert found[4]["detail"]["amount"] == "7.00"
    pages, query = [], "limit=4"
    while True:
        page = await api.get("/audit", query)
        pages += [one["id"] for one in page["data"]]
        if page["next"] is None:
            break
        query = f"limit=4&after={page['next']}"
    assert pages == sorted(pages, reverse=True)
    assert len(pages) == 6
    assert (await api.get("/audit", f"subject={UNKNOWN}"))["data"] == []


@dataclass
class BrokenAudit:
    """A store whose writes fail while it is down."""

    inner: SqlAuditStore
    down: bool = True

    async def note(self, change: AuditChange) -> None:
        if self.down:
            raise StoreUnavailable("the disk of secret-host is full")
        await self.inner.note(change)

    async def page(self, **options: Any) -> list[AuditChange]:
        return await self.inner.page(**options)


async def test_change_without_audit_row_is_not_made(api: ManagementAPI) -> None:
    made, team = await api.key(plan="pro"), await api.team()
    before = await api.state()
    api.inner = api.build(audit=BrokenAudit(api.audit))
    path = f"/keys/{made['id']}"
    for method, below, body in (
        ("POST", "/keys", {"name": "x"}),
        ("PATCH", path, {"plan": None}),
        ("POST", f"{path}/rotate", {}),
        ("POST", f"{path}/revoke", {}),
        ("POST", f"{path}/credits", {"amount": "5"}),
        ("POST", "/teams", {"name": "x"}),
        ("PATCH", f"/teams/{team['id']}", {"disabled": True}),
        ("POST", f"/teams/{team['id']}/credits", {"amount": "5"}),
    ):
        answer = await api.ask(method, below, body)
        assert answer.status == 503, (method, below)
        assert "secret-host" not in answer.text
    assert await api.state() == before


@dataclass
class FailingKeys:
    """A store that reads, and fails to write."""

    inner: KeyStore
    writes: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def insert(self, key: Any) -> Any:
        raise StoreUnavailable("gone")

    async def update(self, key_id: str, change: Any) -> Any:
        raise StoreUnavailable("gone")


async def test_change_that_fails_gets_a_second_audit_row(api: ManagementAPI) -> None:
    made = await api.key()
    api.inner = api.build(keys=FailingKeys(api.keys))
    assert (await api.ask("POST", "/keys", {"name": "x"})).status == 503
    assert (await api.ask("POST", f"/keys/{made['id']}/revoke")).status == 503
    found = await api.changes()
    assert [one.action for one in found[1:]] == [
        *("key.create", "key.create.failed", "key.revoke", "key.revoke.failed")
    ]
    assert found[1].subject == found[2].subject
    assert found[4].detail == {"reason": "StoreUnavailable"}


async def test_secret_is_in_one_answer_only(
    api: ManagementAPI, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """L#18731, L#31620: not in a listing, the audit, a log line, an error or a file."""
    caplog.set_level(logging.DEBUG)
    made = await api.key()
    path = f"/keys/{made['id']}"
    turned = await api.post(f"{path}/rotate", {"grace": "1h"})
    secrets = (made["secret"], turned["secret"], TOKEN)
    texts: list[str] = []
    for secret in secrets[:2]:
        for method, below, body in (
            ("GET", f"/keys/{secret}", None),
            ("POST", f"/keys/{secret}/revoke", {}),
            ("GET", f"/ledger/{secret}", None),
            ("POST", "/keys", {"name": secret}),
            ("POST", "/keys", {"name": "x", "owner": f"it is {secret}"}),
            ("POST", "/keys", {"name": "x", "plan": secret}),
            ("PATCH", path, {"networks": [secret]}),
            ("POST", f"{path}/credits", {"amount": "5", "note": secret}),
        ):
            answer = await api.ask(method, below, body)
            assert answer.status in (400, 404), (method, below)
            texts.append(answer.text)
        texts += [
            (await api.ask("GET", "/ledger", query=f"account={secret}")).text,
            (await api.ask("GET", "/ledger", query=f"after={secret}")).text,
            (await api.ask("GET", "/audit", query=f"subject={secret}")).text,
        ]
    texts += [
        (await api.ask("GET", below)).text
        for below in ("/keys", path, "/audit", "/ledger", f"{path}/credits", f"{path}/limits")
    ]
    await api.post(f"{path}/revoke")
    texts += [str(await api.changes()), str(api.log), caplog.text]
    texts += [file.read_bytes().decode("latin-1") for file in tmp_path.iterdir()]
    assert api.log
    for secret in secrets:
        assert not [text for text in texts if secret in text]


async def test_outcomes_are_on_the_exchange(api: ManagementAPI) -> None:
    await api.ask("GET", "/keys")
    assert api.outcomes == ["completed"]
    await api.ask("GET", "/keys", token="")
    assert (api.log[-1]["outcome"], api.log[-1]["problem"]) == ("refused", "missing_key")
