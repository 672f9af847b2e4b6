"""The pipe that wakes the supervisor's loop."""

import os
import signal
from contextlib import suppress


class WakePipe:
    """A pipe that ends the sleep of the loop. The interpreter writes to it at each signal, and
    workers do when they have started."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        for end in (self.reader, self.writer):
            os.set_blocking(end, False)

    def wake_on_signals(self) -> None:
        """Make the interpreter write to the pipe at each signal. Main thread only."""
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)

    def wake(self) -> None:
        """End the sleep. A full pipe has ended it already."""
        with suppress(BlockingIOError):
            os.write(self.writer, b"\0")

    def clear(self) -> None:
        """Read what has been written."""
        with suppress(BlockingIOError):
            os.read(self.reader, 1 << 16)
