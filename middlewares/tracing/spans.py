"""Spans of finished requests, made of their `Exchange` and handed to a processor of the SDK.

    POST /v1/chat/completions      SERVER, the request
    ├── chat small-1               CLIENT, one for each attempt
    └── media.describe             INTERNAL, a request that the application makes to serve it
        └── chat describer-1       CLIENT

A `ReadableSpan` is made at once with its ids, times and attributes, which costs a tenth of what a
tracer's span costs. Only the span of an attempt has `gen_ai.*`: a backend would count a second
answer in the span of the request.
"""

import logging
from collections.abc import Callable, Mapping
from time import perf_counter, time_ns
from typing import Protocol

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.status import Status, StatusCode

from middlewares.asgi import Scope
from middlewares.exchange import Attempt, Exchange
from middlewares.shared import Shared

from . import error_types, genai
from .ids import new_span_id
from .request_attributes import Attributes, request_attributes
from .span_attributes import (
    LONGEST,
    http_attributes,
    operation_of,
    request_facts,
    session_of,
    usage_attributes,
)

_log = logging.getLogger(__name__)

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_ERROR = Status(StatusCode.ERROR)
_UNSET = Status(StatusCode.UNSET)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"))


class EndedSpans(Protocol):
    """What spans are handed to, such as a `BatchSpanProcessor` of the SDK."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take over a span that has ended."""
        ...


class UpstreamFacts(msgspec.Struct, frozen=True):
    """An upstream in spans. provider: `gen_ai.provider.name`."""

    provider: str = ""
    address: str = ""
    port: int = 0


def route_of(scope: Scope, exchange: Exchange) -> str:
    """The path template of a request, as the router of the application has it; "" if unknown."""
    row = exchange.row if exchange.row is not None else scope.get("route")
    path = getattr(row, "path", "")
    return path if isinstance(path, str) else ""


class Spans(Shared):
    """Makes the spans of requests.

    processor: of the SDK, whose exporter gets them. resource: of all spans.
    upstreams: facts by the name of an upstream. route: the path template of a request.
    version: of the application, in the scope of each span.
    """

    def __init__(
        self,
        processor: EndedSpans,
        *,
        resource: Resource | None = None,
        upstreams: Mapping[str, UpstreamFacts] | None = None,
        route: Callable[[Scope, Exchange], str] = route_of,
        version: str = "",
    ) -> None:
        self._processor = processor
        self._resource = Resource.create() if resource is None else resource
        self._upstreams = upstreams or {}
        self._route = route
        self._scope = InstrumentationScope("penstock", version)

    def write(self, exchange: Exchange, scope: Scope, *, status: int, raised: bool) -> None:
        """See `SpanWriter`."""
        try:
            self._write(exchange, scope, status=status, raised=raised)
        except Exception as error:  # its text may have what a caller wrote
            _log.error("traces: a request has no spans: %s", type(error).__name__)

    def _write(self, exchange: Exchange, scope: Scope, *, status: int, raised: bool) -> None:
        now, wall = perf_counter(), time_ns()

        def at(moment: float) -> int:
            return wall - int((now - moment) * 1e9)

        span_id = exchange.span_id or new_span_id()  # it has none if it was not chosen at first
        context = self._context(exchange.trace_id, span_id, exchange.trace_state)
        parent = None
        if exchange.parent_span_id:
            remote = not exchange.parent
            parent = self._context(
                exchange.trace_id, exchange.parent_span_id, exchange.trace_state, remote=remote
            )
        for number, attempt in enumerate(exchange.attempts, 1):
            last = number == len(exchange.attempts)
            self._attempt(exchange, scope, attempt, context, at, now, last=last)
        error = error_types.of_request(exchange, status, raised=raised)
        if exchange.parent:
            name, kind = f"media.{exchange.purpose}", SpanKind.INTERNAL
            attributes: Attributes = {}
        else:
            route = self._route(scope, exchange)
            method = scope["method"]
            method = method if method in _METHODS else "_OTHER"
            shown = method if method != "_OTHER" else "HTTP"
            name, kind = f"{shown} {route}" if route else shown, SpanKind.SERVER
            attributes = http_attributes(scope, method, route, status)
        attributes |= request_facts(exchange)
        if error:
            attributes["error.type"] = error
        self._end(
            name,
            context,
            parent,
            kind,
            attributes,
            started=at(exchange.started),
            ended=wall,
            error=error,
        )

    def write_step(
        self, name: str, exchange: Exchange, *, attributes: Attributes, error: str
    ) -> None:
        """See `StepWriter`."""
        ended = time_ns()
        if error:
            attributes = {**attributes, "error.type": error}
        self._end(
            name,
            self._context(exchange.trace_id, exchange.span_id, b""),
            None,
            SpanKind.CLIENT,
            attributes,
            started=ended - int((perf_counter() - exchange.started) * 1e9),
            ended=ended,
            error=error,
        )

    def _attempt(
        self,
        exchange: Exchange,
        scope: Scope,
        attempt: Attempt,
        parent: SpanContext,
        at: Callable[[float], int],
        now: float,
        *,
        last: bool,
    ) -> None:
        facts = self._upstreams.get(attempt.target.upstream, _UNKNOWN)
        operation = operation_of(exchange)
        model = attempt.target.model[:LONGEST]
        attributes: Attributes = {
            genai.OPERATION: operation,
            genai.PROVIDER: facts.provider or "_OTHER",
            genai.REQUEST_MODEL: model,
            "penstock.upstream": attempt.target.upstream,
        }
        if facts.address:
            attributes["server.address"] = facts.address
            attributes["server.port"] = facts.port
        if attempt.status:
            attributes["http.response.status_code"] = attempt.status
        if exchange.stream:
            attributes[genai.REQUEST_STREAM] = True
        notes = attempt.notes
        if notes is None and exchange.fields:  # not chosen before it failed
            notes = request_attributes(exchange.fields, endpoint=exchange.endpoint)
        attributes |= notes or {}
        session = session_of(scope)
        if session:
            attributes[genai.CONVERSATION] = session
        if attempt.corrections:
            attributes["penstock.corrections"] = attempt.corrections
        usage = exchange.usage if last else attempt.usage
        if usage is not None and (usage.tokens or operation != "generate_content"):
            attributes |= usage_attributes(usage)
        if last and exchange.first_content and exchange.stream:
            attributes[genai.RESPONSE_FIRST] = exchange.first_content - attempt.started
        error = error_types.of_attempt(attempt)
        if error:
            attributes["error.type"] = error
            if last and exchange.first_content:
                attributes[genai.RESPONSE_FINISH] = ("error",)
        elif last and exchange.outcome == "hung_up":
            attributes["penstock.outcome"] = "hung_up"
        self._end(
            f"{operation} {model}",
            self._context(exchange.trace_id, attempt.span_id or new_span_id(), b""),
            parent,
            SpanKind.CLIENT,
            attributes,
            started=at(attempt.started),
            ended=at(attempt.ended or now),
            error=error,
        )

    def _context(
        self, trace_id: int, span_id: int, state: bytes, *, remote: bool = False
    ) -> SpanContext:
        given = TraceState.from_header([state.decode("ascii")]) if state else None
        return SpanContext(trace_id, span_id, remote, _SAMPLED, given)

    def _end(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        *,
        started: int,
        ended: int,
        error: str,
    ) -> None:
        span = ReadableSpan(
            name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=kind,
            status=_ERROR if error else _UNSET,
            start_time=started,
            end_time=ended,
            instrumentation_scope=self._scope,
        )
        self._processor.on_end(span)


_UNKNOWN = UpstreamFacts()
