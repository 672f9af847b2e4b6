"""Temporary folders of a running gateway, one of them for its status files.

Each folder has a file that is locked while a process of the gateway lives. The next gateway of the
same user deletes folders whose lock is free, because their processes were killed. The status folder
is created again when it is removed while the gateway runs (by a cleaner of /tmp, or with TMPDIR).
Serving does not depend on it: without a folder only `penstock status` is missing.
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
"""Only folders with this file are deleted: other names may have the same prefix."""


class HeldFolder:
    """A new temporary folder of mode 0700, deleted by `close`, or by the next gateway when this
    process was killed. kind: part of its name. Raises OSError."""

    def __init__(self, kind: str) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-"))
        try:
            self._lock = _locked(self.path)
        except OSError:
            shutil.rmtree(self.path, ignore_errors=True)
            raise

    def close(self) -> None:
        """Delete the folder and its content. Blocks."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


class RunFolder:
    """The status folder, of mode 0700. path: None when it cannot be created, which is logged."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self._lock: int | None = None
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = _locked(self.path)
        except OSError as error:
            _log.error("cannot create a temporary folder, so no status is written: %s", error)

    def renew(self) -> bool:
        """Create the folder again when it was removed. Returns whether it was: the parent has to
        write its files again."""
        path = self.path
        if path is None or path.exists():
            return False
        try:
            path.mkdir(mode=0o700, parents=True)
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None
            self._lock = _locked(path)
        except OSError:  # tried again at the next turn of the loop
            return False
        _log.warning("the temporary folder %s was removed; created another", path)
        return True

    def close(self) -> None:
        """Delete the folder."""
        if self.path is not None:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def remove_leftovers() -> list[Path]:
    """Delete the folders of this user's dead gateways. Returns their paths."""
    removed: list[Path] = []
    try:
        folders = list(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))
    except OSError:
        return removed
    for folder in folders:
        with suppress(OSError):
            there = folder.lstat()  # not `stat`: a link may lead elsewhere
            if not S_ISDIR(there.st_mode) or there.st_uid != os.geteuid():
                continue
            lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises while a process lives
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
            finally:
                os.close(lock)
    return removed


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder's lock. Forked processes share it: the lock is free after
    the last of them ends."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    lock = os.open(folder / LOCK, flags, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock
