"""Serve another model where a limit would refuse the one that was asked for.

Theory of operation. The inner app is called as usual. If it refuses for a reason for which
`downgrade_to` names a model, and no upstream was asked, that refusal is not sent:
`exchange.downgrade_to` is set and the inner app is called a second time. Its second answer is sent
in any case.
"""

from collections.abc import Awaitable, Callable, Mapping

from .asgi import ASGIApp, Entered, Message, Receive, Scope, Send
from .exchange import Exchange, exchange_of

Downgrades = Callable[[Exchange], Mapping[str, str]]
"""By kind of refusal (`Problem.kind`): the model that serves instead. Empty for most."""


class DowngradeMiddleware(Entered):
    """Serve another model where a limit would refuse.

    downgrade_to: see `Downgrades`; called once for each request. named: the public name of the
        model that was requested.

    The inner app reads the model to serve from `exchange.downgrade_to` and the kind of the refusal
    from `exchange.refused`. It may limit that model as well. The request body must have been read
    further out.

    Reads:   attempts, model, problem
    Writes:  downgrade_to, refused, fallback_from, fallback_depth, problem, reason, outcome
    Rejects: never
    Order:   outside what refuses; inside what reads the body and knows the model
    Cost:    nothing where `downgrade_to` is empty; else wraps send
    """

    __slots__ = ("_instead", "_named", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        downgrade_to: Downgrades,
        named: Callable[[Exchange], str] = lambda exchange: exchange.model,
    ) -> None:
        self.app = app
        self._instead = downgrade_to
        self._named = named

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable where nothing serves instead, so it adds no frame."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        exchange = exchange_of(scope)
        choices = self._instead(exchange)
        if not choices:
            return self.app(scope, receive, send)
        return self._serve(exchange, choices, scope, receive, send)

    async def _serve(
        self,
        exchange: Exchange,
        choices: Mapping[str, str],
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Call the inner app, and a second time for one of `choices` if it refuses."""
        refused = ""

        async def send_unless_refused(message: Message) -> None:
            nonlocal refused
            begins = message["type"] == "http.response.start"
            if begins and exchange.problem in choices and not exchange.attempts:
                refused = exchange.problem
            if not refused:
                await send(message)

        await self.app(scope, receive, send_unless_refused)
        if not refused:
            return
        exchange.downgrade_to = choices[refused]
        exchange.refused = refused
        exchange.fallback_from = self._named(exchange)
        exchange.fallback_depth = 1
        exchange.problem = exchange.reason = ""
        exchange.outcome = ""
        await self.app(scope, receive, send)
