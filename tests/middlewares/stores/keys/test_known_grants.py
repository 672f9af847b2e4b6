"""Known grants: each has the newest version of its key and of its team."""

import asyncio
from math import inf
from typing import Any

import msgspec

from middlewares.stores import Grant, Key, digest
from middlewares.stores.keys.base import KeyWithTeam
from middlewares.stores.keys.known_grants import KnownGrants
from middlewares.stores.teams.base import TeamRecord
from tests.middlewares.stores.samples import new_key, new_team

replace = msgspec.structs.replace


def a_key(team: TeamRecord | None, **fields: Any) -> tuple[Key, bytes]:
    key, secret = new_key(team=None if team is None else team.id, **fields)
    return key, digest(secret)


def held(known: KnownGrants, secret: bytes) -> Grant:
    grant = known.by_digest.get(secret)
    assert grant is not None
    return grant


def test_put_keys_of_one_team_share_one_team_object() -> None:
    known = KnownGrants(10)
    team = new_team(name="Search", plan="pro", limits={"requests": "9/min"}, revision=1)
    grants = []
    for _ in range(2):
        key, secret = a_key(team)
        grants.append(known.put(secret, KeyWithTeam(key, replace(team))))
    first, second = (grant.principal.team for grant in grants)
    assert first is not None
    assert first is second
    assert (first.id, first.name, first.plan) == (team.id, "Search", "pro")
    assert first.limits == {"requests": "9/min"}


async def test_change_team_replaces_its_keys_and_no_other() -> None:
    known = KnownGrants(10)
    team, other = new_team(revision=1), new_team(revision=2)
    (mine, my_secret), (theirs, their_secret), (alone, lone_secret) = map(
        a_key, (team, other, None)
    )
    known.put(my_secret, KeyWithTeam(mine, team))
    before = [
        known.put(their_secret, KeyWithTeam(theirs, other)),
        known.put(lone_secret, KeyWithTeam(alone)),
    ]
    assert await known.change_team(replace(team, plan="pro", revision=3))
    principal = held(known, my_secret).principal
    assert principal.team is not None
    assert principal.team.plan == "pro"
    assert [held(known, their_secret), held(known, lone_secret)] == before
    assert held(known, their_secret).principal is before[0].principal
    assert not await known.change_team(new_team(revision=4))


async def test_change_team_seen_already_keeps_the_principals() -> None:
    known = KnownGrants(10)
    team = new_team(revision=7)
    key, secret = a_key(team)
    grant = known.put(secret, KeyWithTeam(key, team))
    assert await known.change_team(replace(team))
    assert await known.change_team(replace(team, name="older", revision=3))
    assert held(known, secret) is grant


def test_put_key_with_an_older_team_uses_the_newer() -> None:
    """A row read before a change and delivered after it."""
    known = KnownGrants(10)
    team = new_team(revision=5, disabled=True)
    (first, one), (second, two) = a_key(team), a_key(team)
    known.put(one, KeyWithTeam(first, team))
    grant = known.put(two, KeyWithTeam(second, replace(team, revision=4, disabled=False)))
    assert grant.until == -inf


async def test_put_key_with_a_newer_team_changes_the_others_at_the_next_poll() -> None:
    known = KnownGrants(10)
    team = new_team(revision=4)
    newer = replace(team, revision=5, disabled=True)
    (first, one), (second, two) = a_key(team), a_key(team)
    known.put(one, KeyWithTeam(first, team))
    assert known.put(two, KeyWithTeam(second, newer)).until == -inf
    await known.change_team(newer)
    assert held(known, one).until == -inf


async def test_disabled_team_refuses_its_keys_until_it_is_enabled() -> None:
    known = KnownGrants(10)
    team = new_team(revision=1)
    key, secret = a_key(team)
    known.put(secret, KeyWithTeam(key, team))
    await known.change_team(replace(team, disabled=True, revision=2))
    grant = held(known, secret)
    assert grant.until == -inf
    assert grant.refusal(secret, 0.0) == f"of team {team.id}, which is disabled"
    await known.change_team(replace(team, revision=3))
    assert held(known, secret).until == inf


def test_refusal_of_a_revoked_key_of_a_disabled_team_names_the_key() -> None:
    team = new_team(disabled=True)
    key, secret = a_key(team, revoked_at=1.0)
    assert KnownGrants(1).put(secret, KeyWithTeam(key, team)).refusal(secret, 2.0) == "revoked"


def test_key_whose_team_is_missing_is_refused() -> None:
    """Without it, the limits of the team would not hold."""
    team = new_team()
    key, secret = a_key(team)
    grant = KnownGrants(1).put(secret, KeyWithTeam(key, None))
    assert grant.until == -inf
    assert grant.refusal(secret, 0.0) == f"of team {team.id}, which is missing"


async def test_key_moved_to_another_team_leaves_the_first() -> None:
    known = KnownGrants(10)
    first, second = new_team(revision=1), new_team(revision=2)
    key, secret = a_key(first, revision=3)
    known.put(secret, KeyWithTeam(key, first))
    moved = replace(key, team=second.id, revision=4)
    assert known.change_key(KeyWithTeam(moved, second)) == [secret]
    assert not await known.change_team(replace(first, disabled=True, revision=5))
    grant = held(known, secret)
    assert grant.principal.team is not None
    assert (grant.principal.team.id, grant.until) == (second.id, inf)
    known.change_key(KeyWithTeam(replace(key, team=None, revision=6)))
    assert held(known, secret).principal.team is None
    assert not await known.change_team(replace(second, disabled=True, revision=7))


def test_dropped_grants_leave_nothing_behind() -> None:
    known = KnownGrants(3)
    teams = []
    for n in range(20):
        team = new_team()
        teams.append(team.id)
        key, secret = a_key(team)
        known.put(secret, KeyWithTeam(key, team))
        assert len(known.by_digest) == len(known.by_key) == min(n + 1, 3)
        assert [each.id for each in known.teams(teams)] == teams[-3:]
        assert known.room == max(0, 2 - n)
    known.clear()
    assert not known.teams(teams)


async def test_change_of_a_large_team_lets_others_run_and_misses_no_key() -> None:
    known = KnownGrants(10_000)
    team = new_team(revision=1)
    secrets = []
    for _ in range(1000):
        key, secret = a_key(team)
        known.put(secret, KeyWithTeam(key, team))
        secrets.append(secret)
    changing = asyncio.create_task(known.change_team(replace(team, plan="pro", revision=2)))
    await asyncio.sleep(0)
    assert not changing.done()
    late, its_secret = a_key(team)  # read before the change, delivered in the middle of it
    known.put(its_secret, KeyWithTeam(late, team))
    known.by_digest.drop(secrets.pop())
    assert await changing
    teams = {id(held(known, secret).principal.team) for secret in [*secrets, its_secret]}
    assert len(teams) == 1
    assert held(known, its_secret).team == replace(team, plan="pro", revision=2)
