"""Serve the gateway: the only importer of Granian.

Theory of operation. The parent process checks the address, forks the workers and watches over
them; it never serves. Each worker opens its part of the gateway in its lifespan and says so by one
byte on a pipe; when all have, and the port answers, the parent prints `ready http://HOST:PORT`.
Sockets that the process was started with (`LISTEN_FDS`, as systemd does it) are served in the
place of the address; connections then wait in them while nobody serves.
SIGTERM first makes every worker answer 503 at /readyz for `drain_notice` seconds, so that load
balancers turn away, then closes the listening sockets and lets running requests end within
`drain`. SIGINT skips the notice. SIGHUP, and a change of the configuration file, have the parent
look at it and post what is good for the workers (`edge.reload`, `edge.board`). A worker that dies
is replaced, and runs what is posted. SIGQUIT has a process write the
stacks of its threads to standard error, and changes nothing else.
"""

import asyncio
import ctypes
import faulthandler
import gc
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
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

from . import status
from .address_note import AddressNote
from .board import Board, Posted
from .descriptors import Room, take_allowed
from .listening import AddressInUse, Held, given, hold
from .metric_memory import MetricMemory
from .reload import Reloader, Source
from .run_folder import RunFolder, remove_leftovers
from .settings import Settings
from .store import check_store
from .telemetry import configure

__all__ = ["AddressInUse", "serve"]

_MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's `malloc.h`."""
_LARGE_BLOCK = 4 << 20
"""Bytes. Smaller ones are kept for the next request, which is quicker."""
_log = logging.getLogger(__name__)

_STOP = (signal.SIGINT, signal.SIGTERM)
_NAP = 0.25
"""Seconds after which a signal is noticed at the latest."""
_LOOK_NAPS = 2
"""Naps between two looks at the configuration file; what has changed is taken over at the second
look that finds it so."""
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
    """Serve until SIGTERM or SIGINT. Exits the process with 1 when a worker cannot start.

    source: where `settings` are from, and what they are to be changed by while serving.
    on_ready: called once with the base URL, from a thread; by default it is printed.
    Raises AddressInUse, and what `check_store` raises.
    """
    configure(level=settings.log.level, form=settings.log.format)
    faulthandler.register(signal.SIGQUIT, file=2)  # workers inherit it
    room = _room(settings)
    multiprocessing.set_start_method("fork", force=True)  # workers inherit the board
    for told in (signal.SIGHUP, signal.SIGUSR1, _HEED):
        signal.signal(told, signal.SIG_IGN)  # until a worker has its handler
    os.register_at_fork(before=_hold_signals, after_in_parent=_heed_signals)
    asyncio.run(check_store(settings))
    held = given() or hold(settings.server.host, settings.server.port)
    for left in remove_leftovers():
        _log.info("removed %s, which a gateway that was killed left behind", left)
    folder = RunFolder()
    memory = _metric_memory(settings.server.workers)
    started, tell = os.pipe()
    server: _Server | None = None
    try:
        server = _Server(
            settings, held, source=source, folder=folder, memory=memory, room=room, started=started
        )
        server.announce(on_ready or _print_ready)
        server.serve(
            target_loader=lambda _target: _worker(server.board, folder, memory, room, tell)
        )
    finally:
        held.close()
        folder.close()
        if server is not None:
            server.address.remove()


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
    wanted = sum(upstream.connections for upstream in settings.upstreams)
    say = _log.warning if room.streams < wanted else _log.info
    say("%s; upstreams may have %d connections", room, wanted)
    return room


