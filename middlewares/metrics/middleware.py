"""Count each request once."""

from collections.abc import Awaitable
from time import perf_counter

from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.exchange import exchange_of

from .metrics import Metrics


class MetricsMiddleware:
    """Count each request once at its end, crashes and cancellations included.

    Reads:   every field
    Writes:  status, bytes_out
    Rejects: never
    Order:   outside all but request_id, so that it counts refusals and crashes
    Cost:    wraps send; about eight additions in a dict per request
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
        streaming = False

        def send_counted(message: Message) -> Awaitable[None]:
            nonlocal streaming
            if message["type"] == "http.response.body":
                exchange.bytes_out += len(message.get("body", b""))
            elif message["type"] == "http.response.start":
                exchange.status = status = message["status"]
                if exchange.stream and status == 200:
                    streaming = True
                    metrics.stream_began()
            return send(message)

        try:
            await self.app(scope, receive, send_counted)
        finally:
            if streaming:
                metrics.stream_ended()
            metrics.finished(exchange, perf_counter())
