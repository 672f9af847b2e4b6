"""The state of each worker process, in memory shared by the parent and its workers.

Theory of operation. The table has one row per worker of `server.workers`. The parent writes the
process id and the results of starts; the process writes its own stage. A field is one aligned word
with one writer at a time, so there are no locks. It is memory and not a file, so that a full or
removed folder hides no worker. Its readers: a worker that is not ready accepts no connections while
another is ready; /readyz, /status and the metrics report missing workers.
"""

import asyncio
import mmap
import os
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Self

import msgspec

_FIELDS = 6
_PID, _STAGE, _FAILURES, _NEXT, _ENDS, _FAILED = range(_FIELDS)
_WORD = 8

ALONE_SECONDS = 2.0
"""Seconds without a ready worker after which an unready one accepts connections."""
_TURN_SECONDS = 0.1


class Stage(IntEnum):
    """STARTING: no process, or one that is starting up. HELD: started, not ready, does not accept
    connections. UNREADY: accepts connections, not ready. READY. DRAINING: was asked to stop."""

    STARTING = 0
    HELD = 1
    UNREADY = 2
    READY = 3
    DRAINING = 4


class Fleet(msgspec.Struct, frozen=True):
    """All workers at one moment.

    wanted: the configured number. alive: processes that accept connections. ready: those of them
    that are ready. failures: failed starts in a row, of the worker with the most. next_start: Unix
    seconds of the next start, 0.0 when none is due. ends: unexpected ends of workers since the
    parent started, failed starts included; failed: those before the worker accepted connections.
    """

    wanted: int
    alive: int = 0
    ready: int = 0
    failures: int = 0
    next_start: float = 0.0
    ends: int = 0
    failed: int = 0

    @property
    def whole(self) -> bool:
        """Whether every worker accepts connections."""
        return self.alive >= self.wanted


class WorkerTable:
    """The rows of all workers. Create it before the workers are forked."""

    def __init__(self, workers: int) -> None:
        self._memory = mmap.mmap(-1, workers * _FIELDS * _WORD)
        self._words = memoryview(self._memory).cast("q")
        self.size = workers

    # Called by the parent.

    def began(self, row: int, pid: int) -> None:
        """The process `pid` has this row. It may have reported a stage already."""
        self._put(row, _PID, pid)

    def ended(self, row: int, *, accepted: bool, failures: int, next_start: float) -> None:
        """The process of this row has ended, or could not be started.

        accepted: whether it had accepted connections. failures, next_start: see `Fleet`.
        """
        self._put(row, _PID, 0)
        self._put(row, _STAGE, Stage.STARTING)
        self._put(row, _FAILURES, failures)
        self._put(row, _NEXT, round(next_start * 1000))
        self._put(row, _ENDS, self._at(row, _ENDS) + 1)
        if not accepted:
            self._put(row, _FAILED, self._at(row, _FAILED) + 1)

    def reset_failures(self, row: int) -> None:
        """The process of this row has served for long enough to forget earlier failures."""
        self._put(row, _FAILURES, 0)
        self._put(row, _NEXT, 0)

    def stage(self, row: int) -> Stage:
        """The stage of the process of this row."""
        return Stage(self._at(row, _STAGE))

    # Called by the worker.

    def report(self, row: int, stage: Stage) -> None:
        """Set the stage of this process."""
        self._put(row, _STAGE, stage)

    def another_is_ready(self, row: int) -> bool:
        """Whether a worker of another row is ready."""
        return any(self._is(other, Stage.READY) for other in range(self.size) if other != row)

    # Called by both.

    def fleet(self) -> Fleet:
        """The present state of all workers."""
        rows = range(self.size)
        waiting = [self._at(row, _NEXT) for row in rows if not self._at(row, _PID)]
        return Fleet(
            wanted=self.size,
            alive=sum(
                self._at(row, _PID) != 0 and self.stage(row) >= Stage.UNREADY for row in rows
            ),
            ready=sum(self._is(row, Stage.READY) for row in rows),
            failures=max(self._at(row, _FAILURES) for row in rows),
            next_start=min(filter(None, waiting), default=0) / 1000,
            ends=sum(self._at(row, _ENDS) for row in rows),
            failed=sum(self._at(row, _FAILED) for row in rows),
        )

    def _is(self, row: int, stage: Stage) -> bool:
        return self._at(row, _PID) != 0 and self._at(row, _STAGE) == stage

    def _at(self, row: int, field: int) -> int:
        return self._words[row * _FIELDS + field]

    def _put(self, row: int, field: int, value: int) -> None:
        self._words[row * _FIELDS + field] = value


class WorkerSlot:
    """One worker's row of the table, used by that worker."""

    def __init__(self, table: WorkerTable, row: int) -> None:
        self._table = table
        self._row = row
        self._accepts = False

    @classmethod
    def alone(cls) -> Self:
        """The only row of a table, for a worker without a parent."""
        table = WorkerTable(1)
        table.began(0, os.getpid())
        table.report(0, Stage.UNREADY)
        return cls(table, 0)

    def fleet(self) -> Fleet:
        """The present state of all workers."""
        return self._table.fleet()

    def report(self, *, ready: bool, draining: bool) -> None:
        """Set the stage of this worker. draining: it was asked to stop."""
        if draining:
            stage = Stage.DRAINING
        elif not self._accepts:
            stage = Stage.HELD
        else:
            stage = Stage.READY if ready else Stage.UNREADY
        self._table.report(self._row, stage)

    async def wait_to_accept(
        self, ready: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Return when this worker should accept connections: when it is ready, or when no other
        worker has been ready for `ALONE_SECONDS`."""
        alone_since = clock()
        while not ready():
            if self._table.another_is_ready(self._row):
                alone_since = clock()
            elif clock() - alone_since >= (ALONE_SECONDS if self._table.size > 1 else 0.0):
                break
            self._table.report(self._row, Stage.HELD)
            await asyncio.sleep(_TURN_SECONDS)
        self._accepts = True
        self.report(ready=ready(), draining=False)


def alive(pid: int) -> bool:
    """Whether a process with this id exists, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
