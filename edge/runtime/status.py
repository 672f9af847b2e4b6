"""The status of a running gateway, for GET /status and `penstock status`.

Theory of operation. Parent and workers share a folder. The parent writes its address
(`server.json`), the result of the last reload (`reload.json`) and the state of the workers
(`workers.json`); each worker writes what it runs (`worker-PID.json`). The worker that answers
GET /status reads all of them. The parent deletes the file of a worker that has ended.
"""

import os
import platform
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from time import time
from typing import Any, Literal, TypeVar

import msgspec

from .figures import WorkerFigures, summed, when
from .worker_table import Fleet, alive

T = TypeVar("T")

PREFIX = "penstock-"
"""The first part of the names of gateways' temporary folders."""

ADDRESS_PREFIX = "serving-"
"""The first part of the names of address files (`edge.server.address_note`)."""

State = Literal["ready", "not ready", "draining"]
Result = Literal["applied", "refused", "unchanged"]


class Serving(msgspec.Struct, frozen=True):
    """The address of a gateway, written by the parent when it serves. Times in Unix seconds.

    workers: the configured number. tables, schema: versions of the tables of the SQL store at the
        start, and of this program.
    file: absolute path of the configuration as it was given, with its links: kubelet changes those
        of a ConfigMap. "" without a file.
    born: see `process_start`.
    """

    pid: int
    version: str
    url: str
    file: str
    started: float
    workers: int
    born: int = 0
    tables: str = ""
    schema: str = ""


class Reloaded(msgspec.Struct, frozen=True):
    """The result of the last reload.

    reasons: the faults, in the words of `penstock check`. digest: of the file that was read.
    valid: whether the file could be served.
    """

    result: Result
    digest: str
    at: float
    reasons: tuple[str, ...] = ()
    valid: bool = True


class Working(msgspec.Struct, frozen=True):
    """One worker. edition and digest: of the configuration that it runs since `loaded` (see
    `edge.config.snapshot.ConfigSnapshot`). requests: in flight. fault: why it does not run the
    newest configuration. figures: what it has under way.
    """

    pid: int
    digest: str
    generation: int
    loaded: float
    requests: int
    state: State
    fault: str = ""
    figures: WorkerFigures = WorkerFigures()


def write(folder: Path, name: str, value: msgspec.Struct) -> None:
    """Write `value` to a file of `folder`, atomically."""
    new = folder / f"{name}.new-{os.getpid()}"
    new.write_bytes(msgspec.json.encode(value))
    new.replace(folder / name)


def worker_file(pid: int) -> str:
    """The name of a worker's file."""
    return f"worker-{pid}.json"


def live_workers(folder: Path) -> Iterator[tuple[Working, float]]:
    """The live workers, and when each wrote its file last, in Unix seconds."""
    for path in sorted(folder.glob("worker-*.json")):
        found = read(path, Working)
        with suppress(OSError):
            if found is not None and alive(found.pid):
                yield found, path.stat().st_mtime


