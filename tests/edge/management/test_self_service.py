"""Keys that holders create and manage: none does more than the key that it was created with.

CVE-2026-47101 and CVE-2026-47102: a holder widened a key by a field that was not checked.
"""

import asyncio
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.billing.plans import Plans
from edge.config.load import parse
from edge.management.fields import Refused
from edge.management.keys import create, revoke, rotate
from edge.management.money import principal
from edge.management.self_service import (
    ChildKey,
    create_child,
    create_for_owner,
    excess,
    longest_window,
)
from middlewares.exchange import Principal
from middlewares.problem import Problem
from middlewares.stores import Key, KeyPrefixes, MemoryKeyStore
from middlewares.stores.keys.sql import SqlKeyStore
from middlewares.stores.sql.database import Database
from middlewares.stores.teams.sql import SqlTeamStore
from tests.middlewares.stores.samples import new_key, new_team
from tests.middlewares.stores.sqlite_files import new_sqlite

replace = msgspec.structs.replace
NOW = 1_000_000.0
PREFIXES = KeyPrefixes.of_brand("P")
DOCUMENT: dict[str, Any] = {
    "plans": [
        {"id": "free"},
        {
            "id": "gold",
            "requests": "60/min",
            "burst": 5,
            "tokens": "10k/min",
            "concurrency": 3,
            "windows": [{"length": "5h", "credits": "5"}, {"length": "7d", "credits": "40"}],
            "overflow": "credits",
        },
    ],
}
PLANS = Plans(parse(DOCUMENT))

WIDTHS: dict[str, tuple[Any, ...]] = {
    "models": (None, ("a", "b"), ("a",)),
    "endpoints": (None, ("messages", "models"), ("messages",)),
    "networks": (None, ("10.0.0.0/8", "2001:db8::/32"), ("10.1.0.0/16",), ("10.1.2.0/24",)),
    "expires_at": (None, NOW + 100.0, NOW + 50.0),
}
"""Values of allow-lists, each wider than those after it."""
LIMITS: dict[str, tuple[Any, ...]] = {
    "requests": (None, "60/min", "3/s", "30/min"),
    "tokens": (None, "5k/min", "1k/min"),
    "concurrency": (None, 2, 1),
    "storage": (None, "1MiB", "1KiB"),
    "windows": (
        None,
        [{"length": "1d", "credits": "2"}],
        [{"length": "1d", "credits": "1"}],
        [{"length": "1d", "credits": "2"}, {"length": "5h", "credits": "1"}],
    ),
    "overflow": (None, "none", "credits"),
    "on_excess": (None, "throttle", "reject"),
    "cut_off": (None, True, False),
    "on_hangup": (None, "cancel", "drain"),
}

KEYS = st.fixed_dictionaries(
    {
        "owner": st.sampled_from(("ann", "bob")),
        "team": st.sampled_from((None, "team_a", "team_b")),
        "plan": st.sampled_from((None, "free", "gold")),
        **{name: st.sampled_from(values) for name, values in WIDTHS.items()},
        "limits": st.fixed_dictionaries(
            {}, optional={name: st.sampled_from(values[1:]) for name, values in LIMITS.items()}
        ),
    }
)


def a_key(**fields: Any) -> Key:
    return new_key(**{"owner": "ann", **fields})[0]


def subset(mine: Any, bound: Any) -> bool:
    return bound is None or (mine is not None and set(mine) <= set(bound))


def inside(mine: Any, bound: Any) -> bool:
    """By addresses that tell the networks apart."""
    if bound is None or mine is None:
        return bound is None

    def has(networks: Any, address: str) -> bool:
        return any(ip_network(address).network_address in ip_network(each) for each in networks)

    addresses = ("10.0.0.1", "10.1.0.1", "10.1.2.1", "2001:db8::1", "192.0.2.1")
    return not any(has(mine, each) and not has(bound, each) for each in addresses)


def no_wider_money(mine: Key, bound: Key) -> bool:
    own, most = (PLANS.limits(principal(key, None)) for key in (mine, bound))
    caps = {window.name: window.cap for window in own.budget.windows}
    return all(caps.get(one.name, 10**18) <= one.cap for one in most.budget.windows)


