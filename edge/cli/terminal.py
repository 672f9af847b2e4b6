"""Common options of the commands, access to the stores, and printing."""

import re
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer

if TYPE_CHECKING:
    from edge.config.load import Settings
    from edge.management.audit import Audit
    from middlewares.stores.keys.base import KeyStore
    from middlewares.stores.ledger.base import LedgerStore
    from middlewares.stores.secret import SecretStore
    from middlewares.stores.teams.base import TeamStore

T = TypeVar("T")

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


def whole_number(least: int, most: int = 10**9) -> Callable[[str | int], int]:
    """An option parser for whole numbers in ASCII digits: `int` takes 1_000 and any script."""

    def parse(text: str | int) -> int:
        if isinstance(text, int):
            return text
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise typer.BadParameter(f"expected a whole number from {least} to {most}, not {text}")
        return int(text)

    return parse


class Stores(NamedTuple):
    """The stores in the SQL database. audit: records the changes made from the command line."""

    keys: "KeyStore"
    ledger: "LedgerStore"
    audit: "Audit"
    secrets: "SecretStore"
    teams: "TeamStore"

    def audited(self, action: str) -> "KeyStore":
        """The key store; each change of a key is recorded as `action`."""
        return self.audit.keys(self.keys, action)

    def audited_teams(self, action: str) -> "TeamStore":
        """The team store; each change of a team is recorded as `action`."""
        return self.audit.teams(self.teams, action)


def say(line: str) -> None:
    """Print to standard error."""
    typer.echo(line, err=True)


def print_json(value: object, *, one_line: bool = False) -> None:
    """Print to standard output."""
    import json

    typer.echo(json.dumps(value, indent=None if one_line else 2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Print `rows` below their column names. An empty cell is a dash."""
    table = [tuple(columns)]
    table += [tuple(shown(row[column]) for column in columns) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = (f"{cell:{width}}" for cell, width in zip(line, widths, strict=True))
        typer.echo("  ".join(cells).rstrip())


def shown(value: object) -> str:
    """A value as the text of a cell."""
    import json

    if value is None or value == "":
        return "-"
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "-"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def load(config: Path, **server: object) -> "Settings":
    """The settings of a file. Values of `server` replace those of its `[server]`."""
    from edge.config.load import load

    return load(config, server={key: value for key, value in server.items() if value is not None})


def with_stores(
    settings: "Settings",
    work: "Callable[[Stores], Awaitable[T]]",
    *,
    create: bool = False,
    quiet: bool = False,
) -> T:
    """Run `work` with the stores of `settings` and return its result.

    create: create the SQLite file where there has been none, and report that unless `quiet`.
    """
    import asyncio

    from edge.management.audit import Audit
    from edge.server.preflight import open_database
    from middlewares.stores.audit.sql import SqlAuditStore
    from middlewares.stores.keys.sql import SqlKeyStore
    from middlewares.stores.ledger.sql import SqlLedgerStore
    from middlewares.stores.responses.sql import SqlSecretStore
    from middlewares.stores.sql.engine import is_missing
    from middlewares.stores.teams.sql import SqlTeamStore

    async def run() -> T:
        new = is_missing(settings.store.sql)
        database = await open_database(settings, create=create)
        if new and not quiet:
            say(f"{new}: created a new database")
        try:
            audit = Audit(SqlAuditStore(database), "cli")
            stores = Stores(
                SqlKeyStore(database),
                SqlLedgerStore(database),
                audit,
                SqlSecretStore(database),
                SqlTeamStore(database),
            )
            return await work(stores)
        finally:
            await database.aclose()

    return asyncio.run(run())


async def team_id(stores: Stores, which: str | None) -> str | None:
    """The id of the team with this id or name; None for None."""
    from edge.management import teams

    return None if which is None else (await teams.show(stores.teams, which)).id


def seconds(option: str, text: str | None) -> float | None:
    """Seconds of the duration given for `option`; None when none was given."""
    from edge.config.units import Duration

    if text is None:
        return None
    try:
        return float(Duration.parse(text))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
