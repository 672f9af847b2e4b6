"""The status files that the parent process writes, see `edge.runtime.status`."""

import logging
from collections.abc import Callable
from contextlib import suppress

from edge.runtime.run_folder import RunFolder
from edge.runtime.status import Reloaded, Serving, worker_file, write
from edge.runtime.worker_table import Fleet

_log = logging.getLogger(__name__)


class StatusFiles:
    """The files of the parent in `folder`. Serving continues when they cannot be written.

    fleet: the present state of all workers.
    """

    def __init__(self, folder: RunFolder, fleet: Callable[[], Fleet]) -> None:
        self._folder = folder
        self._fleet = fleet
        self._written: dict[str, Serving | Reloaded] = {}

    def write_serving(self, serving: Serving) -> None:
        """Write the address of the gateway."""
        self._write("server.json", serving)

    def write_reload(self, reloaded: Reloaded) -> None:
        """Write the result of the last reload."""
        self._write("reload.json", reloaded)

    def write_workers(self) -> None:
        """Write the state of the workers. Raises OSError."""
        if self._folder.path is not None:
            with suppress(FileNotFoundError):  # the folder was removed; `renew` writes it again
                write(self._folder.path, "workers.json", self._fleet())

    def delete_worker(self, pid: int) -> None:
        """Delete the file of a worker that has ended. Raises OSError."""
        if self._folder.path is not None:
            (self._folder.path / worker_file(pid)).unlink(missing_ok=True)

    def renew(self) -> None:
        """Create the folder again when it was removed, with all files. Raises OSError."""
        if self._folder.renew():
            for name, value in tuple(self._written.items()):
                self._write(name, value)
            self.write_workers()

    def _write(self, name: str, value: Serving | Reloaded) -> None:
        self._written[name] = value
        if self._folder.path is None:
            return
        try:
            write(self._folder.path, name, value)
        except OSError as error:
            _log.error("cannot write the status: %s", error)