@given(mine=KEYS, bound=KEYS)
def test_excess_finds_whatever_is_wider(mine: dict[str, Any], bound: dict[str, Any]) -> None:
    key, most = a_key(**mine), a_key(**bound)
    field = excess(key, most, PLANS)
    same = all(getattr(key, name) == getattr(most, name) for name in ("owner", "team", "plan"))
    fits = (
        same
        and subset(key.models, most.models)
        and subset(key.endpoints, most.endpoints)
        and inside(key.networks, most.networks)
        and (
            most.expires_at is None
            or (key.expires_at is not None and key.expires_at <= most.expires_at)
        )
    )
    if not fits:
        assert field and not field.startswith("limits")
    elif not field:
        assert no_wider_money(key, most)
        own, allowed = (PLANS.limits(principal(each, None)).limits for each in (key, most))
        for name in ("requests", "tokens"):
            rate, limit = getattr(own, name), getattr(allowed, name)
            if limit is not None:
                assert rate is not None
                assert rate.count / rate.seconds <= limit.count / limit.seconds
                assert rate.count + rate.burst <= limit.count + limit.burst
        if allowed.concurrency is not None:
            assert own.concurrency is not None and own.concurrency <= allowed.concurrency
        assert PLANS.storage(principal(key, None)) <= PLANS.storage(principal(most, None))


@given(fields=KEYS)
def test_excess_of_an_equal_key_is_none(fields: dict[str, Any]) -> None:
    try:
        PLANS.limits(principal(a_key(**fields), None))
    except Problem:
        assert excess(a_key(**fields), a_key(**fields), PLANS) == "limits"
    else:
        assert excess(a_key(**fields), a_key(**fields), PLANS) == ""


@pytest.mark.parametrize(
    ("mine", "bound", "field"),
    [
        ({}, {"limits": {"requests": "60/min"}}, "limits.requests"),
        (
            {"limits": {"requests": "60/min", "burst": 1}},
            {"limits": {"requests": "60/min"}},
            "limits.requests",
        ),
        ({"limits": {"requests": "2/s"}}, {"limits": {"requests": "60/min"}}, "limits.requests"),
        ({"limits": {"requests": "1/s"}}, {"limits": {"requests": "60/min"}}, ""),
        ({}, {"limits": {"tokens": "1k/min"}}, "limits.tokens"),
        ({"limits": {"concurrency": 3}}, {"limits": {"concurrency": 2}}, "limits.concurrency"),
        (
            {"plan": "gold", "limits": {"requests": "9/min", "on_excess": "throttle"}},
            {"plan": "gold"},
            "limits.on_excess",
        ),
        ({"limits": {"windows": []}, "plan": "gold"}, {"plan": "gold"}, "limits.windows"),
        ({"limits": {"overflow": "credits"}}, {}, "limits.overflow"),
        ({}, {"limits": {"overflow": "credits"}}, "limits.overflow"),
        ({"plan": "gold", "limits": {"overflow": "none"}}, {"plan": "gold"}, ""),
        ({}, {"limits": {"cut_off": True}}, "limits.cut_off"),
        ({"limits": {"on_hangup": "drain"}}, {}, "limits.on_hangup"),
        ({"limits": {"storage": "2MiB"}}, {"limits": {"storage": "1MiB"}}, "limits.storage"),
        ({"plan": "gone"}, {"plan": "gone"}, "limits"),
        ({"networks": ("0.0.0.0/0",)}, {"networks": ("10.0.0.0/8",)}, "networks"),
        ({"networks": ("::/0",)}, {"networks": ("0.0.0.0/0",)}, "networks"),
        ({"networks": ("nonsense",)}, {"networks": ("10.0.0.0/8",)}, "networks"),
    ],
)
def test_excess_names_the_field(mine: dict[str, Any], bound: dict[str, Any], field: str) -> None:
    assert excess(a_key(**mine), a_key(**bound), PLANS) == field


async def child_of(store: MemoryKeyStore, parent: Key, **asked: Any) -> Key:
    child, _ = await create_child(
        store,
        store.teams,
        PREFIXES,
        parent,
        ChildKey(**{"name": "child", **asked}),
        PLANS,
        now=NOW,
    )
    return child


