"""Forked processes that leave nothing behind: no descriptor of a failed fork, none of a sibling.

`multiprocessing` leaks its pipes when a fork fails, so that a parent out of processes runs out of
descriptors as well. A process forked later inherits the pipe by which an earlier one learns that
the parent died, and keeps it open: that one would serve on as an orphan.
"""

import os
from contextlib import suppress
from multiprocessing import util
from multiprocessing.popen_fork import Popen as _Popen
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar


class Popen(_Popen):
    """What `multiprocessing.Process` calls a started process, with a `_launch` of our own."""

    _held: ClassVar[set[int]] = set()
    """The parent's ends of the pipes to all its processes."""

    def _launch(self, process_obj: BaseProcess) -> None:
        opened: list[int] = []
        try:
            opened += os.pipe()
            opened += os.pipe()
            self.pid = os.fork()
        except BaseException:
            for descriptor in opened:
                os.close(descriptor)
            raise
        parent_r, child_w, child_r, parent_w = opened
        if self.pid == 0:
            code = 1
            try:
                for descriptor in (parent_r, parent_w, *self._held):
                    with suppress(OSError):
                        os.close(descriptor)
                code = process_obj._bootstrap(parent_sentinel=child_r)  # type: ignore[attr-defined]
            finally:
                os._exit(code)
        os.close(child_w)
        os.close(child_r)
        self._held.update((parent_r, parent_w))
        self.sentinel = parent_r
        self.finalizer = util.Finalize(self, self._let_go, ((parent_r, parent_w),))

    @classmethod
    def _let_go(cls, descriptors: tuple[int, ...]) -> None:
        for descriptor in descriptors:
            cls._held.discard(descriptor)
            os.close(descriptor)


def use(process: Any) -> None:
    """Have `process`, which is not started yet, start in this way."""
    process._Popen = Popen
