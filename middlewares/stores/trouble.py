"""One line of the log for each change of state."""

import logging

from .keys import StoreUnavailable

_log = logging.getLogger(__name__)


class Trouble:
    """Says once that something fails, and once that it works again."""

    def __init__(self, failing: str, again: str) -> None:
        self._failing = failing
        self._again = again
        self.on = False

    def begins(self, raised: Exception) -> None:
        """It has failed, for this reason."""
        if not self.on:
            self.on = True
            foreseen = isinstance(raised, StoreUnavailable | OSError)
            _log.error("%s: %s", self._failing, raised, exc_info=None if foreseen else raised)

    def ends(self) -> None:
        """It works."""
        if self.on:
            self.on = False
            _log.warning("%s", self._again)
