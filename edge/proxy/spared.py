"""Attributes of spans that cannot be made: no request fails for a trace of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_log = structlog.get_logger()


@contextmanager
def spared(what: str) -> Iterator[None]:
    """Log an exception by its type, and go on without the attributes `what`."""
    try:
        yield
    except Exception as error:  # its text may have what a caller wrote
        _log.warning(f"traces: attributes {what} are left out", error=type(error).__name__)
