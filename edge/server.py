"""Serve the gateway: the only importer of Granian.

Theory of operation. The parent process checks the address, forks the workers and watches over
them; it never serves. Each worker opens its part of the gateway in its lifespan and says so by one
byte on a pipe; when all have, and the port answers, the parent prints `ready http://HOST:PORT`.
SIGTERM first makes every worker answer 503 at /readyz for `drain_notice` seconds, so that load
balancers turn away, then closes the listening sockets and lets running requests end within
`drain`. SIGINT skips the notice. A worker that dies is replaced. SIGQUIT has a process write the
stacks of its threads to standard error, and changes nothing else.
"""

import asyncio
import faulthandler
import gc
import logging
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from multiprocessing.util import Finalize
from typing import Any

from granian import _signals
from granian._granian import WorkerSignal
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from .settings import Settings
from .store import check_store
from .telemetry import configure

_log = logging.getLogger(__name__)

_STOP = (signal.SIGINT, signal.SIGTERM)
_NAP = 0.25
"""Seconds after which a signal is noticed at the latest."""
_HEED = signal.SIGUSR2
"""By this signal the parent tells a worker to heed the stop signals it has got and will get."""
_BACKLOG = 2048
_HEAD_MILLISECONDS = 10_000
"""For a request head; a connection caught without one can hold a stopping worker for so long."""
_STREAMS = 100_000
"""Requests one worker may have open; a stream is one for as long as it lasts."""
_QUIET: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {},
    "formatters": {},
    "loggers": {"_granian": {"handlers": [], "propagate": True}},
}


class AddressInUse(OSError):
    """Something else listens there."""


def serve(settings: Settings, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. Exits the process with 1 when a worker cannot start.

    on_ready: called once with the base URL, from a thread; by default it is printed.
    Raises AddressInUse, and what `check_store` raises.
    """
    configure(level=settings.log.level, form=settings.log.format)
    faulthandler.register(signal.SIGQUIT, file=2)  # workers inherit it
    _raise_descriptors(settings)
    multiprocessing.set_start_method("fork", force=True)  # workers inherit settings with secrets
    for told in (signal.SIGUSR1, _HEED):
        signal.signal(told, signal.SIG_IGN)  # until a worker has its handler
    os.register_at_fork(before=_hold_signals, after_in_parent=_heed_signals)
    asyncio.run(check_store(settings))
    held = _hold_port(settings.server.host, settings.server.port)
    metrics = tempfile.mkdtemp(prefix="penstock-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    started, tell = os.pipe()
    try:
        server = _Server(settings, port=held.getsockname()[1], started=started)
        server.announce(on_ready or _print_ready)
        server.serve(target_loader=lambda _target: _worker(settings, tell))
    finally:
        held.close()
        shutil.rmtree(metrics, ignore_errors=True)


def _raise_descriptors(settings: Settings) -> None:
    """As many file descriptors as we may have: a stream takes two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = 2 * sum(upstream.connections for upstream in settings.upstreams)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        _log.warning(
            "%d file descriptors are allowed; upstreams with %d connections want %d",
            *(hard, wanted // 2, wanted),
        )


def _print_ready(url: str) -> None:
    sys.stdout.write(f"ready {url}\n")
    sys.stdout.flush()


def _worker(settings: Settings, tell: int) -> Any:
    """The application of one worker; runs in the worker, after the fork."""
    from .app import Gateway  # prometheus_client must see its environment first

    sink = configure(level=settings.log.level, form=settings.log.format)
    Finalize(None, sink.flush, exitpriority=10)  # a forked process runs no atexit
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

    gateway = Gateway(settings, on_ready=on_ready)
    _signals.set_loop_signals = lambda loop: _stop_once(loop, gateway.told)
    return gateway


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
    """

    def wait(self, timeout: float | None = None) -> bool:
        """Until set, in naps; a timeout is kept as it is."""
        if timeout is not None:
            return super().wait(timeout)
        while not super().wait(_NAP):
            pass
        return True


class _Server(MPServer):
    """Granian with our signals, our log and a word when it is ready."""

    def __init__(self, settings: Settings, *, port: int, started: int) -> None:
        options = settings.server
        self._notice = options.drain_notice
        self._started = started
        self._stopping = False
        self._url = f"http://{_bracketed(options.host)}:{port}"
        self._connect_to = (_reachable(options.host), port)
        super().__init__(
            "penstock",
            address=options.host,
            port=port,
            interface=Interfaces.ASGI,
            workers=options.workers,
            runtime_mode=RuntimeModes.st,
            loop=Loops.uvloop,
            http=HTTPModes.auto if options.http2 else HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=_HEAD_MILLISECONDS),
            websockets=False,
            backlog=_BACKLOG,
            backpressure=_STREAMS,
            log_dictconfig=_QUIET,
            log_level=_granian_level(settings.log.level),
            respawn_failed_workers=True,
            workers_kill_timeout=max(1, round(options.drain)),
        )
        self.main_loop_interrupt = _Wakeful()

    def announce(self, on_ready: Callable[[str], None]) -> None:
        """Call `on_ready` once every worker has started and the port answers."""

        def wait() -> None:
            for _ in range(self.workers):
                os.read(self._started, 1)
            while not self._stopping:
                try:
                    socket.create_connection(self._connect_to, timeout=1).close()
                except OSError:
                    time.sleep(0.01)
                else:
                    return on_ready(self._url)

        threading.Thread(target=wait, name="ready", daemon=True).start()

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
        self._tell(self.wrks, _HEED)
        stop: Callable[[], None] = super()._stop_workers
        stop()

    def _respawn_workers(self, workers: list[int], *args: Any, **kwargs: Any) -> None:
        from prometheus_client.multiprocess import mark_process_dead  # as in _worker

        old = [self.wrks[index] for index in workers]
        self._tell(old, _HEED)
        super()._respawn_workers(workers, *args, **kwargs)
        for worker in old:  # what it had in flight is in flight no more; what it counted stays
            mark_process_dead(worker.inner.pid)  # type: ignore[no-untyped-call]

    @staticmethod
    def _tell(workers: Iterable[Any], number: signal.Signals) -> None:
        for worker in workers:
            with suppress(ProcessLookupError):  # it died, and is about to be replaced
                os.kill(worker.inner.pid, number)


def _hold_port(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not listening, that keeps the port while workers come.

    Workers share the port (SO_REUSEPORT), so a second gateway on it would not be refused but take
    half of the connections; binding once without that option finds it.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise AddressInUse(f"cannot listen on {host} port {port}: {error.strerror}") from None
        address = (address[0], probe.getsockname()[1], *address[2:])
    held = socket.socket(family, kind, protocol)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind(address)
    return held


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _reachable(host: str) -> str:
    """An address by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def _granian_level(level: str) -> LogLevels:
    return LogLevels.debug if level == "debug" else LogLevels.warning
