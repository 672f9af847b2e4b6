"""The group `limits`: what the machine allows this program."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from edge.config.load import Settings
from edge.runtime.descriptors import DescriptorBudget, allowed
from edge.runtime.memory_limits import low_memory_limits
from edge.runtime.network_limits import low_network_limits
from edge.runtime.status import running_gateways

from .amounts import counted
from .finding import Finding, of_sentence
from .probe import Findings, Probe, in_thread
from .subject import Subject
from .systemd import stop_timeout, unit_of

FEW_STREAMS = 1000
"""Open requests per worker below which there is a warning."""
_DRAIN_MARGIN = 5.0
"""Seconds that the program needs beside its drain to start and end."""


def probes(subject: Subject) -> Iterator[Probe]:
    """One probe of each limit."""
    settings = subject.settings
    yield Probe("descriptors", partial(_descriptors, settings))
    yield Probe("memory", partial(_memory, settings))
    yield Probe("network", partial(_network, settings))
    yield Probe("server.workers", partial(_workers, settings))
    yield Probe("server.drain", partial(_drain, settings))


async def _descriptors(settings: Settings) -> Findings:
    try:
        budget = DescriptorBudget.of(allowed(), settings)
    except OSError as error:
        yield Finding("error", "descriptors", str(error), "raise LimitNOFILE or ulimit -Hn")
        return
    few = budget.streams < FEW_STREAMS
    yield Finding(
        "warning" if few else "ok",
        "descriptors",
        f"{budget}, when started with the limit of this shell",
        "raise LimitNOFILE or ulimit -Hn to 65536" if few else "",
    )


async def _memory(settings: Settings) -> Findings:
    for sentence in low_memory_limits(settings.server.workers):
        yield of_sentence("warning", sentence)


async def _network(settings: Settings) -> Findings:
    for sentence in low_network_limits(settings):
        yield of_sentence("warning", sentence)


async def _workers(settings: Settings, root: Path = Path("/")) -> Findings:
    workers, cores = settings.server.workers, available_cores(root)
    said = f"{counted(workers, 'worker')} on {counted(cores, 'core')}"
    if workers > max(1.0, cores):
        fit = max(1, int(cores))
        yield Finding("warning", "server.workers", said, f"set server.workers to {fit}, or less")
    else:
        yield Finding("ok", "server.workers", said)


def available_cores(root: Path = Path("/")) -> float:
    """Cores that this process may use: its affinity, and the quota of its control group.

    root: of the file system that has `proc` and `sys`.
    """
    cores = (
        float(len(os.sched_getaffinity(0)))
        if hasattr(os, "sched_getaffinity")
        else float(os.cpu_count() or 1)
    )
    try:
        own = (root / "proc/self/cgroup").read_text().strip().rpartition(":")[2].lstrip("/")
    except OSError:
        return cores
    top = root / "sys/fs/cgroup"
    for folder in (top / own, *(top / own).parents):
        if not folder.is_relative_to(top):
            break
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            continue
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, int(quota) / int(period))
    return cores


async def _drain(settings: Settings) -> Findings:
    """Compare the drain with the time that systemd gives, where a unit runs the gateway."""
    server = settings.server
    needed = server.drain + server.drain_delay
    running = await in_thread(lambda: running_gateways(Path(settings.store.journal)))
    units = [unit_of(one.pid) for one in running] or [unit_of(os.getpid())]
    for unit in filter(None, units):
        given = await stop_timeout(unit)
        if given is None:
            continue
        said = f"{unit} gives {given:g} s to stop (TimeoutStopSec); "
        said += f"drain and drain_delay take {needed:g} s"
        if given < needed + _DRAIN_MARGIN:
            yield Finding(
                "warning",
                "server.drain",
                f"{said}: requests are killed, and their cost is not recorded",
                f"set TimeoutStopSec={needed + 15:.0f}",
            )
        else:
            yield Finding("ok", "server.drain", said)
        return
    yield Finding(
        "note",
        "server.drain",
        f"a stop takes up to {needed:g} s (drain and drain_delay)",
        "give the process manager more: TimeoutStopSec, terminationGracePeriodSeconds or "
        "stop_grace_period",
    )
