"""`penstock alerts …`: the secret of alerts, and a test of their receiver."""

from typing import TYPE_CHECKING

import typer

from .terminal import Config, Stores, load, say, with_stores

if TYPE_CHECKING:
    from edge.config.load import Settings

alerts_app = typer.Typer(
    help="Alerts about budgets: their secret, and a test of the receiver.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(alerts_app, name="alerts")


@alerts_app.command("secret")
def show_secret(config: Config) -> None:
    """Print the secret by which a receiver verifies alerts: that of the configuration, or the one
    that the gateway made."""
    from middlewares.webhooks import secret_text

    typer.echo(secret_text(_key(load(config))))


@alerts_app.command("test")
def send_test(config: Config) -> None:
    """Post a signed event of type "alerts.test" to the webhook, once."""
    import asyncio

    from edge.management.alerts.delivery import NotDelivered, send_test_event

    settings = load(config)
    webhook = settings.alerts.webhook
    if webhook is None:
        say("alerts.webhook is not set")
        raise typer.Exit(2)
    try:
        asyncio.run(send_test_event(webhook.reveal(), _key(settings)))
    except NotDelivered as error:
        say(f"error: the receiver did not take it: {error}")
        raise typer.Exit(1) from None
    say("the receiver took it")


def _key(settings: "Settings") -> bytes:
    from edge.management.alerts.delivery import SECRET
    from middlewares.webhooks import secret_key

    given = settings.alerts.secret
    if given is not None:
        return secret_key(given.reveal())

    async def read(stores: Stores) -> bytes:
        return await stores.secrets.secret(SECRET)

    return with_stores(settings, read)
