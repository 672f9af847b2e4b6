"""A `multiprocessing` process that leaks no descriptors: after a failed fork, or into siblings.

`multiprocessing` leaks its pipes when a fork fails, so a parent that can start no process runs out
of descriptors too. A process that is forked later inherits the pipe by which an earlier one notices
that the parent died, and keeps it open: the earlier one would go on serving without a parent.
"""

import os
from contextlib import suppress
from multiprocessing import util
from multiprocessing.popen_fork import Popen as _Popen
from multiprocessing.process import BaseProcess
from typing import Any, ClassVar


class Popen(_Popen):
    """The started process of `multiprocessing`, with our own `_launch`."""

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
    """Make `process`, which is not started yet, start as a `Popen` of this module."""
    process._Popen = Popen
