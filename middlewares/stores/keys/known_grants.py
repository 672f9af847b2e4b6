"""Grants that one worker knows, by secret, by key and by team. No I/O.

A key that changes replaces its grants, a team that changes those of its keys. Of two versions of a
team the one with the higher revision is valid, whichever came first: a key is read together with
its team, which may be newer than the changes applied so far. All principals of a team share one
`Team`, and a key that did not change keeps its `Principal`: the limits of both are cached by
identity.
"""

import asyncio
import logging
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import islice
from math import inf

import msgspec

from middlewares.bounded_map import BoundedMap
from middlewares.exchange import Principal, Team
from middlewares.stores.teams.base import TeamRecord, team_of

from .base import Key, KeyWithTeam
from .grants import MOST, Held

_log = logging.getLogger(__name__)

_AT_ONCE = 200
"""Grants of a team replaced without a pause."""


class Grant(msgspec.Struct, frozen=True, gc=False):
    """What one secret opens, prepared for the hot path.

    `until`: Unix seconds; -inf when the key or its team is not usable. `networks` None allows all.
    The garbage collector visits neither grants nor their keys and principals (`gc=False`), which
    are many and in no cycle.
    """

    key: Key
    principal: Principal
    until: float
    networks: tuple[IPv4Network | IPv6Network, ...] | None
    team: TeamRecord | None = None

    def refusal(self, digest: bytes, now: float) -> str:
        """Why the secret with `digest` is refused, once `until` has passed. now: Unix seconds."""
        if self.key.usable_until(digest) > now and self.key.team is not None:
            return f"of team {self.key.team}, which is {'missing' if not self.team else 'disabled'}"
        return self.key.refusal(digest)


class _KnownTeam(msgspec.Struct):
    """The newest known version of a team, and the known secrets of its keys."""

    record: TeamRecord
    team: Team
    digests: set[bytes]


def _grant(key: Key, digest: bytes, known: _KnownTeam | None) -> Grant:
    principal = Principal(
        id=key.id,
        owner=key.owner,
        name=key.name,
        plan=key.plan,
        models=None if key.models is None else frozenset(key.models),
        endpoints=None if key.endpoints is None else frozenset(key.endpoints),
        limits=key.limits,
        team=None if known is None else known.team,
    )
    networks = None
    if key.networks is not None:
        try:
            networks = tuple(ip_network(network) for network in key.networks)
        except ValueError:
            _log.warning("key %s: cannot parse its networks, so no address is allowed", key.id)
            networks = ()
    record = None if known is None else known.record
    # Without its team, the limits of the team would not hold.
    refused = key.team is not None and (record is None or record.disabled)
    until = -inf if refused else key.usable_until(digest)
    return Grant(key, principal, until, networks, record)


class KnownGrants:
    """At most `size` grants; the least recently used goes first.

    by_digest: grants by the digest of their secret. by_key: digests by the id of their key.
    """

    def __init__(self, size: int) -> None:
        self.by_digest: BoundedMap[bytes, Grant] = BoundedMap(size, self._dropped)
        self._size = size
        self.by_key: dict[str, tuple[bytes, ...]] = {}
        self._teams: dict[str, _KnownTeam] = {}

    @property
    def room(self) -> int:
        """Grants that can be added before one is dropped."""
        return self._size - len(self.by_digest)

    def clear(self) -> None:
        """Know nothing."""
        self.by_digest.clear()
        self.by_key.clear()
        self._teams.clear()

    def put(self, digest: bytes, found: KeyWithTeam) -> Grant:
        """Keep what the secret with `digest` opens."""
        key = found.key
        before = self.by_digest.get(digest)
        known = self._known_team(found)
        grant = _grant(key, digest, known)
        secrets = self.by_key.get(key.id, ())
        if digest not in secrets:
            self.by_key[key.id] = (*secrets, digest)
        if known is not None:
            known.digests.add(digest)
        if before is None:
            self.by_digest.put(digest, grant)
        else:
            self.by_digest[digest] = grant
            if before.key.team != key.team:
                self._left(before.key.team, digest)
        return grant

    def change_key(self, found: KeyWithTeam) -> list[bytes]:
        """Replace the grants of a key that changed. Returns the secrets that still open it."""
        key, still = found.key, []
        for digest in self.by_key.get(key.id, ()):
            if self.by_digest[digest].key.revision >= key.revision:
                continue
            if key.holds(digest):
                self.put(digest, found)
                still.append(digest)
            else:
                self.by_digest.drop(digest)
        return still

    async def change_team(self, record: TeamRecord) -> bool:
        """Replace the grants of the keys of a team that changed. Returns whether any is known.

        It pauses between parts of a large team. What is put meanwhile has the new version.
        """
        known = self._teams.get(record.id)
        if known is None:
            return False
        self._renew(known, record)
        for n, digest in enumerate(list(known.digests), 1):
            grant = self.by_digest.get(digest)
            if grant is not None and grant.key.team == record.id and grant.team is not known.record:
                self.by_digest[digest] = _grant(grant.key, digest, known)
            if n % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return True

    def held(self, digests: Iterable[bytes] | None) -> list[Held]:
        """Of what is known, these, or the `MOST` most recently used, the last used last."""
        grants = self.by_digest
        among: Iterable[bytes] = digests or ()
        if digests is None:
            among = [*islice(reversed(grants), MOST)][::-1]
        return [
            (digest, KeyWithTeam(grants[digest].key, grants[digest].team))
            for digest in among
            if digest in grants
        ]

    def teams(self, ids: Iterable[str]) -> list[TeamRecord]:
        """Of these teams, those that are known."""
        return [self._teams[team_id].record for team_id in ids if team_id in self._teams]

    def _known_team(self, found: KeyWithTeam) -> _KnownTeam | None:
        record = found.team
        if record is None:
            return None
        known = self._teams.get(record.id)
        if known is None:
            known = self._teams[record.id] = _KnownTeam(record, team_of(record), set())
        else:
            self._renew(known, record)
        return known

    def _renew(self, known: _KnownTeam, record: TeamRecord) -> None:
        if record.revision > known.record.revision:
            known.record, known.team = record, team_of(record)

    def _dropped(self, digest: bytes, grant: Grant) -> None:
        others = tuple([other for other in self.by_key[grant.key.id] if other != digest])
        if others:
            self.by_key[grant.key.id] = others
        else:
            del self.by_key[grant.key.id]
        self._left(grant.key.team, digest)

    def _left(self, team_id: str | None, digest: bytes) -> None:
        known = self._teams.get(team_id or "")
        if known is not None:
            known.digests.discard(digest)
            if not known.digests:
                del self._teams[known.record.id]
