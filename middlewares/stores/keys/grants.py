"""Keys used lately, kept outside of the store of keys for workers that start while it is away.

Theory of operation. `KeyDirectory` tells a `GrantShare` which secrets it knows, by digest, and
which keys and teams have changed, and takes from it what it knows when the store of keys does not
answer. What is shared has the revision of the store up to which all changes are in it, and the time
at which the store last said that this is the newest. It is believed for the grace of the directory
after that time, as what the directory knows itself is. A key or a team that changes is removed at
once everywhere; a key whose team is missing is not taken. A change that was not seen is found when
the store answers again, or when the grace is over.

Secrets are never in it: digests of 256 random bits, and what a key may do.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from time import time
from typing import Protocol

import msgspec

from middlewares.shared import Shared
from middlewares.stores.outage import Outage
from middlewares.stores.teams.base import TeamRecord

from .base import Key, KeyWithTeam

_log = logging.getLogger(__name__)

FILE = "grants.msgpack"
"""Name of the file, in the folder of the journals."""
MOST = 5_000
"""Grants that are shared; the most recently used."""
NEWS = 2.0
"""Seconds for which new grants are gathered before they are shared."""
CONFIRMED = 30.0
"""Seconds after which what is shared is confirmed."""
_CHANGES = 10_000
"""Changes that are remembered for a share that does not take them."""

Held = tuple[bytes, KeyWithTeam]
"""Digest of a secret, and the key that it opens."""


class SharedGrants(msgspec.Struct, frozen=True):
    """What is shared. since: revision. age: seconds since the store confirmed it."""

    since: int
    age: float
    grants: Sequence[Held] = ()


class GrantChanges(msgspec.Struct, frozen=True):
    """Changes that a directory shares.

    since, age: as in `SharedGrants`. covered: revision since which it has sent all changes. reset:
    what is shared is not valid any more. changed: ids of keys and teams written since the last
    call. new: grants since then. teams: those written since then that it has keys of. held: the
    `MOST` most recently used, the last used last.
    """

    since: int
    age: float
    covered: int
    reset: bool
    changed: Sequence[str]
    new: Sequence[Held]
    held: Callable[[], list[Held]]
    teams: Sequence[TeamRecord] = ()


class Known(Protocol):
    """What a directory has."""

    def held(self, digests: Iterable[bytes] | None) -> list[Held]:
        """Of its grants, these, or the `MOST` most recently used, the last used last."""
        ...

    def teams(self, ids: Iterable[str]) -> list[TeamRecord]:
        """Of these teams, those that it has keys of."""
        ...


def joined(grants: Iterable[tuple[bytes, Key]], teams: Mapping[str, TeamRecord]) -> Iterator[Held]:
    """Grants with their teams, less those whose team is not among `teams`."""
    for digest, key in grants:
        if key.team is None:
            yield digest, KeyWithTeam(key)
        elif (team := teams.get(key.team)) is not None:
            yield digest, KeyWithTeam(key, team)


def teams_of(grants: Iterable[Held]) -> dict[str, TeamRecord]:
    """The teams of these grants, by id."""
    return {found.team.id: found.team for _, found in grants if found.team is not None}


class GrantShare(Protocol):
    """Where grants are shared. Neither method raises."""

    async def load(self) -> SharedGrants | None:
        """What is there; None when nothing is, or it cannot be read."""
        ...

    async def tell(self, news: GrantChanges) -> bool:
        """Keep what is new. False: it was not kept; tell it again, with what comes until then."""
        ...


class Sharing:
    """What one directory has yet to tell its share. Times are of the directory's clock."""

    def __init__(self, share: GrantShare) -> None:
        self._share = share
        self._covered = 0
        self._reset = False
        self._changed: dict[str, None] = {}
        self._new: dict[bytes, None] = {}
        self._sent_at = -inf
        self._telling: asyncio.Task[None] | None = None

    def begin(self, since: int, *, reset: bool) -> None:
        """What was changed up to this revision is not known."""
        self._covered = since
        self._reset = self._reset or reset
        self._changed.clear()
        self._new.clear()
        self._sent_at = -inf

    def changed(self, key_or_team: str) -> None:
        self._changed[key_or_team] = None

    def new(self, digest: bytes) -> None:
        self._new[digest] = None

    def tell(self, since: int, confirmed: float, now: float, known: Known) -> None:
        """Send changes at once, new grants now and then, and that nothing changed.

        Called after each poll of the store. Returns at once: the next poll must not wait for it.
        """
        due = NEWS if self._new else CONFIRMED
        if self._telling is None and (self._changed or now - self._sent_at >= due):
            telling = asyncio.create_task(self._tell(since, confirmed, now, known))
            self._telling = telling
            telling.add_done_callback(self._done)

    def _done(self, telling: asyncio.Task[None]) -> None:
        self._telling = None
        if not telling.cancelled() and (raised := telling.exception()) is not None:
            _log.error("cannot share known keys", exc_info=raised)

    async def _tell(self, since: int, confirmed: float, now: float, known: Known) -> None:
        changed, self._changed = self._changed, {}
        new, self._new = self._new, {}
        covered, reset = self._covered, self._reset
        news = GrantChanges(
            since=since,
            age=max(0.0, now - confirmed),
            covered=covered,
            reset=reset,
            changed=list(changed),
            new=known.held(new),
            held=lambda: known.held(None),
            teams=known.teams(changed),
        )
        taken = False
        try:
            taken = await self._share.tell(news)
        finally:
            if self._covered != covered or self._reset != reset:
                pass  # it was begun again meanwhile
            elif taken:
                self._covered, self._reset, self._sent_at = since, False, now
            elif len(changed) + len(self._changed) > _CHANGES:
                self.begin(since, reset=reset)
            else:
                self._changed = {**changed, **self._changed}
                self._new = {**new, **self._new}

    async def aclose(self) -> None:
        """Wait for the call under way. Idempotent."""
        if self._telling is not None:
            await asyncio.wait((self._telling,))


