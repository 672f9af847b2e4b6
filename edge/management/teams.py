"""Operations on teams: create, show, list, edit. Teams are never deleted; they can be disabled.

Each takes a `TeamStore`, and prints nothing.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from edge.billing.period import moment
from middlewares.stores.teams.base import TeamRecord, TeamStore, UnknownTeam

from . import fields
from .fields import Refused

PAGE = 500
"""Teams that are read at once."""


class TeamRefused(Refused):
    """A refused operation on teams."""


async def create(
    store: TeamStore,
    *,
    now: float,
    name: str,
    plan: str | None = None,
    limits: dict[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    plans: Collection[str] | None = None,
) -> TeamRecord:
    """Create a team. now: Unix seconds. plans: ids of the known plans; None does not check.

    Raises Refused, StoreUnavailable.
    """
    team = TeamRecord(
        id=fields.new_id("team"),
        created_at=now,
        name=fields.text("name", name, required=True),
        plan=fields.plan(plan, plans),
        limits=fields.own_limits(limits),
        metadata=fields.metadata(metadata),
    )
    return await store.insert(team)


async def show(store: TeamStore, text: str) -> TeamRecord:
    """The one team with this id or name. Raises TeamRefused when there is none or more than one."""
    if fields.looks_secret(text):
        raise TeamRefused("team", "looks like a secret; give the id or name of a team")
    found = await store.match(text) if text and text.isprintable() else []
    found = [team for team in found if team.id == text] or found
    if not found:
        raise TeamRefused("team", f"no team has the id or name {text!r}")
    if len(found) > 1:
        ids = ", ".join(team.id for team in found[:5]) + (", …" if len(found) > 5 else "")
        raise TeamRefused("team", f"{text!r} is {len(found)} teams; give the id of one: {ids}")
    return found[0]


async def get(store: TeamStore, team_id: str) -> TeamRecord:
    """The team with exactly this id. Raises TeamRefused, which does not repeat the id."""
    askable = team_id.isprintable() and not fields.looks_secret(team_id)
    team = await store.get(team_id) if askable else None
    if team is None:
        raise TeamRefused("team", "no team has this id")
    return team


async def every(store: TeamStore) -> AsyncIterator[TeamRecord]:
    """All teams, disabled ones too, oldest first."""
    after = None
    while found := await store.page(after, PAGE):
        for team in found:
            yield team
        if len(found) < PAGE:
            break
        after = (found[-1].created_at, found[-1].id)


async def edit(
    store: TeamStore, team_id: str, *, plans: Collection[str] | None = None, **given: Any
) -> TeamRecord:
    """Change the given fields of a team: name, plan, limits, metadata, disabled. Others stay.

    Raises Refused, also for any other field.
    """
    readers: dict[str, Callable[[Any], Any]] = {
        "name": lambda value: fields.text("name", value, required=True),
        "plan": lambda value: fields.plan(value, plans),
        "limits": fields.own_limits,
        "metadata": fields.metadata,
        "disabled": bool,
    }
    changed: dict[str, Any] = {}
    for field, value in given.items():
        reader = readers.get(field)
        if reader is None:
            raise TeamRefused(field, f"cannot be edited; expected one of {', '.join(readers)}")
        changed[field] = reader(value)
    await get(store, team_id)
    try:
        return await store.update(team_id, lambda team: msgspec.structs.replace(team, **changed))
    except UnknownTeam:
        raise TeamRefused("team", "no team has this id") from None


def described(team: TeamRecord) -> dict[str, Any]:
    """The public fields of a team, ready for JSON."""
    return {
        "id": team.id,
        "name": team.name,
        "plan": team.plan,
        "state": "disabled" if team.disabled else "active",
        "limits": team.limits,
        "metadata": team.metadata or {},
        "created_at": moment(team.created_at),
    }


def unusable(teams: Iterable[TeamRecord], plans: Collection[str]) -> Iterator[str]:
    """Warnings about teams that name a plan that the configuration does not have: their keys are
    refused."""
    found: dict[str, list[str]] = {}
    for team in teams:
        if team.plan is not None and team.plan not in plans and not team.disabled:
            found.setdefault(team.plan, []).append(team.id)
    for plan, ids in found.items():
        which = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
        one = len(ids) == 1
        count = "1 team names" if one else f"{len(ids)} teams name"
        whose = "its" if one else "their"
        yield (
            f"teams: {count} the plan {plan!r}, which the file does not have; {whose} keys are "
            f"refused: {which}"
        )
