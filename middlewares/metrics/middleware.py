"""Count each request once."""

from collections.abc import Awaitable
from time import perf_counter

from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.exchange import Exchange, exchange_of
from middlewares.send_layer import SendLayer

from .metrics import Metrics


class MetricsMiddleware:
    """Count each request once at its end, crashes and cancellations included.

    Reads:   every field
    Writes:  status, bytes_out
    Rejects: never
    Order:   outside all but request_id, so that it counts refusals and crashes
    Cost:    wraps send (passed over in streams); about eight additions in a dict per request
    """

    __slots__ = ("_metrics", "app")

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        metrics = self._metrics
        metrics.began()
        counted = _CountedSend(send, exchange, metrics)
        try:
            await self.app(scope, receive, counted.send)
        finally:
            if counted.streaming:
                metrics.stream_ended()
            metrics.finished(exchange, perf_counter())


class _CountedSend(SendLayer):
    """`send` that counts bytes and open streams. streaming: a stream has begun."""

    exchange: Exchange
    metrics: Metrics
    streaming: bool = False

    def send(self, message: Message) -> Awaitable[None]:
        exchange = self.exchange
        if message["type"] == "http.response.body":
            exchange.bytes_out += len(message.get("body", b""))
        elif message["type"] == "http.response.start":
            exchange.status = status = message["status"]
            if exchange.stream and status == 200:
                self.streaming = True
                self.metrics.stream_began()
        return self.outer(message)

    def passed_over(self, size: int) -> None:
        self.exchange.bytes_out += size
