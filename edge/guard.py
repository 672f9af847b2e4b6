"""Steps of a loop that must go on: what one raises is logged once, until it passes."""

import logging
from collections.abc import Callable
from contextlib import suppress

_log = logging.getLogger(__name__)


class Guard:
    """Runs steps by their names. Each thread has its own guard."""

    def __init__(self) -> None:
        self._raised: dict[str, tuple[type[Exception], str]] = {}

    def run(self, name: str, step: Callable[[], object]) -> bool:
        """Whether `step` went well. The same error of the same step is logged once, until the step
        has gone well again."""
        try:
            step()
        except Exception as error:
            kind = (type(error), str(error))
            if self._raised.get(name) != kind:
                with suppress(Exception):  # without memory there may be no line either
                    _log.exception("%s failed; trying again", name)
                    self._raised[name] = kind
            return False
        if self._raised.pop(name, None) is not None:
            _log.info("%s works again", name)
        return True
