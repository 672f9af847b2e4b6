"""Filters for the text of an answer, fed in pieces of any size.

    StopStrings   end the text before the first of some strings
    Fence         take a code fence away from around the text
    Unwrapped     give {"value": X} as X

Each holds back only what it must: a stop string could still begin in the held part, a fence could
still open. What comes out for the pieces of a text is what comes out for the whole.
"""

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

_FENCE = "```"
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class StopStrings:
    """Let text through up to the first of `strings`; `found` is then the one.

    The one that is complete first wins; of two that end together, the longer one.
    """

    __slots__ = ("_firsts", "_held", "_longest", "_sorted", "_strings", "found")

    def __init__(self, strings: Iterable[str]) -> None:
        self._sorted = sorted(set(filter(None, strings)))
        self._strings = tuple(sorted(self._sorted, key=len, reverse=True))
        self._longest = len(self._strings[0]) if self._strings else 0
        self._firsts = frozenset(string[0] for string in self._strings)
        self._held = ""
        self.found: str | None = None

    def filter(self, text: str) -> str:
        """What of the text so far may be shown now."""
        if self.found is not None:
            return ""
        if not self._held and self._firsts.isdisjoint(text):  # as most are
            return text
        text = self._held + text
        ends = [
            (place + len(string), place, string)
            for string in self._strings
            if (place := text.find(string)) >= 0
        ]
        if ends:
            _, place, self.found = min(ends)
            self._held = ""
            return text[:place]
        keep = self._tail(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _tail(self, text: str) -> int:
        """Length of the longest end of `text` that begins one of the strings."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-size] not in self._firsts:
                continue
            end = text[-size:]
            at = bisect_left(self._sorted, end)  # what begins with it, if anything, stands there
            if at < len(self._sorted) and self._sorted[at].startswith(end):
                return size
        return 0

    def filter_end(self) -> str:
        """What was held back of a text in which none of the strings came."""
        held, self._held = self._held, ""
        return held


class Fence:
    """Take one code fence away from around a text that is nothing but a fenced block."""

    __slots__ = ("_open", "_parts", "_start")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._start = ""
        """The first characters that are no blanks, as many as a fence has."""
        self._open = True

    def filter(self, text: str) -> str:
        """The text as it comes, unless it begins with a fence: then nothing yet."""
        if not self._open:
            return text
        self._parts.append(text)
        if self._start == _FENCE:
            return ""
        self._start = ((self._start + text) if self._start else text.lstrip())[: len(_FENCE)]
        if _FENCE.startswith(self._start):
            return ""
        self._open = False
        return self._taken()

    def _taken(self) -> str:
        held = "".join(self._parts)
        self._parts.clear()
        return held

    def filter_end(self) -> str:
        """What a fence was around, or the text itself when the fence does not close at its end."""
        held = self._taken()
        inner = held.strip()
        if not inner.startswith(_FENCE) or not inner.endswith(_FENCE) or "\n" not in inner:
            return held
        return inner[len(_FENCE) : -len(_FENCE)].partition("\n")[2].rstrip("\n")


class Unwrapped:
    """Give a text that is {"value": X} as X, and any other as it is."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[str] = []

    def filter(self, text: str) -> str:
        """Nothing yet: only the whole can be told."""
        self._parts.append(text)
        return ""

    def filter_end(self) -> str:
        """The value."""
        whole = "".join(self._parts)
        self._parts.clear()
        return unwrapped(whole)


def unwrapped(text: str) -> str:
    """`X` for the JSON text `{"value": X}`, else `text`."""
    members = _members(text)
    if members is None or members.keys() != {"value"}:
        return text
    return bytes(members["value"]).decode()


def custom_input(text: str) -> str:
    """The raw input in the JSON text `{"input": "..."}`, else `text`."""
    members = _members(text)
    if members is None or "input" not in members:
        return text
    try:
        return msgspec.json.decode(members["input"], type=str)
    except msgspec.DecodeError:
        return bytes(members["input"]).decode()


def _members(text: str) -> dict[str, msgspec.Raw] | None:
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return None
