"""Response headers made from the exchange."""

from collections.abc import Awaitable, Callable, Iterable

from .asgi import ASGIApp, Header, Message, Receive, Scope, Send
from .exchange import Exchange, exchange_of

Stamp = Callable[[Exchange], Iterable[Header]]


class HeaderStampMiddleware:
    """Append the headers of `stamp` to each response start, refusals and errors included.

    stamp: returns the headers for an exchange; which they are is the application's choice.

    Reads:   whatever `stamp` reads
    Writes:  nothing
    Rejects: never
    Order:   outside everything whose outcome it reports
    Cost:    wraps send; one list copy per response
    """

    __slots__ = ("_stamp", "app")

    def __init__(self, app: ASGIApp, *, stamp: Stamp) -> None:
        self.app = app
        self._stamp = stamp

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable, so this layer adds no frame to a stream."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        exchange = exchange_of(scope)
        stamp = self._stamp

        def send_stamped(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *stamp(exchange)]
                message = {**message, "headers": headers}
            return send(message)

        return self.app(scope, receive, send_stamped)
