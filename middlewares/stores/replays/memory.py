"""Answers kept in this process's memory: for one process, tests and demos."""

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

from middlewares.bounded_map import BoundedMap
from middlewares.shared import Shared

from .base import LIFETIME, KeptAnswer, ReplayEntry, RunMark, pack, unpack

_OVERHEAD = 500
"""Bytes that an entry takes beside its content, rather too many than too few."""


class _Kept(NamedTuple):
    fingerprint: bytes
    packed: bytes
    until: float


class MemoryReplays(Shared):
    """A `ReplayStore` that forgets when the process ends and is seen by no other process.

    most: answers kept at once; size: bytes of all of them, compressed. When there is no room, what
    was not asked for longest goes first; what runs is never forgotten. clock: Unix seconds.
    """

    def __init__(
        self,
        *,
        most: int = 10_000,
        size: int = 64 << 20,
        lifetime: float = LIFETIME,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if most < 1 or size < 1:
            raise ValueError(f"most {most}, size {size}: expected at least 1")
        self.lifetime = lifetime
        self.size = 0
        self._room = size
        self._clock = clock
        self._marks: dict[str, tuple[RunMark, float]] = {}
        self._kept: BoundedMap[str, _Kept] = BoundedMap(most, self._dropped)

    def __len__(self) -> int:
        """How many keys are taken, by what runs or has run."""
        return len(self._marks) + len(self._kept)

    @property
    def running(self) -> int:
        """How many keys are claimed by requests whose answer is not kept yet."""
        return len(self._marks)

    async def claim(self, mark: RunMark) -> ReplayEntry | None:
        found = self._look(mark.key)
        if found is None:
            self._marks[mark.key] = (mark, self._clock() + self.lifetime)
            return None
        return await self._found(found)

    async def find(self, key: str) -> ReplayEntry | None:
        found = self._look(key)
        return None if found is None else await self._found(found)

    async def renew(self, mark: RunMark) -> bool:
        if not self._mine(mark):
            return False
        self._marks[mark.key] = (mark, self._clock() + self.lifetime)
        return True

    async def keep(self, mark: RunMark, answer: KeptAnswer, seconds: float) -> bool:
        packed = await pack(answer)
        if self._look(mark.key) is not None and not self._mine(mark):
            return False
        if len(packed) + _OVERHEAD > self._room:
            return False
        self._marks.pop(mark.key, None)
        self._kept.put(mark.key, _Kept(mark.fingerprint, packed, self._clock() + seconds))
        self.size += len(packed) + _OVERHEAD
        while self.size > self._room:
            self._kept.drop_oldest()
        return True

    async def release(self, mark: RunMark) -> None:
        if self._mine(mark):
            del self._marks[mark.key]

    def _mine(self, mark: RunMark) -> bool:
        there = self._marks.get(mark.key)
        return there is not None and there[0].owner == mark.owner

    def _look(self, key: str) -> RunMark | _Kept | None:
        """What is under the key; what has had its time is forgotten."""
        now = self._clock()
        marked = self._marks.get(key)
        if marked is not None:
            if marked[1] > now:
                return marked[0]
            del self._marks[key]
        kept = self._kept.get(key)
        if kept is None:
            return None
        if kept.until <= now:
            self._kept.drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def _dropped(self, key: str, kept: _Kept) -> None:
        self.size -= len(kept.packed) + _OVERHEAD

    async def _found(self, there: RunMark | _Kept) -> ReplayEntry:
        if isinstance(there, RunMark):
            return ReplayEntry(there.fingerprint, large=there.large)
        return ReplayEntry(there.fingerprint, await unpack(there.packed))
