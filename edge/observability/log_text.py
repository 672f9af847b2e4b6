"""Untrusted text in log lines: shortened, printable, without credentials.

Callers choose paths, model names and ids; upstreams choose the text of their errors. None of it may
fill a disk, control a terminal, forge a line or leak a key.
"""

from edge.vendors.errors.redact import redacted
from middlewares.secret_form import may_hold_key

LONGEST_NAME = 256
"""Characters of a path, a name or an id."""
LONGEST_REASON = 1000
"""Characters of a reason or an error."""
LONGEST_MESSAGE = 4000
"""Characters of a message of the program, which may quote an error."""
LONGEST_EXCEPTION = 16_000
"""Characters of a traceback; the middle is cut."""
LONGEST_METHOD = 32
_LONGEST_KEY = 300
_CUT = "…"
_KEPT = frozenset("\n\t")


def shown(text: str, most: int = LONGEST_NAME) -> str:
    """`text` for a log line: at most `most` characters, control characters as `\\uXXXX`.

    A shortened text ends in "…".
    """
    if len(text) <= most and text.isprintable() and not may_hold_key(text):
        return text
    cut = len(text) > most
    if cut:
        text = text[: most + _LONGEST_KEY]
        if may_hold_key(text):  # before it is cut, since a part of one is not recognised
            text = redacted(text)
        text = text[:most]
    if not text.isprintable():
        text = "".join([c if c.isprintable() else _escaped(c) for c in text])
        cut = cut or len(text) > most
    if may_hold_key(text):
        text = redacted(text)
    return text[: most - 1] + _CUT if cut else text


def shown_traceback(text: str) -> str:
    """A traceback for a log line: it keeps its line breaks; the middle of a long one is cut."""
    if len(text) > LONGEST_EXCEPTION:
        half = LONGEST_EXCEPTION // 2
        text = f"{text[:half]}\n{_CUT}\n{text[-half:]}"
    if not text.replace("\n", "").isprintable():
        text = "".join([c if c.isprintable() or c in _KEPT else _escaped(c) for c in text])
    return redacted(text)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"
