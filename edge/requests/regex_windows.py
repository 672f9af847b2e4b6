"""Search large bodies with regular expressions, one window at a time.

One C call on all of 32 MiB can take a second, in which nothing else runs. A match may begin in one
window and end up to `OVERLAP` bytes into the next. A longer match, which takes kilobytes of white
space inside a member, is not found at a window's edge.
"""

import re
from collections.abc import Iterator

import msgspec

WINDOW = 128 << 10
"""Bytes that are searched in one call."""
OVERLAP = 4 << 10


def found(pattern: re.Pattern[bytes], body: bytes | msgspec.Raw) -> bool:
    """Whether `pattern` matches anywhere in `body`."""
    if len(body) <= WINDOW:
        return pattern.search(body) is not None
    return next(matches(pattern, body), None) is not None


def matches(pattern: re.Pattern[bytes], body: bytes | msgspec.Raw) -> Iterator[re.Match[bytes]]:
    """Matches of `pattern` in `body` from left to right, without overlaps."""
    at, size = 0, len(body)
    while at < size:
        edge = at + WINDOW
        match = pattern.search(body, at, edge + OVERLAP)
        if match is None or match.start() >= edge:
            at = edge
            continue
        yield match
        at = max(match.end(), match.start() + 1)


def run_end(one: re.Pattern[bytes], body: bytes, at: int) -> int:
    """The end of the run that begins at `at`. one: a repeated class of bytes."""
    while True:
        match = one.match(body, at, at + WINDOW)
        if match is None or match.end() < at + WINDOW:
            return at if match is None else match.end()
        at = match.end()
