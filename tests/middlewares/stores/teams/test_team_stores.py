"""What every team store keeps to: in memory, in a SQLite file, in PostgreSQL."""

import asyncio

import msgspec
import pytest

from middlewares.stores import KeyStore, digest
from middlewares.stores.keys.base import KeyWithTeam
from middlewares.stores.keys.sql import Database, SqlKeyStore
from middlewares.stores.teams.base import TeamRecord, TeamStore, UnknownTeam
from middlewares.stores.teams.sql import SqlTeamStore
from tests.middlewares.stores.samples import new_key, new_team
from tests.waiting import DEADLINE

replace = msgspec.structs.replace


async def test_insert_full_team_comes_back_as_it_was_put(team_store: TeamStore) -> None:
    team = new_team(
        name="Search",
        plan="pro",
        limits={"requests": "30/min", "windows": [{"length": "5h", "credits": "1.50"}]},
        metadata={"cost centre": "17"},
        disabled=True,
        created_at=1e9 + 0.25,
    )
    kept = await team_store.insert(team)
    assert kept == replace(team, revision=1)
    assert await team_store.get(team.id) == kept
    assert await team_store.get_many([team.id, "other"]) == [kept]
    assert await team_store.get_many([]) == []
    assert await team_store.page(None, 10) == [kept]
    for text in (team.id, "Search"):
        assert await team_store.match(text) == [kept]


async def test_get_unknown_team_finds_nothing(team_store: TeamStore) -> None:
    await team_store.insert(new_team(name="Search"))
    assert await team_store.get("other") is None
    assert await team_store.match("Searc%") == []
    with pytest.raises(UnknownTeam):
        await team_store.update("other", lambda team: team)


async def test_insert_known_id_is_refused(team_store: TeamStore, store: KeyStore) -> None:
    team = await team_store.insert(new_team())
    with pytest.raises(ValueError, match=r".+"):
        await team_store.insert(team)
    assert await store.revision() == team.revision


async def test_match_name_of_two_teams_finds_both(team_store: TeamStore) -> None:
    first, second = [await team_store.insert(new_team(name="Search")) for _ in range(2)]
    assert await team_store.match("Search") == [first, second]


async def test_page_has_each_team_once_oldest_first(team_store: TeamStore) -> None:
    made = [await team_store.insert(new_team(created_at=float(n // 3))) for n in range(8)]
    expected = sorted((team.created_at, team.id) for team in made)
    seen: list[tuple[float, str]] = []
    while found := await team_store.page(seen[-1] if seen else None, 3):
        assert len(found) <= 3
        seen += [(team.created_at, team.id) for team in found]
    assert seen == expected


async def test_update_that_fails_writes_nothing(team_store: TeamStore, store: KeyStore) -> None:
    team = await team_store.insert(new_team())

    def refuse(_team: TeamRecord) -> TeamRecord:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await team_store.update(team.id, refuse)
    assert await team_store.get(team.id) == team
    assert await store.revision() == team.revision


async def test_changes_of_keys_and_teams_come_in_one_order(
    store: KeyStore, team_store: TeamStore
) -> None:
    team = await team_store.insert(new_team())
    key = await store.insert(new_key(team=team.id)[0])
    other = await team_store.insert(new_team())
    team = await team_store.update(team.id, lambda team: replace(team, name="edited"))
    assert await store.revision() == team.revision == 4
    held = KeyWithTeam(key, team)
    assert await store.changes(0, 10) == [held, other, team]
    assert await store.changes(0, 2) == [held, other]
    assert await store.changes(0, 1) == [held]
    assert await store.changes(2, 1) == [other]
    assert await store.changes(4, 10) == []


async def test_find_with_team_reads_both(store: KeyStore, team_store: TeamStore) -> None:
    team = await team_store.insert(new_team(name="Search", limits={"requests": "1/min"}))
    key, secret = new_key(team=team.id, limits={"requests": "2/min"}, models=("a",))
    key = await store.insert(key)
    alone, its_secret = new_key()
    alone = await store.insert(alone)
    astray, other_secret = new_key(team="team_that_is_not_there")
    astray = await store.insert(astray)
    assert await store.find_with_team(digest(secret)) == KeyWithTeam(key, team)
    assert await store.find_with_team(digest(its_secret)) == KeyWithTeam(alone, None)
    assert await store.find_with_team(digest(other_secret)) == KeyWithTeam(astray, None)
    assert await store.find_with_team(digest("unknown")) is None


async def test_page_of_keys_of_a_team_has_no_other(store: KeyStore, team_store: TeamStore) -> None:
    team = await team_store.insert(new_team())
    keys = [await store.insert(new_key(team=team.id if n % 2 else None)[0]) for n in range(7)]
    first = await store.page(None, 2, team=team.id)
    rest = await store.page((first[-1].created_at, first[-1].id), 10, team=team.id)
    assert [*first, *rest] == keys[1::2]
    assert await store.page(None, 10, team="other") == []


async def test_reader_of_changes_misses_no_team_that_commits_late(sql_url: str) -> None:
    """Keys and teams are read by two statements: a commit between them must not be skipped."""
    databases = [await Database.open(sql_url, patience=20) for _ in range(3)]
    keys, teams, reader = databases
    made_keys = [new_key()[0] for _ in range(40)]
    made_teams = [new_team() for _ in range(40)]
    seen: list[int] = []
    ids: set[str] = set()

    async def read() -> None:
        store = SqlKeyStore(reader)
        while len(seen) < 80:
            for change in await store.changes(seen[-1] if seen else 0, 7):
                row = change if isinstance(change, TeamRecord) else change.key
                seen.append(row.revision)
                ids.add(row.id)

    async def write_keys() -> None:
        for key in made_keys:
            await SqlKeyStore(keys).insert(key)

    async def write_teams() -> None:
        for team in made_teams:
            await SqlTeamStore(teams).insert(team)

    async with asyncio.timeout(DEADLINE), asyncio.TaskGroup() as group:
        for work in (read(), write_keys(), write_teams()):
            group.create_task(work)
    for database in databases:
        await database.aclose()
    assert seen == list(range(1, 81))
    assert len(ids) == 80
