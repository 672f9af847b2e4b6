"""Keys that the holder of a key may create and manage: none that may do more than this key.

A created key has the owner, the team and the plan of the key that it is created with, its parent.
Its allow-lists, its limits and its expiry are those of the parent or narrower. A key manages itself
and the keys of its owner that may do no more than it: the secret of another one would let it do
more.
"""

from collections.abc import Collection, Sequence
from ipaddress import ip_network
from typing import Any

import msgspec

from edge.billing.plans import Plans
from middlewares.limits import Limits, PlanLimits, Rate
from middlewares.pricing import decimal
from middlewares.problem import Problem
from middlewares.stores.keys.base import Key, KeyPrefixes, KeyStore, KeysWanted
from middlewares.stores.teams.base import TeamStore

from . import keys
from .keys import KeyRefused
from .money import principal

_MONTH = 31 * 86_400.0


class ChildKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a holder asks for in a new key. None, and an empty list: as the parent.

    requests, tokens: rates such as "60/min". window: a spend cap beside those of the parent, as
    length and credits. expires_in: seconds.
    """

    name: str
    models: Sequence[str] | None = None
    endpoints: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    requests: str | None = None
    tokens: str | None = None
    concurrency: int | None = None
    window: tuple[str, str] | None = None
    expires_in: float | None = None


async def create_child(
    store: KeyStore,
    teams: TeamStore,
    prefixes: KeyPrefixes,
    parent: Key,
    asked: ChildKey,
    plans: Plans,
    *,
    now: float,
    key_id: str | None = None,
    known_plans: Collection[str] | None = None,
) -> tuple[Key, str]:
    """Create a key with `parent`. Returns it and its secret. Arguments as of `keys.create`.

    Raises Refused, StoreUnavailable, and ValueError where a key has this id.
    """
    if not parent.owner:
        raise KeyRefused("owner", "this key has no owner, so it has no further keys")
    if parent.usable_until(parent.digest) <= now:
        raise KeyRefused("key", "is expired, revoked or disabled, and creates no further keys")
    expires_in = asked.expires_in
    if expires_in is None and parent.expires_at is not None:
        expires_in = parent.expires_at - now

    def check(child: Key) -> None:
        field = excess(child, parent, plans)
        if field:
            raise KeyRefused(field, "expected no more than the key that you create it with may do")

    return await keys.create(
        store,
        prefixes,
        now=now,
        name=asked.name,
        owner=parent.owner,
        plan=parent.plan,
        models=list(asked.models or parent.models or ()) or None,
        endpoints=list(asked.endpoints or parent.endpoints or ()) or None,
        networks=list(asked.networks or parent.networks or ()) or None,
        limits=_limits(parent, asked, plans),
        expires_in=expires_in,
        team=parent.team,
        plans=known_plans,
        teams=teams,
        key_id=key_id,
        check=check,
    )


async def create_for_owner(
    store: KeyStore,
    teams: TeamStore,
    prefixes: KeyPrefixes,
    owner: str,
    *,
    name: str,
    plan: str,
    team: str | None,
    most: int,
    now: float,
    counts_for: float = 0.0,
    key_id: str | None = None,
) -> tuple[Key, str]:
    """Create a key for an owner who has fewer than `most`, those that count. Returns it and its
    secret. Raises Refused, StoreUnavailable, and ValueError where a key has this id.

    counts_for: seconds for which a revoked key still counts, see `longest_window`.
    """
    said = f"you have {most} keys, which is all that you may have"
    if counts_for:
        said += "; one that is revoked counts until its budget would have begun again"
    full = KeyRefused("name", said)
    if await _count(store, owner, most, now, counts_for) >= most:
        raise full
    key, secret = await keys.create(
        store,
        prefixes,
        now=now,
        name=name,
        owner=owner,
        plan=plan,
        team=team,
        teams=teams,
        key_id=key_id,
    )
    # Others may have found the same room: of these the last one to be stored sees all of them.
    if await _count(store, owner, most + 1, now, counts_for) > most:
        await keys.revoke(store, key.id, now=now)
        raise full
    return key, secret


def longest_window(plan: PlanLimits) -> float:
    """Seconds until a key has spent nothing in any window of its plan; 0 without windows. Someone
    who may replace a key before that spends each window again."""
    return max((window.seconds or _MONTH for window in plan.budget.windows), default=0.0)


async def _count(store: KeyStore, owner: str, enough: int, now: float, counts_for: float) -> int:
    """The keys of an owner that count, up to about `enough`: those that are not revoked, those
    that the operator has disabled, which cannot be replaced, and those that were revoked less than
    `counts_for` seconds ago, unless that was when they were created."""

    def counts(key: Key) -> bool:
        if key.revoked_at is None or key.disabled:
            return True
        return key.created_at < key.revoked_at and now < key.revoked_at + counts_for

    count, after = 0, None
    while count < enough:
        page = await store.search(KeysWanted(owner=owner), now=now, after=after)
        count += sum(map(counts, page.keys))
        after = page.next
        if after is None:
            break
    return count


def _limits(parent: Key, asked: ChildKey, plans: Plans) -> dict[str, Any] | None:
    """Own limits of the child: those of the parent, with what was asked for."""
    given: dict[str, Any] = {
        "requests": asked.requests,
        "tokens": asked.tokens,
        "concurrency": asked.concurrency,
    }
    if asked.window is not None:
        length, credits_ = asked.window
        windows = plans.limits(principal(parent, None)).budget.windows
        caps = {window.name: decimal(window.cap) for window in windows} | {length: credits_}
        given["windows"] = [{"length": name, "credits": cap} for name, cap in caps.items()]
    own = {name: value for name, value in given.items() if value is not None}
    return {**(parent.limits or {}), **own} or None


def excess(key: Key, bound: Key, plans: Plans) -> str:
    """The first field by which `key` may do more than `bound`; "" if it may not."""
    for field in ("owner", "team", "plan"):
        if getattr(key, field) != getattr(bound, field):
            return field
    for field in ("models", "endpoints"):
        mine, allowed = getattr(key, field), getattr(bound, field)
        if allowed is not None and (mine is None or not frozenset(allowed).issuperset(mine)):
            return field
    if not _within(key.networks, bound.networks):
        return "networks"
    if bound.expires_at is not None and (
        key.expires_at is None or key.expires_at > bound.expires_at
    ):
        return "expires_in"
    try:
        return _excess_of_limits(key, bound, plans)
    except Problem:
        return "limits"  # of a plan that is not there: nothing can be compared


def _within(networks: Sequence[str] | None, bound: Sequence[str] | None) -> bool:
    """Whether each network lies in one of `bound`; None is everything."""
    if bound is None:
        return True
    if networks is None:
        return False
    try:
        allowed = [ip_network(network) for network in bound]
        return all(
            any(
                network.version == outer.version and network.subnet_of(outer)  # type: ignore[arg-type]
                for outer in allowed
            )
            for network in map(ip_network, networks)
        )
    except ValueError:
        return False


def _excess_of_limits(key: Key, bound: Key, plans: Plans) -> str:
    mine, allowed = principal(key, None), principal(bound, None)
    if plans.storage(mine) > plans.storage(allowed):
        return "limits.storage"
    own, most = plans.limits(mine), plans.limits(allowed)
    return _excess_of_rates(own.limits, most.limits) or _excess_of_budget(own, most)


def _excess_of_rates(own: Limits, most: Limits) -> str:
    if _faster(own.requests, most.requests):
        return "limits.requests"
    if _faster(own.tokens, most.tokens):
        return "limits.tokens"
    if most.concurrency is not None and (
        own.concurrency is None or own.concurrency > most.concurrency
    ):
        return "limits.concurrency"
    return "limits.on_excess" if own.on_excess == "throttle" != most.on_excess else ""


def _faster(rate: Rate | None, most: Rate | None) -> bool:
    """Whether a rate lets more pass, in the long run or after a pause."""
    if most is None:
        return False
    if rate is None:
        return True
    return (
        rate.count * most.seconds > most.count * rate.seconds
        or rate.count + rate.burst > most.count + most.burst
    )


def _excess_of_budget(own: PlanLimits, most: PlanLimits) -> str:
    mine, bound = own.budget, most.budget
    caps = {(window.name, window.seconds, window.aligned): window.cap for window in mine.windows}
    for window in bound.windows:
        cap = caps.get((window.name, window.seconds, window.aligned))
        if cap is None or cap > window.cap:
            return "limits.windows"
    # Without windows and without credits everything is paid.
    if mine.credits != bound.credits and (mine.credits or not bound.windows):
        return "limits.overflow"
    if mine.on_hangup != bound.on_hangup:
        return "limits.on_hangup"
    return "limits.cut_off" if bound.cut_off and not mine.cut_off else ""
