"""The parent process: it starts the workers, supervises them, reloads, and reports their state."""

import _thread
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from typing import Any

from edge.config.load import Settings
from edge.config.snapshot import ConfigSnapshot, SharedConfig
from edge.observability.metric_memory import MetricMemory
from edge.runtime import collector, signals
from edge.runtime.descriptors import DescriptorBudget
from edge.runtime.run_folder import RunFolder
from edge.runtime.status import Reloaded, Serving, connect_host, process_start, url_host
from edge.runtime.worker_table import WorkerSlot, WorkerTable
from middlewares.stores.sql.tables_version import SCHEMA, TablesVersion

from . import forking
from .address_note import AddressNote
from .config_watcher import ConfigWatcher
from .granian_server import GranianServer
from .orphans import OrphanReaper
from .reload import Reloader, Source
from .service_manager import ServiceManager
from .sockets import ListeningSocket
from .status_files import StatusFiles
from .supervisor import Supervisor
from .wake_pipe import WakePipe
from .worker import create_gateway, load_application


class ParentProcess:
    """Joins Granian, the supervisor and the configuration watcher.

    tables: the version of those in the SQL store.
    source: where `settings` are from; None for no reloads. memory: of the metrics of all processes.
    room: the file descriptors of each worker. manager: is notified of ready, reload and stop.
    on_ready: called once with the base URL, from a thread.
    """

    def __init__(
        self,
        settings: Settings,
        listener: ListeningSocket,
        *,
        tables: TablesVersion,
        source: Source | None,
        folder: RunFolder,
        memory: MetricMemory | None,
        room: DescriptorBudget,
        address: AddressNote,
        manager: ServiceManager,
        on_ready: Callable[[str], None],
    ) -> None:
        options = settings.server
        self._workers = options.workers
        self._tables = tables
        self._folder = folder
        self._memory = memory
        self._room = room
        self._address = address
        self._manager = manager
        self._on_ready = on_ready
        self._file = "" if source is None else str(source.file)
        self._listener = listener
        self._connect_to = (connect_host(listener.host), listener.port)
        self._url = f"http://{url_host(listener.host)}:{listener.port}"
        manager.describe(self._state())
        self._shared_config = SharedConfig()
        digest = "" if source is None else source.loaded.digest
        self._shared_config.publish(ConfigSnapshot.of(settings, digest=digest))
        self._table = WorkerTable(options.workers)
        self._files = StatusFiles(folder, self._table.fleet)
        self._pipe = WakePipe()
        self._reload_requested = False
        self._answers = False
        self._granian = GranianServer(
            self,
            host=listener.host,
            port=listener.port,
            inherited=listener.socket if listener.inherited else None,
            workers=options.workers,
            http2=options.http2,
            connections=room.connections,
            debug=settings.log.level == "debug",
        )
        self._supervisor = supervisor = Supervisor(
            self._table,
            self._pipe,
            spawn=self._start_worker,
            drain_delay=options.drain_delay,
            drain=max(1, round(options.drain)),
        )
        supervisor.on_drain = partial(signals.send, signals.DRAIN)
        supervisor.before_stop = partial(signals.send, signals.RELEASE)
        supervisor.on_end = self._clean_up
        supervisor.on_change = self._files.write_workers
        supervisor.on_open = self._announce
        supervisor.on_stop = manager.stopping
        supervisor.on_turn = manager.alive
        supervisor.steps["notifying the service manager"] = self._notify
        supervisor.steps["reaping orphans"] = OrphanReaper(lambda: supervisor.pids).reap
        supervisor.steps["writing the address"] = address.renew
        supervisor.steps["renewing the temporary folder"] = self._files.renew
        self._watcher: ConfigWatcher | None = None
        if source is not None:
            from edge.observability.reload_metrics import ReloadMetrics

            self._reload_metrics = ReloadMetrics()
            reloader = Reloader(
                source, self._shared_config, running=settings, on_result=self._on_reload
            )
            self._watcher = ConfigWatcher(reloader, during=manager.reloading)
            supervisor.steps["checking the configuration"] = self._watch_config

    def serve(self) -> None:
        """Serve until a signal ends it. Exits the process with the supervisor's status unless 0."""
        if self._workers > 1:
            load_application()
        self._granian.run()

    # Called by Granian, see `granian_server.Parent`.

    def load(self, row: int) -> Any:
        """The application of a worker. Called in its process."""
        slot = WorkerSlot(self._table, row)
        return create_gateway(
            self._shared_config, self._folder, self._memory, self._room, slot, self._pipe
        )

    def run(self) -> int:
        """Supervise the workers until the end. Returns the exit status."""
        collector.resume()
        self._pipe.wake_on_signals()
        self._address.publish(self._serving())
        return self._supervisor.run()

    def interrupt(self, number: int) -> None:
        """Stop: at SIGTERM after the drain delay, at SIGINT without it."""
        if number == signal.SIGTERM:
            self._supervisor.terminate()
        else:
            self._supervisor.interrupt()

    def request_reload(self) -> None:
        """Reload the configuration at the next turn of the supervisor's loop."""
        self._reload_requested = True

    # Called by the supervisor.

    def _start_worker(self, row: int) -> BaseProcess:
        process = self._granian.create_process(row)
        forking.use(process)
        with nullcontext() if self._watcher is None else self._watcher.paused():
            process.start()
        return process

    def _watch_config(self) -> None:
        assert self._watcher is not None
        self._watcher.ensure_running()
        if self._reload_requested:
            self._reload_requested = False
            self._watcher.request_reload()

    def _notify(self) -> None:
        """Say once that the gateway is ready, from this thread: a fork never copies the socket."""
        if self._answers:
            self._manager.ready()

    def _clean_up(self, pid: int) -> None:
        """Remove a dead worker's live gauges, but not its counters, and its status file."""
        if self._memory is not None:
            self._memory.release(pid)
        self._files.delete_worker(pid)

    def _announce(self) -> None:
        """Call `on_ready` when the port answers."""

        def wait() -> None:
            while not self._supervisor.stopping:
                try:
                    socket.create_connection(self._connect_to, timeout=1).close()
                except OSError:
                    time.sleep(0.01)
                else:
                    self._listener.share()
                    self._files.write_serving(self._serving())
                    self._address.renew()
                    self._answers = True
                    self._pipe.wake()
                    return self._on_ready(self._url)

        _thread.start_new_thread(wait, ())

    # Called by the configuration watcher.

    def _on_reload(self, result: Reloaded) -> None:
        self._files.write_reload(result)
        self._reload_metrics.record(result.result, valid=result.valid)
        self._manager.describe(self._state(result))
        signals.send(signals.RELOAD, self._supervisor.pids)

    def _state(self, result: Reloaded | None = None) -> str:
        """What the service manager shows: the address, and whether the file is valid."""
        text = f"Serving {self._url}"
        if result is None or result.valid:
            return text
        return f"{text}; the changed configuration is refused, see `penstock status`"

    def _serving(self) -> Serving:
        return Serving(
            pid=os.getpid(),
            version=version("penstock"),
            url=self._url,
            file=self._file,
            started=time.time(),
            workers=self._workers,
            tables=self._tables.version or "",
            schema=SCHEMA,
            born=process_start(os.getpid()),
        )
