"""The wait that an upstream asks for: in headers, members of a body, or words."""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from math import ceil
from typing import Any

from middlewares.asgi import Header

_LONGEST = 3600
_SECONDS_IN = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(
    r"(?<!\d)(\d{1,18}(?:\.\d{1,18})?)\s*(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d)"
    r"(?![a-z])",
    re.IGNORECASE | re.ASCII,
)
_WORDS = re.compile(
    rf"(?:try again|retry|wait)\b[^.\d]{{0,40}}((?:{_SPAN.pattern}[\s,]*(?:and\s+)?)+)",
    re.IGNORECASE | re.ASCII,
)
_PLAIN = re.compile(
    r"\s*[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?|nan|inf)\s*", re.ASCII
)
_REMAINING = re.compile(rb"((?:x|anthropic)-ratelimit-)(.*-)?remaining(-.*)?")
_FAR = 10**12
_UNIX = 10**9
_UNIX_MS = 10**12


def retry_after(headers: Iterable[Header], now: float) -> int | None:
    """Seconds to wait by the headers, from 1 to an hour; None without such headers.

    now: Unix seconds, for a date (RFC 9110, section 10.2.3). `retry-after-ms` goes before
    `retry-after`, as in the vendors' SDKs; without either, the reset of a used-up limit counts
    (`x-ratelimit-*`, `anthropic-ratelimit-*`).
    """
    values = {name: value.decode("latin-1").strip() for name, value in headers}
    ms = _number(values.get(b"retry-after-ms"))
    if ms is not None:
        return _bounded(ceil(ms / 1000) if 0 <= ms < float("inf") else -1)
    text = values.get(b"retry-after")
    if text is not None:
        seconds = _number(text)
        if seconds is None:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (ValueError, OverflowError):
                return None
        return _bounded(seconds)
    return _reset(values, now)


def wait_in(wait: float | None, text: str) -> int | None:
    """Seconds to wait by a body: by its member `wait`, else by the words of `text`."""
    if wait is None:
        found = _WORDS.search(text)
        wait = duration(found[1]) if found else None
    return None if wait is None else _bounded(ceil(wait) if 0 <= wait < float("inf") else wait)


def duration(value: Any) -> float | None:
    """Seconds of a number, of "1m2.5s" or "20 seconds", or of Google's {"seconds": 20}."""
    if isinstance(value, dict):
        value = value.get("seconds")
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(max(-1, min(value, _FAR)))  # JSON integers may exceed a float
    if not isinstance(value, str):
        return None
    plain = _number(value)
    if plain is not None:
        return plain
    spans = _SPAN.findall(value)
    return sum(float(number) * _SECONDS_IN[_unit(unit)] for number, unit in spans) or None


def _unit(word: str) -> str:
    word = word.lower()
    return "ms" if word.startswith(("ms", "milli")) else word[0]


def _number(text: str | None) -> float | None:
    return float(text) if text and _PLAIN.fullmatch(text) else None


def _bounded(seconds: float) -> int:
    if not 0 <= seconds < float("inf"):
        return 1
    return max(1, min(_LONGEST, round(seconds)))


def _reset(values: Mapping[bytes, str], now: float) -> int | None:
    """Seconds until the last of the exhausted limits resets."""
    waits: list[float] = []
    for name, value in values.items():
        found = _REMAINING.fullmatch(name)
        if found is None or value != "0":
            continue
        text = values.get(found[1] + (found[2] or b"") + b"reset" + (found[3] or b""), "")
        wait = duration(text)
        if "T" in text:
            try:
                wait = datetime.fromisoformat(text).timestamp() - now
            except (ValueError, OverflowError):
                continue
        if wait is None or wait != wait:
            continue
        if wait >= _UNIX:
            wait = (wait / 1000 if wait >= _UNIX_MS else wait) - now
        waits.append(wait)
    return _bounded(ceil(max(waits))) if waits and abs(max(waits)) < float("inf") else None