def report(
    own: Working, folder: Path | None, now: float, fleet: Fleet | None = None
) -> dict[str, Any]:
    """The answer to GET /status.

    own: the worker that answers. folder: of this gateway. fleet: the state of all workers. Both are
    None for a worker without a parent.
    """
    rows = [(own, now)]
    serving = reloaded = None
    if folder is not None:
        serving = read(folder / "server.json", Serving)
        reloaded = read(folder / "reload.json", Reloaded)
        rows += [row for row in live_workers(folder) if row[0].pid != own.pid]
    rows.sort(key=lambda row: row[0].pid)
    answer: dict[str, Any] = {"state": own.state}
    if serving is not None:
        answer |= {
            "version": serving.version,
            "python": platform.python_version(),
            "pid": serving.pid,
            "url": serving.url,
            "started": when(serving.started),
            "uptime_seconds": round(now - serving.started, 1),
            "config": serving.file or None,
            "worker_count": serving.workers,
            "tables": {"version": serving.tables, "program": serving.schema},
        }
    if fleet is not None:
        answer |= {"at": round(now, 3), "fleet": msgspec.structs.asdict(fleet)}
    if reloaded is not None:
        answer["last_reload"] = {
            "result": reloaded.result,
            "at": when(reloaded.at),
            "digest": reloaded.digest,
            "reasons": list(reloaded.reasons),
        }
    answer["config_valid"] = reloaded is None or reloaded.valid
    answer["workers"] = [
        {
            "pid": one.pid,
            "state": one.state,
            "digest": one.digest,
            "generation": one.generation,
            "loaded": when(one.loaded),
            "requests": one.requests,
            "streams": one.figures.streams,
            "queued": one.figures.queued,
            "seen_seconds_ago": round(max(0.0, now - seen), 1),
            **({"fault": one.fault} if one.fault else {}),
        }
        for one, seen in rows
    ]
    answer["requests"] = sum(one.requests for one, _ in rows)
    return answer | summed([one.figures for one, _ in rows])


def find_gateway(file: Path, others: Iterable[Serving] = ()) -> str | None:
    """The URL of the newest live gateway that serves the configuration `file`.

    others: gateways that are known from elsewhere. Only temporary folders of this user are read:
    other users may create folders of these names.
    """
    known = [*others, *(serving for serving, _ in _gateways())]
    found = [serving for serving in known if _serves(serving, file)]
    return max(found, key=lambda serving: serving.started).url if found else None


def running_gateways(folder: Path) -> list[Serving]:
    """The live gateways with this journal folder, by their address files."""
    found = [read(path, Serving) for path in folder.glob(f"{ADDRESS_PREFIX}*.json")]
    return [serving for serving in found if serving is not None and is_running(serving)]


def find_fleet(file: Path) -> Fleet | None:
    """The workers of that gateway as its parent wrote them last, for when no worker answers."""
    found = [(serving, folder) for serving, folder in _gateways() if _serves(serving, file)]
    if not found:
        return None
    _, folder = max(found, key=lambda pair: pair[0].started)
    return read(folder / "workers.json", Fleet)


def _serves(serving: Serving, file: Path) -> bool:
    """A path is compared as it leads now: links on it may have been changed since the start."""
    if not serving.file:
        return False
    return os.path.realpath(serving.file) == os.path.realpath(file) and is_running(serving)


def _gateways() -> Iterator[tuple[Serving, Path]]:
    """The gateways of this user, and their folders."""
    try:
        folders = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    except OSError:  # none can be written to, as where everything is read-only
        return
    for folder in folders:
        with suppress(OSError):
            owner = folder.lstat()  # not `stat`: another user's link may lead to our folder
            if not S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid():
                continue
            serving = read(folder / "server.json", Serving)
            if serving is not None:
                yield serving, folder


def connect_host(host: str) -> str:
    """The address for connections from this machine to a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def url_host(host: str) -> str:
    """`host` as in a URL, an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def read(path: Path, kind: type[T]) -> T | None:
    """What `write` wrote to `path`; None when the file is missing or has another form."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def process_start(pid: int) -> int:
    """The start of a process, in clock ticks since boot; 0 on systems without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])  # the name may contain spaces and brackets
    except (OSError, ValueError, IndexError):
        return 0


def is_running(serving: Serving) -> bool:
    """Whether the process that wrote this still runs, and not another one with its id."""
    return alive(serving.pid) and serving.born in (0, process_start(serving.pid))


class StatusFile:
    """A worker's status file: written when the content changes, touched otherwise."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = worker_file(os.getpid())
        self._last: Working | None = None

    def update(self, working: Working) -> None:
        """Write the status of this worker, about once a second. A failure is ignored."""
        last, self._last = self._last, None  # after a failure the next call writes the file
        with suppress(OSError):
            if working == last:
                now = time()
                os.utime(self._folder / self._name, (now, now))
            else:
                write(self._folder, self._name, working)
            self._last = working
