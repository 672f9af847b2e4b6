"""Standard streams that may be closed or blocked."""

import faulthandler
import os
import signal
import stat
import sys
from contextlib import suppress
from typing import Any

_STANDARD = ((0, "stdin", os.O_RDONLY, "r"), (1, "stdout", os.O_WRONLY, "w"))
_ERRORS = (2, "stderr", os.O_WRONLY, "w")


def open_closed_streams() -> None:
    """Open the null device for each closed standard stream. Otherwise a database or a connection
    would get its number, and the log would be written into it. Call this before anything else."""
    for number, name, flags, mode in (*_STANDARD, _ERRORS):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            file = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  stays open
            setattr(sys, name, file)


def write_stdout(text: str) -> None:
    """Write to standard output, unbuffered. Errors are ignored."""
    left = text.encode()
    with suppress(OSError):
        while left:
            left = left[os.write(1, left) :]


def dump_stacks_on_sigquit() -> None:
    """Make SIGQUIT write the stacks of all threads to standard error, in this process and in those
    forked from it. Output that does not fit into a full pipe is lost."""
    faulthandler.register(signal.SIGQUIT, file=_nonblocking_stderr())


def _nonblocking_stderr() -> int:
    """A descriptor of standard error that does not block. A pipe or a terminal is opened once more,
    because other processes share the descriptor that we have."""
    kind = os.fstat(2).st_mode
    if stat.S_ISREG(kind):
        return 2
    with suppress(OSError):  # a socket, or a pipe of another user
        return os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        os.set_blocking(2, False)
    return 2


def print_to_log(line: Any) -> None:
    """Pass what this process prints to standard error, as tracebacks of the interpreter, to `line`,
    which takes bytes and does not block."""
    sys.stderr = _Lines(line)


class _Lines:
    """The part of a text file that the interpreter uses of standard error."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, line: Any) -> None:
        self._line = line
        self._begun = ""

    def write(self, text: str) -> int:
        *whole, self._begun = (self._begun + text).split("\n")
        for one in whole:
            self._line(one.encode(errors=self.errors))
        return len(text)

    def flush(self) -> None:
        """Do nothing: the log writes the lines."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return 2
