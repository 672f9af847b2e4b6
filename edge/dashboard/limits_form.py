"""Fields of forms for the own limits and the metadata of a key or a team."""

from collections.abc import Mapping
from typing import Any

from edge.management.fields import Refused

_TEXTS = ("requests", "tokens", "storage", "on_excess", "overflow")
_NUMBERS = ("burst", "concurrency")
SHOWN = frozenset((*_TEXTS, *_NUMBERS, "windows"))
"""Limits that have a field. Others, such as `on_hangup`, stay as they are."""
_NO_WINDOWS = "none"


def limits_values(limits: Mapping[str, Any] | None) -> dict[str, str]:
    """The texts of the fields for these limits; "" for a limit of the plan."""
    given = limits or {}
    values = {name: str(given.get(name, "")) for name in (*_TEXTS, *_NUMBERS)}
    windows = given.get("windows")
    lines = [
        " ".join(
            (str(one["length"]), str(one["credits"]), *(("aligned",) if one.get("aligned") else ()))
        )
        for one in windows or ()
    ]
    values["windows"] = _NO_WINDOWS if windows == [] else "\n".join(lines)
    return values


def read_limits(
    values: Mapping[str, str], kept: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """The limits that the fields say, as they are stored; None for none. Raises Refused.

    kept: the present limits, of which those without a field stay.
    """
    limits = {name: value for name, value in (kept or {}).items() if name not in SHOWN}
    for name in _TEXTS:
        if text := values.get(name, ""):
            limits[name] = text
    for name in _NUMBERS:
        if text := values.get(name, ""):
            if not (text.isascii() and text.isdigit() and len(text) < 11):
                raise Refused(f"limits.{name}", "expected a whole number, or nothing")
            limits[name] = int(text)
    text = values.get("windows", "")
    if text == _NO_WINDOWS:
        limits["windows"] = []
    elif text:
        limits["windows"] = [_window(line) for line in text.splitlines() if line.strip()]
    return limits or None


def _window(line: str) -> dict[str, Any]:
    words = line.split()
    aligned = words[-1] == "aligned"
    if aligned:
        words.pop()
    if len(words) < 2:
        raise Refused("limits.windows", 'expected lines such as "5h 2.50" or "7d 10 aligned"')
    window: dict[str, Any] = {"length": " ".join(words[:-1]), "credits": words[-1]}
    return {**window, "aligned": True} if aligned else window


def metadata_text(metadata: Mapping[str, str] | None) -> str:
    """Metadata as lines "name = text"."""
    return "\n".join(f"{name} = {value}" for name, value in (metadata or {}).items())


def read_metadata(text: str) -> dict[str, str] | None:
    """The metadata in such lines; None for none. Raises Refused."""
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            continue
        name, found, value = line.partition("=")
        if not found:
            raise Refused("metadata", "expected lines such as `project = apollo`")
        pairs[name.strip()] = value.strip()
    return pairs or None


def read_names(text: str) -> list[str] | None:
    """Names separated by spaces, commas or lines; None for none."""
    return text.replace(",", " ").split() or None
