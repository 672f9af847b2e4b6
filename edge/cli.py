"""The command line: `penstock serve | demo | check | keys | migrate | schema | print-chain | …`.

Modules are imported inside the commands, here and in no other file: `penstock --help`, `schema` and
`keys` need neither the server nor the upstreams, and each second of start-up is paid by a person.

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 could not
be done, 2 the configuration or the call is wrong. Faults of the user never show a traceback.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from middlewares.stores.keys import Key, KeyStore

    from .settings import Settings

T = TypeVar("T")
_REDIS_PATIENCE = 3.0

app = typer.Typer(
    name="penstock",
    help="The LLM API edge: OpenAI and Anthropic clients through one base URL.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
keys_app = typer.Typer(
    help="API keys: create, list, show, rotate, revoke.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(keys_app, name="keys")

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="PENSTOCK_CONFIG",
        help="Configuration file, TOML or JSON.",
    ),
]
WhichKey = Annotated[
    str, typer.Argument(metavar="KEY", help="Its id, name, display prefix, or the key itself.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the raw key, nothing else.")]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port; 0 for a free one.")]


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    try:
        app(args=argv)
    except Exception as error:
        status = _explain(error)
        if status is None:
            raise
        sys.exit(status)
    sys.exit(0)


def _explain(error: Exception) -> int | None:
    """Tell the user what went wrong; the exit status, or None when the fault is ours."""
    from middlewares.stores.database import SchemaMismatch
    from middlewares.stores.keys import StoreUnavailable

    from .keys import KeyRefused
    from .local_model import LocalModelUnavailable
    from .settings import SettingsError

    if isinstance(error, SettingsError):
        for fault in error.faults:
            _say(fault)
        return 2
    if isinstance(error, KeyRefused | SchemaMismatch | LocalModelUnavailable):
        _say(f"error: {error}")
        return 1
    if isinstance(error, StoreUnavailable):
        _say(f"error: the SQL store does not answer: {error}")
        return 1
    if isinstance(error, OSError):
        _say(f"error: {error}")
        return 1
    return None


def _say(line: str) -> None:
    typer.echo(line, err=True)


def _load(config: Path, **server: object) -> "Settings":
    from .settings import load

    return load(config, server={key: value for key, value in server.items() if value is not None})


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"penstock {version('penstock')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The LLM API edge: OpenAI and Anthropic clients through one base URL."""


@app.command()
def serve(
    config: Config,
    host: Annotated[str | None, typer.Option(help="Listen here, not at server.host.")] = None,
    port: Port = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes, in place of server.workers.")
    ] = None,
) -> None:
    """Serve until told to stop; prints `ready http://HOST:PORT` when it accepts requests."""
    from .settings import not_enforced

    settings = _load(config, host=host, port=port, workers=workers)
    for sentence in not_enforced(settings):
        _say(f"warning: {sentence}")
    from .server import serve as run

    run(settings)


@app.command()
def demo(
    port: Port = None,
    local_model: Annotated[
        bool,
        typer.Option("--local-model", help="Serve a small real model on this machine as well."),
    ] = False,
) -> None:
    """Serve the built-in configuration, show one streamed call, and keep serving."""
    from .demo import run

    run(port, local=local_model)


@app.command()
def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 for a free one.")] = 8090,
) -> None:
    """Serve the simulator alone: a provider that speaks both dialects and costs nothing."""
    from .upstreams.simulator import run_simulator

    run_simulator(host, port)


@app.command()
def check(config: Config) -> None:
    """Read the configuration and try the stores it names; exit 0 when all is well."""
    from .settings import not_enforced

    settings = _load(config)
    typer.echo(
        f"ok: {config}: {len(settings.upstreams)} upstreams, {len(settings.models)} models, "
        f"{len(settings.plans)} plans"
    )
    for sentence in not_enforced(settings):
        _say(f"warning: {sentence}")
    faults = [fault for fault in (_check_sql(settings), _check_counters(settings)) if fault]
    for fault in faults:
        _say(f"error: {fault}")
    raise typer.Exit(1 if faults else 0)


def _check_sql(settings: "Settings") -> str | None:
    from middlewares.stores.database import SchemaMismatch, needs_migration
    from middlewares.stores.keys import StoreUnavailable

    location = settings.store.sql
    file = location.removeprefix("sqlite:///")
    if file != location and not Path(file).exists():
        typer.echo(f"ok: store.sql: {location.shown} will be made at the first start")
        return None
    try:
        old = asyncio.run(needs_migration(location))
    except (StoreUnavailable, SchemaMismatch, OSError) as error:
        return f"store.sql: {location.shown}: {error}"
    if old and file == location:
        return f"store.sql: {location.shown} needs `penstock migrate`"
    state = "will be migrated at the next start" if old else "is current"
    typer.echo(f"ok: store.sql: {location.shown} {state}")
    return None


def _check_counters(settings: "Settings") -> str | None:
    location = settings.store.counters
    if location == "memory":
        return None
    from redis import Redis, RedisError
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    try:
        with Redis.from_url(
            location,
            socket_connect_timeout=_REDIS_PATIENCE,
            socket_timeout=_REDIS_PATIENCE,
            retry=Retry(NoBackoff(), 0),
        ) as client:
            client.ping()
    except (RedisError, OSError) as error:
        return f"store.counters: {location.shown} does not answer: {error}"
    except ValueError:
        return f"store.counters: {location.shown} is not a Redis URL"
    typer.echo(f"ok: store.counters: {location.shown} answers")
    return None


@app.command()
def migrate(config: Config) -> None:
    """Bring the tables of the SQL store to the version this program needs."""
    location = _load(config).store.sql
    from middlewares.stores.migrations import upgrade

    upgrade(location)
    typer.echo(f"ok: {location.shown} is current")


