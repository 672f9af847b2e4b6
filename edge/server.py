"""Serve the gateway: the only importer of Granian.

Theory of operation. The parent process checks the address, forks the workers and supervises them
(`edge.supervisor`); it never serves. Each worker opens its part of the gateway in its lifespan, and
accepts connections once it is ready, or when no other worker is (`edge.roster`). When each has
opened or failed, and the port answers, the parent prints `ready http://HOST:PORT`.
Sockets that the process was started with (`LISTEN_FDS`, as systemd does it) are served in the
place of the address; connections then wait in them while nobody serves.
SIGTERM first makes every worker answer 503 at /readyz for `drain_delay` seconds, so that load
balancers turn away, then closes the listening sockets and lets running requests end within
`drain`. SIGINT skips the notice. SIGHUP, and a change of the configuration file, have a thread of
the parent read it and post what is good for the workers (`edge.looker`, `edge.reload`,
`edge.board`). A worker that ends is replaced, and runs what is posted. SIGQUIT has a process write
the stacks of its threads to standard error, and changes nothing else.
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
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

from granian import _signals
from granian._granian import SocketHolder, WorkerSignal
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from . import forking, status, streams
from .address_note import AddressNote
from .board import Board, Posted
from .descriptors import Room, take_allowed
from .listening import AddressInUse, Held, given, hold
from .looker import Looker
from .memory import memory_misfits
from .metric_memory import MetricMemory
from .reload import Reloader, Source
from .roster import Place, Roster
from .run_folder import RunFolder, remove_leftovers
from .settings import Settings
from .store import check_store
from .supervisor import Supervisor, Wake
from .telemetry import configure

__all__ = ["AddressInUse", "serve"]

_MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's `malloc.h`."""
_LARGE_BLOCK = 4 << 20
"""Bytes. Smaller ones are kept for the next request, which is quicker."""
_log = logging.getLogger(__name__)

_STOP = (signal.SIGINT, signal.SIGTERM)
_HEED = signal.SIGUSR2
"""By this signal the parent tells a worker to heed the stop signals it has got and will get."""
_BACKLOG = 2048
_HEAD_MILLISECONDS = 10_000
"""For a request head; a connection caught without one can hold a stopping worker for so long."""
_QUIET: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {},
    "formatters": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}


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
    streams.dump_stacks_on_sigquit()  # workers inherit it
    for sentence in memory_misfits(settings.server.workers):
        _log.warning(sentence)
    room = _room(settings)
    multiprocessing.set_start_method("fork", force=True)  # workers inherit the board
    for told in (signal.SIGHUP, signal.SIGUSR1, _HEED):
        signal.signal(told, signal.SIG_IGN)  # until a worker has its handler
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody is left to wait for
    os.register_at_fork(before=_hold_signals, after_in_parent=_heed_signals)
    asyncio.run(check_store(settings))
    held = given() or hold(settings.server.host, settings.server.port)
    for left in remove_leftovers():
        _log.info("removed %s, which a gateway that was killed left behind", left)
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
        server.serve(target_loader=server.worker, wrap_loader=False)
    finally:
        held.close()
        folder.close()
        address.remove()


def _metric_memory(workers: int) -> MetricMemory | None:
    """Where all processes count; installed. Without memory for it each worker counts for itself."""
    try:
        memory = MetricMemory(2 * workers + 2)  # a worker that ends and its successor are two
    except OSError as error:
        _log.error("no memory for common metrics, a scrape shows one worker: %s", error)
        return None
    memory.install()
    return memory


def _room(settings: Settings) -> Room:
    """As many file descriptors as we may have, and how they are parted. Raises OSError."""
    room = Room.of(take_allowed(), settings)
    wanted = sum(upstream.max_connections for upstream in settings.upstreams)
    say = _log.warning if room.streams < wanted else _log.info
    say("%s; upstreams may have %d connections", room, wanted)
    return room


def _print_ready(url: str) -> None:
    streams.say(f"ready {url}\n")


def _worker(
    board: Board,
    folder: RunFolder,
    memory: MetricMemory | None,
    room: Room,
    place: Place,
    wake: Wake,
) -> Any:
    """The application of one worker; runs in the worker, after the fork."""
    from .app import Gateway  # the parent does without most of it

    posted = board.read()
    settings = posted.settings
    sink = configure(level=settings.log.level, form=settings.log.format)
    Finalize(None, sink.flush, exitpriority=10)  # a forked process runs no atexit
    streams.print_to_log(sink.line)
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
        posted,
        on_open=on_open,
        on_ready=on_ready,
        board=board,
        folder=folder.path,
        gather=None if memory is None else memory.registry,
        room=room,
        place=place,
    )
    _signals.set_loop_signals = lambda loop: _stop_once(loop, gateway.told)
    return gateway


