"""`penstock teams …`: create, list, show and edit teams."""

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

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
from .terminal import Config, Json, Stores, load, print_json, print_table, shown, with_stores

if TYPE_CHECKING:
    from middlewares.stores.teams.base import TeamRecord

WhichTeam = Annotated[str, typer.Argument(metavar="TEAM", help="Its id or name.")]
Plan = Annotated[
    str | None, typer.Option(metavar="ID", help="Plan over all keys of the team together.")
]


class Clearable(StrEnum):
    """Fields of a team that can be cleared."""

    PLAN = "plan"
    LIMITS = "limits"
    METADATA = "metadata"


teams_app = typer.Typer(
    help="Teams: a plan over several keys. Create, list, show, edit.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(teams_app, name="teams")


@teams_app.command("create")
def create_team(
    config: Config,
    name: Annotated[str, typer.Option(help="Name in listings.")],
    plan: Plan = None,
    requests: Requests = None,
    burst: Burst = None,
    tokens: Tokens = None,
    concurrency: Concurrency = None,
    storage: Storage = None,
    on_excess: OnExcess = None,
    window: Windows = None,
    overflow: Overflow = None,
    metadata: Metadata = None,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print the id, nothing else.")
    ] = False,
) -> None:
    """Create a team. Add keys to it with `penstock keys create --team` or `keys edit --team`."""
    from edge.management import teams

    settings = load(config)
    limits = own_limits(requests, burst, tokens, concurrency, storage, on_excess, window, overflow)
    team = with_stores(
        settings,
        lambda stores: teams.create(
            stores.audited_teams("team.create"),
            now=time.time(),
            name=name,
            plan=plan,
            limits=limits,
            metadata=pairs(metadata),
            plans={one.id for one in settings.plans},
        ),
        create=True,
        quiet=quiet,
    )
    typer.echo(team.id if quiet else f"ok: {team.id} ({team.name})")


@teams_app.command("list")
def list_teams(config: Config, as_json: Json = False) -> None:
    """List all teams, oldest first."""
    from edge.management import teams

    async def every(stores: Stores) -> list[dict[str, Any]]:
        return [teams.described(team) async for team in teams.every(stores.teams)]

    rows = with_stores(load(config), every)
    if as_json:
        return print_json(rows)
    print_table(("id", "name", "plan", "state", "created_at"), rows)


@teams_app.command("show")
def show_team(config: Config, which: WhichTeam, as_json: Json = False) -> None:
    """Show one team."""
    from edge.management import teams

    team = with_stores(load(config), lambda stores: teams.show(stores.teams, which))
    row = teams.described(team)
    if as_json:
        return print_json(row)
    for field, value in row.items():
        typer.echo(f"{field:14}  {shown(value)}")


@teams_app.command("edit")
def edit_team(
    config: Config,
    which: WhichTeam,
    name: Annotated[str | None, typer.Option(help="Name in listings.")] = None,
    plan: Plan = None,
    disabled: Annotated[
        bool | None,
        typer.Option("--disable/--enable", help="Refuse the keys of the team, or accept them."),
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
    """Change the given fields of a team; the others stay. In force within a second."""
    from edge.management import teams

    settings = load(config)
    own = own_limits(requests, burst, tokens, concurrency, storage, on_excess, window, overflow)
    cleared = {str(field) for field in clear or ()}
    fields: dict[str, Any] = dict.fromkeys(cleared)
    given = {"name": name, "plan": plan, "metadata": pairs(metadata), "disabled": disabled}
    fields |= {field: value for field, value in given.items() if value is not None}
    if not fields and own is None:
        raise typer.BadParameter("expected at least one option that changes the team")

    async def edit(stores: Stores) -> "TeamRecord":
        team = await teams.show(stores.teams, which)
        if own is not None:
            fields["limits"] = {**({} if "limits" in cleared else team.limits or {}), **own}
        return await teams.edit(
            stores.audited_teams("team.edit"),
            team.id,
            plans={one.id for one in settings.plans},
            **fields,
        )

    typer.echo(f"ok: {with_stores(settings, edit).id} is changed")
