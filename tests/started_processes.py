"""Child processes of a test. Those of fixtures that serve many tests are not among them."""

import psutil


class StartedProcesses:
    """The children of this process that were started since it was made."""

    def __init__(self) -> None:
        self._before = set(self._pids())

    def __call__(self) -> list[int]:
        """Their pids, without processes that have ended."""
        return [pid for pid in self._pids() if pid not in self._before]

    @staticmethod
    def _pids() -> list[int]:
        return [
            child.pid
            for child in psutil.Process().children(recursive=True)
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]
