"""Starts the worker processes, replaces those that end, and stops them.

Theory of operation. One loop in the parent's main thread. It waits for a worker to end, for a byte
in the wake pipe, or for `_POLL_SECONDS`. Signal handlers only set attributes; the interpreter
writes to the pipe when a signal comes. A step of the loop that raises is logged once, tried again,
and does not stop other steps. However the loop ends, it stops the workers first.

A worker that ends unexpectedly is replaced at once. If it had not served for `_STABLE_SECONDS` it
counts as a failed start. Each further failure in a row doubles the delay of the next start, up to
`LONGEST_WAIT`, or to `LONGEST_ALONE` while no worker lives. This goes on for ever while other
workers serve. Only before any worker has accepted connections the loop gives up: when each worker
has failed once, the configuration or the machine is at fault, and the process ends.
"""

import logging
import multiprocessing.connection
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from edge.runtime.loop_guard import LoopGuard
from edge.runtime.worker_table import Stage, WorkerTable
from middlewares.backoff import doubled

from .wake_pipe import WakePipe

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.25
"""Longest wait of the loop, and its rest when a step has failed."""
_STABLE_SECONDS = 10.0
"""Seconds that a worker has to serve until its earlier failures are forgotten."""
_FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Longest delay in seconds between two starts of a worker."""
LONGEST_ALONE = 2.0
"""The same while no worker lives: nothing listens, so a start can only help."""
_UNOPENED_SECONDS = 5.0
"""Seconds that a worker which does not serve yet may take to stop."""
_REAP_SECONDS = 5.0
"""Seconds in which a killed process should be gone."""

Process = Any
"""A started process of `multiprocessing`."""


class _Worker:
    """One worker, over all its processes."""

    def __init__(self, row: int) -> None:
        self.row = row
        self.process: Process = None
        self.accepted = 0.0
        """When this process began to accept connections; monotonic seconds, 0.0 before."""
        self.failures = 0
        self.next_start = 0.0
        """When the next process should start; monotonic seconds."""
        self.tried = False
        """Whether its first process has opened or failed."""


def start_delay(failures: int) -> float:
    """Seconds before the next start, after so many failures in a row."""
    if failures <= 1:
        return 0.0
    return doubled(_FIRST_WAIT, LONGEST_WAIT, failures - 2)


class Supervisor:
    """The loop. Only its signal handlers may be called at any time.

    spawn: creates and starts a worker's process. drain_delay: seconds from SIGTERM until workers
    are asked to stop. drain: seconds that they have then.
    """

    def __init__(
        self,
        table: WorkerTable,
        pipe: WakePipe,
        *,
        spawn: Callable[[int], Process],
        drain_delay: float,
        drain: float,
    ) -> None:
        self._table = table
        self._pipe = pipe
        self._spawn = spawn
        self._drain_delay = drain_delay
        self._drain = drain
        self._guard = LoopGuard()
        self._workers = [_Worker(row) for row in range(table.size)]
        self._stop_requested = False
        self._skip_delay = False
        self._stop_at = 0.0
        self._changed = False
        self._served = False
        self._opened = False
        self.steps: dict[str, Callable[[], object]] = {}
        """Further steps of each turn of the loop, by their name in the log."""
        self.on_open: Callable[[], object] = lambda: None
        """Called once, when each worker has opened or failed, and one accepts connections."""
        self.on_change: Callable[[], object] = lambda: None
        """Called after workers opened or ended, again until it succeeds."""
        self.on_end: Callable[[int], object] = lambda _pid: None
        """Called with the pid of each process that has ended."""
        self.on_stop: Callable[[], object] = lambda: None
        """Called once, when a stop was requested, before the drain delay."""
        self.on_turn: Callable[[], object] = lambda: None
        """Called in each turn of the loop, and while workers stop."""
        self.on_drain: Callable[[list[int]], object] = lambda _pids: None
        """Called with the pids of all workers when the drain delay begins."""
        self.before_stop: Callable[[list[int]], object] = lambda _pids: None
        """Called with the pids of all workers just before they are asked to stop."""

    # Signal handlers.

    def terminate(self, *_: object) -> None:
        """Stop after the drain delay; at once when called a second time."""
        if self._stop_requested:
            self._skip_delay = True
        self._stop_requested = True

    def interrupt(self, *_: object) -> None:
        """Stop without the drain delay."""
        self._stop_requested = self._skip_delay = True

    # The loop.

    @property
    def stopping(self) -> bool:
        """Whether a stop was requested."""
        return self._stop_requested

    @property
    def pids(self) -> list[int]:
        """The processes that have not ended, as far as is known."""
        return [process.pid for process in self._processes()]

    def run(self) -> int:
        """Supervise until a stop is requested. Returns the exit status. When it returns or raises,
        no worker is left."""
        try:
            while not self._time_to_stop():
                succeeded = [self._guard.run(name, step) for name, step in self._turn()]
                if self._all_failed:
                    _log.error("no worker could be started, exiting")
                    return 1
                if not all(succeeded):
                    time.sleep(_POLL_SECONDS)
            return 0
        finally:
            self._stop()

    def _turn(self) -> Iterator[tuple[str, Callable[[], object]]]:
        if not self._stop_requested:
            for worker in self._workers:
                if self._start_is_due(worker):
                    yield f"starting worker {worker.row + 1}", partial(self._start, worker)
        yield "waiting for workers", self._sleep
        yield "checking workers", self._check
        yield "giving a sign of life", self.on_turn
        if self._changed:
            yield "writing the state of workers", self._report_change
        yield from self.steps.items()

    def _start_is_due(self, worker: _Worker) -> bool:
        due = worker.process is None and time.monotonic() >= worker.next_start
        return due and self._may_start(worker)

    def _may_start(self, worker: _Worker) -> bool:
        """Before any worker has accepted connections, each is started once."""
        return self._served or not worker.tried

    @property
    def _all_failed(self) -> bool:
        return not self._served and all(
            worker.tried and not worker.process for worker in self._workers
        )

    def _time_to_stop(self) -> bool:
        if not self._stop_requested:
            return False
        now = time.monotonic()
        if not self._stop_at:
            self._stop_at = now + self._drain_delay
            self._guard.run("announcing the stop", self.on_stop)
            if self._drain_delay and not self._skip_delay:
                self._guard.run("announcing the drain to workers", lambda: self.on_drain(self.pids))
        return self._skip_delay or now >= self._stop_at

    def _start(self, worker: _Worker) -> None:
        try:
            process = self._spawn(worker.row)
        except Exception:
            self._count_failure(worker)
            raise
        worker.process, worker.accepted = process, 0.0
        self._table.began(worker.row, process.pid)

    def _sleep(self) -> None:
        sentinels = [process.sentinel for process in self._processes()]
        starts = [
            worker.next_start
            for worker in self._workers
            if worker.process is None and self._may_start(worker)
        ]
        left = min([_POLL_SECONDS, *(start - time.monotonic() for start in starts)])
        multiprocessing.connection.wait([self._pipe.reader, *sentinels], max(0.0, left))
        self._pipe.clear()

    def _check(self) -> None:
        """Find out which workers have opened, and which have ended."""
        now = time.monotonic()
        for worker in self._workers:
            process = worker.process
            if process is None:
                continue
            stage = self._table.stage(worker.row)
            if stage > Stage.STARTING and not worker.tried:
                worker.tried = self._changed = True
            if stage > Stage.HELD and not worker.accepted:
                worker.accepted = now
                self._served = self._changed = True
            stable = worker.accepted and now - worker.accepted >= _STABLE_SECONDS
            if worker.failures and stable:
                worker.failures = 0
                self._table.reset_failures(worker.row)
                self._changed = True
            if process.exitcode is not None:
                self._ended(worker)
        if self._served and not self._opened and all(worker.tried for worker in self._workers):
            self.on_open()
            self._opened = True

    def _report_change(self) -> None:
        self.on_change()
        self._changed = False

    def _ended(self, worker: _Worker) -> None:
        process, worker.process = worker.process, None
        pid, how = process.pid, _ending(process.exitcode)
        process.close()
        self._guard.run("cleaning up after a worker", partial(self.on_end, pid))
        if self._stop_requested:
            return
        self._count_failure(worker)
        wait = worker.next_start - time.monotonic()
        then = f"restarting in {wait:.1f} s" if wait > 0 else "restarting"
        if not self._served:
            then = "not restarted before another worker has opened"
        _log.error("worker %d, process %d, %s; %s", worker.row + 1, pid, how, then)

    def _count_failure(self, worker: _Worker) -> None:
        now = time.monotonic()
        accepted = worker.accepted != 0.0
        served = now - worker.accepted if accepted else 0.0
        worker.failures = 1 if served >= _STABLE_SECONDS else worker.failures + 1
        worker.tried, worker.accepted = True, 0.0
        self._changed = True
        wait = start_delay(worker.failures)
        if not self._processes():
            wait = min(wait, LONGEST_ALONE)
        worker.next_start = now + wait
        self._table.ended(
            worker.row,
            accepted=accepted,
            failures=worker.failures,
            next_start=time.time() + wait,
        )

    def _processes(self) -> list[Process]:
        return [worker.process for worker in self._workers if worker.process is not None]

    # The end.

    def _stop(self) -> None:
        """Stop all workers: terminate them, wait for the drain, kill the rest. An error in one step
        does not stop the next."""
        self._stop_requested = self._skip_delay = True
        waiting = [worker for worker in self._workers if worker.process is not None]
        self._guard.run("unblocking the signals of workers", lambda: self.before_stop(self.pids))
        for worker in waiting:
            self._guard.run("terminating a worker", worker.process.terminate)
        began = time.monotonic()
        while waiting := [one for one in waiting if self._may_run(one, time.monotonic() - began)]:
            if not self._guard.run("waiting for workers", partial(_wait_for_any, waiting)):
                time.sleep(_POLL_SECONDS)
            self._guard.run("giving a sign of life", self.on_turn)
        for worker in self._workers:
            worker.process = None

    def _may_run(self, worker: _Worker, waited: float) -> bool:
        """Whether the process still runs and has time left. Kills it when it has none."""
        process = worker.process
        if process.exitcode is not None:
            return False
        unopened = self._table.stage(worker.row) < Stage.UNREADY and not worker.accepted
        if waited < (min(_UNOPENED_SECONDS, self._drain) if unopened else self._drain):
            return True
        _log.warning("worker process %d did not stop in time; killing it", process.pid)
        self._guard.run("killing a worker", process.kill)
        self._guard.run("waiting for a killed worker", lambda: process.join(_REAP_SECONDS))
        return False


def _wait_for_any(workers: list[_Worker]) -> None:
    """Wait until one of them has ended, for `_POLL_SECONDS` at most."""
    sentinels = [worker.process.sentinel for worker in workers]
    if multiprocessing.connection.wait(sentinels, _POLL_SECONDS):
        time.sleep(0.001)  # the pipe is closed a moment before the process has ended


def _ending(exitcode: int) -> str:
    """The end of a process in words. exitcode: of `multiprocessing`, below 0 for a signal."""
    if exitcode >= 0:
        return f"ended with status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}"
