"""Commands on plans, credits, usage and limits of keys."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import time
from typing import Any, TypeVar

import pytest

from middlewares.stores.audit.base import AuditChange
from middlewares.stores.audit.sql import SqlAuditStore
from middlewares.stores.keys.sql import Database
from middlewares.stores.ledger.base import Entry
from middlewares.stores.ledger.sql import SqlLedgerStore
from tests.middlewares.stores.sqlite_files import new_sqlite

from .commands import Penstock, write_config

T = TypeVar("T")

PLANS = """
[[plans]]
id = "max"
requests = "120/min"
burst = 10
tokens = "200k/min"
concurrency = 8
on_excess = "throttle"
windows = [{ length = "5h", credits = "5.00" }, { length = "calendar month", credits = "40" }]
overflow = "credits"
"""


class Commands:
    """Runs commands on one configuration and reads what they wrote."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self._sql = new_sqlite(folder / "var/penstock.db")
        self.penstock = Penstock(write_config(folder, PLANS), capture)

    def ok(self, *arguments: str) -> str:
        done = self.penstock.on(*arguments)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def key(self, name: str, *options: str) -> str:
        """The id of a new key."""
        self.ok("keys", "create", "--name", name, "--quiet", *options)
        found: str = self.json("keys", "show", name)["id"]
        return found

    def refused(self, *arguments: str) -> tuple[object, str]:
        done = self.penstock.on(*arguments)
        assert done.out == ""
        assert "Traceback" not in done.err
        return done.status, done.err

    def sql(self, work: Callable[[Database], Awaitable[T]]) -> T:
        async def run() -> T:
            database = await Database.open(self._sql)
            try:
                return await work(database)
            finally:
                await database.aclose()

        return asyncio.run(run())

    def audit(self) -> list[AuditChange]:
        """Rows of the audit, oldest first."""
        return self.sql(lambda database: SqlAuditStore(database).page())[::-1]

    def used(self, *entries: Entry) -> None:
        self.sql(lambda database: SqlLedgerStore(database).append(entries))


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path, capsys)


# Plans


def test_plans_are_listed(commands: Commands) -> None:
    lines = commands.ok("plans").splitlines()
    assert lines[0].split() == [
        *("id", "requests", "burst", "tokens", "concurrency", "on_excess", "windows"),
        *("overflow", "on_hangup"),
    ]
    by_name = {line.split()[0]: line for line in lines[1:]}
    assert "5.00 per 5h, 40.00 per calendar month" in by_name["max"]
    assert by_name["pro"].split()[1:5] == ["-", "0", "-", "-"]
    report = {plan["id"]: plan for plan in commands.json("plans")}
    assert report["max"] == {
        "id": "max",
        "requests": "120/m",
        "burst": 10,
        "tokens": "200000/m",
        "concurrency": 8,
        "on_excess": "throttle",
        "windows": [
            {"length": "5h", "credits": "5.00", "aligned": False},
            {"length": "calendar month", "credits": "40.00", "aligned": False},
        ],
        "overflow": "credits",
        "on_hangup": "cancel",
        "cut_off": False,
        "on_budget": None,
        "on_rate_limit": None,
        "storage": None,
    }


# Credits


def test_credits_are_added_removed_and_listed(commands: Commands) -> None:
    key = commands.key("ann")
    added = commands.ok("credits", "add", "ann", "5.00", "--note", "invoice 17")
    assert added.endswith(f": {key} has 5.00 credits\n")
    assert commands.ok("credits", "add", key, "0.000000001").endswith(" has 5.000000001 credits\n")
    assert commands.ok("credits", "remove", "ann", "6").endswith(" has -0.999999999 credits\n")
    report = commands.json("credits", "list", "ann")
    assert (report["key"], report["balance"]) == (key, "-0.999999999")
    amounts = [(credit["amount"], credit["note"]) for credit in report["credits"]]
    assert amounts == [("-6.00", ""), ("0.000000001", ""), ("5.00", "invoice 17")]
    assert "balance: -0.999999999\n" in commands.ok("credits", "list", "ann")
    commands.key("bob")
    assert commands.json("credits", "list", "bob")["credits"] == []


