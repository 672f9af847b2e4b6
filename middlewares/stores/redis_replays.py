"""Answers kept in Redis, for many processes and machines.

    penstock:replay:<key>  =  "r" owner fingerprint     runs; "R" when its answer is too large
                              "k" fingerprint answer    kept

Each has a TTL: a mark the store's `lifetime`, an answer what `keep` was told. Every value is under
one key, so this works on a cluster. Nothing is tried twice: a caller that is told at once that the
store does not answer can go on without it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from middlewares._shared import Shared

from .keys import StoreUnavailable
from .replays import LIFETIME, Answer, Found, Mark, pack, unpack

_PREFIX = "penstock:replay:"
_OWNER = 32
_FINGERPRINT = 32

_MINE = """
local there = redis.call('GETRANGE', KEYS[1], 0, 32)
local kind = string.sub(there, 1, 1)
local mine = (kind == 'r' or kind == 'R') and string.sub(there, 2) == ARGV[1]
"""
_RENEW = f"""{_MINE}
if not mine then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_KEEP = f"""{_MINE}
if not mine and there ~= '' then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
_RELEASE = f"""{_MINE}
if mine then redis.call('DEL', KEYS[1]) end
return 1
"""


class RedisReplays(Shared):
    """A `ReplayStore` in Redis 6 or later, whose own memory limit bounds what is kept.

    patience: seconds that one call may take in all; quick: those that a request waits for before
    anything is done for it. largest: bytes one answer may have, compressed.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        patience: float = 1.0,
        quick: float = 0.25,
        largest: int = 8 << 20,
        lifetime: float = LIFETIME,
    ) -> None:
        self.lifetime = lifetime
        self._redis = redis
        self._patience = patience
        self._quick = quick
        self._largest = largest
        self._renew = redis.register_script(_RENEW)
        self._keep = redis.register_script(_KEEP)
        self._release = redis.register_script(_RELEASE)

    @classmethod
    def of(
        cls,
        url: str,
        *,
        patience: float = 1.0,
        quick: float = 0.25,
        connections: int = 16,
        largest: int = 8 << 20,
        lifetime: float = LIFETIME,
    ) -> Self:
        """With a pool of its own. Connects when it is first asked; `aclose` ends it."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=connections,
            timeout=patience,
            socket_timeout=patience,
            socket_connect_timeout=patience,
            retry=Retry(NoBackoff(), 0),
        )
        redis = Redis.from_pool(pool)
        return cls(redis, patience=patience, quick=quick, largest=largest, lifetime=lifetime)

    async def aclose(self) -> None:
        await self._redis.aclose()

    async def claim(self, mark: Mark) -> Found | None:
        key = _PREFIX + mark.key
        async with self._bounded(self._quick):
            both = self._redis.pipeline(transaction=True)
            both.set(key, _written(mark), nx=True, px=self._milliseconds)
            both.get(key)
            taken, value = await both.execute()
        return None if taken else await _found(value)

    async def find(self, key: str) -> Found | None:
        async with self._bounded(self._quick):
            value: Any = await self._redis.get(_PREFIX + key)
        return None if value is None else await _found(value)

    async def renew(self, mark: Mark) -> bool:
        return await self._run(self._renew, mark, _written(mark), self._milliseconds)

    async def keep(self, mark: Mark, answer: Answer, seconds: float) -> bool:
        packed = await pack(answer)
        if len(packed) > self._largest:
            return False
        value = b"k" + mark.fingerprint + packed
        return await self._run(self._keep, mark, value, max(1, int(seconds * 1000)))

    async def release(self, mark: Mark) -> None:
        await self._run(self._release, mark)

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self.lifetime * 1000))

    async def _run(self, script: Any, mark: Mark, *arguments: bytes | int) -> bool:
        async with self._bounded(self._patience):
            asked: Awaitable[int] = script(keys=[_PREFIX + mark.key], args=[mark.owner, *arguments])
            return await asked == 1

    @asynccontextmanager
    async def _bounded(self, seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(seconds):
                yield
        except (RedisError, OSError, TimeoutError) as raised:
            raise StoreUnavailable(f"Redis: {type(raised).__name__}: {raised}") from None


def _written(mark: Mark) -> bytes:
    return (b"R" if mark.large else b"r") + mark.owner.encode() + mark.fingerprint


async def _found(value: bytes) -> Found:
    kind, rest = value[:1], value[1:]
    if kind in (b"r", b"R"):
        return Found(rest[_OWNER:], large=kind == b"R")
    try:
        return Found(rest[:_FINGERPRINT], await unpack(rest[_FINGERPRINT:]))
    except ValueError as raised:
        raise StoreUnavailable(f"Redis: {raised}") from None
