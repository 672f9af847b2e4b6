"""Texts made once: from the cache of the owner, else by the first to claim the key."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from secrets import token_hex
from time import time

from middlewares.shared import Shared
from middlewares.stores.descriptions.base import DescriptionStore
from middlewares.stores.errors import StoreUnavailable

_LEASE = 15.0
"""Seconds of a claim; it is renewed while the text is made."""
_RENEWED = 5.0
_PAUSES = (0.05, 0.1, 0.2, 0.4)
"""Seconds between two reads while another makes the text."""
_PURGED = 3600.0

Make = Callable[[], Awaitable[str]]


class DescriptionCache(Shared):
    """The cache of one worker, over the store that all workers share.

    store: None keeps nothing. While it does not answer, texts are made and not kept. clock: Unix
    seconds.
    """

    def __init__(
        self, store: DescriptionStore | None, *, clock: Callable[[], float] = time
    ) -> None:
        self._store = store
        self._clock = clock
        self._purge_at = 0.0

    async def find(self, owner: str, keys: Collection[str]) -> Mapping[str, str]:
        """The texts that are there."""
        if self._store is None or not keys:
            return {}
        try:
            return await self._store.find(owner, keys, self._clock())
        except StoreUnavailable:
            return {}

    async def get(self, owner: str, key: str, make: Make) -> tuple[str, bool]:
        """The text of `key`, and whether it was there; else made with `make` and kept.

        One caller makes it, also of several workers; the others wait. Raises what `make` raises,
        and then the next one makes it.
        """
        store, token = self._store, token_hex(16)
        if store is None:
            return await make(), False
        attempt = 0
        while True:
            now = self._clock()
            try:
                found = await store.find(owner, (key,), now)
                if key in found:
                    return found[key], True
                claimed = await store.claim(owner, key, token, now, now + _LEASE)
            except StoreUnavailable:
                return await make(), False
            if claimed:
                return await self._make(store, owner, key, token, make), False
            await asyncio.sleep(_PAUSES[min(attempt, len(_PAUSES) - 1)])
            attempt += 1

    async def _make(
        self, store: DescriptionStore, owner: str, key: str, token: str, make: Make
    ) -> str:
        renewing = asyncio.create_task(self._renew(store, owner, key, token))
        kept = False
        try:
            text = await make()
            with suppress(StoreUnavailable):
                await store.save(owner, key, token, text, self._clock())
                kept = True
                await self._purge(store)
            return text
        finally:
            renewing.cancel()
            if not kept:
                # A cancelled caller must not leave the others waiting for its lease.
                await asyncio.shield(_release(store, owner, key, token))

    async def _renew(self, store: DescriptionStore, owner: str, key: str, token: str) -> None:
        while True:
            await asyncio.sleep(_RENEWED)
            with suppress(StoreUnavailable):
                await store.renew(owner, key, token, self._clock() + _LEASE)

    async def _purge(self, store: DescriptionStore) -> None:
        now = self._clock()
        if now >= self._purge_at:
            self._purge_at = now + _PURGED
            await store.purge(now)


async def _release(store: DescriptionStore, owner: str, key: str, token: str) -> None:
    with suppress(StoreUnavailable):
        await store.release(owner, key, token)
