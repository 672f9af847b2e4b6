"""The trace of one attempt: its span id, the headers that carry it, and notes for its span."""

from collections.abc import Awaitable
from functools import partial

from edge.runtime.worker_thread import run_in_thread
from edge.upstreams import Header, Response
from edge.upstreams.provider import Provider
from middlewares.exchange import Attempt, Exchange
from middlewares.tracing.content import request_content
from middlewares.tracing.ids import new_span_id
from middlewares.tracing.request_attributes import Attributes, request_attributes
from middlewares.tracing.traceparent import context_headers

from .answer_tap import TappedResponse
from .spared import spared


def span_of(exchange: Exchange, provider: Provider) -> tuple[int, tuple[Header, ...]]:
    """A new span id, and the headers that carry it to the upstream; 0 where tracing is off."""
    if not exchange.trace_id:
        return 0, ()
    span_id = new_span_id()
    return span_id, context_headers(exchange, span_id) if provider.trace else ()


async def request_notes(exchange: Exchange, *, content: bool) -> Attributes:
    """The attributes of a request that is traced. content: whether to show what the caller
    wrote."""
    reading = partial(_read, exchange, content=content)
    return await run_in_thread(reading) if exchange.large else reading()


def _read(exchange: Exchange, *, content: bool) -> Attributes:
    notes: Attributes = {}
    with spared("of the request"):
        notes |= request_attributes(exchange.fields, endpoint=exchange.endpoint)
        if content:
            notes |= request_content(exchange.fields)
    return notes


async def tapped(
    opening: Awaitable[Response], record: Attempt, *, stream: bool, content: bool
) -> Response:
    """The response of `opening`, whose attributes go into the notes of `record`."""
    return TappedResponse(await opening, record, stream=stream, content=content)
