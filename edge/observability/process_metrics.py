"""Metrics of a worker process: processor time, memory, lag of its event loop, version."""

import resource
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from middlewares import Metrics

from .loop_lag import LoopLag


def measure_process(metrics: Metrics, lag: LoopLag) -> None:
    """Feed the metrics of this process, and count its start."""
    metrics.count_from(metrics.cpu_seconds, cpu_seconds)
    metrics.sample(metrics.resident_bytes, resident_bytes)
    metrics.sample(metrics.loop_lag, lag.longest)
    metrics.build_info.labels(version("penstock")).set(1)
    metrics.worker_starts.inc()


def cpu_seconds() -> float:
    """Processor seconds of this process and its threads, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def resident_bytes() -> float:
    """Resident memory of this process; where Linux does not tell it, the most it has had."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_bytes().split()[1]
        return float(int(pages) * resource.getpagesize())
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
