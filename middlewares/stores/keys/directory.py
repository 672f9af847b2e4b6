"""The keys a worker has seen lately, with their teams, kept true to the store.

Theory of operation. A request asks `peek`, a dictionary look-up that never waits; only a secret
not seen before goes to the store (`find`). A task asks the store several times a second for its
revision, a single number, and fetches the keys and teams written since. So a key that any process
revokes, edits or rotates is changed here within the period and one query, as are the keys of a
team that it edits or disables; traffic costs the store nothing.

A row read just before a change and delivered just after it would bring the old key back. So a
look-up during which changes were applied is repeated, and a change replaces what has a lower
revision only.

When the store does not answer, the keys known here go on working for `grace` seconds after the last
time it did; later, and for all other secrets at once, the answer is StoreUnavailable. A store
outage is thus not a client outage, and no client with a valid key is refused as invalid; the price
is that a revocation which this worker cannot hear of takes effect at the end of the grace at
latest.

Where there is a `GrantShare`, a directory that finds the store away takes what others knew, for the
rest of the grace since the store confirmed that. A running one sends it each change at the
next poll of the store, and new grants now and then.
"""

import asyncio
import logging
from collections.abc import Callable
from math import inf
from time import monotonic

from middlewares.bounded_map import ExpiringMap
from middlewares.shared import Shared
from middlewares.single_flight import FlightRefused, SingleFlight
from middlewares.stores.errors import StoreUnavailable
from middlewares.stores.outage import Outage
from middlewares.stores.teams.base import TeamRecord

from .base import Change, KeyStore, revision_of
from .grants import GrantShare, Sharing
from .known_grants import Grant, KnownGrants

_log = logging.getLogger(__name__)

_PAGE = 500
_LOOK_UPS = 16
_WAITING = 1024
_UNKNOWN = 10_000
"""Most secrets that no key has which are remembered."""


