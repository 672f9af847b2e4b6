"""The command line: `penstock serve | status | check | keys | teams | plans | credits | usage | …`.

Commands import what they need when they run: `penstock --help`, `schema` and `keys` start without
the server and the upstreams. Imports inside functions are allowed in this package only.

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 failed,
2 the configuration or the call is wrong. Errors of the user show no traceback.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Annotated, NoReturn

import typer

from . import alerts, check, keys, money, monitoring, passwords, serving, status, teams
from .terminal import say

app = typer.Typer(
    name="penstock",
    help="The LLM API edge: OpenAI and Anthropic clients through one base URL.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    from edge.runtime.standard_streams import open_closed_streams

    open_closed_streams()
    if os.getpid() == 1:
        from edge.runtime.signals import end_on_sigterm

        end_on_sigterm()
    os.umask(0o077)  # only this user may read databases and journals
    try:
        _command()(args=argv)
    except Exception as error:
        status = _explain(error)
        if status is None:
            raise
        sys.exit(status)
    sys.exit(0)


@cache
def _command() -> Callable[..., object]:
    """The click command of all commands, built once: `app(...)` would build it at each call."""
    return typer.main.get_command(app)


def _explain(error: Exception) -> int | None:
    """Print what went wrong. Returns the exit status; None for an error of Penstock itself."""
    from edge.config.load import SettingsError
    from edge.config.profiles import UnknownProfile
    from edge.management.fields import Refused
    from edge.upstreams.local_media.upstream import LocalMediaUnavailable
    from edge.upstreams.local_model.model import LocalModelUnavailable
    from middlewares.stores.errors import StoreUnavailable
    from middlewares.stores.sql.identity import WrongStore
    from middlewares.stores.sql.tables_version import SchemaMismatch

    if isinstance(error, SettingsError):
        for fault in error.faults:
            say(fault)
        return 2
    if isinstance(error, UnknownProfile):
        say(f"error: {error}")
        return 2
    if isinstance(
        error,
        Refused | SchemaMismatch | WrongStore | LocalModelUnavailable | LocalMediaUnavailable,
    ):
        say(f"error: {error}")
        return 1
    if isinstance(error, StoreUnavailable):
        say(f"error: the SQL store does not answer: {error}")
        return 1
    if isinstance(error, OSError):
        say(f"error: {error}")
        return 1
    return None


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


serving.add_to(app)
check.add_to(app)
status.add_to(app)
keys.add_to(app)
teams.add_to(app)
passwords.add_to(app)
money.add_to(app)
alerts.add_to(app)
monitoring.add_to(app)
