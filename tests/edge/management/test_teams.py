"""Operations on teams, on a real SQLite file."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.management.fields import Refused
from edge.management.teams import (
    TeamRefused,
    create,
    described,
    edit,
    every,
    get,
    show,
    unusable,
)
from middlewares.stores.keys.sql import Database
from middlewares.stores.teams.base import TeamRecord
from middlewares.stores.teams.sql import SqlTeamStore
from tests.middlewares.stores.sqlite_files import new_sqlite

NOW = 1_000_000.0


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlTeamStore]:
    database = await Database.open(new_sqlite(tmp_path / "teams.db"))
    yield SqlTeamStore(database)
    await database.aclose()


async def make(store: SqlTeamStore, name: str = "Search", **fields: Any) -> TeamRecord:
    return await create(store, now=NOW, name=name, **fields)


async def test_create_returns_the_team_as_kept(store: SqlTeamStore) -> None:
    team = await make(
        store,
        " Search ",
        plan="pro",
        limits={"requests": "30/min"},
        metadata={"cost": "17"},
        plans={"pro"},
    )
    assert re.fullmatch(r"team_[0-9a-z]{20}", team.id)
    assert team == TeamRecord(
        id=team.id,
        created_at=NOW,
        name="Search",
        plan="pro",
        limits={"requests": "30/min"},
        metadata={"cost": "17"},
        revision=1,
    )
    assert await get(store, team.id) == team


async def test_show_finds_by_id_and_by_name_that_is_not_ambiguous(store: SqlTeamStore) -> None:
    team, other = await make(store), await make(store, "Ads")
    assert await show(store, team.id) == await show(store, "Search") == team
    twin = await make(store)
    with pytest.raises(TeamRefused, match="'Search' is 2 teams; give the id of one") as refused:
        await show(store, "Search")
    assert team.id in str(refused.value) and twin.id in str(refused.value)
    assert await show(store, "Ads") == other
    named = await make(store, team.id)  # the id of another as a name: the id counts
    assert await show(store, team.id) == team
    assert await show(store, named.id) == named


@pytest.mark.parametrize("text", ["", "nothing", "a\x00b", "%"])
async def test_show_unknown_is_refused(store: SqlTeamStore, text: str) -> None:
    await make(store)
    with pytest.raises(TeamRefused, match="no team has the id or name"):
        await show(store, text)


async def test_secret_given_as_a_team_is_neither_asked_for_nor_repeated(
    store: SqlTeamStore,
) -> None:
    secret = "sk-penstock-live-" + "a" * 43
    for look in (show, get):
        with pytest.raises(TeamRefused) as refused:
            await look(store, secret)
        assert secret not in str(refused.value)
    with pytest.raises(Refused, match="looks like a secret"):
        await make(store, secret)


async def test_every_has_all_in_pages(store: SqlTeamStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.management.teams.PAGE", 2)
    made = {(await make(store, f"team {n}")).id for n in range(5)}
    found = [team.id async for team in every(store)]
    assert set(found) == made
    assert len(found) == 5


async def test_edit_of_another_field_or_team_is_refused(store: SqlTeamStore) -> None:
    team = await make(store)
    for field in ("id", "created_at", "revision", "owner"):
        with pytest.raises(TeamRefused, match=f"{field}: cannot be edited; expected one of"):
            await edit(store, team.id, **{field: "x"})
    with pytest.raises(TeamRefused, match="no team has this id"):
        await edit(store, "team_missing", name="x")
    assert await get(store, team.id) == team


async def test_unusable_names_active_teams_whose_plan_is_missing(store: SqlTeamStore) -> None:
    teams = [
        await make(store, plan="gone"),
        await edit(store, (await make(store, plan="gone")).id, disabled=True),
        await make(store, plan="pro"),
        await make(store),
    ]
    assert described(teams[1])["state"] == "disabled"
    assert list(unusable(teams, {"pro"})) == [
        "teams: 1 team names the plan 'gone', which the file does not have; its keys are refused: "
        + teams[0].id
    ]
    found = list(unusable([teams[0]] * 5, {"pro"}))
    assert found[0].startswith("teams: 5 teams name the plan 'gone'")
    assert found[0].endswith(", …")
