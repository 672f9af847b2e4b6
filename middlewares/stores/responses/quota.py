"""A quota of kept responses for each owner: what is older makes room for what is new.

`store` is the default of the Responses API, so a full store must not refuse an answer. The
conversations that were continued longest ago go first, from their last turn backwards; what the
new answer continues stays. Only an answer whose own conversation is larger than the quota is not
kept.

What an owner has is asked of the store and remembered. Other processes add to it unseen, so it is
asked again as soon as this one has added a sixteenth of what was left: up to sixteen workers
together do not pass the quota, and one owner costs no more than some seventy questions, each of one
row, until it is reached.
"""

from collections.abc import Callable, Collection

import msgspec

from middlewares.bounded_map import BoundedMap
from middlewares.shared import Shared

from .base import Kept, KeptTurn, Load, ResponseStore

_SHARE = 16
"""The store is asked again when so little of what was left has been added."""
_ROOM, _MOST_ROOM = 10, 5000
"""A tenth of the quota is freed at once, but no more than so many responses."""


class _Known(msgspec.Struct):
    """What an owner had when the store was asked, and what has been added since."""

    load: Load
    responses: int = 0
    size: int = 0


class BoundedResponseStore(Shared):
    """A `ResponseStore` in which no owner has more than `count` responses, or `size` bytes.

    removed: called with the number of responses that made room. owners: most that are remembered.
    """

    def __init__(
        self,
        store: ResponseStore,
        *,
        size: int,
        count: int,
        removed: Callable[[int], object] = lambda number: None,
        owners: int = 4096,
    ) -> None:
        for name, value in (("size", size), ("count", count)):
            if value < 1:
                raise ValueError(f"{name} {value}: expected at least 1")
        self._store = store
        self._size = size
        self._count = count
        self._removed = removed
        self._known: BoundedMap[str, _Known] = BoundedMap(owners)

    async def save(self, kept: Kept) -> None:
        """As the store's, once there is room. Also raises ValueError when there cannot be."""
        size = kept.size
        known = await self._with_room(kept, size)
        await self._store.save(kept)
        known.responses += 1
        known.size += size

    async def _with_room(self, kept: Kept, size: int) -> _Known:
        owner = kept.owner
        known = self._known.use(owner)
        if known is None or not self._is_sure(known, size):
            known = await self._ask(owner)
        load = known.load
        over_count = load.responses + known.responses + 1 - self._count
        over_size = load.size + known.size + size - self._size
        if over_count <= 0 and over_size <= 0:
            return known
        number = await self._store.forget(
            owner,
            responses=over_count + min(self._count // _ROOM, _MOST_ROOM) if over_count > 0 else 0,
            size=over_size + self._size // _ROOM if over_size > 0 else 0,
            continued=kept.previous,
        )
        if number:
            self._removed(number)
        known = await self._ask(owner)
        if known.load.responses >= self._count or known.load.size + size > self._size:
            raise ValueError("its conversation alone is larger than the quota of its owner")
        return known

    def _is_sure(self, known: _Known, size: int) -> bool:
        """Whether what others may have added meanwhile does not matter yet."""
        load = known.load
        count = known.responses + 1
        size += known.size
        return (
            count * _SHARE <= self._count - load.responses
            and size * _SHARE <= self._size - load.size
        )

    async def _ask(self, owner: str) -> _Known:
        known = _Known(await self._store.load(owner))
        self._known.put(owner, known)
        return known

    async def get(self, owner: str, response_id: str, now: float) -> Kept | None:
        return await self._store.get(owner, response_id, now)

    async def conversation(
        self, owner: str, response_id: str, now: float, most: int
    ) -> list[KeptTurn]:
        return await self._store.conversation(owner, response_id, now, most)

    async def holding(self, owner: str, items: Collection[str], now: float) -> list[KeptTurn]:
        return await self._store.holding(owner, items, now)

    async def delete(self, owner: str, response_id: str, now: float) -> bool:
        return await self._store.delete(owner, response_id, now)

    async def purge(self, before: float) -> int:
        return await self._store.purge(before)

    async def redate(self, now: float, keep: float) -> int:
        return await self._store.redate(now, keep)

    async def load(self, owner: str) -> Load:
        return await self._store.load(owner)

    async def forget(
        self, owner: str, *, responses: int, size: int, continued: str | None = None
    ) -> int:
        return await self._store.forget(owner, responses=responses, size=size, continued=continued)
