"""Checks of `[errors]`, and the changes of error kinds that it makes."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from middlewares.error_kinds import KINDS, KindChange, message_fault

from .model import ErrorKindConfig, ErrorsConfig


def error_faults(errors: ErrorsConfig) -> Iterator[str]:
    """A sentence for each fault of `[errors]`."""
    for name, given in errors.kinds.items():
        path = f"errors.kinds.{name}"
        if name not in KINDS:
            near = get_close_matches(name, KINDS, n=1, cutoff=0.5)
            known = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(KINDS))}"
            yield f"{path}: unknown kind; {known}"
        elif given == ErrorKindConfig():
            yield f"{path}: expected at least one of status, type, code and message"
        if given.message is not None:
            if not given.message.isprintable():
                yield f"{path}.message: expected printable text on one line"
            elif fault := message_fault(given.message):
                yield f"{path}.message: {fault}"


def kind_changes(errors: ErrorsConfig) -> Mapping[str, KindChange]:
    """The changes of `[errors.kinds]`."""
    return {
        name: KindChange(
            status=given.status, type=given.type, code=given.code, message=given.message
        )
        for name, given in errors.kinds.items()
    }
