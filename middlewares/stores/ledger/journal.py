"""What a process has under way, in files that outlive it.

Theory of operation. A row goes to the SQL store a moment after its request has ended, and a
process can be killed at any moment before. So it first writes into a journal of its own: `open`
before a request may cost anything, `close` when its row is known, `void` when there will be none.
What was written is with the operating system when the call returns: it survives kill -9 of the
process, and of all processes. It is not forced to the disk (that costs a thousand times as much),
so a machine that loses its power may lose the last seconds. The folder has to be on a disk of this
machine.

A journal is a folder's files of one name: NAME.lock, which its process keeps locked (flock) as
long as it lives, and numbered segments NAME.000001.journal, …. A segment begins with the mark of
this form, and then is a sequence of records

    length of the payload     4 bytes, little-endian
    CRC-32 of the payload     the same, begun with the number of the kind
    kind                      1 byte: open, close, void
    payload                   MessagePack: an `Entry`, or its id

in a file that has all its room on the disk from the beginning, zeros, and is mapped into memory: a
record is a copy, without a system call, and without letting go of the interpreter, which others
would keep for longer than the copy takes. Where there are only zeros the records end, and a copy
that was cut off is the last. A segment begins with the entries that are open at that moment, so
a process that has all rows of the older ones can remove those, the oldest first.

When the lock is free the process is dead: the process that gets the lock reads the rows (`dead`).
"""

import errno
import fcntl
import logging
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from mmap import mmap
from pathlib import Path
from typing import Literal

import msgspec

from middlewares.stores.errors import StoreUnavailable

from .base import Entry, storable

_log = logging.getLogger(__name__)

Kind = Literal["open", "close", "void"]

_KINDS: tuple[Kind, ...] = ("open", "close", "void")
_OPEN, _CLOSE, _VOID = range(3)
_MARK = b"penstock journal 2\n"
_HEAD = struct.Struct("<IIB")
_encode = msgspec.msgpack.Encoder().encode
_entry = msgspec.msgpack.Decoder(Entry)
_id = msgspec.msgpack.Decoder(str)
_crc = zlib.crc32
_head = _HEAD.pack
_ODD = (UnicodeEncodeError, OverflowError)
"""What encoding raises for what no store takes either."""


class Damaged(Exception):
    """A segment has something else than its mark and records before its end."""


def _record(kind: int, content: Entry | str) -> bytes:
    try:
        payload = _encode(content)
    except _ODD:
        if isinstance(content, str):
            raise
        payload = _encode(storable(content))
    return _head(len(payload), _crc(payload, kind), kind) + payload


def records(segment: Path | int) -> Iterator[tuple[Kind, Entry | str]]:
    """What a segment holds, in order: entries, and ids of void ones.

    A torn record at the end is skipped: its write was never confirmed. Raises
    OSError, and Damaged when something that cannot be read has anything behind it; after all
    others, when a record is whole and is no entry.
    """
    if isinstance(segment, int):
        data = os.pread(segment, os.fstat(segment).st_size, 0)
        name = f"a segment ({segment})"
    else:
        data = segment.read_bytes()
        name = segment.name
    odd: Damaged | None = None
    at = len(_MARK)
    if not data.startswith(_MARK):
        if _MARK.startswith(data.rstrip(b"\0")):
            return
        raise Damaged(f"{name} is no journal, or one of another version")
    while at < len(data):
        after = at + _HEAD.size
        length, crc, number = _HEAD.unpack_from(data, at) if after <= len(data) else (0, 0, 0)
        end = after + length
        if end > len(data) or not (length or crc):
            break
        payload = memoryview(data)[after:end]
        if _crc(payload, number) != crc or number >= len(_KINDS):
            if not data[end:].strip(b"\0"):  # nothing, or what the file system had not written
                break
            raise Damaged(f"{name}, byte {at}")
        kind = _KINDS[number]
        try:
            content = (_id if kind == "void" else _entry).decode(payload)
        except msgspec.DecodeError as raised:
            odd = odd or Damaged(f"{name}, byte {at}: {raised}")
        else:
            yield kind, content
        at = end
    if odd is not None:
        raise odd


