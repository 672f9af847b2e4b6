"""Where counters and kept answers are. Redis is loaded only where it is used."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from edge.config.load import Settings
from middlewares.exchange import Target
from middlewares.stores.affinity.base import AffinityStore, MemoryAffinityStore
from middlewares.stores.counters.base import Counters
from middlewares.stores.counters.memory import MemoryCounters
from middlewares.stores.health.base import Health, State
from middlewares.stores.health.breakers import BreakerPolicy, Breakers
from middlewares.stores.keys.grants import FileGrants, GrantShare
from middlewares.stores.replays.base import ReplayStore
from middlewares.stores.replays.memory import MemoryReplays


def counters_of(settings: Settings) -> Counters:
    """The counters, not started. In Redis they fall back as `store.*_when_redis_is_down` says."""
    store = settings.store
    if store.counters == "memory":
        return MemoryCounters()
    from middlewares.stores.counters.failover import Failover
    from middlewares.stores.counters.redis import RedisCounters

    return Failover(
        RedisCounters(str(store.counters), timeout=store.counters_timeout),
        rates=store.rates_when_redis_is_down,
        budgets=store.budgets_when_redis_is_down,
        local=MemoryCounters(),
    )


_PLACE = ("host", "hostaddr", "port", "dbname")
"""Parameters of a URL of PostgreSQL that say where it is."""
GRACE = 300.0
"""Seconds for which known keys outlive a store of keys that does not answer."""


async def grants_of(settings: Settings, stack: AsyncExitStack) -> GrantShare:
    """Where workers share the keys that they know. `stack` closes it."""
    store = settings.store
    sql = _without_credentials(str(store.sql))
    if store.counters == "memory":
        return FileGrants(Path(store.journal), sql)
    from middlewares.stores.keys.redis_grants import RedisGrants

    grants = RedisGrants(str(store.counters), sql, keep=GRACE)
    stack.push_async_callback(grants.aclose)
    await grants.start()
    return grants


def _without_credentials(url: str) -> str:
    """A name for the database at `url`: workers of another one share other keys."""
    parts = urlsplit(url)
    place = [parts.scheme, parts.netloc.rpartition("@")[2], parts.path]
    place += [f"{name}={value}" for name, value in parse_qsl(parts.query) if name in _PLACE]
    return sha256("\n".join(place).encode()).hexdigest()[:16]


async def replays_of(settings: Settings, stack: AsyncExitStack) -> ReplayStore:
    """Kept answers, where the counters are. `stack` closes them."""
    if settings.store.counters == "memory":
        return MemoryReplays()
    from middlewares.stores.replays.redis import RedisReplays

    store = settings.store
    replays = RedisReplays(str(store.counters), quick=store.counters_timeout)
    stack.push_async_callback(replays.aclose)
    await replays.start()
    return replays


async def health_of(
    settings: Settings,
    stack: AsyncExitStack,
    changed: Callable[[Target, State, str], None],
    *,
    shared: Callable[[Target], bool],
) -> Health:
    """Breakers of targets; those that are `shared` processes with the same Redis have together.
    `stack` closes them.
    """
    breaker = settings.breaker
    terms = BreakerPolicy(
        min_failures=breaker.min_failures,
        failure_rate=breaker.failure_rate,
        window=breaker.window,
        open_for=breaker.open_for,
        max_open_for=breaker.max_open_for,
    )
    breakers = Breakers(terms, changed=changed)
    if settings.store.counters != "memory":
        from middlewares.stores.health.redis import SharedBreakers

        sharing = SharedBreakers(breakers, str(settings.store.counters), shared=shared)
        stack.push_async_callback(sharing.aclose)
        await sharing.start()
    return breakers


async def affinity_store_of(settings: Settings, stack: AsyncExitStack) -> AffinityStore | None:
    """Where conversations were answered last; None where none is remembered. `stack` closes it."""
    affinity, store = settings.affinity, settings.store
    if not affinity.ttl:
        return None
    affinity_store: AffinityStore
    if store.counters == "memory":
        affinity_store = MemoryAffinityStore(max_entries=affinity.max_entries, ttl=affinity.ttl)
    else:
        from middlewares.stores.affinity.redis import RedisAffinityStore

        affinity_store = RedisAffinityStore(
            str(store.counters),
            max_entries=affinity.max_entries,
            ttl=affinity.ttl,
            timeout=store.counters_timeout,
        )
    stack.push_async_callback(affinity_store.aclose)
    await affinity_store.start()
    return affinity_store