async def test_create_child_has_what_its_parent_has() -> None:
    store = MemoryKeyStore()
    team = await store.teams.insert(new_team())
    parent = await store.insert(
        a_key(
            team=team.id,
            plan="gold",
            models=("a", "b"),
            endpoints=("messages",),
            networks=("10.0.0.0/8",),
            limits={"concurrency": 2, "cut_off": True},
            expires_at=NOW + 100,
            metadata={"for": "operators"},
        )
    )
    child = await child_of(store, parent)
    for name in ("owner", "team", "plan", "models", "endpoints", "networks", "limits"):
        assert getattr(child, name) == getattr(parent, name), name
    assert (child.expires_at, child.metadata) == (parent.expires_at, None)
    assert child.id != parent.id and child.digest != parent.digest


async def test_create_child_takes_narrower_values() -> None:
    store = MemoryKeyStore()
    parent = await store.insert(a_key(plan="gold", models=("a", "b")))
    child = await child_of(
        store,
        parent,
        models=["a"],
        endpoints=["messages"],
        networks=["10.1.0.0/16"],
        requests="10/min",
        tokens="1k/min",
        concurrency=1,
        window=("1d", "0.50"),
        expires_in=60.0,
    )
    assert (child.models, child.endpoints) == (("a",), ("messages",))
    assert (child.networks, child.expires_at) == (("10.1.0.0/16",), NOW + 60)
    assert child.limits == {
        "requests": "10/min",
        "tokens": "1k/min",
        "concurrency": 1,
        "windows": [
            {"length": "5h", "credits": "5.00"},
            {"length": "7d", "credits": "40.00"},
            {"length": "1d", "credits": "0.50"},
        ],
    }
    assert excess(child, parent, PLANS) == ""


PARENT: dict[str, Any] = {
    "plan": "gold",
    "models": ("a",),
    "endpoints": ("messages",),
    "networks": ("10.0.0.0/8",),
    "expires_at": NOW + 100,
}


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"models": ["a", "b"]}, "models"),
        ({"models": ["*"]}, "models"),
        ({"endpoints": ["messages", "chat.completions"]}, "endpoints"),
        ({"networks": ["0.0.0.0/0"]}, "networks"),
        ({"networks": ["10.0.0.0/7"]}, "networks"),
        ({"requests": "61/min"}, "limits.requests"),
        ({"tokens": "1M/min"}, "limits.tokens"),
        ({"concurrency": 4}, "limits.concurrency"),
        ({"window": ("5h", "5.01")}, "limits.windows"),
        ({"expires_in": 101.0}, "expires_in"),
        ({"name": ""}, "name"),
        ({"endpoints": ["everything"]}, "endpoints"),
        ({"requests": "many"}, "limits.requests"),
        ({"window": ("5h", "-1")}, "limits.windows[0].credits"),
    ],
)
async def test_create_child_that_may_do_more_is_refused(asked: dict[str, Any], field: str) -> None:
    store = MemoryKeyStore()
    parent = await store.insert(a_key(**PARENT))
    with pytest.raises(Refused) as refused:
        await child_of(store, parent, **asked)
    assert refused.value.field == field
    assert await store.every() == [parent]


@given(fields=KEYS, asked=st.data())
async def test_no_child_may_do_more_than_its_parent(
    fields: dict[str, Any], asked: st.DataObject
) -> None:
    """Whatever is asked for: it is refused, or the stored key is narrower in every field."""
    store = MemoryKeyStore()
    for name in ("team_a", "team_b"):
        await store.teams.insert(new_team(id=name))
    parent = await store.insert(a_key(**fields))
    wanted = asked.draw(
        st.fixed_dictionaries(
            {},
            optional={
                "models": st.sampled_from((["a"], ["a", "b"], ["c"])),
                "endpoints": st.sampled_from((["messages"], ["chat.completions"])),
                "networks": st.sampled_from((["10.0.0.0/8"], ["0.0.0.0/0"], ["10.1.2.0/24"])),
                "requests": st.sampled_from(("1/s", "10/s", "30/min")),
                "tokens": st.sampled_from(("1k/min", "1M/min")),
                "concurrency": st.sampled_from((1, 2, 9)),
                "window": st.sampled_from((("1d", "1"), ("5h", "100"), ("30d", "3"))),
                "expires_in": st.sampled_from((10.0, 75.0, 1e6)),
            },
        )
    )
    try:
        child = await child_of(store, parent, **wanted)
    except (Refused, Problem):
        assert await store.every() == [parent]
        return
    assert excess(child, parent, PLANS) == ""
    assert no_wider_money(child, parent)


