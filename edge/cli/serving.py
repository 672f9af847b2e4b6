"""Commands that serve, and commands that check the configuration and its stores."""

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import Config, Stores, load, say, with_stores

if TYPE_CHECKING:
    from edge.config.load import Settings

_REDIS_PATIENCE = 3.0

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port; 0 for a free one.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (serve, demo, simulate, check, migrate, schema):
        app.command()(command)
    app.command("accept-store")(accept_store)
    app.command("print-chain")(print_chain)


def serve(
    config: Config,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on, in place of server.host.")
    ] = None,
    port: Port = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes, in place of server.workers.")
    ] = None,
) -> None:
    """Serve until SIGTERM or SIGINT; prints `ready http://HOST:PORT` when it accepts requests."""
    from edge.server.reload import Source

    given = {"host": host, "port": port, "workers": workers}
    source = Source(config, {name: value for name, value in given.items() if value is not None})
    settings = source.load()
    from edge.media.extras import missing_extras

    for sentence in missing_extras(settings):
        say(f"warning: {sentence}")
    from edge.server.serve import serve as run

    run(settings, source=source)


def demo(
    port: Port = None,
    local_model: Annotated[
        bool,
        typer.Option("--local-model", help="Serve a small real model on this machine as well."),
    ] = False,
    local: Annotated[
        bool,
        typer.Option(
            "--local",
            help="Serve that model, and speech, transcription and reading of pictures on this "
            "machine; show all of them.",
        ),
    ] = False,
) -> None:
    """Serve the built-in configuration, show one streamed call, and keep serving."""
    from .demo import run

    run(port, local=local_model or local, media=local)


def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 for a free one.")] = 8090,
) -> None:
    """Serve the simulator alone: a provider that speaks all dialects and costs nothing."""
    from edge.upstreams.simulator import run_simulator

    run_simulator(host, port)


def check(config: Config) -> None:
    """Check the configuration and the stores it names; exit 0 when there is no error."""
    from edge.management.advice import advice
    from edge.media.extras import missing_extras
    from edge.runtime.memory_limits import low_memory_limits

    settings = load(config)
    typer.echo(
        f"ok: {config}: {len(settings.upstreams)} upstreams, {len(settings.models)} models, "
        f"{len(settings.plans)} plans"
    )
    for sentence in (*missing_extras(settings), *low_memory_limits(settings.server.workers)):
        say(f"warning: {sentence}")
    for sentence in advice(settings):
        say(f"note: {sentence}")
    checks = (_check_sql, _check_counters, _check_journal, _check_objects, _check_descriptors)
    faults = [fault for check_one in checks if (fault := check_one(settings))]
    for fault in faults:
        say(f"error: {fault}")
    raise typer.Exit(1 if faults else 0)


def _check_sql(settings: "Settings") -> str | None:
    from edge.server.preflight import lost_database
    from middlewares.stores.errors import StoreUnavailable
    from middlewares.stores.sql.database import SchemaMismatch, needs_migration

    location = settings.store.sql
    file = location.removeprefix("sqlite:///")
    if fault := lost_database(location, Path(settings.store.journal)):
        return f"store.sql: {location.shown}: {fault}"
    if file != location and not Path(file).exists():
        typer.echo(f"ok: store.sql: {location.shown} will be created at the first start")
        return None
    try:
        old = asyncio.run(needs_migration(location))
    except (StoreUnavailable, SchemaMismatch, OSError) as error:
        return f"store.sql: {location.shown}: {error}"
    if old and file == location:
        return f"store.sql: {location.shown} needs `penstock migrate`"
    state = "will be migrated at the next start" if old else "is current"
    typer.echo(f"ok: store.sql: {location.shown} {state}")
    if not old:
        for sentence in with_stores(settings, partial(_unusable, settings)):
            say(f"warning: {sentence}")
    return None


async def _unusable(settings: "Settings", stores: Stores) -> list[str]:
    """Warnings about keys and teams that the configuration does not fit."""
    from edge.management import keys, teams

    plans = {plan.id for plan in settings.plans}
    found = [team async for team in teams.every(stores.teams)]
    return [
        *keys.unusable(await keys.every(stores.keys), plans, time.time()),
        *teams.unusable(found, plans),
    ]


