"""Grants in Redis, for all workers and replicas with the same store of keys; see `grants`.

penstock:{grants2:STORE}  =  the hash of `lua/grants.lua`; the 2 is for grants that name teams
"""

import asyncio
import logging
from collections.abc import Sequence
from secrets import token_hex

import msgspec

from middlewares.shared import Shared
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.redis_client import Part, RedisLink
from middlewares.stores.redis_scripts import GRANTS, SCRIPTS
from middlewares.stores.teams.base import TeamRecord

from .base import Key
from .grants import MOST, GrantChanges, Held, SharedGrants, joined, teams_of

_log = logging.getLogger(__name__)

_TIMEOUT = 1.0
_AT_ONCE = 200
"""Grants in one script, which keeps all others waiting, and decoded without a pause."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Key).decode
_decode_team = msgspec.msgpack.Decoder(TeamRecord).decode


class RedisGrants(Shared):
    """A `GrantShare` in Redis.

    url: see `RedisCounters`. store: name of the store of keys. keep: seconds that unconfirmed
    grants are kept. Raises ValueError for a URL it cannot use.
    """

    def __init__(self, url: str, store: str, *, keep: float) -> None:
        self._link = RedisLink(url, scripts={GRANTS: SCRIPTS[GRANTS]}, timeout=_TIMEOUT)
        self._key = b"penstock:{grants2:%b}" % store.encode()
        self._keep = max(1, int(keep))
        self._name = b""

    async def start(self) -> None:
        await self._link.start()

    async def aclose(self) -> None:
        await self._link.aclose()

    async def load(self) -> SharedGrants | None:
        try:
            fields: list[bytes] = await self._link.call(b"HGETALL", self._key)
            seconds, micros = await self._link.call(b"TIME")
        except CountersUnavailable:
            return None
        found: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=True))
        grants: list[tuple[bytes, Key]] = []
        teams: dict[str, TeamRecord] = {}
        try:
            since, at = int(found[b"r"]), float(found[b"at"])
            for n, (field, value) in enumerate(found.items()):
                if field.startswith(b"g:"):
                    grants.append((field[2:], _decode(value)))
                elif field.startswith(b"t:"):
                    teams[field[2:].decode()] = _decode_team(value)
                if n % _AT_ONCE == 0:
                    await asyncio.sleep(0)
        except (KeyError, ValueError, msgspec.MsgspecError):
            if found:
                _log.warning("cannot read the known keys in Redis")
            return None
        return SharedGrants(
            since, int(seconds) + int(micros) / 1e6 - at, list(joined(grants, teams))
        )

    async def tell(self, news: GrantChanges) -> bool:
        name = await self._send(
            news, news.changed, news.new[:_AT_ONCE], news.teams, reset=news.reset
        )
        rest = news.new[_AT_ONCE:]
        if name is not None and name != self._name:
            self._name = name  # Redis was emptied: it has nothing that was sent before
            rest = news.held()
        for at in range(0, len(rest), _AT_ONCE):
            if name is not None:
                name = await self._send(news, (), rest[at : at + _AT_ONCE])
        return name is not None

    async def _send(
        self,
        news: GrantChanges,
        changed: Sequence[str],
        new: Sequence[Held],
        teams: Sequence[TeamRecord] = (),
        *,
        reset: bool = False,
    ) -> bytes | None:
        parts: list[Part] = [len(changed), *changed]
        with_keys = teams_of(new) | {team.id: team for team in teams}
        parts.append(len(with_keys))
        for team_id, team in with_keys.items():
            parts += (team_id, _encode(team))
        for digest, found in new:
            parts += (found.key.id, digest, _encode(found.key))
        try:
            name: bytes | None = await self._link.call(
                b"EVALSHA",
                GRANTS,
                1,
                self._key,
                news.since,
                news.age,
                news.covered,
                b"1" if reset else b"0",
                MOST,
                self._keep,
                token_hex(8),
                *parts,
            )
        except CountersUnavailable:
            return None
        return name
