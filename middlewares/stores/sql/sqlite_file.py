"""The files of one SQLite database: whether its path still names what this process has open.

Theory of operation. SQLite goes on with a file that was removed, replaced or overwritten, and says
nothing. So its path is compared with what was opened, before and after each use: device and inode
of the file and of its -wal and -shm files, the first bytes, and sizes, which only grow. A
connection that is kept for nothing else holds the side files in place, and a descriptor of the file
keeps its inode from being given to another.

After a difference everything is closed, and `open` is tried until there is a good file. It also
sees to it that no process uses a -wal file beside another one: two would destroy the database. One
that belongs to a file that was replaced is renamed. While one was removed and other processes still
have it open, nothing is opened: the last of them to close it brings what it holds into the file.
"""

import fcntl
import logging
import os
import sqlite3
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path

_log = logging.getLogger(__name__)

BUSY = 5.0
"""Seconds to wait for other processes that write to a SQLite file."""
EXAMINED = 1 << 30
"""Bytes up to which a file is read whole (`PRAGMA quick_check`) before it is opened again."""
_MAGIC = b"SQLite format 3\0"
_SIDES = ("-wal", "-shm")
_BAD_CODES = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_IOERR)
_LOCK = struct.Struct("hhqqi")
"""`struct flock` of 64-bit Linux: type, origin, start, length, process."""
_SHARED = (0x40000002, 510)
"""Bytes that every open connection has locked (SQLite, os.h: SHARED_FIRST, SHARED_SIZE)."""
_TRIES = 20
_PAUSE = 0.05


class NotUsable(Exception):
    """What is at the path cannot be used now."""


class SqliteFile:
    """Not for several threads at once, but for `open` and `close`, which may run in another."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.opened = False
        self.suspect = ""
        """Why it has to be opened again although the files are the same."""
        self._descriptor = -1
        self._file = (0, 0)
        self._places = {side: Path(f"{self.path}{side}") for side in _SIDES}
        self._sides: dict[str, tuple[int, int]] = {}
        self._sizes: dict[str, int] = {}
        self._anchor: sqlite3.Connection | None = None
        self._refused: tuple[int, ...] = ()
        self._reason = ""

    @property
    def uri(self) -> str:
        """For connections that make no file."""
        return f"{self.path.as_uri()}?mode=rw"

    def difference(self) -> str:
        """What is not as it was opened; "" when all is. A few system calls."""
        if self.suspect:
            return self.suspect
        path = self.path
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) != self._file:
                return f"{path} is another file now"
            if self._shrunk("", status.st_size):
                return f"{path} has become shorter"
            if os.pread(self._descriptor, len(_MAGIC), 0) != _MAGIC:
                return f"{path} is no SQLite database any more"
            for side, known in self._sides.items():
                path = self._places[side]
                status = path.stat()
                if (status.st_dev, status.st_ino) != known:
                    return f"{path} is another file now"
                if self._shrunk(side, status.st_size):
                    return f"{path} has become shorter"
        except OSError as raised:
            return f"{path}: {raised.strerror}"
        return ""

    def _shrunk(self, side: str, size: int) -> bool:
        before = self._sizes.get(side, 0)
        self._sizes[side] = size
        return size < before

    def failed(self, raised: BaseException) -> None:
        """A statement failed: when it says that the file is damaged, it is opened again."""
        code = getattr(raised, "sqlite_errorcode", 0)
        if code & 0xFF in _BAD_CODES:
            self.suspect = f"{self.path}: {raised}"

    def open(self) -> None:
        """See that the file is good, and remember what is opened. Blocks.

        Call it while this process has no connection: to close a descriptor of a file lets go of
        the locks that SQLite has on it. Raises NotUsable, sqlite3.Error and OSError: then nothing
        is open.
        """
        again = self._descriptor != -1
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        file = (status.st_dev, status.st_ino)
        same = file == self._file
        if again and same:
            os.close(descriptor)
            descriptor = self._descriptor
        try:
            if os.pread(descriptor, len(_MAGIC), 0) != _MAGIC:
                raise NotUsable(
                    f"{self.path} is {'no SQLite database' if status.st_size else 'empty'}"
                )
            if again and not same:
                self._set_aside(descriptor)
            self._wait_for_sides(descriptor)
            self._anchor = self._connect(status, examine=again)
            sides = [(side, place.stat()) for side, place in self._places.items()]
        except BaseException:
            self._let_go()
            if descriptor != self._descriptor:
                os.close(descriptor)
            raise
        if again and not same:
            os.close(self._descriptor)
        self._descriptor, self._file = descriptor, file
        self._sides = {side: (status.st_dev, status.st_ino) for side, status in sides}
        self._sizes.clear()
        self.suspect = ""
        self.opened = True

    def release(self) -> None:
        """Close what is open here; the file stays known. Blocks."""
        self.opened = False
        self._let_go()

    def close(self) -> None:
        """The same, for good."""
        self.release()
        if self._descriptor != -1:
            os.close(self._descriptor)
            self._descriptor = -1
            self._file = (0, 0)

    def _let_go(self) -> None:
        anchor, self._anchor = self._anchor, None
        if anchor is not None:
            with suppress(sqlite3.Error):
                anchor.close()

    def _connect(self, status: os.stat_result, *, examine: bool) -> sqlite3.Connection:
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        if examine and state == self._refused:
            raise NotUsable(self._reason)
        connection = sqlite3.connect(
            self.uri, uri=True, timeout=BUSY, isolation_level=None, check_same_thread=False
        )
        try:
            if examine and status.st_size <= EXAMINED:
                ((result,),) = connection.execute("PRAGMA quick_check(1)")
                if result != "ok":
                    self._refused, self._reason = state, f"{self.path} is damaged: {result}"
                    raise NotUsable(self._reason)
            ((mode,),) = connection.execute("PRAGMA journal_mode")
            if mode != "wal":
                connection.execute("PRAGMA journal_mode=WAL").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, descriptor: int) -> None:
        """The side files of the file that was here before, if they still are."""
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # of several processes, one; SQLite has other locks
        try:
            for side, known in self._sides.items():
                path = self._places[side]
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue
                if (status.st_dev, status.st_ino) != known:
                    continue
                if side == "-shm" or not status.st_size:
                    path.unlink(missing_ok=True)
                    continue
                aside = path.with_name(f"{path.name}.{time.time_ns():x}")
                path.rename(aside)
                _log.warning("%s belongs to the file that was replaced; renamed to %s", path, aside)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def _wait_for_sides(self, descriptor: int) -> None:
        for _ in range(_TRIES):
            gone = [place for place in self._places.values() if not place.exists()]
            if not gone or not _in_use(descriptor):
                return
            time.sleep(_PAUSE)  # somebody opens or closes it just now
        raise NotUsable(f"{gone[0]} was removed while another process has it open")


def beware(path: Path) -> None:
    """Wait until it is safe to open the file at `path`. Raises NotUsable, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        SqliteFile(path)._wait_for_sides(descriptor)
    finally:
        os.close(descriptor)


def _in_use(descriptor: int) -> bool:
    """Whether another process has a connection to the file; unknown, and False, but on Linux."""
    if sys.platform != "linux" or struct.calcsize("P") != 8:
        return False
    asked = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, *_SHARED, 0)
    kind: int = _LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))[0]
    return kind != fcntl.F_UNLCK
