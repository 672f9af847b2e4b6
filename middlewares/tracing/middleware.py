"""The layer of traces: ids and the decision on arrival, spans at the end.

Theory of operation. A tracer that opens a span on arrival costs each request more than all of this
layer, also where the span is thrown away. So a request gets three numbers on its `Exchange` (trace
id, span id, decision), attempts send them on with span ids of their own, and the spans of the few
requests that are traced are made at the end, of the times that the `Exchange` has anyway
(`middlewares.tracing.spans`). Nothing is kept in context variables, so no span of one request can
become the parent of another's.
"""

from collections.abc import Awaitable
from operator import itemgetter
from typing import Protocol

from middlewares.asgi import ASGIApp, Message, Receive, Scope, Send
from middlewares.exchange import Exchange, exchange_of
from middlewares.send_layer import SendLayer

from .ids import new_span_id, new_trace_id
from .sampling import LOW, Sampling
from .traceparent import TRACEPARENT, parent_of, state_of

_NAME = itemgetter(0)


class SpanWriter(Protocol):
    """Makes and exports the spans of a finished request."""

    def write(self, exchange: Exchange, scope: Scope, *, status: int, raised: bool) -> None:
        """Export the spans of `exchange`. status: of the response, 0 if there was none.
        raised: whether the app raised an exception. Never waits, never raises."""
        ...


class TracingMiddleware:
    """Trace requests: take over the caller's trace or begin one, and export spans at the end.

    spans: makes and exports the spans (`middlewares.tracing.spans.Spans`).
    sampling: which requests are traced; None: 1 % of them, see `Sampling`.
    watch: whether this layer reads the status from the response; False where a layer inside sets
        `Exchange.status`, as MetricsMiddleware does.
    quiet: endpoints that are not traced.

    Reads:   every field
    Writes:  trace_id, span_id, parent_span_id, trace_state, sampled
    Rejects: never
    Order:   outside all but request_id, so that a span has the whole request, refusals and crashes
    Cost:    one random number per request; wraps send if `watch`; traced requests pay for spans
    """

    __slots__ = ("_quiet", "_sampling", "_spans", "_threshold", "_watch", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        spans: SpanWriter,
        sampling: Sampling | None = None,
        watch: bool = True,
        quiet: frozenset[str] = frozenset(("ops",)),
    ) -> None:
        self.app = app
        self._spans = spans
        self._sampling = sampling or Sampling()
        self._threshold = self._sampling.threshold
        self._watch = watch
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        if not exchange.trace_id:  # else of a request that is made to serve another
            if TRACEPARENT in map(_NAME, scope["headers"]):  # without a step of Python per header
                self._continue(exchange, scope)
            if not exchange.trace_id:
                exchange.trace_id = trace_id = new_trace_id()
                exchange.sampled = trace_id & LOW < self._threshold
        if exchange.sampled:
            exchange.span_id = new_span_id()
        watched = _StatusSend(send) if self._watch else None
        raised = True
        try:
            await self.app(scope, receive, send if watched is None else watched.send)
            raised = False
        finally:
            status = exchange.status if watched is None else watched.status
            failed = raised or status >= 500 or exchange.outcome in ("failed", "cut")
            if (exchange.sampled or failed) and self._wanted(exchange):
                self._spans.write(exchange, scope, status=status, raised=raised)

    def _wanted(self, exchange: Exchange) -> bool:
        """Whether spans are made of a request that was chosen, or has failed."""
        if exchange.endpoint in self._quiet:
            return False
        return exchange.sampled or (not exchange.parent and self._sampling.of_failure())

    def _continue(self, exchange: Exchange, scope: Scope) -> None:
        """Take over the trace of the caller, if its header is valid, and decide whether it is
        recorded."""
        parent = parent_of(scope)
        if parent is not None:
            exchange.trace_id, exchange.parent_span_id = parent.trace_id, parent.span_id
            exchange.trace_state = state_of(scope)
            exchange.sampled = self._sampling.of_parent(parent.trace_id, flag=parent.flag)


class _StatusSend(SendLayer):
    """`send` that remembers the status of a response."""

    status: int = 0

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        return self.outer(message)
