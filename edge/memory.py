"""Whether the limits of memory that hold for this process can carry the workers."""

import resource
from collections.abc import Iterator
from pathlib import Path

_MIB = 1 << 20
PARENT_BYTES = 64 * _MIB
"""Of the parent process, at rest."""
WORKER_BYTES = 96 * _MIB
"""Of each worker, at rest: measured, with some room. What requests hold comes on top."""
ADDRESS_BYTES = 640 * _MIB
"""Address space of each process, most of which is mapped and never touched."""


def memory_misfits(workers: int, root: Path = Path("/")) -> list[str]:
    """A sentence for each limit that cannot carry so many workers.

    root: of the file system in which `proc` and `sys` are.
    """
    found: list[str] = []
    needed = PARENT_BYTES + workers * WORKER_BYTES
    limit = min(_cgroup_limits(root), default=needed)
    if limit < needed:
        fit = max(0, (limit - PARENT_BYTES) // WORKER_BYTES)
        advice = f"set server.workers to {fit} or raise it" if fit else "raise it"
        found.append(
            f"memory: the control group allows {limit // _MIB} MiB, {workers} workers take about "
            f"{needed // _MIB} MiB at rest, so that processes are killed; {advice}"
        )
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY and soft < ADDRESS_BYTES:
        found.append(
            f"memory: the address space of a process is limited to {soft // _MIB} MiB (ulimit -v), "
            f"each process takes about {ADDRESS_BYTES // _MIB} MiB of it; raise or remove the limit"
        )
    return found


def _cgroup_limits(root: Path) -> Iterator[int]:
    """Bytes that the control groups of this process allow, of version 2 and 1, from its own up to
    the outermost that can be seen."""
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
                text = ""  # no group that is seen from inside of a container
            if text.isdigit():
                yield int(text)
            folder = folder.parent
