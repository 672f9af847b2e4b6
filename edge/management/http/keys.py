"""/admin/v1/keys: create, list, show, edit, rotate and revoke. Keys are never deleted."""

from collections.abc import Callable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from edge.config.load import Settings
from edge.config.units import Duration
from edge.management import keys
from edge.management.audit import Audit
from edge.routing.catalog import Catalog
from middlewares.problem import Problem, expected
from middlewares.stores.audit.base import AuditStore
from middlewares.stores.keys.base import Key, KeyStore
from middlewares.stores.teams.base import TeamStore

from .admin_request import AdminRequest, limit_of, page, text_of

Answer = tuple[int, dict[str, Any]]
Length = str | int | float


class NewKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a POST to /keys. expires_in: a duration from now."""

    name: str
    owner: str = ""
    plan: str | None = None
    mode: Literal["live", "test"] = "live"
    models: list[str] | None = None
    endpoints: list[str] | None = None
    networks: list[str] | None = None
    limits: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    expires_in: Length | None = None
    team: str | None = None


class KeyChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a PATCH: given fields are changed, null clears a field."""

    name: str | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    plan: str | UnsetType | None = UNSET
    models: list[str] | UnsetType | None = UNSET
    endpoints: list[str] | UnsetType | None = UNSET
    networks: list[str] | UnsetType | None = UNSET
    limits: dict[str, Any] | UnsetType | None = UNSET
    metadata: dict[str, str] | UnsetType | None = UNSET
    disabled: bool | UnsetType = UNSET
    expires_in: Length | UnsetType | None = UNSET
    team: str | UnsetType | None = UNSET


class Rotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a POST to /rotate. grace: how long the present secret still works."""

    grace: Length = 0


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of a POST that takes no members."""


class Keys:
    """Handlers of keys. Only the answers of `create` and `rotate` contain a secret."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        store: KeyStore,
        teams: TeamStore,
        audit: AuditStore,
        clock: Callable[[], float],
    ) -> None:
        self._prefixes = settings.key_prefixes
        self._plans = frozenset(plan.id for plan in settings.plans)
        self._catalog = catalog
        self._store = store
        self._teams = teams
        self._audit = Audit(audit, "admin", clock=clock)
        self._clock = clock

    async def page(self, request: AdminRequest) -> Answer:
        query = request.query("team", "limit", "after")
        limit, after = limit_of(query), text_of(query, "after")
        team, place = text_of(query, "team"), None
        if after is not None:
            try:
                last = await keys.get(self._store, after)
            except keys.KeyRefused:
                raise expected("after", "the id of a key") from None
            place = (last.created_at, last.id)
        found = await self._store.page(place, limit + 1, team=team)
        rows = [keys.described(key, self._clock()) for key in found]
        return 200, page(rows, limit, rows[limit - 1]["id"] if len(rows) > limit else None)

    async def create(self, request: AdminRequest) -> Answer:
        body = await request.body(NewKey)
        key, secret = await keys.create(
            self._audit.keys(self._store, "key.create"),
            self._prefixes,
            now=self._clock(),
            name=body.name,
            owner=body.owner,
            plan=body.plan,
            mode=body.mode,
            models=self._granted(body.models),
            endpoints=body.endpoints,
            networks=body.networks,
            limits=body.limits,
            metadata=body.metadata,
            expires_in=_seconds("expires_in", body.expires_in),
            team=body.team,
            plans=self._plans,
            teams=self._teams,
        )
        return 201, {**keys.described(key, self._clock()), "secret": secret}

    async def show(self, request: AdminRequest) -> Answer:
        request.query()
        return 200, keys.described(await key_of(self._store, request), self._clock())

    async def edit(self, request: AdminRequest) -> Answer:
        key = await key_of(self._store, request)
        body = await request.body(KeyChanges)
        given = msgspec.structs.asdict(body)
        fields = {name: value for name, value in given.items() if value is not UNSET}
        if "models" in fields:
            fields["models"] = self._granted(fields["models"])
        if "expires_in" in fields:
            fields["expires_in"] = _seconds("expires_in", fields["expires_in"])
        key = await keys.edit(
            self._audit.keys(self._store, "key.edit"),
            key.id,
            now=self._clock(),
            plans=self._plans,
            teams=self._teams,
            **fields,
        )
        return 200, keys.described(key, self._clock())

    async def rotate(self, request: AdminRequest) -> Answer:
        key = await key_of(self._store, request)
        body = await request.body(Rotation)
        grace = _seconds("grace", body.grace) or 0.0
        audited = self._audit.keys(self._store, "key.rotate")
        key, secret = await keys.rotate(
            audited, self._prefixes, key.id, now=self._clock(), grace=grace
        )
        return 200, {**keys.described(key, self._clock()), "secret": secret}

    async def revoke(self, request: AdminRequest) -> Answer:
        key = await key_of(self._store, request)
        await request.body(Nothing)
        audited = self._audit.keys(self._store, "key.revoke")
        key = await keys.revoke(audited, key.id, now=self._clock())
        return 200, keys.described(key, self._clock())

    def _granted(self, names: list[str] | None) -> list[str] | None:
        """Names of models as stored in the allow-list of a key."""
        if names is None:
            return None
        granted = []
        for n, name in enumerate(names):
            grant = self._catalog.grant(name)
            if grant is None:
                raise expected(f"models[{n}]", "a model of the configuration")
            granted.append(grant)
        return granted


async def key_of(store: KeyStore, request: AdminRequest) -> Key:
    """The key that the path names. Raises Problem when there is none."""
    try:
        return await keys.get(store, request.id)
    except keys.KeyRefused:
        raise Problem("not_found", message="No key has this id.") from None


def _seconds(name: str, length: Length | None) -> float | None:
    if length is None:
        return None
    try:
        return float(Duration.parse(length))
    except ValueError as raised:
        raise expected(name, str(raised).removeprefix("expected ")) from None