def _give_memory_back() -> None:
    """Have glibc map each large block by itself, so that a freed one leaves the process at once.

    Without, it raises its threshold to the largest block it has seen, and what one body of 32 MiB
    took stays (`mallopt(3)`). Other C libraries have no such threshold.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BLOCK)


def _stop_once(loop: asyncio.AbstractEventLoop, on_stop: Callable[[], None]) -> WorkerSignal:
    """Granian's `set_loop_signals` for a worker that may be told to stop more than once.

    Ctrl-C reaches the whole process group and systemd signals the whole control group, so a worker
    hears of the end from outside and again from its parent. Granian 2.8 then sets its event twice,
    and the second `set` can wait for ever, with the GIL, for a thread that wants the GIL. Here the
    parent decides: SIGINT is left to it, and of several SIGTERM the first counts.
    """
    event = WorkerSignal()
    told = False

    def stop() -> None:
        nonlocal told
        if not told:
            told = True
            on_stop()
            event.set()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGTERM, stop)
    return event


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


class _Server(MPServer):
    """Granian with our signals, our log, our reload, and our supervisor in place of its loop."""

    def __init__(
        self,
        settings: Settings,
        held: Held,
        *,
        source: Source | None,
        folder: RunFolder,
        memory: MetricMemory | None,
        room: Room,
        address: AddressNote,
        on_ready: Callable[[str], None],
    ) -> None:
        options = settings.server
        self._held = held
        self._folder = folder
        self._memory = memory
        self._room = room
        self._address = address
        self._notes: dict[str, status.Serving | status.Reloaded] = {}
        self._on_ready = on_ready
        self._file = "" if source is None else str(source.file.resolve())
        self._connect_to = (status.reachable(held.host), held.port)
        self._url = f"http://{status.bracketed(held.host)}:{held.port}"
        self._board = Board()
        digest = "" if source is None else source.looked.digest
        self._board.post(Posted.of(settings, digest=digest))
        self._roster = Roster(options.workers)
        self._wake = Wake()
        self._patience = max(1, round(options.drain))
        super().__init__(
            "penstock",
            address=held.host,
            port=held.port,
            interface=Interfaces.ASGI,
            workers=options.workers,
            runtime_mode=RuntimeModes.st,
            loop=Loops.uvloop,
            http=HTTPModes.auto if options.http2 else HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=_HEAD_MILLISECONDS),
            websockets=False,
            backlog=_BACKLOG,
            backpressure=room.connections,
            log_dictconfig=_QUIET,
            log_level=_granian_level(settings.log.level),
            reload_paths=[Path("/")],  # it reloads nothing, but would ask for the working directory
        )
        supervisor = Supervisor(
            self._roster,
            self._wake,
            spawn=self._spawn_into,
            notice=options.drain_delay,
            drain=self._patience,
        )
        supervisor.warn = partial(_tell, number=signal.SIGUSR1)
        supervisor.release = partial(_tell, number=_HEED)
        supervisor.buried = self._bury
        supervisor.changed = self._note_fleet
        supervisor.opened = self._announce
        supervisor.steps["the note of where it listens"] = address.renew
        supervisor.steps["the temporary folder"] = self._renew_folder
        self._supervisor = supervisor
        self._looker = None
        if source is not None:
            from middlewares.metrics import ReloadMetrics

            self._metrics_of_reloads = ReloadMetrics()
            self._looker = Looker(
                Reloader(source, self._board, running=settings, told=self._reloaded)
            )
            supervisor.steps["the look at the configuration"] = self._look

    # What Granian calls.

    def worker(self, row: int) -> Any:
        """The application of the worker of this row; called in its process."""
        place = Place(self._roster, row)
        return _worker(self._board, self._folder, self._memory, self._room, place, self._wake)

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Sets attributes only, as it may run inside of anything. SIGTERM gives notice first."""
        if args and args[0] == signal.SIGTERM:
            self._supervisor.terminate()
        else:
            self._supervisor.interrupt()

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        """Sets an attribute only."""
        self.reload_signal = True

    def _init_shared_socket(self) -> None:
        if not self._held.given:
            init: Callable[[], None] = super()._init_shared_socket
            return init()
        # One for all workers, who take turns; whoever gave it to us may have others serve it.
        holder: Any = SocketHolder
        self._shd: Any = holder(self._held.socket.fileno(), False, _BACKLOG)
        self._ssp = self._sso = None

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        """The supervisor starts them, in its loop."""
        self._spawn_target = spawn_target
        self._target_loader = target_loader
        self._wake.heed_signals()
        self._address.tell(self._serving())

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        code = self._supervisor.run()
        for number in (*_STOP, signal.SIGHUP):  # at its end the interpreter takes handlers away,
            signal.signal(number, signal.SIG_IGN)  # and the next signal would decide the status
        self.shutdown(code)  # type: ignore[no-untyped-call]

    def _serve(self, spawn_target: Any, target_loader: Any) -> None:
        self.startup(spawn_target, target_loader)  # type: ignore[no-untyped-call]
        self._serve_loop(spawn_target, target_loader)

    def _stop_workers(self) -> None:
        """The supervisor has stopped them, however its loop ended."""

    # What the supervisor calls.

    def _spawn_into(self, row: int) -> Any:
        worker: Any = self._spawn_worker(
            idx=row, target=self._spawn_target, callback_loader=partial(self._target_loader, row)
        )
        forking.use(worker.inner)
        with nullcontext() if self._looker is None else self._looker.resting():
            worker.inner.start()  # not `worker.start`, which has a thread wait for its end
        return worker

    def _look(self) -> None:
        assert self._looker is not None
        self._looker.keep()
        if self.reload_signal:
            self.reload_signal = False
            self._looker.ask()

    def _bury(self, pid: int) -> None:
        """What it had in flight is in flight no more; what it counted stays."""
        if self._memory is not None:
            self._memory.release(pid)
        if self._folder.path is not None:
            (self._folder.path / status.file_of(pid)).unlink(missing_ok=True)

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
            _log.error("status cannot be noted: %s", error)

    def _serving(self) -> status.Serving:
        return status.Serving(
            pid=os.getpid(),
            version=version("penstock"),
            url=self._url,
            file=self._file,
            started=time.time(),
            workers=self.workers,
            born=status.born(os.getpid()),
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


def _granian_level(level: str) -> LogLevels:
    return LogLevels.debug if level == "debug" else LogLevels.warning
