"""Commands that serve, that change the SQL store as a whole, and that print what is built in."""

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Config, load, say

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="TCP port; 0 for a free one.")]


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (serve, demo, profile, simulate, migrate, schema):
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
    from edge.runtime.collector import paused

    given = {"host": host, "port": port, "workers": workers}
    with paused():  # the parent process resumes it when it has started
        from edge.server.reload import Source

        source = Source(config, {name: value for name, value in given.items() if value is not None})
        settings = source.load()
        from edge.media.extras import missing_extras
        from edge.observability.trace_settings import missing_otlp

        for sentence in (*missing_otlp(settings.tracing), *missing_extras(settings)):
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
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile", metavar="NAME", help="Serve this profile: see `penstock profile`."
        ),
    ] = None,
) -> None:
    """Serve the built-in configuration or a profile, show one streamed call, and keep serving."""
    from edge.runtime.collector import paused

    with paused():  # the parent process resumes it when it has started
        from .demo import run

        run(port, profile=profile, local=local_model or local, media=local)


def profile(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Its name; all are listed without one.")
    ] = None,
) -> None:
    """Print a profile, a configuration to start from; without a name, list the profiles."""
    from edge.config import profiles

    if name is None:
        typer.echo("\n".join(profiles.names()))
    else:
        typer.echo(profiles.text(name), nl=False)


def simulate(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 for a free one.")] = 8090,
) -> None:
    """Serve the simulator alone: a provider that speaks all dialects and costs nothing."""
    from edge.upstreams.simulator import run_simulator

    run_simulator(host, port)


def migrate(config: Config) -> None:
    """Migrate the tables of the SQL store to the version of this program; any number may run it."""
    location = load(config).store.sql
    from edge.server.preflight import named
    from middlewares.stores.sql.migrations import upgrade

    with named(location):
        tables = upgrade(location)
    if tables.state == "newer":
        typer.echo(f"ok: {location.shown}: nothing to do: {tables}")
    else:
        typer.echo(f"ok: {location.shown} is current")


def accept_store(config: Config) -> None:
    """Accept the SQL store as it is now, though it is another one than before or was restored.

    For a restore under a running gateway, or a new database in place of a lost one. Running
    gateways use it within seconds and write the rows that wait in their journals to it.
    """
    import asyncio

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
