"""Where counters and kept answers are. Redis is loaded only where it is used."""

from contextlib import AsyncExitStack

from middlewares.stores.counters import Counters
from middlewares.stores.memory_counters import MemoryCounters
from middlewares.stores.memory_replays import MemoryReplays
from middlewares.stores.replays import ReplayStore

from .settings import Settings


def counters_of(settings: Settings) -> Counters:
    """The counters, not started. In Redis they fall back as `store.*_without_counters` says."""
    store = settings.store
    if store.counters == "memory":
        return MemoryCounters()
    from middlewares.stores.failover import Failover
    from middlewares.stores.redis_counters import RedisCounters

    return Failover(
        RedisCounters(str(store.counters), timeout=store.counters_timeout),
        rates=store.rates_without_counters,
        budgets=store.budgets_without_counters,
        local=MemoryCounters(),
    )


def replays_of(settings: Settings, stack: AsyncExitStack) -> ReplayStore:
    """Kept answers, where the counters are. `stack` closes them."""
    if settings.store.counters == "memory":
        return MemoryReplays()
    from middlewares.stores.redis_replays import RedisReplays

    store = settings.store
    replays = RedisReplays.of(str(store.counters), quick=store.counters_timeout)
    stack.push_async_callback(replays.aclose)
    return replays
