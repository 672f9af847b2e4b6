"""Affinity records in Redis, shared by processes and machines.

    penstock:{KEY}:affinity  =  [[target, maker, since], Unix seconds of writing], as MessagePack

Each has a TTL. Redis is asked each time, since another process may have answered the last turn. Its
answer counts, except for records that it has not confirmed to this process yet. A record is written
when it changes, or when its TTL has partly passed.

While Redis is away the records of this process are used, and no request waits for it; `RedisLink`
reconnects by itself.
"""

from collections.abc import Callable
from functools import partial
from time import time

import msgspec

from middlewares.bounded_map import ExpiringMap
from middlewares.shared import Shared
from middlewares.stores.errors import CountersUnavailable
from middlewares.stores.redis_client import Future, RedisLink

from .base import AffinityRecord

_RENEWED = 1 / 3
"""Part of its TTL after which an unchanged record is written again; Redis keeps it longer by it."""


class _Written(msgspec.Struct, frozen=True, array_like=True):
    affinity_record: AffinityRecord
    at: float


class _Known(msgspec.Struct, frozen=True):
    """at: when it was written to Redis; 0.0 until Redis has confirmed it."""

    affinity_record: AffinityRecord
    at: float


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Written).decode


class RedisAffinityStore(Shared):
    """`AffinityStore` shared by all processes with the same Redis database.

    url: `redis://`, `rediss://` or `unix://`. max_entries, ttl: see `MemoryAffinityStore`; entries
    in Redis are bounded by `ttl` and by its own memory limit. timeout: seconds to wait for an
    answer; connect_timeout: for a connection. clock: Unix seconds.
    Raises ValueError for a URL it cannot use.
    """

    __slots__ = ("_clock", "_known", "_link", "_ttl")

    def __init__(
        self,
        url: str,
        *,
        max_entries: int = 100_000,
        ttl: float = 3600.0,
        timeout: float = 0.2,
        connect_timeout: float = 2.0,
        clock: Callable[[], float] = time,
    ) -> None:
        self._link = RedisLink(url, timeout=timeout, connect_timeout=connect_timeout)
        if not ttl > 0:
            raise ValueError(f"ttl {ttl}: expected more than 0")
        self._known: ExpiringMap[str, _Known] = ExpiringMap(max_entries, ttl, clock)
        self._ttl = ttl
        self._clock = clock

    def __len__(self) -> int:
        """Number of records that this process holds."""
        return len(self._known)

    @property
    def up(self) -> bool:
        """Whether Redis is asked."""
        return self._link.up

    async def start(self) -> None:
        await self._link.start()

    async def aclose(self) -> None:
        await self._link.aclose()

    async def find(self, key: str) -> AffinityRecord | None:
        if not self._link.up:
            return self._own(key)
        try:
            value = await self._link.call(b"GET", _name(key))
        except CountersUnavailable:
            return self._own(key)
        known = self._known.get(key)  # read after the call, since it may have changed
        if known is not None and not known.at:
            return known.affinity_record
        try:
            written = _decode(value or b"")
        except (ValueError, TypeError):  # DecodeError, and bytes that are no UTF-8
            if known is None:
                return None
            self._known.put(key, _Known(known.affinity_record, 0.0))  # Redis has lost it
            return known.affinity_record
        self._known.put(
            key, _Known(written.affinity_record, written.at), written.at + self._written_for
        )
        return written.affinity_record

    def keep(self, key: str, affinity_record: AffinityRecord) -> None:
        now = self._clock()
        known = self._known.get(key)
        if (
            known is not None
            and known.affinity_record == affinity_record
            and now - known.at < self._ttl * _RENEWED
        ):
            self._known.put(key, known)
            return
        known = _Known(affinity_record, 0.0)
        self._known.put(key, known)
        value = _encode(_Written(affinity_record, now))
        try:
            writing = self._link.call(b"SET", _name(key), value, b"PX", self._milliseconds)
        except CountersUnavailable:
            return
        writing.add_done_callback(partial(self._confirm, key, known, now))

    def _confirm(self, key: str, known: _Known, at: float, writing: Future) -> None:
        if writing.cancelled() or writing.exception() is not None:
            return
        if self._known.get(key) is known:
            self._known.put(key, _Known(known.affinity_record, at))

    @property
    def _written_for(self) -> float:
        return self._ttl * (1 + _RENEWED)

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self._written_for * 1000))

    def _own(self, key: str) -> AffinityRecord | None:
        known = self._known.get(key)
        return None if known is None else known.affinity_record


def _name(key: str) -> str:
    return f"penstock:{{{key}}}:affinity"
