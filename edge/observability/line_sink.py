"""A bounded buffer of log lines that a thread writes to a file.

Code that logs never waits: a pipe that is not read, or a slow disk, costs log lines and not
requests.
"""

import threading
from collections.abc import Callable
from time import sleep
from typing import Protocol

_WRITE_SECONDS = 0.2
_MAX_BYTES = 8 << 20
"""Of lines that wait to be written. Further lines are dropped and counted, and the count is
written."""


class Out(Protocol):
    """A binary file, or an object like one."""

    def write(self, data: memoryview, /) -> int | None: ...
    def flush(self) -> None: ...


class LineSink:
    """Writes lines to a binary file in a thread. Safe to use from any thread; `line` never blocks.

    dropped_line: the line that says how many lines were dropped.
    """

    def __init__(self, out: Out, dropped_line: Callable[[int], bytes]) -> None:
        self._out = out
        self._dropped_line = dropped_line
        self._lines: list[bytes] = []
        self._size = 0
        self._unreported = 0
        self.dropped = 0
        """Lines dropped since the start."""
        self._writing = False
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._filled = threading.Event()
        self._flushing = threading.Event()

    def start(self) -> None:
        """Start the thread now. Otherwise the first line starts it, when there may be no memory
        left for a thread."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()

    def line(self, text: bytes) -> None:
        """Take one line without its line end."""
        with self._lock:
            size = self._size + len(text) + 1
            if size > _MAX_BYTES:
                self._unreported += 1
                self.dropped += 1
                return
            lines = self._lines
            lines.append(text)
            self._size = size
            if len(lines) > 1:  # the thread is awake already
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="log", daemon=True)
                self._thread.start()
        self._filled.set()

    msg = info = debug = warning = warn = error = critical = exception = fatal = log = line

    def flush(self, seconds: float = 1.0) -> None:
        """Wait until all lines are written, for `seconds` at most."""
        self._flushing.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._lines and not self._writing, seconds)
        self._flushing.clear()

    def _run(self) -> None:
        while True:
            self._filled.wait()
            self._flushing.wait(_WRITE_SECONDS)
            self._filled.clear()
            with self._changed:
                lines, self._lines, self._size = self._lines, [], 0
                dropped, self._unreported = self._unreported, 0
                self._writing = True
            if dropped:
                lines.append(self._dropped_line(dropped))
            if lines:
                self._write(b"\n".join((*lines, b"")))
            with self._changed:
                self._writing = False
                self._changed.notify_all()

    def _write(self, block: bytes) -> None:
        """Write all of `block`. An error loses lines, and nothing else."""
        left = memoryview(block)
        try:
            while left:
                written = self._out.write(left)
                if written is None:  # a full pipe that does not block
                    sleep(0.05)
                else:
                    left = left[written:]
            self._out.flush()
        except (OSError, ValueError):
            pass
