"""Become another program that the kernel ends when the gateway dies: `leash.py PARENT PROGRAM ...`.

Run as a script by a bare interpreter: it imports nothing of this package. A program that has its
standard input closed in the middle of an answer may go on with it; SIGKILL of the gateway leaves it
no other word.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main(parent: int, argv: list[str]) -> None:
    """Raises OSError when the program cannot be run."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before it could be asked for
        return
    os.umask(0o077)  # what it leaves in its home is nobody else's to read
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and that is inherited
    os.execv(argv[0], argv)  # noqa: S606 - that is what it is for


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
