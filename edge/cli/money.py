"""`penstock plans`, `penstock credits …` and `penstock usage`."""

import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .terminal import (
    Config,
    Json,
    Stores,
    WhichKey,
    load,
    print_json,
    print_table,
    team_id,
    with_stores,
)

if TYPE_CHECKING:
    from edge.billing.period import Period
    from edge.config.load import Settings
    from middlewares.stores.keys.base import Key
    from middlewares.stores.ledger.base import Entry
    from middlewares.stores.teams.base import TeamRecord

Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="Credits, e.g. 5.00.")]
Note = Annotated[str, typer.Option(help="Reason, stored in the ledger.")]
CreditId = Annotated[
    str | None,
    typer.Option(
        "--id",
        metavar="ID",
        help="Id of the change. Repeating a change with the same id has no effect.",
    ),
]
OfTeam = Annotated[bool, typer.Option("--team", help="KEY is the id or name of a team.")]
_PAGE = 500

credits_app = typer.Typer(
    help="Prepaid credits of a key or a team: add, remove, list.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(plans)
    app.add_typer(credits_app, name="credits")
    app.command()(usage)


def plans(config: Config, as_json: Json = False) -> None:
    """List the plans of the configuration and what they allow."""
    from edge.management.money import described_plan

    rows = [described_plan(plan) for plan in load(config).plans]
    if as_json:
        return print_json(rows)
    for row in rows:
        caps = [f"{window['credits']} per {window['length']}" for window in row["windows"]]
        row["windows"] = caps
    columns = ("id", "requests", "burst", "tokens", "concurrency", "on_excess", "windows")
    print_table((*columns, "overflow", "on_hangup"), rows)


@credits_app.command("add")
def add_credits(
    config: Config,
    which: WhichKey,
    amount: Amount,
    note: Note = "",
    credit_id: CreditId = None,
    team: OfTeam = False,
) -> None:
    """Add prepaid credits to a key or a team. In force about a second later."""
    _change_credits(config, which, amount, 1, note, credit_id, team=team)


@credits_app.command("remove")
def remove_credits(
    config: Config,
    which: WhichKey,
    amount: Amount,
    note: Note = "",
    credit_id: CreditId = None,
    team: OfTeam = False,
) -> None:
    """Remove prepaid credits from a key or a team; its balance may become negative."""
    _change_credits(config, which, amount, -1, note, credit_id, team=team)


async def _holder(stores: Stores, which: str, *, team: bool) -> "Key | TeamRecord":
    from edge.management import keys, teams

    return await (teams.show(stores.teams, which) if team else keys.show(stores.keys, which))


def _change_credits(
    config: Config,
    which: str,
    written: str,
    sign: int,
    note: str,
    credit_id: str | None,
    *,
    team: bool,
) -> None:
    from edge.management import money
    from middlewares.pricing import decimal

    granted = money.amount(written)
    if granted < 0:
        raise money.MoneyRefused("amount", f"expected more than 0, not {written}")

    async def change(stores: Stores) -> str:
        holder = await _holder(stores, which, team=team)
        entry = await money.credit(
            stores.ledger,
            stores.audit,
            holder,
            granted * sign,
            now=time.time(),
            note=note,
            credit_id=credit_id,
        )
        left = decimal(await money.balance(stores.ledger, holder.id, time.time()))
        return f"ok: {entry.id}: {holder.id} has {left} credits"

    typer.echo(with_stores(load(config), change))


@credits_app.command("list")
def list_credits(
    config: Config, which: WhichKey, as_json: Json = False, team: OfTeam = False
) -> None:
    """List the credits added to a key or a team and removed, newest first, and its balance."""
    from edge.management import money
    from middlewares.pricing import decimal

    async def read(stores: Stores) -> dict[str, Any]:
        holder = await _holder(stores, which, team=team)
        found: list[Entry] = []
        before = None
        while True:
            page = await stores.ledger.page(
                account=holder.id, kind="credit", before=before, limit=_PAGE
            )
            found += page
            if len(page) < _PAGE:
                break
            before = (page[-1].at, page[-1].id)
        left = await money.balance(stores.ledger, holder.id, time.time())
        rows = [money.described_credit(entry, holder) for entry in found]
        return {money.kind_of(holder): holder.id, "balance": decimal(left), "credits": rows}

    report = with_stores(load(config), read)
    if as_json:
        return print_json(report)
    print_table(("at", "amount", "id", "note"), report["credits"])
    typer.echo(f"balance: {report['balance']}")


def usage(
    config: Config,
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]", help="Its id, name, display prefix, or the key itself. Default: all."
        ),
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=366, help="Today and the days before it.")] = 30,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="Group by key, team, owner, model, endpoint, tag or day; several with commas.",
        ),
    ] = None,
    team: Annotated[
        str | None, typer.Option(help="With --by: of this team, by its id or name.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="With --by: of this owner.")] = None,
    model: Annotated[str | None, typer.Option(help="With --by: of this model.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="With --by: of this endpoint.")] = None,
    tag: Annotated[str | None, typer.Option(help="With --by: of rows with this tag.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="With --by: print CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Show usage by day and model, of one key or of all, or by groups of your choice."""
    from edge.billing import usage_report
    from edge.billing.period import last_days
    from edge.management import keys

    settings = load(config)
    period = last_days(days, time.time())
    filters = {"team": team, "owner": owner, "model": model, "endpoint": endpoint, "tag": tag}

    async def account_of(stores: Stores) -> str | None:
        if which is None or settings.auth.mode != "keys":  # else accounts are addresses
            return which
        return (await keys.show(stores.keys, which)).id

    if by is not None:
        return _grouped_usage(settings, by, period, account_of, filters, as_csv, as_json)
    unused = [f"--{name}" for name, value in filters.items() if value is not None]
    if unused or as_csv:
        raise typer.BadParameter(f"{(unused or ['--csv'])[0]} needs --by")

    async def read(stores: Stores) -> dict[str, Any]:
        sums = await stores.ledger.sums(await account_of(stores), period.since, period.until)
        return usage_report.usage(sums, period)

    report = with_stores(settings, read)
    if as_json:
        return print_json(report)
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    rows = [*report["data"], {"day": "total", "model": "", **report["total"]}]
    print_table(("day", "model", "requests", *tokens, "credits"), rows)


def _grouped_usage(
    settings: "Settings",
    names: str,
    period: "Period",
    account_of: Callable[["Stores"], Awaitable[str | None]],
    filters: dict[str, str | None],
    as_csv: bool,
    as_json: bool,
) -> None:
    from edge.billing.grouped_usage import (
        Grouping,
        columns_of,
        group_row,
        groups_of,
        read_by,
        total_of,
        usage_csv,
    )
    from edge.billing.period import UsageRefused, moment
    from middlewares.stores.ledger.spend import Filters

    try:
        dimensions = read_by(names)
    except UsageRefused as raised:
        raise typer.BadParameter(f"--by: expected {raised.expected}") from None

    columns = columns_of(dimensions)

    async def read(stores: Stores) -> dict[str, Any]:
        # An empty team means rows without one.
        team = filters["team"] and await team_id(stores, filters["team"])
        chosen = Filters(key=await account_of(stores), **{**filters, "team": team})
        grouping = Grouping(dimensions, period, chosen)
        if as_csv:
            async for part in usage_csv(stores.ledger, grouping):
                typer.echo(part, nl=False)
            return {}
        rows = [
            group_row(group, columns)
            async for groups in groups_of(stores.ledger, grouping)
            for group in groups
        ]
        total = await total_of(stores.ledger, grouping)
        return {
            "object": "list",
            "start": moment(period.since),
            "end": moment(period.until),
            "group_by": list(dimensions),
            "data": rows,
            "total": total,
        }

    report = with_stores(settings, read)
    if as_csv:
        return None
    if as_json:
        return print_json(report)
    total = {**dict.fromkeys(columns, ""), columns[0]: "total", **report["total"]}
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    shown = (*columns, "requests", "errors", *tokens, "credits")
    return print_table(shown, [*report["data"], total])
