"""Serve the gateway: what `penstock serve` runs.

Theory of operation. The parent process checks the address, forks the workers and supervises them
(`edge.server.supervisor`); it never serves. Each worker opens its part of the gateway in its
lifespan, and
accepts connections once it is ready, or when no other worker is (`edge.runtime.worker_table`).
When each has opened or failed, and the port answers, the parent prints `ready http://HOST:PORT`.
Sockets that the process was started with (`LISTEN_FDS`, as systemd does it) are served in the
place of the address; connections then wait in them while nobody serves.
SIGTERM first makes every worker answer 503 at /readyz for `drain_delay` seconds, so that load
balancers turn away, then closes the listening sockets and lets running requests end within
`drain`. SIGINT skips the notice. SIGHUP, and a change of the configuration file, have a thread of
the parent read it and publish valid configurations for the workers (`edge.server.config_watcher`,
`edge.server.reload`,
`edge.config.snapshot`). A worker that ends is replaced, and runs the published one. SIGQUIT has a
process write the stacks of its threads to standard error, and changes nothing else.
"""

import _thread
import asyncio
import ctypes
import gc
import logging
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from functools import partial
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from edge.config.load import Settings
from edge.config.snapshot import ConfigSnapshot, SharedConfig
from edge.observability.metric_memory import MetricMemory
from edge.observability.request_log import configure
from edge.runtime import standard_streams, status
from edge.runtime.descriptors import DescriptorBudget, take_allowed
from edge.runtime.memory_limits import low_memory_limits
from edge.runtime.run_folder import RunFolder, remove_leftovers
from edge.runtime.worker_table import WorkerSlot, WorkerTable

from . import forking
from .address_note import AddressNote
from .config_watcher import ConfigWatcher
from .granian_server import GranianServer, stop_once
from .preflight import check_store
from .reload import Reloader, Source
from .sockets import AddressInUse, ListeningSocket, inherited_socket, reserve_address
from .supervisor import Supervisor, Wake

__all__ = ["AddressInUse", "serve"]

_MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's `malloc.h`."""
_LARGE_BLOCK = 4 << 20
"""Bytes. Smaller ones are kept for the next request, which is quicker."""
_log = logging.getLogger(__name__)

_STOP = (signal.SIGINT, signal.SIGTERM)
_HEED = signal.SIGUSR2
"""By this signal the parent tells a worker to heed the stop signals it has got and will get."""