def _print_ready(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()


def _worker(
    board: Board, folder: RunFolder, memory: MetricMemory | None, room: Room, tell: int
) -> Any:
    """The application of one worker; runs in the worker, after the fork."""
    from .app import Gateway  # the parent does without most of it

    posted = board.read()
    settings = posted.settings
    sink = configure(level=settings.log.level, form=settings.log.format)
    Finalize(None, sink.flush, exitpriority=10)  # a forked process runs no atexit
    _give_memory_back()
    if hasattr(os, "SCHED_BATCH"):
        # The loop and Granian's thread wake each other for every event. Under this policy (no
        # less CPU share, Linux) the woken one does not throw the other off its core in mid-batch.
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    def on_ready() -> None:
        gc.collect()
        gc.freeze()  # what start-up made is there to stay and need not be looked at again
        gc.set_threshold(10_000, 10, 10)
        _listen_to_parent()
        os.write(tell, b"1")

    gather = None if memory is None else memory.registry
    gateway = Gateway(
        posted, on_ready=on_ready, board=board, folder=folder.path, gather=gather, room=room
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


class _Wakeful(threading.Event):
    """An event whose waiter looks up now and then, so that no signal is slept through.

    CPython runs a signal's handler in the main thread, once that runs at all. A signal that comes
    just before the thread goes to sleep, or that the kernel gives to another thread, wakes nobody.

    idle: called each time, by the thread that waits.
    """

    def __init__(self, idle: Callable[[], None]) -> None:
        super().__init__()
        # A handler may call `set` while the main thread is inside of `set` or `wait`. With the lock
        # of a plain event it would wait for itself for ever.
        self._cond = threading.Condition(threading.RLock())
        self._idle = idle

    def wait(self, timeout: float | None = None) -> bool:
        """Until set, in naps; a timeout is kept as it is."""
        if timeout is not None:
            return super().wait(timeout)
        while not super().wait(_NAP):
            self._idle()
        return True


class _Server(MPServer):
    """Granian with our signals, our log, our reload and a word when it is ready."""

    def __init__(
        self,
        settings: Settings,
        held: Held,
        *,
        source: Source | None,
        folder: RunFolder,
        memory: MetricMemory | None,
        room: Room,
        started: int,
    ) -> None:
        options = settings.server
        self._notice = options.drain_notice
        self._patience = max(1, round(options.drain))
        self._started = started
        self._stopping = False
        self._held = held
        self._folder = folder
        self._memory = memory
        self._notes: dict[str, status.Serving | status.Reloaded] = {}
        self.address = AddressNote(Path(settings.store.journal))
        self._file = "" if source is None else str(source.file.resolve())
        self._naps = 0
        self.board = Board()
        digest = "" if source is None else source.looked.digest
        self.board.post(Posted.of(settings, digest=digest))
        self._reloader = None
        if source is not None:
            self._reloader = Reloader(source, self.board, running=settings, told=self._reloaded)
            from middlewares.metrics import ReloadMetrics

            self._metrics_of_reloads = ReloadMetrics()
        self._connect_to = (status.reachable(held.host), held.port)
        self._url = f"http://{status.bracketed(held.host)}:{held.port}"
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
            respawn_failed_workers=True,
            workers_kill_timeout=self._patience,
        )
        self.main_loop_interrupt = _Wakeful(self._look)

    def announce(self, on_ready: Callable[[str], None]) -> None:
        """Call `on_ready` once every worker has started and the port answers."""
        self.address.tell(self._serving())

        def wait() -> None:
            for _ in range(self.workers):
                os.read(self._started, 1)
            while not self._stopping:
                try:
                    socket.create_connection(self._connect_to, timeout=1).close()
                except OSError:
                    time.sleep(0.01)
                else:
                    self._note("server.json", self._serving())
                    self.address.renew()
                    return on_ready(self._url)

        threading.Thread(target=wait, name="ready", daemon=True).start()

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

    def _init_shared_socket(self) -> None:
        if not self._held.given:
            init: Callable[[], None] = super()._init_shared_socket
            return init()
        # One for all workers, who take turns; whoever gave it to us may have others serve it.
        holder: Any = SocketHolder
        self._shd: Any = holder(self._held.socket.fileno(), False, _BACKLOG)
        self._ssp = self._sso = None

    def _look(self) -> None:
        """At the configuration file, and for our folder, every few naps."""
        self._naps += 1
        if self._naps % _LOOK_NAPS == 0:
            self.address.renew()
        if self._naps % _LOOK_NAPS == 0 and self._folder.renew():
            for name, value in tuple(self._notes.items()):
                self._note(name, value)
        if self._reloader is not None and self._naps % _LOOK_NAPS == 0 and self._reloader.due():
            self.reload_signal = True
            self.main_loop_interrupt.set()

    def _reload(self, *args: Any, **kwargs: Any) -> None:
        """In the place of Granian's, which would replace the workers."""
        self.reload_signal = False
        self.main_loop_interrupt.clear()
        if self.interrupt_signal or self.interrupt_children:
            self.main_loop_interrupt.set()  # told in between
        if self._reloader is not None and not self.interrupt_signal:
            self._reloader.reload()

    def _reloaded(self, done: status.Reloaded) -> None:
        self._note("reload.json", done)
        self._metrics_of_reloads.told(done.result, valid=done.valid)
        self._tell(self.wrks, signal.SIGHUP)

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        """Give notice first when it is SIGTERM; the next signal skips that, and no more count."""
        if self.interrupt_signal:
            return
        patient = bool(args) and args[0] == signal.SIGTERM and not self._stopping
        self._stopping = True
        interrupt: Callable[[], None] = super().signal_handler_interrupt
        if not patient or not self._notice:
            return interrupt()
        self._tell(self.wrks, signal.SIGUSR1)
        stop = threading.Timer(self._notice, interrupt)
        stop.daemon = True
        stop.start()

    def _stop_workers(self) -> None:
        """As Granian does it, less a race: of a worker that has just ended, the thread that waits
        for it may know that and not have said so within Granian's millisecond."""
        workers: list[Any] = list(self.wrks)
        self._tell(workers, _HEED)
        for worker in workers:
            worker.terminate()
        until = time.monotonic() + self._patience
        for worker in workers:
            while worker.is_alive() and (left := until - time.monotonic()) > 0:
                worker.join(min(left, _NAP))
                time.sleep(0.001)  # `join` returns at once when its process is about to end
            if worker.is_alive():
                _log.warning("worker %d did not end in time and is killed", worker.inner.pid)
                worker.kill()
                worker.join()
        self.wrks.clear()

    def _respawn_workers(self, workers: list[int], *args: Any, **kwargs: Any) -> None:
        old = [self.wrks[index] for index in workers]
        self._tell(old, _HEED)
        super()._respawn_workers(workers, *args, **kwargs)
        for worker in old:  # what it had in flight is in flight no more; what it counted stays
            pid = worker.inner.pid
            if self._memory is not None:
                self._memory.release(pid)
            if self._folder.path is not None:
                with suppress(OSError):
                    (self._folder.path / status.file_of(pid)).unlink(missing_ok=True)
        if self.interrupt_signal:
            self.main_loop_interrupt.set()  # told while Granian cleared it

    @staticmethod
    def _tell(workers: Iterable[Any], number: signal.Signals) -> None:
        for worker in workers:
            with suppress(ProcessLookupError):  # it died, and is about to be replaced
                os.kill(worker.inner.pid, number)


def _granian_level(level: str) -> LogLevels:
    return LogLevels.debug if level == "debug" else LogLevels.warning
