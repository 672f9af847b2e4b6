"""The temporary folders of a running gateway; in one of them its processes note their status.

Each folder has a file that is locked as long as a process of the gateway lives. The next gateway of
the same user that starts removes folders whose lock is free: their processes were killed. The
folder for status is made again when it is removed under a running gateway (a cleaner of /tmp, a
TMPDIR that is gone). Serving never depends on it: where there is no room for one, only `penstock
status` is missing.
"""

import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR

from .status import PREFIX

_log = logging.getLogger(__name__)

LOCK = "gateway.lock"
"""Only folders that have this file are removed: others may begin with the same letters."""


class HeldFolder:
    """A new temporary folder of mode 0700, removed by `close`, or later when this process was
    killed. kind: what its name has after `penstock-`. Raises OSError."""

    def __init__(self, kind: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
        try:
            self._lock = _locked(self.path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def close(self) -> None:
        """Remove it with all that is in it. May take its time."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


class RunFolder:
    """A folder of mode 0700, made at once. path: None where none can be made, which is logged."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._lock: int | None = None
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = _locked(self.path)
        except OSError as error:
            _log.error("cannot create a temporary folder, so no status is written: %s", error)

    def renew(self) -> bool:
        """Make the folder again when it has been removed. Whether it was: what the parent noted in
        it has to be noted again."""
        path = self.path
        if path is None or path.exists():
            return False
        try:
            path.mkdir(mode=0o700, parents=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            self._lock = _locked(path)
        except OSError:  # tried again at the next look; workers say nothing of status either
            return False
        _log.warning("the temporary folder %s was removed; created another", path)
        return True

    def close(self) -> None:
        """Remove it."""
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_leftovers() -> list[Path]:
    """Remove folders of this user's gateways of which no process lives; which they were."""
    removed: list[Path] = []
    try:
        folders = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    except OSError:
        return removed
    for folder in folders:
        with suppress(OSError):
            there = folder.lstat()  # a link may be ours, and lead elsewhere
            if not S_ISDIR(there.st_mode) or there.st_uid != os.geteuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # taken while one lives
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(lock)
    return removed


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock. Forked processes share it: the lock is free when
    the last of them has ended."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(folder / LOCK, flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
