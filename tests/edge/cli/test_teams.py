"""Commands on teams, their keys and their credits."""

import json
from pathlib import Path
from typing import Any

import pytest

from .commands import Penstock, write_config


class Commands:
    """Runs commands on one configuration."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.penstock = Penstock(write_config(folder), capture)

    def ok(self, *arguments: str) -> str:
        done = self.penstock.on(*arguments)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    def json(self, *arguments: str) -> Any:
        return json.loads(self.ok(*arguments, "--json"))

    def team(self, name: str, *options: str) -> str:
        """The id of a new team."""
        return self.ok("teams", "create", "--name", name, "--quiet", *options).strip()

    def refused(self, *arguments: str) -> tuple[object, str]:
        done = self.penstock.on(*arguments)
        assert done.out == ""
        assert "Traceback" not in done.err
        return done.status, done.err


@pytest.fixture
def commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path, capsys)


def test_create_show_edit_and_list(commands: Commands) -> None:
    team = commands.team(
        *("Search", "--plan", "pro", "--window", "1d=2.00", "--metadata", "cost=17")
    )
    shown = commands.json("teams", "show", "Search")
    assert shown == commands.json("teams", "show", team)
    assert (shown["plan"], shown["metadata"], shown["state"]) == ("pro", {"cost": "17"}, "active")
    assert shown["limits"] == {"windows": [{"length": "1d", "credits": "2.00"}]}
    edited = commands.ok("teams", "edit", "Search", "--requests", "9/min", "--disable")
    assert edited == f"ok: {team} is changed\n"
    shown = commands.json("teams", "show", team)
    assert shown["state"] == "disabled"
    assert set(shown["limits"]) == {"windows", "requests"}
    commands.ok(
        *("teams", "edit", team, "--clear", "limits", "--clear", "plan", "--clear", "metadata"),
        *("--concurrency", "3", "--enable", "--name", "Find"),
    )
    shown = commands.json("teams", "show", "Find")
    assert (shown["limits"], shown["plan"], shown["metadata"]) == ({"concurrency": 3}, None, {})
    assert "plan            -\n" in commands.ok("teams", "show", "Find")
    other = commands.team("Ads")
    assert [row["id"] for row in commands.json("teams", "list")] == [team, other]
    table = commands.ok("teams", "list").splitlines()
    assert table[0].split() == ["id", "name", "plan", "state", "created_at"]
    assert [line.split()[:4] for line in table[1:]] == [
        [team, "Find", "-", "active"],
        [other, "Ads", "-", "active"],
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["teams", "create", "--name", "x", "--plan", "max"], 1, "none of the plans: pro"),
        (["teams", "create", "--name", " "], 1, "name: expected at least one character"),
        (["teams", "create", "--name", "x", "--window", "1d"], 2, "a length and a cap"),
        (["teams", "create", "--name", "x", "--requests", "many"], 1, "limits.requests: "),
        (["teams", "show", "gone"], 1, "team: no team has the id or name 'gone'"),
        (["teams", "edit", "Search"], 2, "at least one option that changes the team"),
        (["teams", "edit", "gone", "--disable"], 1, "no team has the id or name 'gone'"),
        (["keys", "create", "--name", "x", "--team", "gone"], 1, "no team has the id or name"),
        (["credits", "add", "--team", "gone", "5"], 1, "no team has the id or name 'gone'"),
    ],
)
def test_wrong_call_is_refused(
    commands: Commands, arguments: list[str], status: int, message: str
) -> None:
    commands.team("Search")
    refused = commands.refused(*arguments)
    assert refused[0] == status
    assert message in refused[1]


def test_name_of_two_teams_is_ambiguous(commands: Commands) -> None:
    first, second = commands.team("Search"), commands.team("Search")
    status, said = commands.refused("keys", "create", "--name", "x", "--team", "Search")
    assert status == 1
    assert first in said and second in said
    commands.ok("keys", "create", "--name", "x", "--team", second, "--quiet")
    assert commands.json("keys", "show", "x")["team"] == second


def test_key_joins_moves_between_and_leaves_teams(commands: Commands) -> None:
    first, second = commands.team("Search"), commands.team("Ads")
    commands.ok("keys", "create", "--name", "ann", "--team", "Search", "--quiet")
    assert commands.json("keys", "show", "ann")["team"] == first
    commands.ok("keys", "edit", "ann", "--team", second)
    assert commands.json("keys", "list")[0]["team"] == second
    commands.ok("keys", "edit", "ann", "--clear", "team")
    assert commands.json("keys", "show", "ann")["team"] is None


def test_credits_of_a_team(commands: Commands) -> None:
    team = commands.team("Search")
    assert commands.ok("credits", "add", "--team", "Search", "5.00", "--note", "March").endswith(
        f"{team} has 5.00 credits\n"
    )
    commands.ok("credits", "remove", team, "1.50", "--team")
    report = commands.json("credits", "list", "--team", "Search")
    assert (report["team"], report["balance"]) == (team, "3.50")
    assert [(row["team"], row["amount"]) for row in report["credits"]] == [
        (team, "-1.50"),
        (team, "5.00"),
    ]
    status, said = commands.refused("credits", "list", "Search")  # no key has this name
    assert (status, "no key has" in said) == (1, True)


def test_check_team_with_unknown_plan_is_warned_about(commands: Commands) -> None:
    team = commands.team("Search", "--plan", "pro")
    off = commands.team("Old", "--plan", "pro")
    commands.ok("teams", "edit", off, "--disable")
    penstock = commands.penstock
    assert not penstock.check().of("warning teams")
    penstock.config.write_text(penstock.config.read_text().replace('id = "pro"', 'id = "max"'))
    checked = penstock.check()
    assert checked.status == 0
    assert checked.of("warning teams") == [
        "warning teams: 1 team names the plan 'pro', which the file does not have; its keys are "
        f"refused: {team}"
    ]
