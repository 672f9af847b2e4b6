"""Memory limits of this process that are too low for its workers."""

import resource
from collections.abc import Iterator
from pathlib import Path

_MIB = 1 << 20
PARENT_BYTES = 64 * _MIB
"""Resident memory of the idle parent process."""
WORKER_BYTES = 96 * _MIB
"""Resident memory of each idle worker: measured, with a margin. Requests need more."""
ADDRESS_BYTES = 640 * _MIB
"""Address space of each process; most of it is mapped and never used."""


def low_memory_limits(workers: int, root: Path = Path("/")) -> list[str]:
    """A warning for each limit that is too low for so many workers.

    root: of the file system that has `proc` and `sys`.
    """
    found: list[str] = []
    needed = PARENT_BYTES + workers * WORKER_BYTES
    limit = min(_cgroup_limits(root), default=needed)
    if limit < needed:
        fit = max(0, (limit - PARENT_BYTES) // WORKER_BYTES)
        advice = f"set server.workers to {fit} or raise it" if fit else "raise it"
        found.append(
            f"memory: the control group allows {limit // _MIB} MiB, {workers} idle workers need "
            f"about {needed // _MIB} MiB, so processes will be killed; {advice}"
        )
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < ADDRESS_BYTES:
        found.append(
            f"memory: the address space of a process is limited to {soft // _MIB} MiB (ulimit -v), "
            f"each process needs about {ADDRESS_BYTES // _MIB} MiB; raise or remove the limit"
        )
    return found


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Memory limits in bytes of this process's control groups (version 2 and 1), from its own group
    to the outermost visible one."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            top, name = mounted, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = mounted / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = top / path.lstrip("/")
        while folder.is_relative_to(top):
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                text = ""  # not visible from inside a container
            if text.isdigit():
                yield int(text)
            folder = folder.parent
