"""Slots for work that runs at once: so many for each key, such as a request or an owner."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class KeyedSlots:
    """A semaphore for each key, kept while it is in use. each: slots of one key."""

    __slots__ = ("_each", "_keys")

    def __init__(self, each: int) -> None:
        self._each = each
        self._keys: dict[str, _Key] = {}

    def __len__(self) -> int:
        return len(self._keys)

    @asynccontextmanager
    async def taken(self, key: str) -> AsyncIterator[None]:
        """Hold a slot of `key`, waited for in the order of arrival."""
        one = self._keys.get(key)
        if one is None:
            one = self._keys[key] = _Key(asyncio.Semaphore(self._each))
        one.users += 1
        try:
            async with one.free:
                yield
        finally:
            one.users -= 1
            if not one.users:
                del self._keys[key]


class _Key:
    __slots__ = ("free", "users")

    def __init__(self, free: asyncio.Semaphore) -> None:
        self.free = free
        self.users = 0
