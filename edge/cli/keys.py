"""`penstock keys …`: create, list, show, edit, rotate and revoke API keys."""

import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

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
    whole_number,
    with_stores,
)

if TYPE_CHECKING:
    from edge.config.load import Settings
    from middlewares.stores.keys.base import Key

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
Requests = Annotated[
    str | None, typer.Option(metavar="RATE", help="Request rate in place of the plan's: 60/min.")
]
Burst = Annotated[
    int | None,
    typer.Option(
        parser=whole_number(0),
        metavar="INTEGER",
        help="Requests beyond that rate that the key may save up.",
    ),
]
Tokens = Annotated[
    str | None, typer.Option(metavar="RATE", help="Token rate in place of the plan's: 200k/min.")
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        parser=whole_number(1),
        metavar="INTEGER",
        help="Requests in flight at once, in place of the plan's.",
    ),
]
Storage = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Bytes of its files, in place of the plan's: 5GiB."),
]
OnExcess = Annotated[
    Literal["reject", "throttle"] | None,
    typer.Option(help="Over a rate: refuse a request, or let it wait for its turn."),
]
Windows = Annotated[
    list[str] | None,
    typer.Option(
        "--window",
        metavar="LENGTH=CREDITS",
        help="Spend cap in place of the plan's: 5h=5.00; may be repeated.",
    ),
]
Overflow = Annotated[
    Literal["none", "credits"] | None,
    typer.Option(help="Whether prepaid credits pay where no window does."),
]


Metadata = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=TEXT", help="Metadata of the key; may be repeated, 16 at most."),
]


class Clearable(StrEnum):
    """Fields of a key that can be cleared."""

    PLAN = "plan"
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
    limits = _limits(requests, burst, tokens, concurrency, storage, on_excess, window, overflow)
    expires_in = seconds("--expires", expires)
    models = _granted(settings, model or ())
    brought = sys.stdin.read(_MOST_READ).rstrip("\r\n") if secret_stdin else None
    key, raw = with_stores(
        settings,
        lambda stores: keys.create(
            stores.audited("key.create"),
            settings.slug,
            now=time.time(),
            name=name,
            owner=owner,
            plan=plan,
            mode=mode,
            models=models,
            endpoints=endpoint or None,
            networks=network or None,
            limits=limits,
            metadata=_pairs(metadata),
            expires_in=expires_in,
            secret=brought,
            plans={one.id for one in settings.plans},
        ),
        create=True,
        quiet=quiet,
    )
    if brought is None:
        return _show_secret(key, raw, quiet)
    typer.echo(f"ok: {key.id} ({key.name}) has the key from standard input")


@keys_app.command("list")
def list_keys(config: Config, as_json: Json = False) -> None:
    """List all keys, oldest first. Their secrets are not stored and cannot be shown."""
    from edge.management import keys

    found = with_stores(load(config), lambda stores: keys.every(stores.keys))
    rows = [keys.described(key, time.time()) for key in found]
    if as_json:
        return print_json(rows)
    print_table(("id", "key", "name", "owner", "plan", "state", "created_at"), rows)


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
    own = _limits(requests, burst, tokens, concurrency, storage, on_excess, window, overflow)
    cleared = {"expires_in" if field == "expires" else str(field) for field in clear or ()}
    fields: dict[str, Any] = dict.fromkeys(cleared)
    given = {
        "name": name,
        "plan": plan,
        "owner": owner,
        "models": _granted(settings, model or ()),
        "endpoints": endpoint or None,
        "networks": network or None,
        "metadata": _pairs(metadata),
        "expires_in": seconds("--expires", expires),
        "disabled": disabled,
    }
    fields |= {field: value for field, value in given.items() if value is not None}
    if not fields and own is None:
        raise typer.BadParameter("expected at least one option that changes the key")

    async def edit(stores: Stores) -> "Key":
        key = await keys.show(stores.keys, which)
        if own is not None:
            fields["limits"] = {**({} if "limits" in cleared else key.limits or {}), **own}
        return await keys.edit(
            stores.audited("key.edit"),
            key.id,
            now=time.time(),
            plans={one.id for one in settings.plans},
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
        return await keys.rotate(audited, settings.slug, key.id, now=time.time(), grace=length)

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


def _limits(
    requests: str | None,
    burst: int | None,
    tokens: str | None,
    concurrency: int | None,
    storage: str | None,
    on_excess: str | None,
    windows: Sequence[str] | None,
    overflow: str | None,
) -> dict[str, Any] | None:
    """The limits that were given, with the keys of a plan; None when none were."""
    given = {
        "requests": requests,
        "burst": burst,
        "tokens": tokens,
        "concurrency": concurrency,
        "storage": storage,
        "on_excess": on_excess,
        "windows": [_window(window) for window in windows] if windows else None,
        "overflow": overflow,
    }
    return {field: value for field, value in given.items() if value is not None} or None


def _pairs(given: Sequence[str] | None) -> dict[str, str] | None:
    pairs: dict[str, str] = {}
    for text in given or ():
        name, found, value = text.partition("=")
        if not found:
            sentence = f"expected a name and a text such as team=web, not {text!r}"
            raise typer.BadParameter(sentence, param_hint="--metadata")
        pairs[name.strip()] = value.strip()
    return pairs or None


def _window(text: str) -> dict[str, str]:
    length, found, cap = text.rpartition("=")
    if not found:
        sentence = f"expected a length and a cap such as 5h=5.00, not {text!r}"
        raise typer.BadParameter(sentence, param_hint="--window")
    return {"length": length.strip(), "credits": cap.strip()}
