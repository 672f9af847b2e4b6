"""Processor time, memory and version of a process."""

import resource
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest

from edge.observability.loop_lag import LoopLag
from edge.observability.process_metrics import cpu_seconds, measure_process, resident_bytes
from middlewares import Metrics


def test_measure_process_feeds_the_metrics() -> None:
    metrics = Metrics()
    measure_process(metrics, LoopLag())
    metrics.flush()
    value = metrics.registry.get_sample_value
    first = value("penstock_process_cpu_seconds_total")
    assert first is not None
    assert first > 0
    while cpu_seconds() < first + 0.01:  # use some
        pass
    metrics.flush()
    second = value("penstock_process_cpu_seconds_total")
    assert second is not None
    assert first + 0.01 <= second <= cpu_seconds()
    assert value("penstock_build_info", {"version": version("penstock")}) == 1
    assert value("penstock_worker_starts_total") == 1
    assert value("penstock_loop_lag_seconds") == 0


def test_resident_bytes_are_those_of_the_process() -> None:
    assert resident_bytes() == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)


def test_resident_bytes_without_proc_are_the_most_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path) -> bytes:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_bytes", missing)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resident_bytes() in (most << 10, most)
