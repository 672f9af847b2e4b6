"""The log line of each request."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from middlewares.asgi import ASGIApp, Receive, Scope, Send
from middlewares.exchange import Attempt, Exchange, exchange_of
from middlewares.pricing import decimal

from .log_text import LONGEST_METHOD, LONGEST_REASON, shown

_MAX_DROPPED = 16
"""How many of the members that were left out of a request a line names."""
_LONGEST_DROPPED = 200
"""Characters of each."""
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


def request_line(scope: Scope, exchange: Exchange, now: float) -> dict[str, Any]:
    """The fields of the log line of a finished exchange. Times in milliseconds. No secrets."""
    method = scope["method"]
    line: dict[str, Any] = {
        "request_id": exchange.request_id,
        "method": method if method in _METHODS else shown(method, LONGEST_METHOD),
        "path": shown(scope["path"]),
        "status": exchange.status,
        "outcome": exchange.outcome,
        "duration_ms": _ms(now - exchange.started),
        "bytes_out": exchange.bytes_out,
        "client": exchange.client,
    }
    if exchange.sampled or (exchange.trace_id and exchange.status >= 500):
        line["trace_id"] = f"{exchange.trace_id:032x}"
    if exchange.parent:
        line["parent"] = exchange.parent
    if exchange.client_request_id:
        line["client_request_id"] = shown(exchange.client_request_id)
    principal = exchange.principal
    if principal is not None:
        line["key"] = principal.id
        if principal.name:
            line["key_name"] = shown(principal.name)
        if principal.owner:
            line["owner"] = shown(principal.owner)
    if exchange.tags:
        line["tags"] = list(exchange.tags)
    if exchange.model:
        line["model"] = shown(exchange.model)
        line["stream"] = exchange.stream
    if exchange.problem:
        line["problem"] = exchange.problem
        line["reason"] = shown(exchange.reason, LONGEST_REASON)
    if exchange.queue_seconds:
        line["queue_ms"] = _ms(exchange.queue_seconds)
    if exchange.attempts:
        attempt = exchange.attempts[-1]
        line["served"] = exchange.served
        line["upstream"] = attempt.target.upstream
        line["upstream_model"] = attempt.target.model
        line["upstream_status"] = attempt.status
        line["upstream_ms"] = _ms(exchange.upstream_seconds)
        if len(exchange.attempts) > 1:
            line["attempts"] = [_attempt(one) for one in exchange.attempts]
        if exchange.first_content:
            line["first_content_ms"] = _ms(exchange.first_content - exchange.started)
    if exchange.fallback_from:
        line["fallback_from"] = exchange.fallback_from
    if exchange.refused:
        line["downgraded_for"] = exchange.refused
    if exchange.dropped:
        line["dropped"] = [
            shown(what, _LONGEST_DROPPED) for what in exchange.dropped[:_MAX_DROPPED]
        ]
    usage = exchange.usage
    if usage is not None:
        line["input_tokens"] = usage.input
        line["output_tokens"] = usage.output
        line["cache_read_tokens"] = usage.cache_read
        line["cache_write_tokens"] = usage.cache_write
    if exchange.cost:
        line["credits"] = decimal(exchange.cost)
    if exchange.replayed:
        line["replayed"] = True
    return line


def _ms(seconds: float) -> float:
    """Milliseconds with three decimals; `round` takes three times as long."""
    return seconds * 1e6 // 1.0 / 1e3


def _attempt(attempt: Attempt) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "upstream": attempt.target.upstream,
        "upstream_model": attempt.target.model,
        "status": attempt.status,
        "ms": _ms((attempt.ended or perf_counter()) - attempt.started),
    }
    if attempt.problem:
        fields["problem"] = attempt.problem
    if attempt.usage is not None:
        fields["input_tokens"] = attempt.usage.input
        fields["output_tokens"] = attempt.usage.output
    if attempt.error:
        fields["reason"] = shown(attempt.error, LONGEST_REASON)
    return fields


class RequestLogMiddleware:
    """Log one line per request when it has ended.

    log: takes an event name and its fields, a dict that it may keep.
    quiet: whether a finished exchange gets no line.

    Reads:   every field
    Writes:  nothing
    Rejects: never
    Order:   outside all but request_id and metrics, so that status and size are known
    Cost:    one structlog line of about fifteen fields; nothing per event
    """

    __slots__ = ("_log", "_quiet", "app")

    def __init__(
        self,
        app: ASGIApp,
        *,
        log: Callable[[str, dict[str, Any]], Any],
        quiet: Callable[[Exchange], bool] = lambda _exchange: False,
    ) -> None:
        self.app = app
        self._log = log
        self._quiet = quiet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        exchange = exchange_of(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            if not self._quiet(exchange):
                self._log("request", request_line(scope, exchange, perf_counter()))
