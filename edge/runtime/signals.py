"""Signals between the parent process and its workers.

Workers are forked with stop signals blocked, and unblock them when the parent sends `RELEASE`. So
Ctrl-C, which reaches the whole process group, and a service manager that signals the whole control
group, stop the workers no earlier than the parent does, after `server.drain_delay`.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress

STOP = (signal.SIGINT, signal.SIGTERM)
RELEASE = signal.SIGUSR2
"""From the parent: unblock the stop signals."""
DRAIN = signal.SIGUSR1
"""From the parent: answer 503 at /readyz, the drain delay has begun."""
RELOAD = signal.SIGHUP
"""From the parent: read the published configuration. To the parent: read the configuration file."""


def end_on_sigterm() -> None:
    """End at SIGTERM, until `serve` has its own handler.

    For the first process of a container: the kernel keeps signals without a handler from it, so
    that a stop during the start would wait for SIGKILL.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def prepare_parent() -> None:
    """Set up signals in the parent, before it forks workers."""
    for number in (RELOAD, DRAIN, RELEASE):
        signal.signal(number, signal.SIG_IGN)  # inherited until a worker has its handler
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # an ignored SIGCHLD would reap workers unseen
    os.register_at_fork(before=_block, after_in_parent=_unblock)


def follow_parent() -> None:
    """In a worker: unblock stop signals when the parent says so, and stop when it has died."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(RELEASE, _unblock)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (RELEASE,))
    parent = multiprocessing.parent_process()
    if parent is not None:
        loop.add_reader(parent.sentinel, _stop_orphan, loop, parent.sentinel)


def send(number: signal.Signals, pids: Iterable[int]) -> None:
    """Send a signal to all these processes."""
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended and will be replaced
            os.kill(pid, number)


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP, RELEASE))


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (*STOP, RELEASE))


def _stop_orphan(loop: asyncio.AbstractEventLoop, sentinel: int) -> None:
    loop.remove_reader(sentinel)
    _unblock()
    os.kill(os.getpid(), signal.SIGTERM)
