"""Granian, with our own supervisor in place of its loop: the only importer of Granian.

Granian has no public way to supervise its workers from outside, to serve a socket that the process
was started with, or to stop a worker by a signal of our own. Its version has an upper bound in
pyproject.toml for this module's sake, and `tests/edge/server/test_granian_server.py` names each
internal used here.
"""

import asyncio
import logging
import re
import signal
import socket
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from granian import _signals
from granian._granian import SocketHolder, WorkerSignal
from granian.constants import HTTPModes, Interfaces, Loops, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from edge.runtime.network_limits import BACKLOG

_PROBLEM = re.compile(
    r"\AApplication callable raised an exception\n.*\n(?:[\w.]+\.)?Problem: [^\n]*\s*\Z", re.DOTALL
)
_HEAD_MILLISECONDS = 10_000
"""For a request head; a connection caught without one can hold a stopping worker for so long."""
_LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {},
    "formatters": {},
    "filters": {"broken": {"()": "edge.server.granian_server.BrokenAnswers"}},
    "loggers": {
        "_granian": {"handlers": [], "propagate": True},
        "_granian.utils": {"filters": ["broken"], "propagate": True},
    },
}
"""Granian's lines go to our log."""


class BrokenAnswers(logging.Filter):
    """Drops the tracebacks of answers that were broken off on purpose.

    Bytes such as audio cannot say that their upstream failed, so the connection is closed by an
    exception. The line of the request says why.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is logged."""
        return not _PROBLEM.search(record.getMessage())


class Parent(Protocol):
    """What the server calls in the parent process, and `load` in a worker."""

    def load(self, row: int) -> Any:
        """The ASGI application of a worker. Called in its process, after the fork."""

    def run(self) -> int:
        """Start and supervise workers, once the socket can be shared. The exit status."""

    def interrupt(self, number: int) -> None:
        """SIGTERM or SIGINT has come. Called in the middle of anything: it sets attributes only."""

    def request_reload(self) -> None:
        """SIGHUP has come. Sets an attribute only."""


class GranianServer(MPServer):
    """Granian's parent process.

    inherited: a listening socket that the process was started with, served in the place of the
        address. connections: how many a worker may have open.
    """

    def __init__(
        self,
        parent: Parent,
        *,
        host: str,
        port: int,
        inherited: socket.socket | None,
        workers: int,
        http2: bool,
        connections: int,
        debug: bool,
    ) -> None:
        self._parent = parent
        self._inherited = inherited
        super().__init__(
            "penstock",
            address=host,
            port=port,
            interface=Interfaces.ASGI,
            workers=workers,
            runtime_mode=RuntimeModes.st,
            loop=Loops.uvloop,
            http=HTTPModes.auto if http2 else HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=_HEAD_MILLISECONDS),
            websockets=False,
            backlog=BACKLOG,
            backpressure=connections,
            log_dictconfig=_LOGGING,
            log_level=LogLevels.debug if debug else LogLevels.warning,
            reload_paths=[Path("/")],  # it reloads nothing, but would ask for the working directory
        )

    def run(self) -> None:
        """Serve until the parent's `run` returns. Exits the process with its status unless 0."""
        self.serve(target_loader=self._parent.load, wrap_loader=False)

    def create_process(self, row: int) -> BaseProcess:
        """A worker's process, not started yet."""
        worker: Any = self._spawn_worker(
            idx=row, target=self._spawn_target, callback_loader=partial(self._target_loader, row)
        )
        process: BaseProcess = worker.inner  # `worker.start` would have a thread wait for its end
        return process

    # What Granian calls.

    def signal_handler_interrupt(self, *args: Any, **kwargs: Any) -> None:
        self._parent.interrupt(args[0] if args else signal.SIGINT)

    def signal_handler_reload(self, *args: Any, **kwargs: Any) -> None:
        self._parent.request_reload()

    def _init_shared_socket(self) -> None:
        if self._inherited is None:
            init: Callable[[], None] = super()._init_shared_socket
            return init()
        # All workers share it. The process that passed it to us may let other processes serve it.
        holder: Any = SocketHolder
        self._shd: Any = holder(self._inherited.fileno(), False, BACKLOG)
        self._ssp = self._sso = None

    def _spawn_workers(self, spawn_target: Any, target_loader: Any) -> None:
        """The parent has them started, see `create_process`."""
        self._spawn_target = spawn_target
        self._target_loader = target_loader

    def _serve_loop(self, spawn_target: Any, target_loader: Any) -> None:
        code = self._parent.run()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # At its end the interpreter removes handlers, and the next signal would set the status.
            signal.signal(number, signal.SIG_IGN)
        self.shutdown(code)  # type: ignore[no-untyped-call]

    def _serve(self, spawn_target: Any, target_loader: Any) -> None:
        self.startup(spawn_target, target_loader)  # type: ignore[no-untyped-call]
        self._serve_loop(spawn_target, target_loader)

    def _stop_workers(self) -> None:
        """The parent has stopped them, however its `run` ended."""


def stop_once(on_stop: Callable[[], None]) -> None:
    """In a worker, before Granian serves: stop at the first SIGTERM, and call `on_stop` then."""
    _signals.set_loop_signals = partial(_set_loop_signals, on_stop=on_stop)


def _set_loop_signals(
    loop: asyncio.AbstractEventLoop, *, on_stop: Callable[[], None]
) -> WorkerSignal:
    """Granian's function of this name, for a worker that may get several stop signals.

    Ctrl-C reaches the whole process group and systemd signals the whole control group, so a worker
    gets a signal from outside and another from its parent. Granian 2.8 then sets its event twice,
    and the second `set` can wait for ever, with the GIL, for a thread that wants the GIL. Here the
    parent decides: SIGINT is left to it, and of several SIGTERM the first counts.
    """
    event = WorkerSignal()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            on_stop()
            event.set()

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    loop.add_signal_handler(signal.SIGTERM, stop)
    return event
