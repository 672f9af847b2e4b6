"""Request ids: one for each request, on its response too."""

import random
from collections.abc import Awaitable, Callable
from time import time_ns

from .asgi import ASGIApp, Entered, Header, Message, Receive, Scope, Send, header
from .exchange import exchange_of
from .send_layer import SendLayer

_VERSION_AND_VARIANT = (7 << 76) | (2 << 62)


def uuid7() -> str:
    """A UUID version 7 (RFC 9562): 48 bits of Unix milliseconds, 74 random bits, sortable by time.

    The random bits come from `random`, which reseeds after a fork: unique, not secret.
    """
    bits = random.getrandbits(74)
    value = (time_ns() // 1_000_000 << 80) | _VERSION_AND_VARIANT
    value |= (bits >> 62) << 64 | (bits & 0x3FFFFFFFFFFFFFFF)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class RequestIDMiddleware(Entered):
    """Give each request an id and stamp it on the response.

    A caller's own `x-request-id` is kept for the log if it is at most 128 visible ASCII characters.
    header: the response header; None: another layer stamps it.

    Reads:   nothing
    Writes:  request_id, client_request_id
    Rejects: never
    Order:   outermost: every later line of log, header and error carries the id
    Cost:    one id; wraps send (passed over in streams) unless `header` is None
    """

    __slots__ = ("_header", "_make", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        header: bytes | None = b"x-request-id",
        make: Callable[[], str] = uuid7,
    ) -> None:
        if header is not None and header != header.lower():
            raise ValueError(f"header {header!r}: ASGI header names are lower case")
        self.app = app
        self._header = header
        self._make = make

    def enter(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Returns the inner awaitable, so this layer adds no frame to a stream."""
        if scope["type"] != "http":
            return self.app(scope, receive, send)
        exchange = exchange_of(scope)
        exchange.request_id = request_id = self._make()
        theirs = header(scope, b"x-request-id")
        if theirs and len(theirs) <= 128 and theirs.isascii():
            text = theirs.decode("ascii")
            if text.isprintable():
                exchange.client_request_id = text
        name = self._header
        if name is None:
            return self.app(scope, receive, send)
        named = _NamedSend(send, (name, request_id.encode("ascii")))
        return self.app(scope, receive, named.send)


class _NamedSend(SendLayer):
    """`send` that appends a header to the start of a response."""

    stamp: Header

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), self.stamp]}
        return self.outer(message)
