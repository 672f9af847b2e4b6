"""Metric values in memory that the workers share, instead of prometheus_client's files.

prometheus_client keeps the values of several processes in mapped files. A full disk kills a process
that writes to such a file (SIGBUS), and a process that opens a file in a removed folder fails. Here
the values are in one anonymous mapping, created before the workers are forked, without a disk.

The mapping has a slot for each process. A process claims one when it first counts: a free one, or
that of a dead process, whose counters it continues, so that no sum decreases. Gauges of the modes
`live...` count only while their process lives. A slot is like a file of prometheus_client: a head,
then entries of a key (JSON, padded to 8 bytes), a value and a timestamp.
"""

import json
import mmap
import os
import struct
from collections.abc import Iterable, Iterator
from fcntl import LOCK_EX, LOCK_UN, lockf
from math import isnan, nan
from tempfile import TemporaryFile
from typing import Any, ClassVar, NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from edge.runtime.worker_table import alive
from middlewares.metric_table import METRICS_MISSING
from middlewares.prometheus_internals import (
    set_multiprocess_mode,
    set_value_class,
    sum_of_processes,
)

_SLOT = 32 << 20
"""Bytes for the values of one process, about 160,000: a hundred for each of 1,500 models. Unused
pages take no memory."""
_ALL = 1 << 30
"""Bytes for all slots together."""
_HEAD = struct.Struct("=iiq")
"""The head of a slot: bytes used, process id, values without room."""
_LENGTH = struct.Struct("=i")
_VALUE = struct.Struct("=dd")
_MARKS = struct.Struct("=q")


class _Key(NamedTuple):
    """The identity of a value. kind: counter, gauge or histogram. mode: of a gauge."""

    kind: str
    mode: str
    metric: str
    name: str
    labels: tuple[tuple[str, str], ...]
    help: str

    @classmethod
    def of(cls, text: bytes) -> "_Key":
        kind, mode, metric, name, labels, help_text = json.loads(text)
        return cls(
            kind, mode, metric, name, tuple((key, value) for key, value in labels), help_text
        )

    @property
    def live(self) -> bool:
        return self.mode.startswith("live")


class _Slot:
    """One process's part of the mapping."""

    def __init__(self, memory: mmap.mmap, base: int, size: int) -> None:
        self._memory = memory
        self._base = base
        self._size = size
        self.offsets: dict[bytes, int] = {}

    def head(self) -> tuple[int, int, int]:
        """Bytes used, process id and values without room."""
        used, pid, lost = _HEAD.unpack_from(self._memory, self._base)
        return used or _HEAD.size, pid, lost

    def _set_head(self, used: int, pid: int, lost: int) -> None:
        self._memory[self._base : self._base + _HEAD.size] = _HEAD.pack(used, pid, lost)

    def own(self, pid: int) -> None:
        """Give the slot to the process `pid`; 0 frees it."""
        used, _, lost = self.head()
        self._set_head(used, pid, lost)

    def adopt(self, pid: int) -> None:
        """Give the slot to the process `pid`, which continues its values except live gauges."""
        for key, _, offset in list(self.entries()):
            if _Key.of(key).live:
                self.write(offset, nan, 0.0)
            self.offsets[key] = offset
        used, _, lost = self.head()
        self._set_head(used, pid, lost)

    def entries(self) -> Iterator[tuple[bytes, tuple[float, float], int]]:
        """Key, value with timestamp, and offset of each entry."""
        used = self.head()[0]
        copy = self._memory[self._base : self._base + used]
        at = _HEAD.size
        while at < used:
            (length,) = _LENGTH.unpack_from(copy, at)
            end = at + _LENGTH.size + length
            offset = end + -end % 8
            yield (
                copy[at + _LENGTH.size : end],
                _VALUE.unpack_from(copy, offset),
                self._base + offset,
            )
            at = offset + _VALUE.size

    def find(self, key: bytes) -> int | None:
        """The offset of the value of `key`, added when missing; None without room."""
        offset = self.offsets.get(key)
        if offset is not None:
            return offset
        used, pid, lost = self.head()
        end = used + _LENGTH.size + len(key)
        at = end + -end % 8
        if at + _VALUE.size > self._size:
            self._set_head(used, pid, lost + 1)
            return None
        start = self._base + used
        entry = _LENGTH.pack(len(key)) + key
        self._memory[start : start + len(entry)] = entry
        self.write(self._base + at, 0.0, 0.0)
        self._set_head(at + _VALUE.size, pid, lost)
        offset = self.offsets[key] = self._base + at
        return offset

    def write(self, offset: int, value: float, timestamp: float) -> None:
        self._memory[offset : offset + _VALUE.size] = _VALUE.pack(value, timestamp)

    def read(self, offset: int) -> float:
        value: float = _VALUE.unpack_from(self._memory, offset)[0]
        return 0.0 if isnan(value) else value


