"""Answers kept in Redis, for many processes and machines; `lua/prelude_replays.lua` says how.

Each has a TTL: a mark the store's `lifetime`, an answer the one given to `keep`. Every value is
under one key, so this works on a cluster. If the store does not answer, the call fails at once and
the caller can go on without it.

Answers are sent on a connection of their own: one of megabytes must not hold up a request that
only asks whether its key is free.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from middlewares.shared import Shared
from middlewares.stores.errors import CountersUnavailable, StoreUnavailable
from middlewares.stores.redis_client import Part, RedisLink
from middlewares.stores.redis_scripts import (
    ONCE,
    REPLAY_CLAIM,
    REPLAY_KEEP,
    REPLAY_RELEASE,
    REPLAY_RENEW,
    SCRIPTS,
)

from .base import LIFETIME, KeptAnswer, ReplayEntry, RunMark, pack, unpack

_PREFIX = "penstock:replay:"
_OWNER = 32
_FINGERPRINT = 32


class RedisReplays(Shared):
    """A `ReplayStore` in Redis 6 or later, whose own memory limit bounds what is kept.

    url: see `RedisCounters`. patience: seconds that one call may take in all; quick: those that a
    request waits for before anything is done for it. largest: bytes one answer may have,
    compressed. Raises ValueError for a URL it cannot use.

    `start` before the first request, `aclose` after the last.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: float = 1.0,
        quick: float = 0.25,
        largest: int = 8 << 20,
        lifetime: float = LIFETIME,
    ) -> None:
        self.lifetime = lifetime
        self._patience = patience
        self._quick = quick
        self._largest = largest
        marking: dict[Part, bytes] = {
            name: SCRIPTS[name] for name in (REPLAY_CLAIM, REPLAY_RENEW, REPLAY_RELEASE)
        }
        keeping: dict[Part, bytes] = {REPLAY_KEEP: SCRIPTS[REPLAY_KEEP]}
        self._marks = RedisLink(url, scripts=marking, timeout=patience)
        self._answers = RedisLink(url, scripts=keeping, timeout=patience, once=ONCE)

    async def start(self) -> None:
        """Connect. Returns in bounded time, whether there is a connection or not."""
        await asyncio.gather(self._marks.start(), self._answers.start())

    async def aclose(self) -> None:
        """Let go. Idempotent."""
        await asyncio.gather(self._marks.aclose(), self._answers.aclose())

    async def claim(self, mark: RunMark) -> ReplayEntry | None:
        key, owner = _PREFIX + mark.key, mark.owner.encode()
        asked = (b"EVALSHA", REPLAY_CLAIM, 1, key, owner, _written(mark), self._milliseconds)
        async with _bounded(self._quick):
            value = await self._marks.call(*asked)
        return None if value is None else await _found(value)

    async def find(self, key: str) -> ReplayEntry | None:
        async with _bounded(self._quick):
            value = await self._marks.call(b"GET", _PREFIX + key)
        return None if value is None else await _found(value)

    async def renew(self, mark: RunMark) -> bool:
        return await self._run(self._marks, REPLAY_RENEW, mark, _written(mark), self._milliseconds)

    async def keep(self, mark: RunMark, answer: KeptAnswer, seconds: float) -> bool:
        packed = await pack(answer)
        if len(packed) > self._largest:
            return False
        value = b"k" + mark.fingerprint + packed
        milliseconds = max(1, int(seconds * 1000))
        return await self._run(self._answers, REPLAY_KEEP, mark, value, milliseconds)

    async def release(self, mark: RunMark) -> None:
        await self._run(self._marks, REPLAY_RELEASE, mark)

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self.lifetime * 1000))

    async def _run(self, link: RedisLink, script: Part, mark: RunMark, *arguments: Part) -> bool:
        key, owner = _PREFIX + mark.key, mark.owner.encode()
        async with _bounded(self._patience):
            answer: int = await link.call(b"EVALSHA", script, 1, key, owner, *arguments)
        return answer == 1


@asynccontextmanager
async def _bounded(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except CountersUnavailable as raised:
        raise StoreUnavailable(str(raised)) from None
    except TimeoutError:
        raise StoreUnavailable("Redis does not answer in time") from None


def _written(mark: RunMark) -> bytes:
    return (b"R" if mark.large else b"r") + mark.owner.encode() + mark.fingerprint


async def _found(value: bytes) -> ReplayEntry:
    kind, rest = value[:1], value[1:]
    if kind in (b"r", b"R"):
        return ReplayEntry(rest[_OWNER:], large=kind == b"R")
    try:
        return ReplayEntry(rest[:_FINGERPRINT], await unpack(rest[_FINGERPRINT:]))
    except ValueError as raised:
        raise StoreUnavailable(f"Redis: {raised}") from None
