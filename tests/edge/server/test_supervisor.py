"""The supervisor's loop with processes that do what a test wants of them."""

import errno
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from edge.runtime.loop_guard import LoopGuard
from edge.runtime.worker_table import Stage, WorkerTable
from edge.server import forking
from edge.server.supervisor import LONGEST_ALONE, LONGEST_WAIT, Supervisor, start_delay
from edge.server.wake_pipe import WakePipe
from tests.waiting import DEADLINE

_FORK = multiprocessing.get_context("fork")

RAISED = [
    FileNotFoundError(errno.ENOENT, "No such file or directory"),
    NotADirectoryError(errno.ENOTDIR, "Not a directory"),
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENFILE, "Too many open files in system"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    ProcessLookupError(errno.ESRCH, "No such process"),
    MemoryError(),
    RuntimeError("can't start new thread"),
    RecursionError("maximum recursion depth exceeded"),
    ValueError("embedded null byte"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
]


def started(
    table: WorkerTable, wake: WakePipe, row: int, *, opens: bool, patient: bool
) -> BaseProcess:
    """The process of a worker. opens: it reports that it is ready; patient: it ignores SIGTERM."""

    def run() -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_IGN if patient else signal.SIG_DFL)
        if not opens:
            os._exit(3)
        table.report(row, Stage.READY)
        wake.wake()
        time.sleep(DEADLINE)

    process = _FORK.Process(target=run)
    forking.use(process)
    process.start()
    return process


class Case:
    """A supervisor whose workers open, and what it called."""

    def __init__(self, workers: int = 2, *, drain: float = 5.0) -> None:
        self.table = WorkerTable(workers)
        self.wake = WakePipe()
        self.opens = True
        self.patient = False
        self.raises: Exception | None = None
        self.spawned: list[int] = []
        self.ready = threading.Event()
        self.supervisor = Supervisor(
            self.table, self.wake, spawn=self.spawn, drain_delay=0.0, drain=drain
        )
        self.supervisor.on_open = self.ready.set
        self.turns = 0
        self.wrong: Exception | None = None
        self.at_turn: Callable[[int], object] = lambda _turn: None
        self.supervisor.steps["the test"] = self._turned

    def spawn(self, row: int) -> BaseProcess:
        self.spawned.append(row)
        if self.raises is not None:
            raise self.raises
        return started(self.table, self.wake, row, opens=self.opens, patient=self.patient)

    def _turned(self) -> None:
        self.turns += 1
        try:
            self.at_turn(self.turns)
        except Exception as error:  # the loop would go on
            self.wrong = error
            self.supervisor.interrupt()

    def run(self, at_turn: Callable[[int], object]) -> int:
        """The exit status. No process is left."""
        self.at_turn = at_turn
        before = set(multiprocessing.active_children())
        try:
            status = self.supervisor.run()
        finally:
            assert not set(multiprocessing.active_children()) - before
        if self.wrong is not None:
            raise self.wrong
        return status


def test_wait_after_doubles_and_is_bounded() -> None:
    waits = [start_delay(failures) for failures in range(1, 12)]
    assert waits[:4] == [0.0, 0.5, 1.0, 2.0]
    assert waits[-1] == LONGEST_WAIT == start_delay(10**9)


def test_workers_that_end_are_replaced() -> None:
    case = Case()

    def at_turn(turn: int) -> None:
        fleet = case.table.fleet()
        if fleet.alive < 2:
            return
        if fleet.ends:
            case.supervisor.terminate()
        else:
            os.kill(case.supervisor.pids[1], signal.SIGKILL)

    assert case.run(at_turn) == 0
    assert case.spawned == [0, 1, 1]
    fleet = case.table.fleet()
    assert (fleet.ends, fleet.failed) == (1, 0)
    assert case.ready.is_set()


def test_no_worker_opens_at_first_start_ends_with_status_1() -> None:
    case = Case(3)
    case.opens = False
    assert case.run(lambda _turn: None) == 1
    assert sorted(case.spawned) == [0, 1, 2]
    assert not case.ready.is_set()


def test_no_worker_can_be_started_at_first_ends_with_status_1() -> None:
    case = Case(2)
    case.raises = OSError(errno.EAGAIN, "Resource temporarily unavailable")
    assert case.run(lambda _turn: None) == 1