@pytest.mark.parametrize(
    "fields",
    [{"revoked_at": 1.0}, {"disabled": True}, {"expires_at": NOW}, {"owner": ""}],
)
async def test_create_child_of_a_key_that_may_not_is_refused(fields: dict[str, Any]) -> None:
    store = MemoryKeyStore()
    parent = await store.insert(a_key(**fields))
    with pytest.raises(Refused):
        await child_of(store, parent)
    assert await store.every() == [parent]


async def test_create_child_twice_with_one_id_creates_one() -> None:
    store = MemoryKeyStore()
    parent = await store.insert(a_key())
    asked = ChildKey(name="child")
    for n in range(2):
        try:
            await create_child(
                store, store.teams, PREFIXES, parent, asked, PLANS, now=NOW, key_id="key_x"
            )
        except ValueError:
            assert n == 1
    assert len(await store.every()) == 2


async def test_rotate_of_a_revision_that_passed_is_refused() -> None:
    store = MemoryKeyStore()
    key, _ = await create(store, PREFIXES, now=NOW, name="k")
    turned, _ = await rotate(store, PREFIXES, key.id, now=NOW, revision=key.revision)
    with pytest.raises(Refused, match="was changed meanwhile"):
        await rotate(store, PREFIXES, key.id, now=NOW, revision=key.revision)
    assert await store.get(key.id) == turned


async def test_create_for_owner_at_once_leaves_no_more_keys_than_allowed(tmp_path: Path) -> None:
    """Over two connections, as of two processes."""
    url = new_sqlite(tmp_path / "keys.db")
    databases = [await Database.open(url) for _ in range(2)]
    stores = [SqlKeyStore(database) for database in databases]

    async def one(number: int) -> Key:
        store, teams = stores[number % 2], SqlTeamStore(databases[number % 2])
        now = NOW + number % 3
        made = create_for_owner(
            store, teams, PREFIXES, "ann", name="k", plan="gold", team=None, most=3, now=now
        )
        return (await made)[0]

    done = await asyncio.gather(*map(one, range(12)), return_exceptions=True)
    assert all(isinstance(each, Key | Refused) for each in done), done
    kept = [key for key in await stores[0].every() if key.revoked_at is None]
    for number in range(3 - len(kept)):  # all that came at once may have been one too many
        await one(number)
    kept = [key for key in await stores[0].every() if key.revoked_at is None]
    assert len(kept) == 3
    with pytest.raises(Refused, match="you have 3 keys"):
        await one(0)
    for database in databases:
        await database.aclose()


@pytest.mark.parametrize(("plan", "wait"), [("free", 0.0), ("gold", 7 * 86_400.0)])
async def test_revoked_key_is_replaced_once_its_windows_have_begun_again(
    plan: str, wait: float
) -> None:
    """Someone who revokes a key and creates another spends no window of the plan twice."""
    store, plans = MemoryKeyStore(), Plans(parse(DOCUMENT))
    counts_for = longest_window(plans.limits(Principal(id="", plan=plan)))
    assert counts_for == wait

    async def create(now: float) -> Key:
        made = create_for_owner(
            store,
            store.teams,
            PREFIXES,
            "ann",
            name="k",
            plan=plan,
            team=None,
            most=1,
            now=now,
            counts_for=counts_for,
        )
        return (await made)[0]

    first, revoked = await create(NOW), NOW + 10
    await revoke(store, first.id, now=revoked)
    if wait:
        with pytest.raises(Refused, match="until its budget would have begun again"):
            await create(revoked + wait - 1)
    assert (await create(revoked + wait)).id != first.id


def test_longest_window_of_calendar_months_is_the_longest_month() -> None:
    month = {"id": "m", "windows": [{"length": "calendar month", "credits": "1"}]}
    plans = Plans(parse({**DOCUMENT, "plans": [month]}))
    assert longest_window(plans.limits(Principal(id="", plan="m"))) == 31 * 86_400
