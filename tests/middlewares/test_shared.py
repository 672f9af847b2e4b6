"""Objects that belong to all who hold them stay one, also where a framework copies them."""

import inspect
import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy, deepcopy
from importlib import import_module

import httpx
import pytest
from litestar import Litestar, Router, get
from litestar.middleware import DefineMiddleware

from middlewares import AuthMiddleware, Metrics, RateLimitMiddleware
from middlewares.limits import Limits, Rate
from middlewares.rate_limit.throttle_queue import ThrottleQueue
from middlewares.shared import Shared
from middlewares.stores import Key, KeyDirectory, MemoryKeyStore, digest, mint, prefix
from middlewares.stores.counters.memory import MemoryCounters

OWNED = {
    "Journal",
    "DeadJournal",
    "SqliteWriter",
    "Address",
    "Breaker",
    "Sharing",
    "KnownGrants",
    "Workers",
    "LastTries",
    "Sweeper",
    "SessionSweeper",
    "SqlSpend",
    "PeriodicSweep",
}
"""Parts of one store, which are not handed to a middleware."""


def stores() -> set[type]:
    """Every public class of the stores that has coroutines, less what only stores hold."""
    found = set()
    package = import_module("middlewares.stores")
    for module in pkgutil.walk_packages(package.__path__, "middlewares.stores."):
        name = module.name
        if ".migrations" in name:
            continue  # loaded by alembic only
        for class_ in vars(import_module(name)).values():
            if (
                inspect.isclass(class_)
                and class_.__module__ == name
                and not class_.__name__.startswith("_")
                and not getattr(class_, "_is_protocol", False)
                and any(inspect.iscoroutinefunction(member) for member in vars(class_).values())
            ):
                found.add(class_)
    return {class_ for class_ in found if class_.__name__ not in OWNED}


def test_every_store_is_shared() -> None:
    names = {class_.__name__ for class_ in stores()}
    assert {"MemoryCounters", "KeyDirectory", "Accounts", "RedisCounters"} <= names
    assert not {one.__name__ for one in stores() if not issubclass(one, Shared)}


@pytest.mark.parametrize("make", [MemoryCounters, MemoryKeyStore, Metrics, ThrottleQueue])
def test_copy_of_a_shared_object_is_the_object(make: type) -> None:
    made = make()
    assert copy(made) is made
    assert deepcopy([made])[0] is made


async def test_limits_and_keys_hold_over_the_routers_of_litestar() -> None:
    """It copies the arguments of middlewares for each router."""
    store = MemoryKeyStore()
    keys, counters, secret = KeyDirectory(store), MemoryCounters(), mint("x")

    @get("/hello")
    async def hello() -> str:
        return "hello"

    def limits(_exchange: object) -> Limits:
        return Limits(requests=Rate(3, 3600.0))

    @asynccontextmanager
    async def served() -> AsyncIterator[None]:
        key = Key(id="k", digest=digest(secret), prefix=prefix(secret), created_at=0)
        await store.insert(key)
        await keys.start()
        yield
        await keys.aclose()

    layers = [
        DefineMiddleware(AuthMiddleware, keys=keys),  # type: ignore[arg-type]
        DefineMiddleware(
            RateLimitMiddleware,  # type: ignore[arg-type]
            counters=counters,
            limits=limits,
        ),
    ]
    routers = [Router(path, route_handlers=[hello], middleware=layers) for path in ("/a", "/b")]
    transport = httpx.ASGITransport(Litestar(routers))  # type: ignore[arg-type]
    async with served(), httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        client.headers["authorization"] = f"Bearer {secret}"
        paths = ("/a/hello", "/b/hello", "/a/hello", "/b/hello", "/a/hello")
        statuses = [(await client.get(path)).status_code for path in paths]
    assert statuses == [200, 200, 200, 429, 429]