def test_credits_list_balance_is_granted_less_used(commands: Commands) -> None:
    key = commands.key("ann")
    commands.ok("credits", "add", "ann", "5")
    now = time()
    commands.used(
        Entry(id="u1", account=key, at=now, ended_at=now, cost=10**9, from_credits=10**9),
        Entry(id="u2", account=key, at=now, ended_at=now, cost=10**9),
    )
    assert commands.json("credits", "list", "ann")["balance"] == "4.00"


def test_credits_add_same_id_is_added_once(commands: Commands) -> None:
    key = commands.key("ann")
    commands.key("bob")
    once = commands.ok("credits", "add", "ann", "5", "--id", "invoice-17")
    again = commands.ok("credits", "add", "ann", "5.00", "--id", "invoice-17")
    assert once == again == f"ok: credit_invoice-17: {key} has 5.00 credits\n"
    for which, amount in (("ann", "6"), ("bob", "5")):
        status, message = commands.refused("credits", "add", which, amount, "--id", "invoice-17")
        assert (status, message.startswith("error: id: invoice-17 is the id of a credit of")) == (
            1,
            True,
        )
    assert len([one for one in commands.audit() if one.action == "credits.add"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "ann", "five"], "amount: expected credits such as"),
        (["add", "ann", "0"], "amount: expected credits as text"),
        (["add", "ann", "1.0000000001"], "amount: expected credits such as"),
        (["add", "ann", "1e999999999"], "amount: expected credits such as"),
        (["add", "ann", "NaN"], "amount: expected credits such as"),
        (["add", "--", "ann", "-5"], "amount: expected more than 0"),
        (["remove", "--", "ann", "-5"], "amount: expected more than 0"),
        (["add", "ann", "5", "--id", "a b"], "id: expected 1 to 100"),
        (
            ["add", "ann", "5", "--note", "sk-penstock-live-" + "a" * 43],
            "note: looks like a secret",
        ),
        (["add", "missing", "5"], "key: no key has the id"),
        (["list", "missing"], "key: no key has the id"),
        (["add", "gone", "5"], "is revoked"),
    ],
)
def test_credits_invalid_change_writes_nothing(
    commands: Commands, arguments: list[str], message: str
) -> None:
    commands.key("ann")
    commands.key("gone")
    commands.ok("keys", "revoke", "gone")
    written = len(commands.audit())
    command, *rest = arguments
    config = ["--config", str(commands.penstock.config)]
    done = commands.penstock("credits", command, *config, *rest)
    assert (done.status, done.out) == (1, "")
    assert message in done.err
    assert "Traceback" not in done.err
    assert commands.json("credits", "list", "ann")["credits"] == []
    assert len(commands.audit()) == written


# Usage


def test_usage_of_all_and_of_one(commands: Commands) -> None:
    ann, bob = commands.key("ann"), commands.key("bob")
    now = time()
    for n, account in enumerate((ann, ann, bob)):
        entry = Entry(
            id=f"u{n}",
            account=account,
            at=now,
            ended_at=now,
            model="m",
            input=10,
            output=2,
            cost=5_000_000,
        )
        commands.used(entry)
    old = Entry(id="old", account=ann, at=now - 40 * 86400, ended_at=now, model="m", cost=1)
    commands.used(old)
    assert commands.json("usage")["total"]["requests"] == 3
    assert commands.json("usage", "--days", "60")["total"]["requests"] == 4
    one = commands.json("usage", "ann")
    assert [(day["model"], day["requests"], day["credits"]) for day in one["data"]] == [
        ("m", 2, "0.01")
    ]
    lines = commands.ok("usage", "bob").splitlines()
    assert lines[0].split()[:3] == ["day", "model", "requests"]
    assert lines[-1].split() == ["total", "-", "1", "10", "2", "0", "0", "0.005"]
    assert commands.refused("usage", "missing")[0] == 1
    assert commands.refused("usage", "--days", "0")[0] == 2


