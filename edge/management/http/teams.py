"""/admin/v1/teams: create, list, show and edit. Teams are never deleted."""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from edge.config.load import Settings
from edge.management import teams
from edge.management.audit import Audit
from middlewares.problem import Problem, expected
from middlewares.stores.audit.base import AuditStore
from middlewares.stores.teams.base import TeamRecord, TeamStore

from .admin_request import AdminRequest, limit_of, page, text_of

Answer = tuple[int, dict[str, Any]]


class NewTeam(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a POST to /teams."""

    name: str
    plan: str | None = None
    limits: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None


class TeamChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a PATCH: given fields are changed, null clears a field."""

    name: str | UnsetType = UNSET
    plan: str | UnsetType | None = UNSET
    limits: dict[str, Any] | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET


class Teams:
    """Handlers of teams."""

    def __init__(
        self,
        settings: Settings,
        store: TeamStore,
        audit: AuditStore,
        clock: Callable[[], float],
    ) -> None:
        self._plans = frozenset(plan.id for plan in settings.plans)
        self._store = store
        self._audit = Audit(audit, "admin", clock=clock)
        self._clock = clock

    async def page(self, request: AdminRequest) -> Answer:
        query = request.query("limit", "after")
        limit, after = limit_of(query), text_of(query, "after")
        place = None
        if after is not None:
            try:
                last = await teams.get(self._store, after)
            except teams.TeamRefused:
                raise expected("after", "the id of a team") from None
            place = (last.created_at, last.id)
        rows = [teams.described(team) for team in await self._store.page(place, limit + 1)]
        return 200, page(rows, limit, rows[limit - 1]["id"] if len(rows) > limit else None)

    async def create(self, request: AdminRequest) -> Answer:
        body = await request.body(NewTeam)
        team = await teams.create(
            self._audit.teams(self._store, "team.create"),
            now=self._clock(),
            name=body.name,
            plan=body.plan,
            limits=body.limits,
            metadata=body.metadata,
            plans=self._plans,
        )
        return 201, teams.described(team)

    async def show(self, request: AdminRequest) -> Answer:
        request.query()
        return 200, teams.described(await team_of_path(self._store, request))

    async def edit(self, request: AdminRequest) -> Answer:
        team = await team_of_path(self._store, request)
        body = await request.body(TeamChanges)
        given = msgspec.structs.asdict(body)
        team = await teams.edit(
            self._audit.teams(self._store, "team.edit"),
            team.id,
            plans=self._plans,
            **{name: value for name, value in given.items() if value is not UNSET},
        )
        return 200, teams.described(team)


async def team_of_path(store: TeamStore, request: AdminRequest) -> TeamRecord:
    """The team that the path names. Raises Problem when there is none."""
    try:
        return await teams.get(store, request.id)
    except teams.TeamRefused:
        raise Problem("not_found", message="No team has this id.") from None
