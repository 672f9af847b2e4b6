"""Teams in this process's memory, with the revision that they share with its keys."""

from collections.abc import Callable, Collection

import msgspec

from middlewares.shared import Shared

from .base import TeamRecord, UnknownTeam


class Revisions:
    """A counter that orders writes. value: of the latest."""

    def __init__(self) -> None:
        self.value = 0

    def next(self) -> int:
        """The revision of the next write."""
        self.value += 1
        return self.value


class MemoryTeamStore(Shared):
    """A `TeamStore` that forgets when the process ends. revisions: of keys and teams."""

    def __init__(self, revisions: Revisions) -> None:
        self._revisions = revisions
        self._teams: dict[str, TeamRecord] = {}

    async def get(self, team_id: str) -> TeamRecord | None:
        return self._teams.get(team_id)

    async def get_many(self, ids: Collection[str]) -> list[TeamRecord]:
        return [self._teams[team_id] for team_id in ids if team_id in self._teams]

    async def match(self, text: str) -> list[TeamRecord]:
        return [team for team in self._teams.values() if text in (team.id, team.name)]

    async def page(self, after: tuple[float, str] | None, limit: int) -> list[TeamRecord]:
        places = ((team.created_at, team.id) for team in self._teams.values())
        later = sorted(place for place in places if after is None or place > after)
        return [self._teams[team_id] for _, team_id in later[:limit]]

    async def insert(self, team: TeamRecord) -> TeamRecord:
        if team.id in self._teams:
            raise ValueError(f"id {team.id!r}: a team with this id exists")
        return self._write(team)

    async def update(self, team_id: str, change: Callable[[TeamRecord], TeamRecord]) -> TeamRecord:
        before = self._teams.get(team_id)
        if before is None:
            raise UnknownTeam(team_id)
        return self._write(change(before))

    def _write(self, team: TeamRecord) -> TeamRecord:
        team = msgspec.structs.replace(team, revision=self._revisions.next())
        self._teams[team.id] = team
        return team

    def changes(self, since: int) -> list[TeamRecord]:
        """Teams written after revision `since`."""
        return [team for team in self._teams.values() if team.revision > since]