def test_usage_by_groups(commands: Commands) -> None:
    ann = commands.key("ann")
    now = time()
    for n, tags in enumerate(("a", "a,b", "")):
        commands.used(
            Entry(
                id=f"u{n}",
                account=ann,
                at=now,
                ended_at=now,
                owner="=1+1",
                model="m",
                cost=5_000_000,
                tags=tags,
            )
        )
    found = commands.json("usage", "--by", "tag,key")
    assert [(one["tag"], one["key_name"], one["credits"]) for one in found["data"]] == [
        ("", "ann", "0.005"),
        ("a", "ann", "0.01"),
        ("b", "ann", "0.005"),
    ]
    assert found["total"]["credits"] == "0.015"
    lines = commands.ok("usage", "ann", "--by", "model", "--tag", "a").splitlines()
    assert lines[0].split() == ["model", "requests", "errors", *TOKENS, "credits"]
    assert lines[-1].split() == ["total", "2", "0", "0", "0", "0", "0", "0.01"]
    rows = commands.ok("usage", "--by", "owner,day", "--csv").splitlines()
    assert rows[0].startswith("owner,day,requests,errors,input_tokens,")
    assert rows[1].startswith("'=1+1,2")
    assert len(rows) == 2
    for refused in (["--by", "color"], ["--csv"], ["--owner", "x"], ["--by", ""]):
        assert commands.refused("usage", *refused)[0] == 2


TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def test_usage_and_keys_of_a_team_by_its_name(commands: Commands) -> None:
    team = commands.ok("teams", "create", "--name", "Search", "--quiet").strip()
    ann, bob = commands.key("ann", "--team", "Search"), commands.key("bob")
    now = time()
    for account, of in ((ann, team), (bob, "")):
        commands.used(
            Entry(id=account, account=account, team=of, at=now, ended_at=now, model="m", cost=1)
        )
    for which in ("Search", team):
        (found,) = commands.json("usage", "--by", "team,key", "--team", which)["data"]
        assert (found["team_name"], found["key"]) == ("Search", ann)
        assert [key["id"] for key in commands.json("keys", "list", "--team", which)] == [ann]
    (alone,) = commands.json("usage", "--by", "key", "--team", "")["data"]
    assert alone["key"] == bob
    for refused in (["usage", "--by", "key"], ["keys", "list"]):
        status, text = commands.refused(*refused, "--team", "Serch")
        assert status == 1
        assert "no team has the id or name 'Serch'" in text


def test_usage_of_an_address_without_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = Commands(tmp_path, capsys)
    write_config(tmp_path, '[auth]\nmode = "none"\n')
    commands.used(Entry(id="u", account="192.0.2.7", at=time(), ended_at=time(), model="m", cost=1))
    assert commands.json("usage", "192.0.2.7")["total"]["requests"] == 1
    assert commands.json("usage", "192.0.2.8")["total"]["requests"] == 0


# A key's own limits


def test_create_key_with_own_limits(commands: Commands) -> None:
    commands.key(
        "own",
        *("--requests", "60/min", "--burst", "10", "--tokens", "100k/min", "--concurrency", "3"),
        *("--on-excess", "throttle", "--window", "5h=5.00", "--window", "calendar month=40"),
        *("--overflow", "credits"),
    )
    assert commands.json("keys", "show", "own")["limits"] == {
        "requests": "60/min",
        "burst": 10,
        "tokens": "100k/min",
        "concurrency": 3,
        "on_excess": "throttle",
        "windows": [
            {"length": "5h", "credits": "5.00"},
            {"length": "calendar month", "credits": "40"},
        ],
        "overflow": "credits",
    }
    assert '"requests": "60/min"' in commands.ok("keys", "show", "own")


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--requests", "sixty"], 1, 'limits.requests: expected a rate such as "60/min"'),
        (["--window", "5h"], 2, "expected a length and a cap such as 5h=5.00"),
        (["--window", "1s=5"], 1, "limits.windows[0].length: expected a window"),
        (["--window", "5h=lots"], 1, "limits.windows[0].credits: expected credits"),
        (["--concurrency", "0"], 2, "Invalid value for '--concurrency'"),
        (["--on-excess", "panic"], 2, "Invalid value for '--on-excess'"),
    ],
)
def test_create_invalid_limit_is_named_and_creates_nothing(
    commands: Commands, options: list[str], status: int, message: str
) -> None:
    assert commands.penstock.on("migrate").status == 0
    was, err = commands.refused("keys", "create", "--name", "x", "--quiet", *options)
    assert was == status
    assert message in err
    assert commands.json("keys", "list") == []
    assert commands.audit() == []


