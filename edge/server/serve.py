"""Serve the gateway: what `penstock serve` runs.

Theory of operation. The parent process binds the address, forks the workers and supervises them
(`edge.server.supervisor`); it serves no requests. Each worker starts its gateway in its lifespan,
and accepts connections when it is ready, or when no other worker is (`edge.runtime.worker_table`).
When each worker has started or failed, and the port answers, the parent prints
`ready http://HOST:PORT`. An inherited socket (`LISTEN_FDS`, as from systemd) is served in the place
of the address; connections wait in it while no gateway serves. A service manager is notified when
the gateway is ready, reloads and stops (`edge.server.service_manager`). The application is imported
once for several workers, before they are forked; for one worker after the fork, because the parent
then stays smaller.

SIGTERM first makes every worker answer 503 at /readyz for `drain_delay` seconds, so that load
balancers stop sending requests. Then the listening sockets are closed and running requests may end
within `drain`. SIGINT skips the delay. After SIGHUP, and when the configuration file changes, a
thread of the parent reloads it and publishes a valid configuration to the workers
(`edge.server.config_watcher`, `edge.server.reload`, `edge.config.snapshot`). A worker that ends is
replaced, and the new one runs the published configuration. SIGQUIT writes the stacks of a process's
threads to standard error.
"""

import asyncio
import logging
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

from edge.config.load import Settings
from edge.observability.log_setup import configure
from edge.observability.metric_memory import MetricMemory
from edge.runtime.descriptors import DescriptorBudget, take_allowed
from edge.runtime.memory_limits import low_memory_limits
from edge.runtime.network_limits import low_network_limits
from edge.runtime.run_folder import RunFolder, remove_leftovers
from edge.runtime.signals import prepare_parent
from edge.runtime.standard_streams import dump_stacks_on_sigquit, write_stdout

from .address_note import AddressNote
from .parent_process import ParentProcess
from .preflight import check_store
from .reload import Source
from .service_manager import ServiceManager
from .sockets import AddressInUse, inherited_socket, reserve_address

__all__ = ["AddressInUse", "serve"]

_log = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    settings: Settings,
    *,
    source: Source | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Exits the process with 1 when no worker can be started.

    source: where `settings` are from, for reloads.
    on_ready: called once with the base URL, from a thread; by default it is printed.
    Raises AddressInUse, and what `check_store` raises.
    """
    configure(level=settings.log.level, form=settings.log.format).start()
    dump_stacks_on_sigquit()  # workers inherit it
    manager = ServiceManager.from_environment()
    for sentence in (
        *low_memory_limits(settings.server.workers),
        *low_network_limits(settings),
    ):
        _log.warning(sentence)
    if os.getpid() == 1 and settings.server.host in _LOOPBACK:
        _log.warning(
            "server.host is %s, which only this container reaches; set it to 0.0.0.0",
            settings.server.host,
        )
    room = _descriptor_budget(settings)
    multiprocessing.set_start_method("fork", force=True)  # workers inherit the shared memory
    prepare_parent()
    tables = asyncio.run(check_store(settings))
    if tables.state == "newer":
        _log.warning("%s", tables)
    listener = inherited_socket() or reserve_address(settings.server.host, settings.server.port)
    for path in remove_leftovers():
        _log.info("removed %s, left behind by a gateway that was killed", path)
    folder = RunFolder()
    address = AddressNote(Path(settings.store.journal))
    try:
        ParentProcess(
            settings,
            listener,
            tables=tables,
            source=source,
            folder=folder,
            memory=_metric_memory(settings.server.workers),
            room=room,
            address=address,
            manager=manager,
            on_ready=on_ready or (lambda url: write_stdout(f"ready {url}\n")),
        ).serve()
    finally:
        listener.close()
        folder.close()
        address.remove()


def _metric_memory(workers: int) -> MetricMemory | None:
    """Shared memory for the metrics of all processes, installed. None when there is no memory:
    each worker then has its own metrics."""
    try:
        memory = MetricMemory(2 * workers + 2)  # an ending worker and its successor are two
    except OSError as error:
        _log.error("no shared memory for metrics, so a scrape shows one worker: %s", error)
        return None
    memory.install()
    return memory


def _descriptor_budget(settings: Settings) -> DescriptorBudget:
    """Raise the descriptor limit and divide it; the log says the result. Raises OSError."""
    room = DescriptorBudget.of(take_allowed(), settings)
    wanted = sum(upstream.max_connections for upstream in settings.upstreams)
    log = _log.warning if room.streams < wanted else _log.info
    log("%s; upstreams may have %d connections", room, wanted)
    return room