class KeyDirectory(Shared):
    """A bounded cache of grants in front of a `KeyStore`.

    period: seconds between two questions for changes. A revocation is in force everywhere after
        one period and one query.
    grace: seconds for which known keys outlive a store that does not answer.
    patience: seconds that one look-up, or one catching up with the store, may take.
    size: most secrets held; the least recently used goes first.
    unknown: seconds for which a secret that the store does not know is not asked for again. Such
        answers have a space of their own, so guesses push no good key out.
    share: where grants are kept for workers that start while the store does not answer.

    `start` before the first request, `aclose` after the last.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        period: float = 0.4,
        grace: float = 300.0,
        patience: float = 2.0,
        size: int = 100_000,
        unknown: float = 0.8,
        share: GrantShare | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        for name, value in (("period", period), ("patience", patience), ("size", size)):
            if value <= 0:
                raise ValueError(f"{name} {value}: expected more than 0")
        for name, value in (("grace", grace), ("unknown", unknown)):
            if value < 0:
                raise ValueError(f"{name} {value}: expected 0 or more")
        self._store = store
        self._period = period
        self._grace = grace
        self._patience = patience
        self._clock = clock
        self._known = KnownGrants(size)
        self._grants = self._known.by_digest
        self._unknown: ExpiringMap[bytes, bool] = ExpiringMap(min(size, _UNKNOWN), unknown, clock)
        self._flights: SingleFlight[bytes, Grant | None] = SingleFlight(_WAITING)
        self._slots = asyncio.Semaphore(_LOOK_UPS)
        self._since = 0
        self._generation = store.generation
        self._trusted_until = -inf
        self._confirmed = -inf
        self._outage = Outage(
            _log,
            f"the key store does not answer; known keys stay valid for up to {grace:g} s",
            "the key store answers again",
        )
        self._share = share
        self._sharing = None if share is None else Sharing(share)
        self._asked_share = False
        self._task: asyncio.Task[None] | None = None

    @property
    def usable(self) -> bool:
        """Whether grants can be given: the store answers, or has answered within the grace."""
        return self._clock() <= self._trusted_until

    @property
    def answered(self) -> bool:
        """Whether the store answered when it was asked last: unknown keys can be checked."""
        return not self._outage.on and self.usable

    async def start(self, *, must_answer: bool = True) -> None:
        """Ask the store where it stands and keep asking.

        must_answer: raise StoreUnavailable when it does not answer now. Otherwise every key that
            is not shared is refused with StoreUnavailable until it does.
        """
        if self._task is not None:
            raise RuntimeError("KeyDirectory.start was called twice")
        try:
            await self.refresh()
        except StoreUnavailable:
            if must_answer:
                raise
            await self._take_shared()
        self._task = asyncio.create_task(self._keep_fresh(), name="key-directory")

    async def aclose(self) -> None:
        """Stop asking. Idempotent."""
        self._trusted_until = -inf
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._flights.aclose()
        if self._sharing is not None:
            await self._sharing.aclose()

    def peek(self, digest: bytes) -> Grant | None:
        """The grant of a known secret, without waiting. None says nothing: ask `find`."""
        grant = self._grants.get(digest)
        if grant is None or self._clock() > self._trusted_until:
            return None
        self._grants.move_to_end(digest)
        return grant

    async def find(self, digest: bytes) -> Grant | None:
        """The grant of a secret, or None when no key has it. Raises StoreUnavailable.

        Any number of callers asking for the same secret at once cost one query.
        """
        grant = self.peek(digest)
        if grant is not None:
            return grant
        if self._task is None:
            raise RuntimeError("KeyDirectory.start was not called")
        if self._outage.on:
            raise StoreUnavailable("the key store does not answer")
        if self._unknown.get(digest):
            return None
        try:
            return await self._flights.do(digest, lambda: self._look_up(digest))
        except FlightRefused as refused:
            raise StoreUnavailable(f"a key cannot be looked up: {refused}") from None

    async def refresh(self) -> None:
        """Catch up with the store now, e.g. after writing to it. Raises StoreUnavailable."""
        began = self._clock()
        try:
            async with asyncio.timeout(self._patience):
                await self._catch_up()
        except (StoreUnavailable, TimeoutError) as raised:
            self._outage.failed(raised)
            raise StoreUnavailable(str(raised) or "no answer in time") from raised
        self._trusted_until = began + self._period + self._patience + self._grace
        self._confirmed = began
        if self._outage.on:
            self._outage.worked()
            self._asked_share = False

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._period)
            try:
                await self.refresh()
            except StoreUnavailable:
                await self._take_shared()
            except Exception as raised:  # a row or a driver we did not foresee: as good as down
                self._outage.failed(raised)
            else:
                if self._sharing is not None:
                    now = self._clock()
                    self._sharing.tell(self._since, self._confirmed, now, self._known)

    async def _catch_up(self) -> None:
        now = await self._store.revision()
        if now < self._since or self._store.generation != self._generation:
            _log.warning(
                "the key store went from revision %d back to %d: it was restored or replaced",
                self._since,
                now,
            )
            self._generation = self._store.generation
            self._known.clear()
            self._unknown.clear()
            self._begin(now, reset=True)
        first = self._trusted_until == -inf
        if not self._grants and not len(self._flights) and (first or self._share is None):
            # Nothing is held, so nothing can be stale: no need to read what happened before.
            self._unknown.clear()
            self._begin(now)
        while self._since < now:
            changed = await self._store.changes(self._since, _PAGE)
            for change in changed:
                await self._apply(change)
                self._since = max(self._since, revision_of(change))
            if len(changed) < _PAGE:
                self._since = max(self._since, now)

    def _begin(self, now: int, *, reset: bool = False) -> None:
        """Start at this revision. reset: what was known before is not valid any more."""
        self._since = now
        if self._sharing is not None:
            self._sharing.begin(now, reset=reset)

    async def _apply(self, change: Change) -> None:
        sharing = self._sharing
        if isinstance(change, TeamRecord):
            if sharing is not None:
                sharing.changed(change.id)
            await self._known.change_team(change)
            return
        self._unknown.drop(change.key.digest)
        if sharing is not None:
            sharing.changed(change.key.id)
        for digest in self._known.change_key(change):
            if sharing is not None:
                sharing.new(digest)

    async def _look_up(self, digest: bytes) -> Grant | None:
        try:
            async with asyncio.timeout(self._patience), self._slots:
                while True:
                    since = self._since
                    found = await self._store.find_with_team(digest)
                    if since == self._since:
                        break
        except TimeoutError:
            raise StoreUnavailable("the key store did not answer in time") from None
        if found is None:
            self._unknown.put(digest, True)
            return None
        if self._sharing is not None:
            self._sharing.new(digest)
        return self._known.put(digest, found)

    # What workers share

    async def _take_shared(self) -> None:
        """The store has gone: take what others know. Once, unless nothing is known at all."""
        if self._share is None or (self._asked_share and self._trusted_until > -inf):
            return
        known = await self._share.load()
        self._asked_share = True
        if known is None or known.age > self._grace or known.since < self._since:
            return
        if self._trusted_until == -inf:
            self._begin(known.since)
            self._trusted_until = self._clock() + self._grace - known.age
        taken = [held for held in known.grants if held[0] not in self._grants]
        for digest, found in taken[: max(0, self._known.room)]:
            self._known.put(digest, found)
        if taken:
            _log.warning("loaded %d keys that other workers have shared", len(taken))
