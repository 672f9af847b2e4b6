"""The application of a worker process, and how its process is set up."""

import ctypes
import os
import signal
from importlib import import_module
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING

from edge.config.snapshot import SharedConfig
from edge.observability.log_setup import configure
from edge.observability.metric_memory import MetricMemory
from edge.runtime import collector
from edge.runtime.descriptors import DescriptorBudget
from edge.runtime.garbage import FullCollections, keep_start_objects, resident_bytes
from edge.runtime.run_folder import RunFolder
from edge.runtime.signals import follow_parent
from edge.runtime.standard_streams import print_to_log
from edge.runtime.worker_table import WorkerSlot

from .granian_server import stop_once
from .wake_pipe import WakePipe

if TYPE_CHECKING:
    from edge.app import Gateway

_MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's `malloc.h`."""
_LARGE_BLOCK = 4 << 20
"""Bytes. Smaller blocks are kept for the next request, which is faster."""


def load_application() -> None:
    """In the parent, before it forks several workers: import their application once.

    It is two fifths of the time that a start takes, and the workers share its memory. The parent of
    one worker would only become larger.
    """
    import_module("edge.app")
    import_module("edge.dashboard.app")
    collector.freeze()


def create_gateway(
    shared_config: SharedConfig,
    folder: RunFolder,
    memory: MetricMemory | None,
    room: DescriptorBudget,
    slot: WorkerSlot,
    pipe: WakePipe,
) -> "Gateway":
    """The application of one worker. Called in the worker, after the fork."""
    collector.pause()
    from edge.app import Gateway  # see `load_application`

    snapshot = shared_config.read()
    settings = snapshot.settings
    sink = configure(level=settings.log.level, form=settings.log.format)
    Finalize(None, sink.flush, exitpriority=10)  # a forked process runs no atexit
    print_to_log(sink.line)
    signal.set_wakeup_fd(-1)  # it is the parent's; the event loop sets its own
    _map_large_blocks()
    if hasattr(os, "SCHED_BATCH"):
        # The loop and Granian's thread wake each other for every event. Under this policy (same
        # CPU share, Linux) the woken thread does not preempt the other in mid-batch.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    def on_open() -> None:
        follow_parent()
        pipe.wake()

    def on_ready() -> None:
        keep_start_objects()
        collector.resume()
        pipe.wake()

    gateway = Gateway(
        snapshot,
        on_open=on_open,
        on_ready=on_ready,
        each_second=FullCollections(memory=resident_bytes).check,
        shared_config=shared_config,
        folder=folder.path,
        scrape_source=memory,
        descriptor_budget=room,
        slot=slot,
    )
    stop_once(gateway.begin_drain)
    return gateway


def _map_large_blocks() -> None:
    """Make glibc map each large block separately, so that a freed block leaves the process at once.

    Otherwise it raises its threshold to the largest freed block, and the memory of a single body of
    32 MiB is never returned (`mallopt(3)`). Other C libraries have no such threshold.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)