class MetricMemory:
    """The shared memory, and the source of scrapes over all processes.

    Create it before the fork, and `install` it before the first metric.
    processes: how many may live at a time.
    Raises OSError when there is no memory.
    """

    def __init__(self, processes: int) -> None:
        size = min(_SLOT, _ALL // processes // mmap.PAGESIZE * mmap.PAGESIZE)
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_NORESERVE", 0)
        self._memory = mmap.mmap(-1, processes * size + _MARKS.size, flags)
        self._marks_at = processes * size
        self._slots = [_Slot(self._memory, n * size, size) for n in range(processes)]
        self._lock = lock_file()
        self._pid = 0
        self._own: _Slot | None = None
        self._keys: dict[bytes, _Key] = {}

    def install(self) -> None:
        """Keep the values of all metrics that this process creates from now on here."""
        set_value_class(type("SharedValue", (_SharedValue,), {"memory": self}))

    def release(self, pid: int) -> None:
        """Free the slot of the process `pid`, which has ended."""
        for slot in self._slots:
            if slot.head()[1] == pid:
                slot.own(0)

    def slot(self) -> _Slot | None:
        """The slot of this process, claimed at first use; None when all are taken."""
        pid = os.getpid()
        if pid != self._pid:
            self._pid = pid
            self._own = self._claimed(pid)
        return self._own

    def _claimed(self, pid: int) -> _Slot | None:
        lockf(self._lock, LOCK_EX)
        try:
            for slot in self._slots:
                owner = slot.head()[1]
                if not owner or not alive(owner):
                    slot.offsets.clear()
                    slot.adopt(pid)
                    return slot
        finally:
            lockf(self._lock, LOCK_UN)
        return None

    def collect(self) -> Iterable[Metric]:
        """The metrics of all processes."""
        found: dict[str, Metric] = {}
        lost = 0
        for slot in self._slots:
            _, pid, without_room = slot.head()
            lost += without_room
            lives = bool(pid) and alive(pid)
            for text, (value, timestamp), _ in slot.entries():
                key = self._keys.get(text)
                if key is None:
                    key = self._keys[text] = _Key.of(text)
                if isnan(value) or (key.live and not lives):
                    continue
                metric = found.get(key.metric)
                if metric is None:
                    metric = found[key.metric] = Metric(key.metric, key.help, key.kind)
                    set_multiprocess_mode(metric, key.mode)
                labels: Any = key.labels
                if key.kind == "gauge":
                    labels = (*labels, ("pid", str(pid)))
                metric.add_sample(key.name, labels, value, timestamp)
        missing = GaugeMetricFamily(METRICS_MISSING.exposed(), METRICS_MISSING.help, value=lost)
        return [*sum_of_processes(found), missing]

    def mark(self) -> int:
        """Add a mark: see `ScrapeSource`."""
        lockf(self._lock, LOCK_EX)
        try:
            marks = self.marks + 1
            self._memory[self._marks_at :] = _MARKS.pack(marks)
        finally:
            lockf(self._lock, LOCK_UN)
        return marks

    @property
    def marks(self) -> int:
        """The number of marks of all processes."""
        marks: int = _MARKS.unpack_from(self._memory, self._marks_at)[0]
        return marks


class _SharedValue:
    """One number, with the interface of prometheus_client. Not thread-safe, like its metrics."""

    memory: ClassVar[MetricMemory]

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Iterable[str],
        labelvalues: Iterable[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: Any,
    ) -> None:
        labels = sorted(zip(labelnames, labelvalues, strict=True))
        key = (typ, multiprocess_mode, metric_name, name, labels, help_text)
        self._key = json.dumps(key).encode()
        self._slot: _Slot | None = None
        self._offset: int | None = None
        self._value = 0.0
        self._settle()

    def _settle(self) -> None:
        """Find the offset in the slot of this process, and continue its value."""
        self._slot = self.memory.slot()
        self._offset = None
        self._value = 0.0
        if self._slot is not None:
            self._offset = self._slot.find(self._key)
        if self._slot is not None and self._offset is not None:
            self._value = self._slot.read(self._offset)
            self._slot.write(self._offset, self._value, 0.0)

    def _put(self, value: float, timestamp: float) -> None:
        self._value = value
        if self._slot is not None and self._offset is not None:
            self._slot.write(self._offset, value, timestamp)

    def inc(self, amount: float) -> None:
        if self._slot is not self.memory.slot():
            self._settle()
        self._put(self._value + amount, 0.0)

    def set(self, value: float, timestamp: float | None = None) -> None:
        if self._slot is not self.memory.slot():
            self._settle()
        self._put(value, timestamp or 0.0)

    def get(self) -> float:
        return self._value

    def set_exemplar(self, _exemplar: Any) -> None:
        """Ignore exemplars, as the files of prometheus_client do."""

    def get_exemplar(self) -> None:
        return None


def lock_file() -> int:
    """A descriptor of a file in memory, for a lock between processes."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("metrics")
    with TemporaryFile() as file:
        return os.dup(file.fileno())