class _Written(msgspec.Struct, array_like=True):
    store: str
    since: int
    at: float
    grants: list[tuple[bytes, Key]]
    teams: list[TeamRecord]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Written).decode


class FileGrants(Shared):
    """Grants in a file of this machine, mode 0600, for one worker and the one that replaces it.

    folder: of the journals. store: name of the store of keys; what is from another is not taken.
    clock: Unix seconds.
    """

    def __init__(self, folder: Path, store: str, *, clock: Callable[[], float] = time) -> None:
        self._path = folder / FILE
        self._store = store
        self._clock = clock
        self._outage = Outage(
            _log,
            f"cannot write {self._path}",
            f"{self._path} is written again",
            level=logging.WARNING,
        )

    async def load(self) -> SharedGrants | None:
        try:
            found = await asyncio.to_thread(lambda: _decode(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError) as raised:
            _log.warning("cannot read %s: %s", self._path, raised)
            return None
        age = self._clock() - found.at
        if found.store != self._store or age < 0:
            return None
        teams = {team.id: team for team in found.teams}
        return SharedGrants(found.since, age, list(joined(found.grants, teams)))

    async def tell(self, news: GrantChanges) -> bool:
        at = self._clock() - news.age
        held = news.held()
        keys = [(digest, found.key) for digest, found in held]
        written = _Written(self._store, news.since, at, keys, list(teams_of(held).values()))
        try:
            await asyncio.to_thread(self._write, written)
        except OSError as raised:
            self._outage.failed(raised)
            if news.changed:  # what is there may have a key that was revoked
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
            return False
        self._outage.worked()
        return True

    def _write(self, written: _Written) -> None:
        new = self._path.with_suffix(".new")
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            new.unlink()
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(file, "wb") as out:
            out.write(_encode(written))
        new.replace(self._path)
