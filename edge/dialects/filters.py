"""Filters of an answer's text, which arrives in pieces of any size.

    StopStrings   end the text before the first of some strings
    Fence         remove a code fence around the text
    Unwrapped     turn {"value": X} into X

Each holds back only the end that may still belong to a stop string or a fence. The output does not
depend on how the text is cut.
"""

from bisect import bisect_left
from collections.abc import Iterable

import msgspec

_FENCE = "```"
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class StopStrings:
    """Passes text up to the first of `strings`, which is then `found`.

    The string that is complete first wins; of two that end together, the longer one.
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
        """The text that can be passed on now."""
        if self.found is not None:
            return ""
        if not self._held and self._firsts.isdisjoint(text):  # the usual case
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
        """Length of the longest suffix of `text` that is a prefix of one of the strings."""
        for size in range(min(self._longest - 1, len(text)), 0, -1):
            if text[-size] not in self._firsts:
                continue
            end = text[-size:]
            at = bisect_left(self._sorted, end)  # a string with that prefix, if any, is here
            if at < len(self._sorted) and self._sorted[at].startswith(end):
                return size
        return 0

    def filter_end(self) -> str:
        """The held text, at the end of a text without any of the strings."""
        held, self._held = self._held, ""
        return held


class Fence:
    """Removes the code fence of a text that is one fenced block."""

    __slots__ = ("_open", "_parts", "_start")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._start = ""
        """The first non-blank characters, as many as a fence has."""
        self._open = True

    def filter(self, text: str) -> str:
        """The text as it comes; nothing yet if it begins with a fence."""
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
        """The text inside the fence, or the text itself if the fence does not close at its end."""
        held = self._taken()
        inner = held.strip()
        if not inner.startswith(_FENCE) or not inner.endswith(_FENCE) or "\n" not in inner:
            return held
        return inner[len(_FENCE) : -len(_FENCE)].partition("\n")[2].rstrip("\n")


class Unwrapped:
    """Turns the text {"value": X} into X, and passes any other text."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[str] = []

    def filter(self, text: str) -> str:
        """Nothing yet: the whole text is needed."""
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
