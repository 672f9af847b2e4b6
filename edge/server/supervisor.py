"""Watches over the worker processes: starts them, replaces those that end, stops them.

Theory of operation. One loop in the parent's main thread, which waits for a worker to end, for a
byte in the pipe `wake`, or for a nap to pass. Signal handlers set attributes and nothing else; that
a signal came is written to the pipe by the interpreter. A step of the loop that raises is logged
once and tried again, and does not keep the other steps from their work. However the loop ends, the
workers are stopped first.

A worker that ends unasked is replaced at once. When it had not served for `_STEADY` seconds it
counts as a failed start, and each further one in a row doubles the wait for the next, up to
`LONGEST_WAIT`, or to `LONGEST_ALONE` while no worker lives. That goes on for ever, while the other
workers serve. Only before any worker has accepted connections the loop gives up: when each has
failed once, it is the configuration or the machine, and the process ends.
"""

import logging
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

from edge.runtime.loop_guard import LoopGuard
from edge.runtime.worker_table import Stage, WorkerTable
from middlewares.backoff import doubled

_log = logging.getLogger(__name__)

_NAP = 0.25
"""Seconds after which the loop looks up at the latest, and that it rests when a step has failed."""
_STEADY = 10.0
"""Seconds that a worker has to serve for the failures before it to be forgotten."""
_FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0
"""Seconds between two starts of a worker at most."""
LONGEST_ALONE = 2.0
"""The same while no worker lives: nothing listens, and a start can only help."""
_UNOPENED_SECONDS = 5.0
"""Seconds that a worker which serves nothing yet may take to stop."""
_REAP_SECONDS = 5.0
"""Seconds in which a killed process is expected to be gone."""

Worker = Any
"""A started process of `multiprocessing`."""


class Wake:
    """A pipe that ends the loop's sleep. Signals write to it, and workers that have opened."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        for end in (self.reader, self.writer):
            os.set_blocking(end, False)

    def heed_signals(self) -> None:
        """Have the interpreter write to the pipe whenever a signal comes. Main thread only."""
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)

    def call(self) -> None:
        """End the sleep. A full pipe ends it too."""
        with suppress(BlockingIOError):
            os.write(self.writer, b"\0")

    def drain(self) -> None:
        """Read what has been written."""
        with suppress(BlockingIOError):
            os.read(self.reader, 1 << 16)


class _Row:
    """A worker of the roster, over all processes that it has had."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker = None
        self.accepted = 0.0
        """When this process began to accept connections; monotonic seconds, 0.0 before."""
        self.failures = 0
        self.due = 0.0
        """When the next process should start; monotonic seconds."""
        self.decided = False
        """Whether the first process opened or failed."""


def wait_after(failures: int) -> float:
    """Seconds to wait before the next start, after so many failures in a row."""
    if failures <= 1:
        return 0.0
    return doubled(_FIRST_WAIT, LONGEST_WAIT, failures - 2)


