"""Where a running gateway listens, noted in its journal's folder, for `penstock status`.

The folder for temporary files is not enough: the gateway may have another one than the shell in
which an operator asks (`PrivateTmp=` of systemd, TMPDIR), and cleaners empty it. The journal's
folder is on this machine, is there as long as the gateway serves, and belongs to who runs it.

A note names its process and when that began, so one that was left by a killed gateway is known,
also where its number is used again.
"""

import logging
import os
from contextlib import suppress
from pathlib import Path

from middlewares.stores.outage import Outage

from .status import Serving, lives, read, write

_log = logging.getLogger(__name__)

_PREFIX = "serving-"


class AddressNote:
    """The note of one gateway, in `folder`. Serving goes on where it cannot be written."""

    def __init__(self, folder: Path) -> None:
        self._path = folder.absolute() / f"{_PREFIX}{os.getpid()}.json"
        self._serving: Serving | None = None
        self._outage = Outage(
            _log,
            "cannot write the address for `penstock status`",
            "the address for `penstock status` is written again",
            level=logging.WARNING,
        )

    def tell(self, serving: Serving) -> None:
        """Write it, and remove what dead ones have left."""
        self._serving = serving
        for path in self._path.parent.glob(f"{_PREFIX}*.json"):
            found = read(path, Serving)
            if found is None or not lives(found):
                with suppress(OSError):
                    path.unlink()
        self._write()

    def renew(self) -> None:
        """Write it again if it has been removed."""
        if self._serving is not None and not self._path.exists():
            self._write()

    def remove(self) -> None:
        """The gateway ends."""
        with suppress(OSError):
            self._path.unlink()

    def _write(self) -> None:
        assert self._serving is not None
        try:
            write(self._path.parent, self._path.name, self._serving)
            self._outage.worked()
        except FileNotFoundError:
            pass  # the workers make the folder
        except OSError as error:
            self._outage.failed(error)


def noted(folder: Path) -> list[Serving]:
    """The gateways with this journal that live."""
    found = [read(path, Serving) for path in folder.glob(f"{_PREFIX}*.json")]
    return [serving for serving in found if serving is not None and lives(serving)]
