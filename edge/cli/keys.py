"""`penstock keys …`: create, list, show, edit, rotate and revoke API keys."""

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .limit_options import (
    Burst,
    Concurrency,
    Metadata,
    OnExcess,
    Overflow,
    Requests,
    Storage,
    Tokens,
    Windows,
    own_limits,
    pairs,
)
from .terminal import (
    Config,
    Json,
    Stores,
    WhichKey,
    load,
    print_json,
    print_table,
    say,
    seconds,
    shown,
    team_id,
    with_stores,
)

if TYPE_CHECKING:
    from edge.config.load import Settings
    from middlewares.stores.keys.base import Key

Team = Annotated[
    str | None, typer.Option(metavar="TEAM", help="Team that the key belongs to: its id or name.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the raw key, nothing else.")]
Plan = Annotated[str | None, typer.Option(metavar="ID", help="Plan of the key.")]
Models = Annotated[
    list[str] | None,
    typer.Option(help="Model that the key may use; may be repeated. Default: all."),
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option(help="Endpoint that the key may use, e.g. chat.completions; may be repeated."),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(help="Network that may use the key, e.g. 10.0.0.0/8; may be repeated."),
]


class Clearable(StrEnum):
    """Fields of a key that can be cleared."""

    PLAN = "plan"
    TEAM = "team"
    MODELS = "models"
    ENDPOINTS = "endpoints"
    NETWORKS = "networks"
    LIMITS = "limits"
    METADATA = "metadata"
    EXPIRES = "expires"


_MOST_READ = 4096
"""Most characters read from standard input. No key is longer."""

keys_app = typer.Typer(
    help="API keys: create, list, show, edit, rotate, revoke.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(keys_app, name="keys")


@keys_app.command("create")
def create_key(
    config: Config,
    name: Annotated[str, typer.Option(help="Name in listings.")],
    plan: Plan = None,
    team: Team = None,
    owner: Annotated[str, typer.Option(help="Owner: a person or team.")] = "",
    mode: Annotated[
        Literal["live", "test"], typer.Option(help="A part of the key; has no other effect.")
    ] = "live",
    model: Models = None,
    endpoint: Endpoints = None,
    network: Networks = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="From now, e.g. 90d. Default: never.")
    ] = None,
    requests: Requests = None,
    burst: Burst = None,
    tokens: Tokens = None,
    concurrency: Concurrency = None,
    storage: Storage = None,
    on_excess: OnExcess = None,
    window: Windows = None,
    overflow: Overflow = None,
    metadata: Metadata = None,
    secret_stdin: Annotated[
        bool,
        typer.Option(
            "--secret-stdin",
            help="Read the key from standard input instead of generating one, so that clients of "
            "another gateway keep theirs.",
        ),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    from edge.management import keys

    settings = load(config)
    limits = own_limits(requests, burst, tokens, concurrency, storage, on_excess, window, overflow)
    expires_in = seconds("--expires", expires)
    models = _granted(settings, model or ())
    brought = sys.stdin.read(_MOST_READ).rstrip("\r\n") if secret_stdin else None

    async def create(stores: Stores) -> "tuple[Key, str]":
        return await keys.create(
            stores.audited("key.create"),
            settings.key_prefixes,
            now=time.time(),
            name=name,
            owner=owner,
            plan=plan,
            mode=mode,
            models=models,
            endpoints=endpoint or None,
            networks=network or None,
            limits=limits,
            metadata=pairs(metadata),
            expires_in=expires_in,
            secret=brought,
            team=await team_id(stores, team),
            plans={one.id for one in settings.plans},
            teams=stores.teams,
        )

    key, raw = with_stores(settings, create, create=True, quiet=quiet)
    if brought is None:
        return _show_secret(key, raw, quiet)
    typer.echo(f"ok: {key.id} ({key.name}) has the key from standard input")


@keys_app.command("list")
def list_keys(
    config: Config,
    as_json: Json = False,
    team: Annotated[
        str | None, typer.Option(help="Only those of this team, by its id or name.")
    ] = None,
) -> None:
    """List all keys, oldest first. Their secrets are not stored and cannot be shown."""
    from edge.management import keys

    async def read(stores: Stores) -> list["Key"]:
        wanted = await team_id(stores, team)
        found = await keys.every(stores.keys)
        return [key for key in found if wanted is None or key.team == wanted]

    found = with_stores(load(config), read)
    rows = [keys.described(key, time.time()) for key in found]
    if as_json:
        return print_json(rows)
    print_table(("id", "key", "name", "owner", "plan", "team", "state", "created_at"), rows)


@keys_app.command("show")
def show_key(config: Config, which: WhichKey, as_json: Json = False) -> None:
    """Show one key."""
    from edge.management import keys

    key = with_stores(load(config), lambda stores: keys.show(stores.keys, which))
    row = keys.described(key, time.time())
    if as_json:
        return print_json(row)
    for field, value in row.items():
        typer.echo(f"{field:14}  {shown(value)}")


@keys_app.command("edit")
def edit_key(
    config: Config,
    which: WhichKey,
    name: Annotated[str | None, typer.Option(help="Name in listings.")] = None,
    plan: Plan = None,
    team: Team = None,
    owner: Annotated[str | None, typer.Option(help="Owner: a person or team.")] = None,
    model: Models = None,
    endpoint: Endpoints = None,
    network: Networks = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="From now, e.g. 90d.")
    ] = None,
    disabled: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Refuse the key, or accept it again.")
    ] = None,
    requests: Requests = None,
    burst: Burst = None,
    tokens: Tokens = None,
    concurrency: Concurrency = None,
    storage: Storage = None,
    on_excess: OnExcess = None,
    window: Windows = None,
    overflow: Overflow = None,
    metadata: Metadata = None,
    clear: Annotated[
        list[Clearable] | None,
        typer.Option(help="Clear this field first; may be repeated."),
    ] = None,
) -> None:
    """Change the given fields of a key; the others stay. In force within a second."""
    from edge.management import keys

    settings = load(config)
    own = own_limits(requests, burst, tokens, concurrency, storage, on_excess, window, overflow)
    cleared = {"expires_in" if field == "expires" else str(field) for field in clear or ()}
    fields: dict[str, Any] = dict.fromkeys(cleared)
    given = {
        "name": name,
        "plan": plan,
        "owner": owner,
        "models": _granted(settings, model or ()),
        "endpoints": endpoint or None,
        "networks": network or None,
        "metadata": pairs(metadata),
        "expires_in": seconds("--expires", expires),
        "disabled": disabled,
    }
    fields |= {field: value for field, value in given.items() if value is not None}
    if not fields and own is None and team is None:
        raise typer.BadParameter("expected at least one option that changes the key")

    async def edit(stores: Stores) -> "Key":
        key = await keys.show(stores.keys, which)
        if team is not None:
            fields["team"] = await team_id(stores, team)
        if own is not None:
            fields["limits"] = {**({} if "limits" in cleared else key.limits or {}), **own}
        return await keys.edit(
            stores.audited("key.edit"),
            key.id,
            now=time.time(),
            plans={one.id for one in settings.plans},
            teams=stores.teams,
            **fields,
        )

    typer.echo(f"ok: {with_stores(settings, edit).id} is changed")


