"""Serve another model where a limit would refuse the one that was asked for.

Theory of operation. What stands inside is called as ever. If it answers with a refusal for which
`instead` names a model, and no upstream was asked, that answer is not sent:
`exchange.downgrade_to` is set and everything inside is called once more. What it answers then is
sent, whatever it is.
"""

from collections.abc import Callable, Mapping

from .asgi import ASGIApp, Message, Receive, Scope, Send
from .exchange import Exchange, exchange_of

Instead = Callable[[Exchange], Mapping[str, str]]
"""By kind of refusal (`Problem.kind`): the model that serves instead. Empty for most."""


class DowngradeMiddleware:
    """Serve another model where a limit would refuse.

    instead: see `Instead`; asked once for each request. named: what clients know the model that
        was asked for by.

    What is inside finds in `exchange.downgrade_to` the model to serve, and in `exchange.refused`
    the kind of refusal that it is served for; whether that model is limited too is theirs to say.
    The request body must have been read further out.

    Reads:   attempts, model, problem
    Writes:  downgrade_to, refused, fallback_from, fallback_depth, problem, reason, outcome
    Rejects: never
    Order:   outside what refuses; inside what reads the body and knows the model
    Cost:    nothing where `instead` is empty; else wraps send
    """

    __slots__ = ("_instead", "_named", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        instead: Instead,
        named: Callable[[Exchange], str] = lambda exchange: exchange.model,
    ) -> None:
        self.app = app
        self._instead = instead
        self._named = named

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        choices = self._instead(exchange)
        if not choices:
            return await self.app(scope, receive, send)
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
