"""The keys and teams that alerts are about, with their budgets."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Literal, Protocol

import msgspec

from middlewares.exchange import Principal, Team
from middlewares.limits import Budget, PlanLimits
from middlewares.problem import Problem
from middlewares.stores.keys.base import Key
from middlewares.stores.teams.base import TeamRecord

_TEAM = "team_"
"""Begins the id of a team."""


class KeysById(Protocol):
    """The part of a key store that alerts use."""

    async def get_many(self, ids: Collection[str]) -> list[Key]:
        """The keys with these ids. Raises StoreUnavailable."""
        ...


class TeamsById(Protocol):
    """The part of a team store that alerts use."""

    async def get_many(self, ids: Collection[str]) -> list[TeamRecord]:
        """The teams with these ids. Raises StoreUnavailable."""
        ...


class Budgets(Protocol):
    """Limits of keys and teams, as `edge.billing.plans.Plans`. Both raise Problem for a plan that
    is not configured."""

    def limits(self, principal: Principal | None) -> PlanLimits: ...

    def team_limits(self, team: Team) -> PlanLimits: ...


class Account(msgspec.Struct, frozen=True):
    """A key or a team, and its budget. owner: of a key."""

    whose: Literal["key", "team"]
    id: str
    name: str
    owner: str | None
    plan: str | None
    budget: Budget


async def accounts_of(
    ids: Collection[str], keys: KeysById, teams: TeamsById, budgets: Budgets
) -> list[Account]:
    """The accounts with these ids. Those without a record, or whose plan is not configured, are
    left out. Raises StoreUnavailable."""
    team_ids = [one for one in ids if one.startswith(_TEAM)]
    key_ids = [one for one in ids if not one.startswith(_TEAM)]
    found = []
    for key in await keys.get_many(key_ids) if key_ids else ():
        principal = Principal(id=key.id, plan=key.plan, limits=key.limits)
        budget = _budget(partial(budgets.limits, principal))
        found.append(Account("key", key.id, key.name, key.owner, key.plan, budget))
    for record in await teams.get_many(team_ids) if team_ids else ():
        team = Team(id=record.id, plan=record.plan, limits=record.limits)
        budget = _budget(partial(budgets.team_limits, team))
        found.append(Account("team", record.id, record.name, None, record.plan, budget))
    return found


def _budget(limits: Callable[[], PlanLimits]) -> Budget:
    try:
        return limits().budget
    except Problem:  # a plan that is not configured: its requests are refused
        return Budget()
