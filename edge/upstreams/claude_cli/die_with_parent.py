"""Run a program that the kernel ends when the gateway dies.

Usage: `die_with_parent.py PARENT PROGRAM ...`. It runs as a script of a bare interpreter, so it
imports nothing of this package. A client may go on with an answer after its standard input is
closed, and a gateway that is killed with SIGKILL cannot end it.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int, argv: list[str]) -> None:
    """Replace this process by `argv`. Raises OSError when it cannot be run."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # the gateway died before prctl
        return
    os.umask(0o077)  # files in its home are private
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that is inherited
    os.execv(argv[0], argv)  # noqa: S606 - its purpose


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
