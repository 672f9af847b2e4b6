"""Fields that keys and teams share, read strictly: names, plans, limits, metadata, ids."""

import re
import secrets
import string
from collections.abc import Collection, Mapping
from typing import Any

from edge.config.load import SettingsError, read_key_limits
from middlewares.secret_form import names_key

_LONGEST = 200
_MOST_PAIRS = 16
_LONGEST_NAME = 64
_LONGEST_TEXT = 512
_ALPHABET = string.digits + string.ascii_lowercase
_MARK = re.compile(r"\bsk-")
_RANDOM = re.compile(r"[0-9A-Za-z]{20}")
"""Text after `sk-` that may be a secret, of Penstock or another vendor. It is never stored, queried
for or repeated."""


class Refused(ValueError):
    """A refused operation. field: the one at fault. expected: what was expected."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: {expected}")
        self.field = field
        self.expected = expected


def new_id(prefix: str) -> str:
    """A new random id, such as "key_" and 20 characters."""
    return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


def looks_secret(text: str) -> bool:
    """Whether `text` may be or contain a secret, of Penstock or another vendor."""
    return names_key(text) or any(
        (mark := _MARK.search(word)) is not None and _RANDOM.search(word, mark.end()) is not None
        for word in text.split()
    )


def text(field: str, value: str, *, required: bool = False) -> str:
    """`value` trimmed: at most 200 printable characters, and no secret. Raises Refused."""
    value = value.strip()
    if required and not value:
        raise Refused(field, "expected at least one character")
    if len(value) > _LONGEST or not value.isprintable():
        raise Refused(field, f"expected at most {_LONGEST} printable characters")
    if looks_secret(value):
        raise Refused(field, "looks like a secret, and would be shown in listings and logs")
    return value


def plan(value: str | None, plans: Collection[str] | None) -> str | None:
    """Id of a plan. plans: ids of the known ones; None does not check. Raises Refused."""
    if value is None:
        return None
    value = text("plan", value, required=True)
    if plans is not None and value not in plans:
        raise Refused("plan", f"{value!r} is none of the plans: {', '.join(sorted(plans))}")
    return value


def own_limits(limits: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Own limits, checked like those of a plan and stored as written; None for none.

    Raises Refused.
    """
    if not limits:
        return None
    try:
        read_key_limits(limits)
    except SettingsError as raised:
        field, _, expected = "; ".join(raised.faults).partition(": ")
        raise Refused(field, expected) from None
    return dict(limits)


def metadata(values: Mapping[str, str] | None) -> dict[str, str] | None:
    """At most 16 pairs, names of 1 to 64 characters, texts of at most 512. Raises Refused."""
    if not values:
        return None
    if len(values) > _MOST_PAIRS:
        raise Refused("metadata", f"expected at most {_MOST_PAIRS} pairs, not {len(values)}")
    for name, value in values.items():
        if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or looks_secret(name):
            said = f"expected names of 1 to {_LONGEST_NAME} printable characters"
            raise Refused("metadata", said)
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
            said = f"expected at most {_LONGEST_TEXT} printable characters as text"
            raise Refused(f"metadata.{name}", said)
        if looks_secret(value):
            raise Refused(f"metadata.{name}", "looks like a secret, and would be shown")
    return dict(values)