class Journal:
    """The journal of this process. Every call is one short copy.

    room: bytes of each segment, beside the entries that it begins with.
    Make it after the last fork: a child would hold the lock too.
    """

    def __init__(self, folder: Path, room: int = 9 << 20) -> None:
        """Raises StoreUnavailable when the folder cannot be written to."""
        self._folder = folder
        self._room = room
        self._open: dict[str, bytes] = {}
        self._late: list[bytes] = []
        self._segment = 0
        self._inode = 0
        self._map: mmap | None = None
        self.size = 0
        """Bytes in the current segment."""
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.name, self._lock = _locked(folder)
            try:
                self.turn()
            except BaseException:
                self._unlock()
                _lock_path(folder, self.name).unlink(missing_ok=True)
                raise
        except OSError as raised:
            raise _unwritable(raised) from raised

    @property
    def segment(self) -> int:
        """Number of the segment that is written to."""
        return self._segment

    @property
    def under_way(self) -> int:
        """How many entries are open."""
        return len(self._open)

    def open(self, entry: Entry) -> None:
        """Keep what the row would be if this process died now. Raises StoreUnavailable."""
        record = _record(_OPEN, entry)
        try:
            self._write(record)
        except OSError as raised:
            raise _unwritable(raised) from raised
        self._open[entry.id] = record

    def close(self, entry: Entry) -> None:
        """Keep a row. Raises OSError; then it is written before whatever is written next."""
        self._open.pop(entry.id, None)
        self._end(_record(_CLOSE, entry))

    def void(self, entry_id: str) -> None:
        """There will be no row. Raises OSError; then it is written before whatever comes next."""
        if self._open.pop(entry_id, None) is not None:
            self._end(_record(_VOID, entry_id))

    def forget(self, entry_id: str) -> None:
        """An entry is over, while the files are gone; its row, if any, is for `begin_again`."""
        if self._open.pop(entry_id, None) is not None:
            self._late.append(_record(_VOID, entry_id))

    def turn(self) -> None:
        """Begin the next segment, with all that is open. Raises OSError: then nothing changed."""
        path = self.path(self._segment + 1)
        begins = b"".join([_MARK, *self._late, *self._open.values()])
        mapped = _made(path, len(begins) + self._room)
        mapped.write(begins)
        self._let_go()
        self._map = mapped
        self._inode = path.stat().st_ino
        self._late = []
        self._segment += 1
        self.size = len(begins)

    def is_gone(self) -> bool:
        """Whether its files have been removed, so that it could not be recovered."""
        try:
            lock = _lock_path(self._folder, self.name).stat()
            segment = self.path(self._segment).stat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            return False
        return lock.st_ino != os.fstat(self._lock).st_ino or segment.st_ino != self._inode

    def begin_again(self, rows: Iterable[Entry]) -> None:
        """Where its files were removed: the next segment, under another name, with all that is open
        and these closed rows. What is left of older segments goes with it.

        Raises OSError: then nothing changed.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        before = self.name, self._lock, self._late
        old = _segments(self._folder, self.name)
        self.name, self._lock = _locked(self._folder)
        self._late = [*self._late, *(_record(_CLOSE, row) for row in rows)]
        try:
            self.turn()
        except BaseException:
            self._unlock()
            _lock_path(self._folder, self.name).unlink(missing_ok=True)
            self.name, self._lock, self._late = before
            raise
        for path in old:
            # Under its old name somebody would recover it, and what runs would be taken for lost.
            path.rename(self._folder / path.name.replace(before[0], self.name, 1))
        _lock_path(self._folder, before[0]).unlink(missing_ok=True)
        os.close(before[1])

    def path(self, segment: int) -> Path:
        """Where a segment is."""
        return _segment_path(self._folder, self.name, segment)

    def aclose(self, *, keep: bool) -> None:
        """Close. keep: leave the files for recovery; else they are removed."""
        if self._map is None:
            return
        if keep and self._late:
            with suppress(OSError):
                self._write(b"")
        self._let_go()
        if not keep:
            for path in _segments(self._folder, self.name):
                path.unlink(missing_ok=True)
            _lock_path(self._folder, self.name).unlink(missing_ok=True)
        self._unlock()

    def _let_go(self) -> None:
        """Of the segment: its file is as long as what is in it."""
        mapped, self._map = self._map, None
        if mapped is not None:
            mapped.close()
            with suppress(OSError):
                os.truncate(self.path(self._segment), self.size)

    def _unlock(self) -> None:
        os.close(self._lock)

    def _end(self, record: bytes) -> None:
        try:
            self._write(record)
        except OSError:
            self._late.append(record)
            raise

    def _write(self, record: bytes) -> None:
        late, mapped = self._late, self._map
        if late:
            record = b"".join([*late, record])
        size = self.size + len(record)
        if mapped is None or size > len(mapped):
            raise _full()
        mapped.write(record)
        self.size = size
        if late:
            late.clear()


class DeadJournal:
    """The journal of a dead process, locked by the process that recovers it."""

    def __init__(self, folder: Path, name: str, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._damaged: set[Path] = set()
        self.name = name

    def rows(self) -> Iterator[list[Entry]]:
        """Rows that were closed, by segment, and last the entries that were open, as opened.

        Raises OSError.
        """
        under_way: dict[str, Entry] = {}
        for path in _segments(self._folder, self.name):
            closed: list[Entry] = []
            try:
                for kind, entry in records(path):
                    if isinstance(entry, str):
                        under_way.pop(entry, None)
                    elif kind == "open":
                        under_way[entry.id] = entry
                    else:
                        under_way.pop(entry.id, None)
                        closed.append(entry)
            except Damaged as raised:
                self._damaged.add(path)
                _log.error("a journal is damaged; unreadable rows are set aside: %s", raised)
            yield closed
        yield list(under_way.values())

    def remove(self) -> None:
        """All of its rows are in the store. Raises OSError."""
        for path in _segments(self._folder, self.name):  # the oldest first, see above
            if path in self._damaged:
                path.rename(path.with_suffix(".damaged"))
            else:
                path.unlink(missing_ok=True)
        _lock_path(self._folder, self.name).unlink(missing_ok=True)

    def release(self) -> None:
        """Unlock. What is not removed is recovered by the next process."""
        os.close(self._lock)


def dead(folder: Path) -> Iterator[DeadJournal]:
    """The journals in `folder` of dead processes, except those that another process is recovering.

    Each has to be released before the next. Raises OSError.
    """
    names = {path.name.partition(".")[0] for path in folder.iterdir() if _is_journal(path)}
    for name in sorted(names):
        lock = _try_lock(_lock_path(folder, name), os.O_CREAT)
        if lock is not None:
            yield DeadJournal(folder, name, lock)


def closed(segment: Path | int) -> list[Entry]:
    """The rows that were closed in a segment, in order; of a path, or a descriptor that is left
    open. Raises OSError."""
    rows: list[Entry] = []
    try:
        for kind, entry in records(segment):
            if kind == "close" and not isinstance(entry, str):
                rows.append(entry)
    except Damaged as raised:
        _log.error("a journal is damaged; unreadable rows are lost: %s", raised)
    return rows


def _made(path: Path, size: int) -> mmap:
    """A new file of `size` bytes, all of them on the disk. Raises OSError: then it is not there."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(file, 0, size)  # what is mapped and has no place would end the process
        return mmap(file, size)
    except BaseException:
        path.unlink()
        raise
    finally:
        os.close(file)


def _locked(folder: Path) -> tuple[str, int]:
    """A new name with its lock."""
    while True:
        name = f"{time.time_ns():x}-{os.getpid():x}-{secrets.token_hex(4)}"
        lock = _try_lock(_lock_path(folder, name), os.O_CREAT | os.O_EXCL)
        if lock is not None:  # else somebody took it for a dead one's, in the moment between
            return name, lock


def _try_lock(path: Path, flags: int) -> int | None:
    """The file at `path`, open and locked; None when somebody else has it, or has removed it."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_nlink:
            return file
    except BlockingIOError:
        pass
    except BaseException:
        os.close(file)
        raise
    os.close(file)
    return None


def _lock_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.lock"


def _segment_path(folder: Path, name: str, segment: int) -> Path:
    return folder / f"{name}.{segment:06d}.journal"


def _segments(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.*.journal"), key=lambda path: (len(path.name), path.name))


def _is_journal(path: Path) -> bool:
    return path.suffix in (".lock", ".journal")


def _full() -> OSError:
    return OSError(errno.ENOSPC, "a segment is full, and there is no room for another")


def _unwritable(raised: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"cannot write the journal: {raised}")
