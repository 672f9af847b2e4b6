"""Outages of stores: logged once when they begin and once when they end.

Also how often a store that fails is still asked when the process ends (`LastTries`).
"""

import asyncio
import logging
from contextlib import suppress

from .errors import CountersUnavailable, StoreUnavailable

_MOMENT = 0.05
"""Seconds between two tries when the process ends."""

_FORESEEN = (StoreUnavailable, CountersUnavailable, OSError)
"""What a store that does not answer raises. `TimeoutError` is an `OSError`."""


class Outage:
    """Logs when something begins to fail and when it works again, one line for each change.

    log: of the module that it belongs to. failing: the sentence for the beginning; the reason is
    added, with the traceback of an error that no store is known to raise. works: the sentence for
    the end. level: of the first.

    on: whether it failed the last time.
    """

    __slots__ = ("_failing", "_level", "_log", "_works", "on")

    def __init__(
        self, log: logging.Logger, failing: str, works: str, *, level: int = logging.ERROR
    ) -> None:
        self._log = log
        self._failing = failing
        self._works = works
        self._level = level
        self.on = False

    def failed(self, error: Exception) -> None:
        """It has failed, for this reason."""
        if not self.on:
            self.on = True
            foreseen = isinstance(error, _FORESEEN)
            reason = str(error) or ("no answer" if foreseen else type(error).__name__)
            trace = None if foreseen else error
            self._log.log(self._level, "%s: %s", self._failing, reason, exc_info=trace)

    def worked(self) -> None:
        """It has worked."""
        if self.on:
            self.on = False
            self._log.warning("%s", self._works)


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
        """Begin the shutdown: retries are counted from now on, and their pauses are short."""
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
