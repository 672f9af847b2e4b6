"""The alerts of a worker process: what finds them, what sends them, and their settings."""

from collections.abc import Callable
from typing import Literal

from edge.billing.plans import Plans
from edge.config.load import Settings
from middlewares.stores.alerts.base import AlertStore
from middlewares.stores.secret import SecretStore
from middlewares.webhooks import secret_key

from .account import KeysById, TeamsById
from .delivery import AlertSender, HttpPoster, Receiver, Result
from .watch import BudgetWatch, Thresholds

Count = Callable[[Literal["raised"] | Result, int], object]


class Alerts:
    """Alerts about budgets, as `[alerts]` says. Nothing is done without a webhook.

    count: called with "raised" and with the results of `delivery`, and how often.
    """

    def __init__(
        self,
        store: AlertStore,
        *,
        keys: KeysById,
        teams: TeamsById,
        secrets: SecretStore,
        count: Count = lambda result, times: None,
    ) -> None:
        self._poster = HttpPoster()
        self.watch = BudgetWatch(store, keys, teams, raised=lambda times: count("raised", times))
        self._sender = AlertSender(
            store, secrets, self._poster, count=lambda result: count(result, 1)
        )

    def adopt(self, settings: Settings) -> None:
        """Go by other settings from now on."""
        given = settings.alerts
        if given.webhook is None:
            self.watch.thresholds = self._sender.receiver = None
            return
        key = None if given.secret is None else secret_key(given.secret.reveal())
        self._sender.receiver = Receiver(given.webhook.reveal(), key)
        self.watch.thresholds = Thresholds(
            shares=tuple(sorted(given.at)),
            credits_below=given.credits_below,
            budgets=Plans(settings),
        )

    def start(self) -> None:
        """Start to check and to send."""
        self.watch.start()
        self._sender.start()

    async def aclose(self) -> None:
        """Stop. Idempotent. What is not sent yet stays in the store."""
        await self.watch.aclose()
        await self._sender.aclose()
        await self._poster.aclose()
