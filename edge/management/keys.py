"""Operations on API keys: create, show, list, edit, rotate, revoke.

Each takes a `KeyStore` and the time as Unix seconds, and prints nothing. Only `create` and `rotate`
return a raw secret, as the second member of their result.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from ipaddress import ip_network
from typing import Any

import msgspec

from edge.billing.period import moment
from edge.endpoints import NAMES
from middlewares.stores.keys.base import (
    ACCEPTABLE,
    Key,
    KeyPrefixes,
    KeyStore,
    Mode,
    UnknownKey,
    digest,
    is_acceptable,
    is_secret,
    mint,
    prefix,
)
from middlewares.stores.teams.base import TeamStore

from . import fields as read
from .fields import Refused, looks_secret
from .teams import get as get_team

_CENTURY = 36525 * 86400.0


class KeyRefused(Refused):
    """A refused operation on keys."""


async def create(
    store: KeyStore,
    prefixes: KeyPrefixes,
    *,
    now: float,
    name: str,
    owner: str = "",
    plan: str | None = None,
    mode: Mode = "live",
    models: Sequence[str] | None = None,
    endpoints: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    limits: dict[str, Any] | None = None,
    metadata: Mapping[str, str] | None = None,
    expires_in: float | None = None,
    secret: str | None = None,
    team: str | None = None,
    plans: Collection[str] | None = None,
    teams: TeamStore | None = None,
    key_id: str | None = None,
    check: Callable[[Key], object] = bool,
) -> tuple[Key, str]:
    """Create a key. Returns it and its secret, which cannot be read again.

    expires_in: seconds from `now`. secret: an existing one, such as a key of another gateway;
    generated unless given. team: id of a team in `teams`. plans: ids of the known plans; None does
    not check. key_id: a new random id; made unless given. check: called with the key before it is
    stored. Raises Refused, StoreUnavailable, and what `check` raises.
    """
    if mode not in ("live", "test"):
        raise KeyRefused("mode", f"expected live or test, not {mode!r}")
    if secret is None:
        secret = mint(prefixes, mode)
    elif not is_acceptable(secret):
        raise KeyRefused("secret", f"expected {ACCEPTABLE}")
    elif await store.find(digest(secret)) is not None:
        raise KeyRefused("secret", "is the secret of another key; expected a new one")
    key = Key(
        id=key_id or read.new_id("key"),
        digest=digest(secret),
        prefix=prefix(secret),
        created_at=now,
        name=read.text("name", name, required=True),
        owner=read.text("owner", owner),
        plan=read.plan(plan, plans),
        models=_names("models", models),
        endpoints=_endpoints(endpoints),
        networks=_networks(networks),
        limits=read.own_limits(limits),
        metadata=read.metadata(metadata),
        team=await _member(team, teams),
        expires_at=None if expires_in is None else now + _seconds("expires_in", expires_in),
    )
    check(key)
    return await store.insert(key), secret


async def show(store: KeyStore, text: str) -> Key:
    """The one key with this id, display prefix (an ellipsis may follow it), name or secret.

    Raises KeyRefused when there is none or more than one. Its message never repeats a secret.
    """
    if is_secret(text):
        key = await store.find(digest(text))
        if key is None:
            raise KeyRefused("key", "no key has this secret")
        return key
    if looks_secret(text):
        raise KeyRefused("key", "looks like a secret, but no key has it; give an id or a name")
    wanted = text.removesuffix("…").removesuffix("...")
    found = await store.match(wanted) if wanted and wanted.isprintable() else []
    by_id = [key for key in found if key.id == wanted]
    found = by_id or found
    if not found:
        raise KeyRefused("key", f"no key has the id, display prefix or name {text!r}")
    if len(found) > 1:
        ids = ", ".join(key.id for key in found[:5]) + (", …" if len(found) > 5 else "")
        raise KeyRefused("key", f"{text!r} is {len(found)} keys; give the id of one: {ids}")
    return found[0]


async def every(store: KeyStore) -> list[Key]:
    """All keys, revoked ones too, oldest first."""
    return await store.every()


async def rotate(
    store: KeyStore,
    prefixes: KeyPrefixes,
    key_id: str,
    *,
    now: float,
    grace: float = 0.0,
    revision: int | None = None,
) -> tuple[Key, str]:
    """Give a key a new secret; identity, plan, limits and usage stay.

    The previous secret works for `grace` more seconds; the one before it stops at once.
    revision: refuse a key that was changed after it. Raises KeyRefused.
    """
    if not 0 <= grace <= _CENTURY:
        raise KeyRefused("grace", f"expected 0 seconds to a century, not {grace:g}")

    def change(key: Key) -> Key:
        _living(key)
        if revision is not None and key.revision != revision:
            raise KeyRefused("key", f"{key.id} was changed meanwhile; load the page again")
        if key.expires_at is not None and key.expires_at <= now:
            raise KeyRefused("key", f"{key.id} has expired; give it a later expiry first")
        return msgspec.structs.replace(
            key,
            digest=digest(secret),
            prefix=prefix(secret),
            previous_digest=key.digest if grace else None,
            previous_until=now + grace if grace else None,
        )

    secret = mint(prefixes, prefixes.mode_of((await get(store, key_id)).prefix))
    return await _update(store, key_id, change), secret


async def revoke(store: KeyStore, key_id: str, *, now: float) -> Key:
    """Revoke a key, which is final. A second time changes nothing. Raises KeyRefused."""
    return await _update(
        store,
        key_id,
        lambda key: (
            key if key.revoked_at is not None else msgspec.structs.replace(key, revoked_at=now)
        ),
    )


async def edit(
    store: KeyStore,
    key_id: str,
    *,
    now: float,
    plans: Collection[str] | None = None,
    teams: TeamStore | None = None,
    **fields: Any,
) -> Key:
    """Change the given fields of a key: name, owner, plan, models, endpoints, networks, limits,
    metadata, disabled, team (id of one in `teams`, None for none), expires_in (seconds from `now`,
    None for never). Others stay.

    Raises Refused, also for any other field.
    """
    readers: dict[str, Callable[[Any], Any]] = {
        "name": lambda value: read.text("name", value, required=True),
        "owner": lambda value: read.text("owner", value),
        "plan": lambda value: read.plan(value, plans),
        "models": lambda value: _names("models", value),
        "endpoints": _endpoints,
        "networks": _networks,
        "limits": read.own_limits,
        "metadata": read.metadata,
        "disabled": bool,
        "team": lambda value: value,
        "expires_in": lambda value: None if value is None else now + _seconds("expires_in", value),
    }
    changed: dict[str, Any] = {}
    for field, value in fields.items():
        reader = readers.get(field)
        if reader is None:
            raise KeyRefused(field, f"cannot be edited; expected one of {', '.join(readers)}")
        changed["expires_at" if field == "expires_in" else field] = reader(value)
    if "team" in changed:
        changed["team"] = await _member(changed["team"], teams)

    def change(key: Key) -> Key:
        _living(key)
        return msgspec.structs.replace(key, **changed)

    return await _update(store, key_id, change)


def described(key: Key, now: float) -> dict[str, Any]:
    """The public fields of a key, ready for JSON."""
    usable = key.usable_until(key.digest) > now
    return {
        "id": key.id,
        "key": f"{key.prefix}…",
        "name": key.name,
        "owner": key.owner,
        "plan": key.plan,
        "team": key.team,
        "state": "active" if usable else key.refusal(key.digest),
        "models": None if key.models is None else list(key.models),
        "endpoints": None if key.endpoints is None else list(key.endpoints),
        "networks": None if key.networks is None else list(key.networks),
        "limits": key.limits,
        "metadata": key.metadata or {},
        "created_at": moment(key.created_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
        "previous_until": moment(key.previous_until),
    }


def unusable(keys: Iterable[Key], plans: Collection[str], now: float) -> Iterator[str]:
    """Warnings about usable keys that name a plan or an endpoint that the configuration does not
    have. A key without its plan is refused."""
    found: dict[str, list[str]] = {}
    for key in keys:
        if key.usable_until(key.digest) <= now:
            continue
        if key.plan is not None and key.plan not in plans:
            what = f"plan {key.plan!r}, which the file does not have, and are refused"
            found.setdefault(what, []).append(key.id)
        for name in key.endpoints or ():
            if name not in NAMES:
                found.setdefault(f"endpoint {name!r}, which does not exist", []).append(key.id)
    for what, ids in found.items():
        which = ", ".join(ids[:3]) + (", …" if len(ids) > 3 else "")
        count = "1 key names" if len(ids) == 1 else f"{len(ids)} keys name"
        yield f"keys: {count} the {what}: {which}"


async def get(store: KeyStore, key_id: str) -> Key:
    """The key with exactly this id. Raises KeyRefused, which does not repeat the id."""
    askable = key_id.isprintable() and not looks_secret(key_id)
    key = await store.get(key_id) if askable else None
    if key is None:
        raise KeyRefused("key", "no key has this id")
    return key


async def _update(store: KeyStore, key_id: str, change: Callable[[Key], Key]) -> Key:
    await get(store, key_id)
    try:
        return await store.update(key_id, change)
    except UnknownKey:
        raise KeyRefused("key", "no key has this id") from None


def _living(key: Key) -> None:
    if key.revoked_at is not None:
        raise KeyRefused("key", f"{key.id} is revoked, which is final; create another")


async def _member(team: str | None, teams: TeamStore | None) -> str | None:
    """The id of a team that exists; None for none."""
    if team is None:
        return None
    if teams is None:
        raise ValueError("teams None: expected the store of teams, as a team is given")
    return (await get_team(teams, team)).id


def _names(field: str, values: Sequence[str] | None) -> tuple[str, ...] | None:
    if values is None:
        return None
    if isinstance(values, str) or not values:
        raise KeyRefused(field, "expected a list of at least one; leave it out to allow all")
    return tuple(dict.fromkeys(read.text(field, value, required=True) for value in values))


def _endpoints(values: Sequence[str] | None) -> tuple[str, ...] | None:
    names = _names("endpoints", values)
    for name in names or ():
        if name not in NAMES:
            near = get_close_matches(name, NAMES, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            known = ", ".join(sorted(NAMES))
            raise KeyRefused("endpoints", f"{name!r} is none of {known}{hint}")
    return names


def _networks(values: Sequence[str] | None) -> tuple[str, ...] | None:
    names = _names("networks", values)
    if names is None:
        return None
    try:
        return tuple(str(ip_network(name)) for name in names)
    except ValueError as raised:
        raise KeyRefused("networks", f"expected CIDR such as 10.0.0.0/8: {raised}") from None


def _seconds(field: str, value: float) -> float:
    if not 0 < value <= _CENTURY:
        raise KeyRefused(field, f"expected more than 0 seconds, at most a century, not {value:g}")
    return value
