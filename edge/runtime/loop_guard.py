"""Runs the steps of a loop that must not end: an error is logged once, until the step succeeds."""

import logging
from collections.abc import Callable
from contextlib import suppress

_log = logging.getLogger(__name__)


class LoopGuard:
    """Runs named steps. Each thread has its own guard."""

    def __init__(self) -> None:
        self._raised: dict[str, tuple[type[Exception], str]] = {}

    def run(self, name: str, step: Callable[[], object]) -> bool:
        """Run `step`; whether it succeeded. The same error of a step is logged once, until the step
        succeeds again."""
        try:
            step()
        except Exception as error:
            kind = (type(error), str(error))
            if self._raised.get(name) != kind:
                with suppress(Exception):  # without memory, logging may fail too
                    _log.exception("%s failed; trying again", name)
                    self._raised[name] = kind
            return False
        if self._raised.pop(name, None) is not None:
            _log.info("%s works again", name)
        return True