def _check_counters(settings: "Settings") -> str | None:
    location = settings.store.counters
    if location == "memory":
        return None
    from edge.server.preflight import counters_fault
    from middlewares.stores.errors import CountersUnavailable

    if fault := counters_fault(settings):
        return fault
    try:
        asyncio.run(_ping(location))
    except CountersUnavailable as error:
        reason = str(error).removeprefix("Redis does not answer: ")
        return f"store.counters: {location.shown} does not answer: {reason}"
    typer.echo(f"ok: store.counters: {location.shown} answers")
    return None


async def _ping(url: str) -> None:
    """Raises CountersUnavailable."""
    from middlewares.stores.redis_client import RedisLink

    link = RedisLink(url, timeout=_REDIS_PATIENCE, connect_timeout=_REDIS_PATIENCE)
    await link.start()
    try:
        await link.call("PING")
    finally:
        await link.aclose(at_once=True)


def _check_journal(settings: "Settings") -> str | None:
    from stat import S_IWOTH

    from edge.server.preflight import journal_fault

    if fault := journal_fault(settings):
        return fault
    folder = Path(settings.store.journal)
    if folder.exists() and folder.stat().st_mode & S_IWOTH:
        say(f"warning: store.journal: {folder}: any user of this machine can add ledger rows to it")
    state = "is writable" if folder.exists() else "will be created at the first start"
    typer.echo(f"ok: store.journal: {folder} {state}")
    return None


def _check_objects(settings: "Settings") -> str | None:
    """Write, read and remove an object of a bucket; open a temporary file of a folder."""
    from edge.server.preflight import objects_fault
    from edge.services import objects_of
    from middlewares.stores.errors import StoreUnavailable

    location = settings.store.objects
    objects = objects_of(settings.store)
    if objects.folder is not None:
        if fault := objects_fault(objects.folder):
            return fault
        state = "is writable" if objects.folder.exists() else "will be created with the first file"
    else:
        try:
            asyncio.run(objects.check())
        except StoreUnavailable as error:
            reason = str(error.__cause__ or error).partition("\n")[0]
            return f"store.objects: {location.shown}: {reason}"
        state = "can be written to and read"
    typer.echo(f"ok: store.objects: {location.shown} {state}")
    return None


def _check_descriptors(settings: "Settings") -> str | None:
    from edge.runtime.descriptors import DescriptorBudget, allowed

    try:
        room = DescriptorBudget.of(allowed(), settings)
    except OSError as error:
        return str(error)
    typer.echo(f"ok: {room}, when started with the limit of this shell")
    return None


def migrate(config: Config) -> None:
    """Migrate the tables of the SQL store to the version of this program."""
    location = load(config).store.sql
    from edge.server.preflight import named
    from middlewares.stores.sql.migrations import upgrade

    with named(location):
        upgrade(location)
    typer.echo(f"ok: {location.shown} is current")


def accept_store(config: Config) -> None:
    """Accept the SQL store as it is now, though it is another one than before or was restored.

    For a restore under a running gateway, or a new database in place of a lost one. Running
    gateways use it within seconds and write the rows that wait in their journals to it.
    """
    from middlewares.stores.sql.database import Database
    from middlewares.stores.sql.identity import DatabaseState, accept

    settings = load(config)
    folder = Path(settings.store.journal)

    async def find() -> DatabaseState:
        database = await Database.open(settings.store.sql, create=False)
        try:
            async with database.read(checked=True) as connection:
                return await database.confirm(connection)
        finally:
            await database.aclose()

    found = asyncio.run(find())
    accept(folder, found)
    typer.echo(f"ok: {settings.store.sql.shown} ({found.store}) is the store of {folder}")


def schema() -> None:
    """Print the JSON Schema of a configuration file."""
    from edge.config.schema import text

    typer.echo(text(), nl=False)


def print_chain() -> None:
    """Print the layers that every request passes, outermost first, with the reason for each."""
    from edge.chain import describe

    rows = describe()
    width = max(len(name) for name, _ in rows)
    for name, why in rows:
        typer.echo(f"{name:{width}}  {why}")
