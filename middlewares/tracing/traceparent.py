"""W3C trace context: read `traceparent` and `tracestate` of a request, write those of an attempt.

`traceparent` is read by hand on bytes, since most requests have none and each request pays for the
check. https://www.w3.org/TR/trace-context/ sections 3.2 and 3.3. `baggage` is never read and never
sent: callers put names of their users into it.
"""

import re
from typing import NamedTuple

from middlewares.asgi import Header, Scope
from middlewares.exchange import Exchange

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_STATE = re.compile(rb"[ -~\t]*")
_MAX_STATE = 512
"""Bytes of a `tracestate`, all its headers together."""
_MAX_MEMBERS = 32

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"


class Parent(NamedTuple):
    """The span of the caller. flag: whether the caller records its trace."""

    trace_id: int
    span_id: int
    flag: bool


def parse(value: bytes) -> Parent | None:
    """The parent in a `traceparent`; None where it is not valid."""
    match = _FORM.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    version, trace, span, flags, rest = match.groups()
    if version == b"ff" or (version == b"00" and rest is not None):
        return None
    trace_id, span_id = int(trace, 16), int(span, 16)
    if not trace_id or not span_id:
        return None
    return Parent(trace_id, span_id, bool(int(flags, 16) & 1))


def parent_of(scope: Scope) -> Parent | None:
    """The parent that a request names in exactly one valid `traceparent`, else None."""
    given = [value for name, value in scope["headers"] if name == TRACEPARENT]
    return parse(given[0]) if len(given) == 1 else None


def state_of(scope: Scope) -> bytes:
    """The `tracestate` of a request with a valid `traceparent`; b"" where it is too large."""
    state = b",".join(value for name, value in scope["headers"] if name == TRACESTATE)
    if len(state) > _MAX_STATE or state.count(b",") >= _MAX_MEMBERS:
        return b""
    return state if _STATE.fullmatch(state) else b""


def context_headers(exchange: Exchange, span_id: int) -> tuple[Header, ...]:
    """The trace context of an attempt whose span is `span_id`; empty where tracing is off."""
    trace_id = exchange.trace_id
    if not trace_id:
        return ()
    flags = 1 if exchange.sampled else 0
    parent = (TRACEPARENT, b"00-%032x-%016x-%02x" % (trace_id, span_id, flags))
    if exchange.trace_state:
        return parent, (TRACESTATE, exchange.trace_state)
    return (parent,)
