"""Response headers made from the exchange."""

from collections.abc import Awaitable, Callable, Iterable

from .asgi import ASGIApp, Entered, Header, Message, Receive, Scope, Send
from .exchange import Exchange, exchange_of
from .send_layer import SendLayer

Stamp = Callable[[Exchange], Iterable[Header]]


class HeaderStampMiddleware(Entered):
    """Append the headers of `stamp` to each response start, refusals and errors included.

    stamp: returns the headers for an exchange; which they are is the application's choice.

    Reads:   whatever `stamp` reads
    Writes:  nothing
    Rejects: never
    Order:   outside everything whose outcome it reports
    Cost:    wraps send (passed over in streams); one list copy per response
    """

    __slots__ = ("_stamp", "app")

    def __init__(self, app: ASGIApp, *, stamp: Stamp) -> None:
        self.app = app
        self._stamp = stamp

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable, so this layer adds no frame to a stream."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        stamped = _StampedSend(send, exchange_of(scope), self._stamp)
        return self.app(scope, receive, stamped.send)


class _StampedSend(SendLayer):
    """`send` that appends headers to the start of a response."""

    exchange: Exchange
    stamp: Stamp

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", ()), *self.stamp(self.exchange)]
            message = {**message, "headers": headers}
        return self.outer(message)
