"""The internals of prometheus_client that `middlewares/prometheus_internals.py` uses are there."""

import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from middlewares.prometheus_internals import (
    HistogramValues,
    counter_value,
    set_multiprocess_mode,
    set_value_class,
    sum_of_processes,
)

COUNTER = Counter("counter", "help", ("label",), registry=None).labels("a")
HISTOGRAM = Histogram("histogram", "help", ("label",), registry=None).labels("a")

INTERNALS: dict[str, tuple[object, str]] = {
    "Counter._value": (COUNTER, "adds several requests to a counter at once"),
    "Histogram._upper_bounds": (HISTOGRAM, "finds the bucket of an observation"),
    "Histogram._buckets": (HISTOGRAM, "adds several observations to a bucket at once"),
    "Histogram._sum": (HISTOGRAM, "adds several observations to the sum at once"),
    "values.ValueClass": (values, "keeps values in memory that workers share"),
    "MultiProcessCollector._accumulate_metrics": (
        MultiProcessCollector,
        "sums what several processes have counted",
    ),
}
"""Each internal, the object that has it, and what it is used for."""


@pytest.mark.parametrize("name", INTERNALS)
def test_internal_of_prometheus_client_is_there(name: str) -> None:
    owner, use = INTERNALS[name]
    assert hasattr(owner, name.rpartition(".")[2]), (
        f"prometheus_client {version('prometheus-client')} has no {name}, which "
        f"middlewares/prometheus_internals.py {use}: change that module, or lower the upper bound "
        "of prometheus-client in pyproject.toml"
    )


def test_every_internal_that_the_module_uses_is_named_here() -> None:
    source = Path(inspect.getfile(HistogramValues)).read_text()
    used = set(re.findall(r"(?<!self)\.(_[a-z_]+|ValueClass)\b", source))
    assert used == {name.rpartition(".")[2] for name in INTERNALS}


def test_accumulate_metrics_takes_metrics_by_name_and_reads_their_multiprocess_mode() -> None:
    parameters = list(inspect.signature(MultiProcessCollector._accumulate_metrics).parameters)
    assert parameters == ["metrics", "accumulate"]
    expected = {"livesum": 5.0, "livemax": 3.0, "min": 2.0}
    for mode, value in expected.items():
        gauge = Metric("gauge", "help", "gauge")
        set_multiprocess_mode(gauge, mode)
        gauge.add_sample("gauge", (("pid", "1"),), 2.0)  # type: ignore[arg-type]
        gauge.add_sample("gauge", (("pid", "2"),), 3.0)  # type: ignore[arg-type]
        (combined,) = sum_of_processes({"gauge": gauge})
        assert [(sample.labels, sample.value) for sample in combined.samples] == [({}, value)]


def test_counter_value_adds_to_the_counter() -> None:
    registry = CollectorRegistry()
    counter = Counter("requests", "help", ("model",), registry=registry)
    counter_value(counter, "m").inc(3)
    assert registry.get_sample_value("requests_total", {"model": "m"}) == 3


def test_histogram_values_observe_chooses_the_buckets_of_prometheus_client() -> None:
    bounds = [0.005, 0.1, 1.0, 2.5, 60.0]
    seconds = [0.0, *bounds, *(bound * 1.01 for bound in bounds), 1e6]
    samples = []
    for grouped in (False, True):
        registry = CollectorRegistry()
        histogram = Histogram("duration", "help", ("model",), buckets=bounds, registry=registry)
        if grouped:
            HistogramValues(histogram, "m").observe(seconds)
        else:
            for each in seconds:
                histogram.labels("m").observe(each)
        samples.append(
            {
                (sample.name, sample.labels.get("le")): sample.value
                for family in registry.collect()
                for sample in family.samples
                if not sample.name.endswith("_created")
            }
        )
    assert samples[0] == samples[1]
    assert samples[0]["duration_bucket", "0.1"] == 4


class _Recorded:
    """A value that records how it is created."""

    created: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.created.append((args, kwargs))
        self._value = 0.0

    def inc(self, amount: float) -> None:
        self._value += amount

    def set(self, value: float, timestamp: float | None = None) -> None:
        self._value = value

    def get(self) -> float:
        return self._value

    def set_exemplar(self, exemplar: Any) -> None: ...
    def get_exemplar(self) -> None: ...


@pytest.fixture
def value_class(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Recorded]]:
    monkeypatch.setattr(values, "ValueClass", values.ValueClass)  # restored after the test
    monkeypatch.setattr(_Recorded, "created", [])
    set_value_class(_Recorded)
    yield _Recorded


def test_set_value_class_new_metrics_keep_their_values_in_it(value_class: type[_Recorded]) -> None:
    registry = CollectorRegistry()
    Counter("requests", "Requests.", ("model",), registry=registry).labels("m").inc(2)
    gauge = Gauge("open", "Open.", registry=registry, multiprocess_mode="livesum")
    gauge.set(7)
    (counter, _), (_, named) = value_class.created
    kind, metric, sample, names, labels, text = counter
    assert (kind, metric, sample, text) == ("counter", "requests", "requests_total", "Requests.")
    assert (tuple(names), tuple(labels)) == (("model",), ("m",))
    assert named["multiprocess_mode"] == "livesum"
    assert registry.get_sample_value("requests_total", {"model": "m"}) == 2
    assert registry.get_sample_value("open") == 7