class Supervisor:
    """The loop. Its handlers of signals may be called at any time, everything else not.

    spawn: makes and starts a worker's process. drain: seconds for what runs, once workers are told
    to stop. notice: seconds from SIGTERM to then.
    """

    def __init__(
        self,
        roster: WorkerTable,
        wake: Wake,
        *,
        spawn: Callable[[int], Worker],
        notice: float,
        drain: float,
    ) -> None:
        self._roster = roster
        self._wake = wake
        self._spawn = spawn
        self._notice = notice
        self._drain = drain
        self._guard = LoopGuard()
        self._rows = [_Row(number) for number in range(roster.size)]
        self._asked = False
        self._at_once = False
        self._stop_at = 0.0
        self._unnoted = False
        self._served = False
        self._announced = False
        self.steps: dict[str, Callable[[], object]] = {}
        """More that the loop does at each turn, by what the log calls it."""
        self.buried: Callable[[int], object] = lambda _pid: None
        """Called with the pid of each process that has ended."""
        self.changed: Callable[[], object] = lambda: None
        """Called after workers opened or ended, again until it has gone well."""
        self.warn: Callable[[list[int]], object] = lambda _pids: None
        """Called with the pids of all workers when a notice begins."""
        self.release: Callable[[list[int]], object] = lambda _pids: None
        """Called with the pids of workers just before they are told to stop."""
        self.opened: Callable[[], object] = lambda: None
        """Called once, when each worker has opened or failed, and one accepts connections."""

    # Handlers of signals.

    def terminate(self, *_: object) -> None:
        """Stop with notice; without, when asked a second time."""
        if self._asked:
            self._at_once = True
        self._asked = True

    def interrupt(self, *_: object) -> None:
        """Stop without notice."""
        self._asked = self._at_once = True

    # The loop.

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._asked

    @property
    def pids(self) -> list[int]:
        """Of the processes that have not ended, as far as is known."""
        return [worker.pid for worker in self._workers()]

    def run(self) -> int:
        """Supervise until asked to stop; the exit status. No worker is left when it returns or
        raises."""
        try:
            while not self._over():
                done = [self._guard.run(name, step) for name, step in self._turn()]
                if self._hopeless:
                    _log.error("no worker could be started, exiting")
                    return 1
                if not all(done):
                    time.sleep(_NAP)
            return 0
        finally:
            self._stop()

    def _turn(self) -> Iterator[tuple[str, Callable[[], object]]]:
        if not self._asked:
            for row in self._rows:
                if row.worker is None and time.monotonic() >= row.due and self._wanted(row):
                    yield f"starting worker {row.number + 1}", partial(self._start, row)
        yield "waiting for workers", self._sleep
        yield "checking workers", self._look
        if self._unnoted:
            yield "writing the state of workers", self._note
        yield from self.steps.items()

    def _wanted(self, row: _Row) -> bool:
        """Before any has accepted connections, each is started once."""
        return self._served or not row.decided

    @property
    def _hopeless(self) -> bool:
        return not self._served and all(row.decided and not row.worker for row in self._rows)

    def _over(self) -> bool:
        if not self._asked:
            return False
        now = time.monotonic()
        if not self._stop_at:
            self._stop_at = now + self._notice
            if self._notice and not self._at_once:
                self._guard.run("announcing the drain to workers", lambda: self.warn(self.pids))
        return self._at_once or now >= self._stop_at

    def _start(self, row: _Row) -> None:
        try:
            worker = self._spawn(row.number)
        except Exception:
            self._failed(row)
            raise
        row.worker, row.accepted = worker, 0.0
        self._roster.began(row.number, worker.pid)

    def _sleep(self) -> None:
        sentinels = [worker.sentinel for worker in self._workers()]
        dues = [row.due for row in self._rows if row.worker is None and self._wanted(row)]
        left = min([_NAP, *(due - time.monotonic() for due in dues)])
        multiprocessing.connection.wait([self._wake.reader, *sentinels], max(0.0, left))
        self._wake.drain()

    def _look(self) -> None:
        """See which workers have opened, and which have ended."""
        now = time.monotonic()
        for row in self._rows:
            worker = row.worker
            if worker is None:
                continue
            stage = self._roster.stage(row.number)
            if stage > Stage.STARTING and not row.decided:
                row.decided = self._unnoted = True
            if stage > Stage.HELD and not row.accepted:
                row.accepted = now
                self._served = self._unnoted = True
            if row.failures and row.accepted and now - row.accepted >= _STEADY:
                row.failures = 0
                self._roster.reset_failures(row.number)
                self._unnoted = True
            if worker.exitcode is not None:
                self._ended(row)
        if self._served and not self._announced and all(row.decided for row in self._rows):
            self.opened()
            self._announced = True

    def _note(self) -> None:
        self.changed()
        self._unnoted = False

    def _ended(self, row: _Row) -> None:
        worker, row.worker = row.worker, None
        pid, how = worker.pid, _ending(worker.exitcode)
        worker.close()
        self._guard.run("cleaning up after a worker", partial(self.buried, pid))
        if self._asked:
            return
        self._failed(row)
        wait = row.due - time.monotonic()
        then = f"restarting in {wait:.1f} s" if wait > 0 else "restarting"
        if not self._served:
            then = "not restarted before another worker has opened"
        _log.error("worker %d, process %d, %s; %s", row.number + 1, pid, how, then)

    def _failed(self, row: _Row) -> None:
        now = time.monotonic()
        accepted = row.accepted != 0.0
        served = now - row.accepted if accepted else 0.0
        row.failures = 1 if served >= _STEADY else row.failures + 1
        row.decided, row.accepted = True, 0.0
        self._unnoted = True
        wait = wait_after(row.failures)
        if not self._workers():
            wait = min(wait, LONGEST_ALONE)
        row.due = now + wait
        self._roster.ended(
            row.number, accepted=accepted, failures=row.failures, next_start=time.time() + wait
        )

    def _workers(self) -> list[Worker]:
        return [row.worker for row in self._rows if row.worker is not None]

    # The end.

    def _stop(self) -> None:
        """Stop all workers: ask, wait as long as the drain lasts, kill. What one step raises keeps
        no other from being tried."""
        self._asked = self._at_once = True
        rows = [row for row in self._rows if row.worker is not None]
        self._guard.run("unblocking the signals of workers", lambda: self.release(self.pids))
        for row in rows:
            self._guard.run("terminating a worker", row.worker.terminate)
        began = time.monotonic()
        while rows := [row for row in rows if self._lives(row, time.monotonic() - began)]:
            if not self._guard.run("waiting for workers", partial(_any_ends, rows)):
                time.sleep(_NAP)
        for row in self._rows:
            row.worker = None

    def _lives(self, row: _Row, waited: float) -> bool:
        """Whether its process still has time, and uses it. When there is none left it is killed."""
        process = row.worker
        if process.exitcode is not None:
            return False
        unopened = self._roster.stage(row.number) < Stage.UNREADY and not row.accepted
        if waited < (min(_UNOPENED_SECONDS, self._drain) if unopened else self._drain):
            return True
        _log.warning("worker process %d did not stop in time; killing it", process.pid)
        self._guard.run("killing a worker", row.worker.kill)
        self._guard.run("waiting for a killed worker", lambda: process.join(_REAP_SECONDS))
        return False


def _any_ends(rows: list[_Row]) -> None:
    """Wait until one of them has ended, for a nap at most."""
    ended = multiprocessing.connection.wait([row.worker.sentinel for row in rows], _NAP)
    if ended:
        time.sleep(0.001)  # the pipe is closed a moment before the process has ended


def _ending(exitcode: int) -> str:
    """In words, as `multiprocessing` gives it: below 0 for the signal that ended it."""
    if exitcode >= 0:
        return f"ended with status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}"
