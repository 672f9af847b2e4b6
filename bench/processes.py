"""Start, pin and stop processes, and read what they cost: CPU time and memory of a whole tree.

Linux only. CPU time is the CPU clock of each process (clock_getcpuclockid(3), nanoseconds; threads
that ended are in it) plus that of children already reaped (proc(5) cutime and cstime, clock ticks).
"""

import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_PATIENCE = 5.0


def tree(pid: int) -> list[psutil.Process]:
    """The process and all its descendants, those that just ended left out."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_ns(pid: int) -> int:
    """CPU time the tree below `pid` has used since it began, in nanoseconds."""
    total = 0
    for process in tree(pid):
        try:
            total += time.clock_gettime_ns((~process.pid << 3) | 2)  # CPUCLOCK_SCHED of that pid
            total += _reaped_ns(process.pid)
        except OSError:
            continue
    return total


def _reaped_ns(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) * _TICK_NS  # cutime, cstime


def memory_kib(pid: int) -> dict[str, int]:
    """Memory of the tree below `pid`: `rss` counts shared pages in each process, `pss` once."""
    sums = {"rss": 0, "pss": 0}
    for process in tree(pid):
        try:
            rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in rollup.splitlines():
            name, _, rest = line.partition(":")
            if name.lower() in sums:
                sums[name.lower()] += int(rest.split()[0])
    return sums


def pin(pid: int, core: int) -> None:
    """Put every thread of the tree below `pid` on one core."""
    for process in tree(pid):
        for thread in process.threads():
            os.sched_setaffinity(thread.id, {core})


def allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one, for this process and its children."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def start(
    command: Sequence[str | Path],
    *,
    core: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own on one core; both outputs go to `log`."""
    with log.open("wb") as out:
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a process of ours to end; after 5 s end its whole session, whatever it is doing."""
    below = tree(process.pid)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for left in below:
        try:
            left.kill()
        except psutil.NoSuchProcess:
            continue