def serve(
    settings: Settings,
    *,
    source: Source | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. Exits the process with 1 when no worker can be started.

    source: where `settings` are from, and what they are to be changed by while serving.
    on_ready: called once with the base URL, from a thread; by default it is printed.
    Raises AddressInUse, and what `check_store` raises.
    """
    configure(level=settings.log.level, form=settings.log.format).start()
    standard_streams.dump_stacks_on_sigquit()  # workers inherit it
    for sentence in low_memory_limits(settings.server.workers):
        _log.warning(sentence)
    room = _room(settings)
    multiprocessing.set_start_method("fork", force=True)  # workers inherit the shared configuration
    for told in (signal.SIGHUP, signal.SIGUSR1, _HEED):
        signal.signal(told, signal.SIG_IGN)  # until a worker has its handler
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody is left to wait for
    os.register_at_fork(before=_hold_signals, after_in_parent=_heed_signals)
    asyncio.run(check_store(settings))
    held = inherited_socket() or reserve_address(settings.server.host, settings.server.port)
    for left in remove_leftovers():
        _log.info("removed %s, left behind by a gateway that was killed", left)
    folder = RunFolder()
    memory = _metric_memory(settings.server.workers)
    address = AddressNote(Path(settings.store.journal))
    try:
        server = _Server(
            settings,
            held,
            source=source,
            folder=folder,
            memory=memory,
            room=room,
            address=address,
            on_ready=on_ready or _print_ready,
        )
        server.serve()
    finally:
        held.close()
        folder.close()
        address.remove()


def _metric_memory(workers: int) -> MetricMemory | None:
    """Where all processes count; installed. Without memory for it each worker counts for itself."""
    try:
        memory = MetricMemory(2 * workers + 2)  # a worker that ends and its successor are two
    except OSError as error:
        _log.error("no shared memory for metrics, so a scrape shows one worker: %s", error)
        return None
    memory.install()
    return memory


def _room(settings: Settings) -> DescriptorBudget:
    """As many file descriptors as we may have, and how they are parted. Raises OSError."""
    room = DescriptorBudget.of(take_allowed(), settings)
    wanted = sum(upstream.max_connections for upstream in settings.upstreams)
    say = _log.warning if room.streams < wanted else _log.info
    say("%s; upstreams may have %d connections", room, wanted)
    return room


def _print_ready(url: str) -> None:
    standard_streams.write_stdout(f"ready {url}\n")


def _worker(
    shared_config: SharedConfig,
    folder: RunFolder,
    memory: MetricMemory | None,
    room: DescriptorBudget,
    place: WorkerSlot,
    wake: Wake,
) -> Any:
    """The application of one worker; runs in the worker, after the fork."""
    from edge.app import Gateway  # the parent does without most of it

    snapshot = shared_config.read()
    settings = snapshot.settings
    sink = configure(level=settings.log.level, form=settings.log.format)
    Finalize(None, sink.flush, exitpriority=10)  # a forked process runs no atexit
    standard_streams.print_to_log(sink.line)
    signal.set_wakeup_fd(-1)  # that is the parent's; the loop sets its own
    _give_memory_back()
    if hasattr(os, "SCHED_BATCH"):
        # The loop and Granian's thread wake each other for every event. Under this policy (no
        # less CPU share, Linux) the woken one does not throw the other off its core in mid-batch.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    def on_open() -> None:
        _listen_to_parent()
        wake.call()

    def on_ready() -> None:
        gc.collect()
        gc.freeze()  # what start-up made is there to stay and need not be looked at again
        gc.set_threshold(10_000, 10, 10)
        wake.call()

    gateway = Gateway(
        snapshot,
        on_open=on_open,
        on_ready=on_ready,
        shared_config=shared_config,
        folder=folder.path,
        gather=None if memory is None else memory.registry,
        room=room,
        place=place,
    )
    stop_once(gateway.begin_drain)
    return gateway


def _give_memory_back() -> None:
    """Have glibc map each large block by itself, so that a freed one leaves the process at once.

    Without, it raises its threshold to the largest block it has seen, and what one body of 32 MiB
    took stays (`mallopt(3)`). Other C libraries have no such threshold.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_STOP, _HEED))


def _heed_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*_STOP, _HEED))


