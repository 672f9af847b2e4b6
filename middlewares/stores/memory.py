"""Keys, responses and secrets in this process's memory: for tests, demos and programs that load
their keys at start."""

import secrets
from collections.abc import Callable, Collection

import msgspec

from middlewares.shared import Shared
from middlewares.stores.counters.base import AHEAD
from middlewares.stores.keys.base import (
    Change,
    Key,
    KeyPage,
    KeysWanted,
    KeyWithTeam,
    UnknownKey,
    revision_of,
)
from middlewares.stores.responses.base import Kept, KeptTurn, Load
from middlewares.stores.teams.memory import MemoryTeamStore, Revisions

from .secret import SECRET_BYTES


class MemoryKeyStore(Shared):
    """A `KeyStore` that forgets when the process ends and is seen by no other process.

    teams: the store of the teams that keys belong to.
    """

    generation = 0

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._ids: dict[bytes, str] = {}
        self._revisions = Revisions()
        self.teams = MemoryTeamStore(self._revisions)

    async def find(self, digest: bytes) -> Key | None:
        return self._keys.get(self._ids.get(digest, ""))

    async def find_with_team(self, digest: bytes) -> KeyWithTeam | None:
        key = await self.find(digest)
        return None if key is None else await self._with_team(key)

    async def get(self, key_id: str) -> Key | None:
        return self._keys.get(key_id)

    async def match(self, text: str) -> list[Key]:
        return [key for key in self._keys.values() if text in (key.id, key.prefix, key.name)]

    async def every(self) -> list[Key]:
        return list(self._keys.values())

    async def page(
        self, after: tuple[float, str] | None, limit: int, *, team: str | None = None
    ) -> list[Key]:
        places = (
            (key.created_at, key.id)
            for key in self._keys.values()
            if team is None or key.team == team
        )
        later = sorted(place for place in places if after is None or place > after)
        return [self._keys[key_id] for _, key_id in later[:limit]]

    async def search(
        self,
        wanted: KeysWanted,
        *,
        now: float,
        after: tuple[float, str] | None = None,
        limit: int = 50,
    ) -> KeyPage:
        places = {(key.created_at, key.id): key for key in self._keys.values()}
        found = [
            places[place]
            for place in sorted(places, reverse=wanted.newest)
            if wanted.matches(places[place], now)
            and (after is None or (place < after if wanted.newest else place > after))
        ]
        last = found[limit - 1] if len(found) > limit else None
        return KeyPage(found[:limit], None if last is None else (last.created_at, last.id))

    async def revision(self) -> int:
        return self._revisions.value

    async def changes(self, since: int, limit: int) -> list[Change]:
        later: list[Change] = [
            await self._with_team(key) for key in self._keys.values() if key.revision > since
        ]
        later += self.teams.changes(since)
        return sorted(later, key=revision_of)[:limit]

    async def _with_team(self, key: Key) -> KeyWithTeam:
        return KeyWithTeam(key, None if key.team is None else await self.teams.get(key.team))

    async def insert(self, key: Key) -> Key:
        if key.id in self._keys or key.digest in self._ids:
            raise ValueError(f"id {key.id!r}: a key with this id or secret exists")
        return self._write(key)

    async def update(self, key_id: str, change: Callable[[Key], Key]) -> Key:
        before = self._keys.get(key_id)
        if before is None:
            raise UnknownKey(key_id)
        after = change(before)
        for gone in (before.digest, before.previous_digest):
            if gone is not None:
                del self._ids[gone]
        return self._write(after)

    def _write(self, key: Key) -> Key:
        key = msgspec.structs.replace(key, revision=self._revisions.next())
        self._keys[key.id] = key
        self._ids[key.digest] = key.id
        if key.previous_digest is not None:
            self._ids[key.previous_digest] = key.id
        return key


class MemoryResponseStore(Shared):
    """A `ResponseStore` that forgets when the process ends and is seen by no other process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Kept] = {}
        self._deleted: set[tuple[str, str]] = set()

    async def save(self, kept: Kept) -> None:
        if (kept.owner, kept.id) in self._kept:
            raise ValueError(f"id {kept.id!r}: a response with this id exists")
        if kept.previous is not None and (kept.owner, kept.previous) not in self._kept:
            raise ValueError(f"previous {kept.previous!r}: there is no such response")
        self._kept[kept.owner, kept.id] = kept

    async def get(self, owner: str, response_id: str, now: float) -> Kept | None:
        kept = self._kept.get((owner, response_id))
        if kept is None or not self._living(kept, now):
            return None
        return msgspec.structs.replace(kept, items=())

    async def conversation(
        self, owner: str, response_id: str, now: float, most: int
    ) -> list[KeptTurn]:
        turns: list[KeptTurn] = []
        kept = self._kept.get((owner, response_id))
        if kept is None or not self._living(kept, now):
            return turns
        while kept is not None and len(turns) < most:
            turns.append(KeptTurn(kept.id, kept.input, kept.output))
            kept = self._kept.get((owner, kept.previous or ""))
        return turns[::-1]

    async def holding(self, owner: str, items: Collection[str], now: float) -> list[KeptTurn]:
        wanted = frozenset(items)
        return [
            KeptTurn(kept.id, kept.input, kept.output)
            for kept in self._kept.values()
            if kept.owner == owner and self._living(kept, now) and wanted.intersection(kept.items)
        ]

    async def delete(self, owner: str, response_id: str, now: float) -> bool:
        kept = self._kept.get((owner, response_id))
        if kept is None or not self._living(kept, now):
            return False
        self._deleted.add((owner, response_id))
        self._kept[owner, response_id] = msgspec.structs.replace(kept, expires_at=now)
        return True

    async def redate(self, now: float, keep: float) -> int:
        ahead = {
            key: msgspec.structs.replace(kept, created_at=now, expires_at=now + keep)
            for key, kept in self._kept.items()
            if kept.created_at > now + AHEAD and kept.expires_at > now + keep
        }
        self._kept.update(ahead)
        return len(ahead)

    async def purge(self, before: float) -> int:
        removed = 0
        while True:
            needed = {(kept.owner, kept.previous) for kept in self._kept.values()}
            ended = [
                key
                for key, kept in self._kept.items()
                if kept.expires_at <= before and key not in needed
            ]
            if not ended:
                return removed
            for key in ended:
                del self._kept[key]
                self._deleted.discard(key)
            removed += len(ended)

    async def load(self, owner: str) -> Load:
        own = [kept.size for kept in self._kept.values() if kept.owner == owner]
        return Load(len(own), sum(own))

    async def forget(
        self, owner: str, *, responses: int, size: int, continued: str | None = None
    ) -> int:
        removed = freed = 0
        while removed < responses or freed < size:
            own = [kept for kept in self._kept.values() if kept.owner == owner]
            needed = {kept.previous for kept in own} | {continued}
            ends = [(kept.created_at, kept.id) for kept in own if kept.id not in needed]
            if not ends:
                break
            key = (owner, min(ends)[1])
            freed += self._kept.pop(key).size
            self._deleted.discard(key)
            removed += 1
        return removed

    def _living(self, kept: Kept, now: float) -> bool:
        return kept.expires_at > now and (kept.owner, kept.id) not in self._deleted


class MemorySecretStore(Shared):
    """A `SecretStore` of this process alone."""

    def __init__(self) -> None:
        self._secrets: dict[str, bytes] = {}

    async def secret(self, name: str) -> bytes:
        return self._secrets.setdefault(name, secrets.token_bytes(SECRET_BYTES))
