"""Fold an answer that is split over several choices into one choice.

Some servers put the text into one choice and each tool call into another (Copilot, for Claude), or
number the only choice other than 0. Clients that requested one answer read the first choice only.
"""

from typing import Any

import msgspec

from edge.dialects.passthrough import UNREADABLE, Fields, encode

_ZERO = msgspec.Raw(b"0")
_NULL = msgspec.Raw(b"null")
_CALLED = b'"tool_calls"'
_EMPTY = (b"null", b'""', b"[]", b"{}")
_decode_calls = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | None]).decode
_decode_fields = msgspec.json.Decoder(Fields | None).decode
_decode_number = msgspec.json.Decoder(int | None, strict=False).decode


class Folding:
    """Folds the choices of one answer, chunk after chunk. holder: "delta" or "message"."""

    __slots__ = ("_calls", "_holder", "_speaker")

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._calls: dict[tuple[int, int], int] = {}
        """The new number of a call, by choice and its own number."""
        self._speaker: int | None = None
        """The number of the choice whose text is read."""

    def fold(self, choices: list[Fields]) -> list[Fields]:
        """Fold `choices` into the one that was requested. Raises one of UNREADABLE."""
        if not choices:
            return choices
        whole: Fields = {}
        holder: Fields = {}
        calls: list[dict[str, msgspec.Raw]] = []
        for at, choice in enumerate(choices):
            number = _number_of(choice)
            number = at if number is None else number
            for name, value in choice.items():
                if _is_open(whole.get(name)) or bytes(value) == _CALLED:
                    whole[name] = value
            more = _decode_fields(choice.get(self._holder, _NULL)) or {}
            calls += self._numbered(number, more.pop("tool_calls", _NULL))
            if not self._may_speak(number, more):
                more.pop("content", None)
            for name, value in more.items():
                if _is_open(holder.get(name)):
                    holder[name] = value
        if calls:
            holder["tool_calls"] = msgspec.Raw(encode(calls))
        whole["index"] = _ZERO
        whole[self._holder] = msgspec.Raw(encode(holder))
        return [whole]

    def _may_speak(self, number: int, holder: Fields) -> bool:
        if bytes(holder.get("content", _NULL)) in _EMPTY:
            return True
        if self._speaker is None:
            self._speaker = number
        return self._speaker == number

    def _numbered(self, choice: int, calls: msgspec.Raw) -> list[dict[str, Any]]:
        if bytes(calls) in _EMPTY:
            return []
        out: list[dict[str, Any]] = []
        for at, call in enumerate(_decode_calls(calls)):
            if call is None:
                continue
            if self._holder == "delta":
                own = _number_of(call)
                key = (choice, at if own is None else own)
                number = self._calls.setdefault(key, len(self._calls))
                call["index"] = msgspec.Raw(b"%d" % number)
            out.append(call)
        return out


def _number_of(entry: Fields) -> int | None:
    try:
        number: int | None = _decode_number(entry.get("index", _NULL))
    except UNREADABLE:
        return None
    return number


def _is_open(held: msgspec.Raw | None) -> bool:
    return held is None or bytes(held) in _EMPTY
