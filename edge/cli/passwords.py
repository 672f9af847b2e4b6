"""`penstock admin-password`: make the hash of the administrators' password."""

import sys

import typer

from .terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("admin-password")(admin_password)


def admin_password() -> None:
    """Print the hash for `dashboard.admin_password`.

    The password is asked for twice; without a terminal it is the first line of standard input.
    """
    from edge.dashboard.sessions.password_hash import PasswordRefused, new_hash

    try:
        typer.echo(new_hash(_asked()))
    except PasswordRefused as refused:
        say(f"error: the password {refused}")
        raise typer.Exit(1) from None


def _asked() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    from getpass import getpass

    password = getpass("New password: ")
    if getpass("Once more: ") != password:
        say("error: the two passwords differ")
        raise typer.Exit(1)
    return password
