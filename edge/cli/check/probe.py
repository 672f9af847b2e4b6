"""One check that takes time: a probe of a store, of an upstream, of this machine.

Each probe has `PATIENCE` seconds, all run at once, and all together end within `LONGEST`. What a
probe found before its time was over stays. A probe that goes on after it was cancelled (a file
system that does not answer) is left behind: its threads are daemons, so the process can exit.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

from .finding import Finding, Group

T = TypeVar("T")

PATIENCE = 3.0
"""Seconds of one probe."""
LONGEST = 6.0
"""Seconds of all probes together. With the start of the program this stays below 10."""

_LINGER = 1.0
"""Seconds in which cancelled probes may close their connections."""

Findings = AsyncIterator[Finding]


class Probe(NamedTuple):
    """what: see `Finding`. run: yields what it finds. outward: it uses the network.

    patience: seconds, if not the usual.
    """

    what: str
    run: Callable[[], Findings]
    outward: bool = False
    patience: float = PATIENCE


class Given(NamedTuple):
    """A probe, and the groups of its findings; those that name none are of the first."""

    groups: tuple[Group, ...]
    probe: Probe


def run(probes: Sequence[Given]) -> list[Finding]:
    """The findings of all probes, in the order of the probes."""
    longest = max((given.probe.patience for given in probes), default=0.0) + LONGEST - PATIENCE
    loop = asyncio.new_event_loop()
    loop.set_default_executor(_DaemonThreads())
    loop.set_exception_handler(lambda *_: None)  # of tasks that are left behind
    try:
        return loop.run_until_complete(_all(probes, longest))
    finally:
        loop.run_until_complete(_end())
        loop.close()


async def _all(probes: Sequence[Given], total: float) -> list[Finding]:
    found: list[list[Finding]] = [[] for _ in probes]
    tasks = [
        asyncio.create_task(_one(given.probe, into))
        for given, into in zip(probes, found, strict=True)
    ]
    late = set(tasks)
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=total)
    for task, given, into in zip(tasks, probes, found, strict=True):
        if task in late:
            task.cancel()
            into.append(_late(given.probe, total))
    return [
        finding if finding.group else _in(finding, given.groups[0])
        for given, into in zip(probes, found, strict=True)
        for finding in into
    ]


async def _end() -> None:
    """Cancel what is left, also by the clients of stores, and let connections close."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_LINGER)
    for _ in range(3):  # a transport closes in a turn of its own
        await asyncio.sleep(0)


async def _one(probe: Probe, into: list[Finding]) -> None:
    findings = probe.run()
    try:
        async with asyncio.timeout(probe.patience):
            async for finding in findings:
                into.append(finding)  # noqa: PERF401  what was found before a timeout stays
    except TimeoutError:
        into.append(_late(probe, probe.patience))
    except Exception as error:  # one check that fails must not hide the findings of others
        said = f"cannot be checked: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        into.append(Finding("error", probe.what, said))


def _late(probe: Probe, seconds: float) -> Finding:
    return Finding("error", probe.what, f"no answer within {seconds:g} s")


def _in(finding: Finding, group: Group) -> Finding:
    return Finding(finding.state, finding.what, finding.detail, finding.hint, group)


async def in_thread(step: Callable[[], T]) -> T:
    """Run a step that may block, on a file system that does not answer, in a daemon thread."""
    return await asyncio.to_thread(step)


class _DaemonThreads(ThreadPoolExecutor):
    """A thread for each call, which the end of the process does not wait for."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        thread = threading.Thread(target=_fulfil, args=(future, partial(fn, *args, **kwargs)))
        thread.daemon = True
        thread.start()
        return future


def _fulfil(future: Future[Any], step: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = step()
    except BaseException as error:  # the caller raises it
        future.set_exception(error)
    else:
        future.set_result(result)
