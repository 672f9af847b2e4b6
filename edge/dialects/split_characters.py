"""Join surrogate pairs that an upstream split between two events.

Some servers write a character outside the basic plane as two escapes, and end an event between
them: `"hi \\ud83d"`, then `"\\ude00 there"`. Strict JSON decoders read neither event, and not all
clients join the two. An event whose text ends with a high surrogate is therefore held back until
the next one; a surrogate that stays alone becomes U+FFFD.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from middlewares import sse

from .heartbeats import is_heartbeat
from .lenient_json import dumped, loaded
from .passthrough import UNREADABLE

_LONE = re.compile(
    rb"\\u[dD][89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    rb"|(?<!\\u[dD][89aAbB][0-9a-fA-F]{2})\\u[dD][c-fC-F]"
)
"""A lone surrogate. After an escaped backslash it is none, which decoding shows."""
_surrogate = re.compile(rb"\\u[dD][89a-fA-F]").search
"""Searches for any surrogate, at a hundredth of the cost."""
_HALF = re.compile("[\ud800-\udfff]")


def may_have_lone(block: bytes) -> bool:
    """Whether `block` may hold a lone surrogate, as an escape."""
    return _surrogate(block) is not None and _LONE.search(block) is not None


class _Held(NamedTuple):
    name: str
    value: Any
    holder: Any
    """The list or object that contains the text."""
    at: Any
    """Its key there."""


class CharacterJoiner:
    """Joins the surrogate pairs of one stream. held: an event waits for the next one."""

    __slots__ = ("_waiting", "held")

    def __init__(self) -> None:
        self._waiting: _Held | None = None
        self.held = False

    def join(self, block: bytes) -> bytes:
        """`block`, whole events, with split pairs joined."""
        if not self.held and not may_have_lone(block):
            return block
        return b"".join(map(self._event, sse.split(block)))

    def rest(self) -> bytes:
        """The event that is held back at the end of the stream; b"" for none."""
        waiting, self._waiting, self.held = self._waiting, None, False
        return b"" if waiting is None else _written(waiting.name, waiting.value)

    def _event(self, event: bytes) -> bytes:
        odd = _LONE.search(event) is not None
        if not odd and not self.held:
            return event
        parsed = sse.parse(event)
        if parsed is None or is_heartbeat(parsed):
            return event
        if not odd:
            return self.rest() + event
        try:
            value = loaded(parsed.data)
        except UNREADABLE:
            return self.rest() + event
        if _find(value, _has_half) is None:
            return self.rest() + event
        return self._odd(parsed.name, value)

    def _odd(self, name: str, value: Any) -> bytes:
        waiting = self._waiting
        if waiting is not None:
            behind = _find(value, _is_second)
            if behind is not None:
                holder, at = behind
                waiting.holder[waiting.at] += holder[at][0]
                holder[at] = holder[at][1:]
        before = self.rest()
        open_ = _find(value, _is_first)
        if open_ is None:
            return before + _written(name, value)
        self._waiting = _Held(name, value, *open_)
        self.held = True
        return before


def _has_half(text: str) -> bool:
    return _HALF.search(text) is not None


def _is_first(text: str) -> bool:
    return "\ud800" <= text[-1:] <= "\udbff"


def _is_second(text: str) -> bool:
    return "\udc00" <= text[:1] <= "\udfff"


def _find(value: Any, fits: Callable[[str], bool]) -> tuple[Any, Any] | None:
    """The container and key of a text in `value` that `fits`."""
    inner = [value] if isinstance(value, dict | list) else []
    while inner:
        holder = inner.pop()
        pairs = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for at, each in pairs:
            if isinstance(each, str):
                if fits(each):
                    return holder, at
            elif isinstance(each, dict | list):
                inner.append(each)
    return None


def _written(name: str, value: Any) -> bytes:
    return sse.encode(dumped(value), name if name.isprintable() else "")
