"""Traces of steps that no request waits for."""

from typing import Any

from middlewares.tracing.sampling import Sampling
from middlewares.tracing.step_traces import StepTraces


class _Written:
    """Keeps the names of the spans that are exported."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def write_step(self, name: str, _exchange: Any, *, attributes: Any, error: str) -> None:
        self.names.append(name)


def test_adopted_sampling_decides_about_later_steps() -> None:
    written = _Written()
    traces = StepTraces(written, Sampling(0.0))
    before = traces.begin()
    traces.adopt(Sampling(1.0))
    before.end("before", attributes={})
    traces.begin().end("after", attributes={})
    assert written.names == ["after"]