def test_edit_changes_the_given_fields(commands: Commands) -> None:
    options = ("--requests", "60/min", "--concurrency", "3", "--storage", "5GiB", "--model", "m")
    key = commands.key("ann", *options)
    message = commands.ok(
        "keys", "edit", "ann", "--requests", "30/min", "--plan", "max", "--disable"
    )
    assert message == f"ok: {key} is changed\n"
    shown = commands.json("keys", "show", key)
    assert (shown["plan"], shown["state"], shown["models"]) == ("max", "disabled", ["m"])
    assert shown["limits"] == {"requests": "30/min", "concurrency": 3, "storage": "5GiB"}
    commands.ok("keys", "edit", key, "--enable", "--clear", "limits", "--clear", "models")
    commands.ok("keys", "edit", key, "--name", "anna", "--expires", "1d", "--owner", "ops")
    shown = commands.json("keys", "show", "anna")
    assert (shown["limits"], shown["models"], shown["state"]) == (None, None, "active")
    assert shown["expires_at"] > shown["created_at"]
    commands.ok(
        "keys", "edit", key, "--clear", "expires", "--clear", "limits", "--tokens", "5k/min"
    )
    shown = commands.json("keys", "show", "anna")
    assert (shown["expires_at"], shown["limits"]) == (None, {"tokens": "5k/min"})


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ([], 2, "expected at least one option that changes the key"),
        (["--plan", "none"], 1, "plan: 'none' is none of the plans"),
        (["--requests", "x"], 1, "limits.requests: expected"),
        (["--clear", "name"], 2, "Invalid value for '--clear'"),
        (["--model", "x"], 2, "'x' is not a model of this configuration"),
    ],
)
def test_edit_invalid_option_changes_nothing(
    commands: Commands, options: list[str], status: int, message: str
) -> None:
    commands.key("ann")
    before = commands.json("keys", "show", "ann")
    was, err = commands.refused("keys", "edit", "ann", *options)
    assert (was, message in err) == (status, True), err
    assert commands.json("keys", "show", "ann") == before
    assert [one.action for one in commands.audit()] == ["key.create"]


# The audit


def test_every_change_is_in_the_audit_without_secrets(commands: Commands, tmp_path: Path) -> None:
    secrets = [commands.ok("keys", "create", "--name", "ann", "--plan", "pro", "--quiet").strip()]
    secrets.append(commands.ok("keys", "rotate", secrets[0], "--grace", "1h", "--quiet").strip())
    commands.ok("keys", "edit", "ann", "--plan", "max")
    commands.ok("credits", "add", "ann", "5", "--note", "a gift")
    commands.ok("keys", "revoke", secrets[1])
    commands.ok("keys", "revoke", "ann")
    commands.ok("keys", "list")
    key = commands.json("keys", "show", "ann")["id"]
    found = commands.audit()
    assert {(one.actor, one.subject) for one in found} == {("cli", key)}
    assert [one.action for one in found] == [
        *("key.create", "key.rotate", "key.edit", "credits.add", "key.revoke")
    ]
    assert (found[0].detail["name"], found[0].detail["plan"]) == ("ann", "pro")
    assert set(found[1].detail) == {"prefix", "previous_until"}
    assert found[2].detail == {"plan": {"from": "pro", "to": "max"}}
    assert (found[3].detail["amount"], found[3].detail["note"]) == ("5.00", "a gift")
    assert set(found[4].detail) == {"revoked_at"}
    for file in (tmp_path / "var").iterdir():
        for secret in secrets:
            assert secret.encode() not in file.read_bytes()