def _listen_to_parent() -> None:
    """In a worker: heed stop signals once the parent says so, and stop when it has died."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(_HEED, _heed_signals)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (_HEED,))
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop.add_reader(parent.sentinel, _orphaned, loop, parent.sentinel)


def _orphaned(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    _heed_signals()
    os.kill(os.getpid(), signal.SIGTERM)


class _Server:
    """The parent process: it starts workers, has them supervised, and says how they are."""

    def __init__(
        self,
        settings: Settings,
        held: ListeningSocket,
        *,
        source: Source | None,
        folder: RunFolder,
        memory: MetricMemory | None,
        room: DescriptorBudget,
        address: AddressNote,
        on_ready: Callable[[str], None],
    ) -> None:
        options = settings.server
        self._workers = options.workers
        self._folder = folder
        self._memory = memory
        self._room = room
        self._address = address
        self._notes: dict[str, status.Serving | status.Reloaded] = {}
        self._on_ready = on_ready
        self._file = "" if source is None else str(source.file.resolve())
        self._connect_to = (status.connect_host(held.host), held.port)
        self._url = f"http://{status.url_host(held.host)}:{held.port}"
        self._shared_config = SharedConfig()
        digest = "" if source is None else source.loaded.digest
        self._shared_config.publish(ConfigSnapshot.of(settings, digest=digest))
        self._roster = WorkerTable(options.workers)
        self._wake = Wake()
        self._patience = max(1, round(options.drain))
        self._reload_asked = False
        self._granian = GranianServer(
            self,
            host=held.host,
            port=held.port,
            inherited=held.socket if held.inherited else None,
            workers=options.workers,
            http2=options.http2,
            connections=room.connections,
            debug=settings.log.level == "debug",
        )
        supervisor = Supervisor(
            self._roster,
            self._wake,
            spawn=self._start_worker,
            notice=options.drain_delay,
            drain=self._patience,
        )
        supervisor.warn = partial(_tell, number=signal.SIGUSR1)
        supervisor.release = partial(_tell, number=_HEED)
        supervisor.buried = self._bury
        supervisor.changed = self._note_fleet
        supervisor.opened = self._announce
        supervisor.steps["writing the address"] = address.renew
        supervisor.steps["renewing the temporary folder"] = self._renew_folder
        self._supervisor = supervisor
        self._looker = None
        if source is not None:
            from middlewares.metrics import ReloadMetrics

            self._metrics_of_reloads = ReloadMetrics()
            self._looker = ConfigWatcher(
                Reloader(source, self._shared_config, running=settings, on_result=self._reloaded)
            )
            supervisor.steps["checking the configuration"] = self._look

    def serve(self) -> None:
        """Serve until a signal ends it. Exits the process with the supervisor's status unless 0."""
        self._granian.run()

    # What Granian calls, see `granian_server.Parent`.

    def load(self, row: int) -> Any:
        """The application of a worker; called in its process."""
        place = WorkerSlot(self._roster, row)
        return _worker(
            self._shared_config, self._folder, self._memory, self._room, place, self._wake
        )

    def run(self) -> int:
        """Supervise until the end; the exit status."""
        self._wake.heed_signals()
        self._address.publish(self._serving())
        return self._supervisor.run()

    def interrupt(self, number: int) -> None:
        """SIGTERM gives notice first, SIGINT does not."""
        if number == signal.SIGTERM:
            self._supervisor.terminate()
        else:
            self._supervisor.interrupt()

    def ask_reload(self) -> None:
        """Have the configuration read at the next turn of the supervisor's loop."""
        self._reload_asked = True

    # What the supervisor calls.

    def _start_worker(self, row: int) -> BaseProcess:
        process = self._granian.create_process(row)
        forking.use(process)
        with nullcontext() if self._looker is None else self._looker.paused():
            process.start()
        return process

    def _look(self) -> None:
        assert self._looker is not None
        self._looker.ensure_running()
        if self._reload_asked:
            self._reload_asked = False
            self._looker.request_reload()

    def _bury(self, pid: int) -> None:
        """What it had in flight is in flight no more; what it counted stays."""
        if self._memory is not None:
            self._memory.release(pid)
        if self._folder.path is not None:
            (self._folder.path / status.worker_file(pid)).unlink(missing_ok=True)

    def _renew_folder(self) -> None:
        if self._folder.renew():
            for name, value in tuple(self._notes.items()):
                self._note(name, value)
            self._note_fleet()

    def _announce(self) -> None:
        """Call `on_ready` once the port answers."""

        def wait() -> None:
            while not self._supervisor.stopping:
                try:
                    socket.create_connection(self._connect_to, timeout=1).close()
                except OSError:
                    time.sleep(0.01)
                else:
                    self._note("server.json", self._serving())
                    self._address.renew()
                    return self._on_ready(self._url)

        _thread.start_new_thread(wait, ())

    # What others read.

    def _note(self, name: str, value: status.Serving | status.Reloaded) -> None:
        """For whoever asks for our status. Serving goes on without."""
        self._notes[name] = value
        if self._folder.path is None:
            return
        try:
            status.write(self._folder.path, name, value)
        except OSError as error:
            _log.error("cannot write the status: %s", error)

    def _serving(self) -> status.Serving:
        return status.Serving(
            pid=os.getpid(),
            version=version("penstock"),
            url=self._url,
            file=self._file,
            started=time.time(),
            workers=self._workers,
            born=status.process_start(os.getpid()),
        )

    def _note_fleet(self) -> None:
        if self._folder.path is not None:
            with suppress(FileNotFoundError):  # it was removed, and is noted in the next one
                status.write(self._folder.path, "workers.json", self._roster.fleet())

    def _reloaded(self, done: status.Reloaded) -> None:
        self._note("reload.json", done)
        self._metrics_of_reloads.told(done.result, valid=done.valid)
        _tell(self._supervisor.pids, number=signal.SIGHUP)


def _tell(pids: Iterable[int], *, number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):  # it ended, and is about to be replaced
            os.kill(pid, number)
