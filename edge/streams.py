"""Standard streams that were closed, or that nobody reads."""

import faulthandler
import os
import signal
import stat
import sys
from contextlib import suppress
from typing import Any

_STANDARD = ((0, "stdin", os.O_RDONLY, "r"), (1, "stdout", os.O_WRONLY, "w"))
_ERRORS = (2, "stderr", os.O_WRONLY, "w")


def fill() -> None:
    """Open the null device for each standard stream that is closed. A database or a connection
    would get its number otherwise, and the log be written into that. Call it first of all."""
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
            file = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115  for good
            setattr(sys, name, file)


def say(text: str) -> None:
    """Write to standard output. When nobody can read that, nothing is written, nor kept to be
    written later."""
    left = text.encode()
    with suppress(OSError):
        while left:
            left = left[os.write(1, left) :]


def dump_stacks_on_sigquit() -> None:
    """Have this process, and those forked of it, write the stacks of its threads to standard error
    at SIGQUIT. What does not fit into a full pipe is left out."""
    faulthandler.register(signal.SIGQUIT, file=_errors_without_waiting())


def _errors_without_waiting() -> int:
    """A descriptor of standard error that does not block. Where that is a pipe or a terminal it is
    opened once more, as others share what we were given."""
    kind = os.fstat(2).st_mode
    if stat.S_ISREG(kind):
        return 2
    with suppress(OSError):  # a socket, or a pipe of another user
        return os.open("/proc/self/fd/2", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    if stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind):
        os.set_blocking(2, False)
    return 2


def print_to_log(line: Any) -> None:
    """Give what this process prints to standard error to `line`, which takes bytes and does not
    wait. The interpreter prints tracebacks there."""
    sys.stderr = _Lines(line)


class _Lines:
    """As much of a text file as the interpreter wants of standard error."""

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
        """Lines are written by the log."""

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return 2
