"""A store that fails: one line of the log for each change, and how long it is asked at the end."""

import asyncio
import logging
from contextlib import suppress

from .keys import StoreUnavailable

_log = logging.getLogger(__name__)

_MOMENT = 0.05
"""Seconds between two tries when the process ends."""


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


class LastTries:
    """How often a store that fails is still asked when a process ends, which has to be soon.

    over: is set when that was often enough.
    """

    def __init__(self, tries: int = 3, seconds: float = 0.5) -> None:
        """tries: that fail, and begin within `seconds`; then it is over."""
        self._left = tries
        self._seconds = seconds
        self._until = 0.0
        self._begun = asyncio.Event()
        self.over = asyncio.Event()

    def begin(self) -> None:
        """The process ends: from now on tries are counted, and nobody rests long."""
        self._until = asyncio.get_running_loop().time() + self._seconds
        self._begun.set()

    def failed(self) -> None:
        """The store has failed once more."""
        if self._begun.is_set():
            self._left -= 1
            if self._left <= 0 or asyncio.get_running_loop().time() >= self._until:
                self.over.set()

    async def rest(self, seconds: float) -> None:
        """Until the next try: so long, or a moment when the process ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # `wait_for` may miss a cancellation
                await self._begun.wait()
        if self._begun.is_set():
            await asyncio.sleep(_MOMENT)