@app.command()
def schema() -> None:
    """Print the JSON Schema of a configuration file."""
    from .schema import text

    typer.echo(text(), nl=False)


@app.command("print-chain")
def print_chain() -> None:
    """Print the layers every request passes, outermost first, with the reason for each place."""
    from .chain import describe

    rows = describe()
    width = max(len(name) for name, _ in rows)
    for name, why in rows:
        typer.echo(f"{name:{width}}  {why}")


def _with_keys(settings: "Settings", work: "Callable[[KeyStore], Awaitable[T]]") -> T:
    """What `work` returns for the key store of `settings`."""
    from middlewares.stores.sql import Database, SqlKeyStore

    async def run() -> T:
        database = await Database.open(settings.store.sql)
        try:
            return await work(SqlKeyStore(database))
        finally:
            await database.aclose()

    return asyncio.run(run())


def _seconds(option: str, text: str | None) -> float | None:
    from .units import Duration

    if text is None:
        return None
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _granted(settings: "Settings", names: Sequence[str]) -> list[str] | None:
    from .catalog import Catalog

    catalog = Catalog.build(settings)
    granted = []
    for name in names:
        grant = catalog.grant(name)
        if grant is None:
            sentence = f"{name!r} is no model of this configuration"
            raise typer.BadParameter(sentence, param_hint="--model")
        granted.append(grant)
    return granted or None


@keys_app.command("create")
def create_key(
    config: Config,
    name: Annotated[str, typer.Option(help="What to call it in listings.")],
    plan: Annotated[str | None, typer.Option(metavar="ID", help="Plan it belongs to.")] = None,
    owner: Annotated[str, typer.Option(help="Whose it is.")] = "",
    mode: Annotated[
        Literal["live", "test"], typer.Option(help="Stands in the key, nothing else.")
    ] = "live",
    model: Annotated[
        list[str] | None, typer.Option(help="A model it may use; may be repeated. Default: all.")
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="An endpoint it may use, e.g. chat.completions; may be repeated."),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(help="A network it may be used from, e.g. 10.0.0.0/8; may be repeated."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="From now, e.g. 90d. Default: never.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Make a key and show it, this once."""
    from . import keys

    settings = _load(config)
    expires_in = _seconds("--expires", expires)
    models = _granted(settings, model or ())
    key, raw = _with_keys(
        settings,
        lambda store: keys.create(
            store,
            settings.slug,
            now=time.time(),
            name=name,
            owner=owner,
            plan=plan,
            mode=mode,
            models=models,
            endpoints=endpoint or None,
            networks=network or None,
            expires_in=expires_in,
            plans={one.id for one in settings.plans},
        ),
    )
    _show_secret(key, raw, quiet)


@keys_app.command("list")
def list_keys(config: Config, as_json: Json = False) -> None:
    """List all keys, oldest first. Secrets are not kept and cannot be shown."""
    from . import keys

    found = _with_keys(_load(config), keys.every)
    rows = [_described(key) for key in found]
    if as_json:
        _print_json(rows)
        return
    columns = ("id", "key", "name", "owner", "plan", "state", "created_at")
    table = [columns, *(tuple(str(row[column] or "-") for column in columns) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


@keys_app.command("show")
def show_key(config: Config, which: WhichKey, as_json: Json = False) -> None:
    """Show what is known of one key."""
    from . import keys

    row = _described(_with_keys(_load(config), lambda store: keys.show(store, which)))
    if as_json:
        _print_json(row)
        return
    for field, value in row.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        typer.echo(f"{field:14}  {'-' if shown in (None, '') else shown}")


@keys_app.command("rotate")
def rotate_key(
    config: Config,
    which: WhichKey,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="How long the secret it has still works.")
    ] = "0s",
    quiet: Quiet = False,
) -> None:
    """Give a key a new secret and show it, this once. Everything else of the key stays."""
    from . import keys

    settings = _load(config)
    seconds = _seconds("--grace", grace) or 0.0

    async def rotate(store: "KeyStore") -> "tuple[Key, str]":
        key = await keys.show(store, which)
        return await keys.rotate(store, settings.slug, key.id, now=time.time(), grace=seconds)

    _show_secret(*_with_keys(settings, rotate), quiet)


@keys_app.command("revoke")
def revoke_key(config: Config, which: WhichKey) -> None:
    """End a key for good."""
    from . import keys

    async def revoke(store: "KeyStore") -> "Key":
        key = await keys.show(store, which)
        return await keys.revoke(store, key.id, now=time.time())

    typer.echo(f"ok: {_with_keys(_load(config), revoke).id} is revoked")


def _show_secret(key: "Key", raw: str, quiet: bool) -> None:
    if not quiet:
        _say(f"{key.id} ({key.name}); the key is shown this once and kept nowhere:")
    typer.echo(raw)


def _described(key: "Key") -> dict[str, Any]:
    """All of a key that may be shown."""
    return {
        "id": key.id,
        "key": f"{key.prefix}…",
        "name": key.name,
        "owner": key.owner,
        "plan": key.plan,
        "state": _state(key),
        "models": _listed(key.models),
        "endpoints": _listed(key.endpoints),
        "networks": _listed(key.networks),
        "created_at": _moment(key.created_at),
        "expires_at": _moment(key.expires_at),
        "revoked_at": _moment(key.revoked_at),
        "previous_until": _moment(key.previous_until),
    }


def _state(key: "Key") -> str:
    usable = key.usable_until(key.digest) > time.time()
    return "active" if usable else key.refusal(key.digest)


def _listed(values: tuple[str, ...] | None) -> list[str] | None:
    return None if values is None else list(values)


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _print_json(value: object) -> None:
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
