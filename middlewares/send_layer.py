"""Wrappers of `send` that a sender of many body messages may pass over.

Theory of operation. A layer wraps `send` for the start of a response, and some for its end; between
them come a thousand messages of a stream, each through every wrapper. A wrapper that is the method
`send` of a `SendLayer` is an ordinary `send` for everybody. A sender that knows it (`direct_send`)
may give body messages to the `send` outside it, if

* the start, the message before the last one and the last one go through the wrappers, and
* `passed_over` of each wrapper gets the bytes of the other messages, before the app returns.

Any other wrapper between them ends the direct way there, and sees every message.
"""

from collections.abc import Awaitable

import msgspec

from .asgi import Message, Send


class SendLayer(msgspec.Struct):
    """A wrapper of `send`, around `outer`."""

    outer: Send

    def send(self, message: Message) -> Awaitable[None]:
        """The wrapper."""
        return self.outer(message)

    def passed_over(self, size: int) -> None:
        """Note that so many bytes of body messages did not come through here."""


def direct_send(send: Send) -> tuple[Send, tuple[SendLayer, ...]]:
    """The outermost `send` that is reached from `send` through layers alone, and these layers."""
    layers = []
    while isinstance(layer := getattr(send, "__self__", None), SendLayer):
        layers.append(layer)
        send = layer.outer
    return send, tuple(layers)
