"""What a running gateway tells operators of itself, over all its processes.

Theory of operation. Parent and workers share a folder, in which each writes a small file of its
own: the parent where it listens (`server.json`) and what became of the last reload
(`reload.json`), and how many workers there are (`workers.json`), each worker what it runs
(`worker-PID.json`). Whichever worker is asked reads them
all. The file of a worker that died is removed by the parent.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISDIR
from time import time
from typing import Any, Literal, TypeVar

import msgspec

from .roster import Fleet, alive

T = TypeVar("T")

PREFIX = "penstock-"
"""Folders of running gateways begin with it, in the system's folder for temporary files."""

State = Literal["ready", "not ready", "draining"]
Result = Literal["applied", "refused", "unchanged"]


class Serving(msgspec.Struct, frozen=True):
    """Written by the parent once, when every worker has started. Times in Unix seconds.

    workers: how many there should be.
    file: absolute path of the configuration, "" when it has none.
    born: when the process began, as the system counts it; 0 where that is not known.
    """

    pid: int
    version: str
    url: str
    file: str
    started: float
    workers: int
    born: int = 0


class Reloaded(msgspec.Struct, frozen=True):
    """What became of the last look at the configuration file that was due.

    reasons: sentences, as `penstock check` has them. digest: of the file that was looked at.
    valid: whether the file could be served as it is.
    """

    result: Result
    digest: str
    at: float
    reasons: tuple[str, ...] = ()
    valid: bool = True


class Working(msgspec.Struct, frozen=True):
    """One worker. edition and digest: of the configuration it runs (`edge.board.Posted`), since
    `loaded`. requests: under way. fault: why it does not run the newest."""

    pid: int
    digest: str
    edition: int
    loaded: float
    requests: int
    state: State
    fault: str = ""


def write(folder: Path, name: str, value: msgspec.Struct) -> None:
    """Put `value` into a file of `folder`, whole or not at all."""
    new = folder / f"{name}.new-{os.getpid()}"
    new.write_bytes(msgspec.json.encode(value))
    new.replace(folder / name)


def file_of(pid: int) -> str:
    """Name of a worker's file."""
    return f"worker-{pid}.json"


def workers(folder: Path) -> Iterator[tuple[Working, float]]:
    """The workers that live, and when each was heard of last, in Unix seconds."""
    for path in sorted(folder.glob("worker-*.json")):
        found = read(path, Working)
        with suppress(OSError):
            if found is not None and alive(found.pid):
                yield found, path.stat().st_mtime


def report(
    own: Working, folder: Path | None, now: float, fleet: Fleet | None = None
) -> dict[str, Any]:
    """The answer to GET /status. own: of the worker that is asked. folder: of this gateway, None
    where workers have no parent; so is fleet, which are all workers as the parent knows them."""
    rows = [(own, now)]
    serving = reloaded = None
    if folder is not None:
        serving = read(folder / "server.json", Serving)
        reloaded = read(folder / "reload.json", Reloaded)
        rows += [row for row in workers(folder) if row[0].pid != own.pid]
    rows.sort(key=lambda row: row[0].pid)
    answer: dict[str, Any] = {"state": own.state}
    if serving is not None:
        answer |= {
            "version": serving.version,
            "pid": serving.pid,
            "url": serving.url,
            "started": _when(serving.started),
            "uptime_seconds": round(now - serving.started, 1),
            "config": serving.file or None,
            "worker_count": serving.workers,
        }
    if fleet is not None:
        answer |= {"at": round(now, 3), "fleet": msgspec.structs.asdict(fleet)}
    if reloaded is not None:
        answer["last_reload"] = {
            "result": reloaded.result,
            "at": _when(reloaded.at),
            "digest": reloaded.digest,
            "reasons": list(reloaded.reasons),
        }
    answer["config_valid"] = reloaded is None or reloaded.valid
    answer["workers"] = [
        {
            "pid": one.pid,
            "state": one.state,
            "digest": one.digest,
            "edition": one.edition,
            "loaded": _when(one.loaded),
            "requests": one.requests,
            "seen_seconds_ago": round(max(0.0, now - seen), 1),
            **({"fault": one.fault} if one.fault else {}),
        }
        for one, seen in rows
    ]
    return answer


def find(file: Path, others: Iterable[Serving] = ()) -> str | None:
    """URL of the newest gateway that serves the configuration `file` and lives: one of this user,
    or of `others`, who are known from elsewhere.

    Others may put folders beside ours: only those of this user are looked at.
    """
    there = [*others, *(serving for serving, _ in _noted())]
    found = [serving for serving in there if _serves(serving, file)]
    return max(found, key=lambda serving: serving.started).url if found else None


def find_fleet(file: Path) -> Fleet | None:
    """The workers of that gateway, as its parent noted them last: for when none answers."""
    found = [(serving, folder) for serving, folder in _noted() if _serves(serving, file)]
    if not found:
        return None
    _, folder = max(found, key=lambda pair: pair[0].started)
    return read(folder / "workers.json", Fleet)


def _serves(serving: Serving, file: Path) -> bool:
    return serving.file == str(file.resolve()) and lives(serving)


def _noted() -> Iterator[tuple[Serving, Path]]:
    """What gateways of this user noted, and where."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            owner = folder.lstat()  # a link may be theirs, though what it leads to is ours
            if not S_ISDIR(owner.st_mode) or owner.st_uid != os.geteuid():
                continue
            serving = read(folder / "server.json", Serving)
            if serving is not None:
                yield serving, folder


def reachable(host: str) -> str:
    """An address by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


def bracketed(host: str) -> str:
    """`host` as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def read(path: Path, kind: type[T]) -> T | None:
    """What `write` put there; None for anything else."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None


def born(pid: int) -> int:
    """When a process began, in ticks since the machine did; 0 where the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        return int(stat.rpartition(b")")[2].split()[19])  # the name may hold anything
    except (OSError, ValueError, IndexError):
        return 0


def lives(serving: Serving) -> bool:
    """Whether the process that wrote this is still there, and not another of its number."""
    return alive(serving.pid) and serving.born in (0, born(serving.pid))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class Notes:
    """A worker's file: written when it says something new, and touched otherwise."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = file_of(os.getpid())
        self._last: Working | None = None

    def note(self, working: Working) -> None:
        """Called about once a second. What cannot be written is not worth a request."""
        last, self._last = self._last, None  # what fails is written whole the next time
        with suppress(OSError):
            if working == last:
                now = time()
                os.utime(self._folder / self._name, (now, now))
            else:
                write(self._folder, self._name, working)
            self._last = working
