"""Address files: the URL of a running gateway, in its journal's folder, for `penstock status`.

The temporary folder is not enough: the gateway may have another one than the operator's shell
(`PrivateTmp=` of systemd, TMPDIR), and cleaners empty it. The journal's folder is on this machine,
exists while the gateway serves, and belongs to the user who runs it.

A file names its process and the start time of that process. So a file left by a killed gateway is
recognised, even when the process id is in use again.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

from edge.runtime.status import ADDRESS_PREFIX, Serving, is_running, read, write
from middlewares.stores.outage import Outage

_log = logging.getLogger(__name__)


class AddressNote:
    """The address file of one gateway, in `folder`. Serving continues when it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder.absolute() / f"{ADDRESS_PREFIX}{os.getpid()}.json"
        self._serving: Serving | None = None
        self._outage = Outage(
            _log,
            "cannot write the address for `penstock status`",
            "the address for `penstock status` is written again",
            level=logging.WARNING,
        )

    def publish(self, serving: Serving) -> None:
        """Write the file, and delete those of dead gateways."""
        self._serving = serving
        for path in self._path.parent.glob(f"{ADDRESS_PREFIX}*.json"):
            found = read(path, Serving)
            if found is None or not is_running(found):
                with suppress(OSError):
                    path.unlink()
        self._write()

    def renew(self) -> None:
        """Write the file again when it was removed."""
        if self._serving is not None and not self._path.exists():
            self._write()

    def remove(self) -> None:
        """Delete the file, at the end of the gateway."""
        with suppress(OSError):
            self._path.unlink()

    def _write(self) -> None:
        assert self._serving is not None
        try:
            write(self._path.parent, self._path.name, self._serving)
            self._outage.worked()
        except FileNotFoundError:
            pass  # the workers create the folder
        except OSError as error:
            self._outage.failed(error)