@keys_app.command("rotate")
def rotate_key(
    config: Config,
    which: WhichKey,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the present secret still works.")
    ] = "0s",
    quiet: Quiet = False,
) -> None:
    """Give a key a new secret and print it; it cannot be shown again. All else of the key stays."""
    from edge.management import keys

    settings = load(config)
    length = seconds("--grace", grace) or 0.0

    async def rotate(stores: Stores) -> "tuple[Key, str]":
        key = await keys.show(stores.keys, which)
        audited = stores.audited("key.rotate")
        return await keys.rotate(
            audited, settings.key_prefixes, key.id, now=time.time(), grace=length
        )

    _show_secret(*with_stores(settings, rotate), quiet)


@keys_app.command("revoke")
def revoke_key(config: Config, which: WhichKey) -> None:
    """Revoke a key; this is final."""
    from edge.management import keys

    async def revoke(stores: Stores) -> "Key":
        key = await keys.show(stores.keys, which)
        return await keys.revoke(stores.audited("key.revoke"), key.id, now=time.time())

    typer.echo(f"ok: {with_stores(load(config), revoke).id} is revoked")


def _show_secret(key: "Key", raw: str, quiet: bool) -> None:
    if not quiet:
        say(f"{key.id} ({key.name}); the key cannot be shown again:")
    typer.echo(raw)


def _granted(settings: "Settings", names: Sequence[str]) -> list[str] | None:
    from edge.routing.catalog import Catalog

    catalog = Catalog.build(settings)
    granted = []
    for name in names:
        grant = catalog.grant(name)
        if grant is None:
            sentence = f"{name!r} is not a model of this configuration"
            raise typer.BadParameter(sentence, param_hint="--model")
        granted.append(grant)
    return granted or None