def test_starts_that_fail_later_go_on_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    case = Case(2)

    def at_turn(turn: int) -> None:
        fleet = case.table.fleet()
        if case.raises is None and fleet.alive == 2 and not fleet.ends:
            case.raises = OSError(errno.ENOMEM, "Cannot allocate memory")
            os.kill(case.supervisor.pids[1], signal.SIGKILL)
        if case.raises is not None and fleet.failures == 4:
            assert fleet.alive == 1
            assert fleet.next_start > time.time() - DEADLINE
            case.raises = None
        if case.raises is None and fleet.ends and fleet.alive == 2:
            case.supervisor.terminate()

    assert case.run(at_turn) == 0
    said = [
        record.getMessage() for record in caplog.records if record.name == "edge.runtime.loop_guard"
    ]
    assert said[0] == "starting worker 2 failed; trying again"
    assert len(said) <= 2


def test_starts_follow_soon_while_no_worker_lives() -> None:
    case = Case(1)
    waits: list[float] = []

    def at_turn(turn: int) -> None:
        fleet = case.table.fleet()
        if case.raises is None and fleet.alive and not fleet.ends:
            case.raises = OSError(errno.ENOMEM, "Cannot allocate memory")
            os.kill(case.supervisor.pids[0], signal.SIGKILL)
        if fleet.failures == 5:
            waits.append(fleet.next_start - time.time())
            case.supervisor.terminate()

    assert case.run(at_turn) == 0
    assert waits[0] <= LONGEST_ALONE < start_delay(5)


HOOKS = ("on_end", "on_change", "on_drain", "before_stop", "on_open")


@pytest.mark.parametrize("error", RAISED, ids=lambda error: f"{type(error).__name__}-{error}")
def test_step_raises_any_error_workers_are_replaced_and_stopped(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """All hooks of the loop at once, and a step."""
    caplog.set_level(logging.INFO)
    case = Case(1)

    def fails(*_: Any) -> None:
        raise error

    for hook in HOOKS:
        setattr(case.supervisor, hook, fails)
    case.supervisor.steps = {"the fault": fails, **case.supervisor.steps}

    def at_turn(turn: int) -> None:
        fleet = case.table.fleet()
        if fleet.alive and not fleet.ends:
            os.kill(case.supervisor.pids[0], signal.SIGKILL)
        elif fleet.alive:
            case.supervisor.terminate()

    assert case.run(at_turn) == 0
    assert case.spawned == [0, 0]
    said = [
        record.getMessage() for record in caplog.records if record.name == "edge.runtime.loop_guard"
    ]
    assert said.count("the fault failed; trying again") == 1


def test_loop_that_ends_by_itself_stops_its_workers() -> None:
    case = Case(2)

    def at_turn(turn: int) -> None:
        if case.table.fleet().alive == 2:
            raise SystemExit(9)

    with pytest.raises(SystemExit):
        case.run(at_turn)


def test_worker_that_does_not_stop_is_killed_after_the_drain() -> None:
    case = Case(1, drain=0.5)
    case.patient = True

    def at_turn(turn: int) -> None:
        if case.table.fleet().alive:
            case.supervisor.interrupt()

    assert case.run(at_turn) == 0


def test_guard_logs_once_until_it_passes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    guard = LoopGuard()
    errors: list[Exception | None] = [OSError("a"), OSError("a"), OSError("b"), None, OSError("b")]

    def step() -> None:
        if (error := errors.pop(0)) is not None:
            raise error

    assert [guard.run("it", step) for _ in range(5)] == [False, False, False, True, False]
    assert [record.getMessage().partition(" ")[2] for record in caplog.records] == [
        "failed; trying again",
        "failed; trying again",
        "works again",
        "failed; trying again",
    ]


def test_failed_fork_leaves_no_descriptor_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))

    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", refused)
    for _ in range(3):
        process = _FORK.Process(target=time.sleep)
        forking.use(process)
        with pytest.raises(BlockingIOError):
            process.start()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_wake_pipe_full_wakes_without_blocking() -> None:
    wake = WakePipe()
    for _ in range(1 << 17):
        wake.wake()
    wake.clear()
    wake.clear()
    wake.clear()
    wake.wake()
    assert os.read(wake.reader, 1)
