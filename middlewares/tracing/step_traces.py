"""Traces of steps that no request waits for, such as those of a job: each is a trace of its own."""

from time import perf_counter
from typing import Protocol

from middlewares.asgi import Header
from middlewares.exchange import Exchange
from middlewares.shared import Shared

from .ids import new_span_id, new_trace_id
from .request_attributes import Attributes
from .sampling import Sampling
from .traceparent import context_headers


class StepWriter(Protocol):
    """Makes and exports the span of a step."""

    def write_step(
        self, name: str, exchange: Exchange, *, attributes: Attributes, error: str
    ) -> None:
        """Export the span of a step that has ended now. exchange: has its ids and its start."""
        ...


class StepTrace:
    """The trace of one step, which begins when it is made."""

    __slots__ = ("_exchange", "_spans")

    def __init__(self, spans: StepWriter | None, exchange: Exchange) -> None:
        self._spans = spans
        self._exchange = exchange

    @property
    def headers(self) -> tuple[Header, ...]:
        """The trace context to send; empty where tracing is off."""
        return context_headers(self._exchange, self._exchange.span_id)

    def end(self, name: str, *, attributes: Attributes, error: str = "") -> None:
        """Export the span, if the trace is recorded. error: of the documented list."""
        if self._spans is not None and self._exchange.sampled:
            self._spans.write_step(name, self._exchange, attributes=attributes, error=error)


class StepTraces(Shared):
    """Begins traces of steps. spans: None makes no traces."""

    def __init__(self, spans: StepWriter | None = None, sampling: Sampling | None = None) -> None:
        self._spans = spans
        self._sampling = sampling or Sampling()

    def adopt(self, sampling: Sampling) -> None:
        """Decide by `sampling` from now on, as after a reload."""
        self._sampling = sampling

    def begin(self) -> StepTrace:
        """A trace that begins now."""
        if self._spans is None:
            return StepTrace(None, Exchange())
        trace_id = new_trace_id()
        return StepTrace(
            self._spans,
            Exchange(
                started=perf_counter(),
                trace_id=trace_id,
                span_id=new_span_id(),
                sampled=self._sampling.of_new(trace_id),
            ),
        )
