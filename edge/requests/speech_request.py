"""What a speech request asks for: characters, format, and the longest time it can take to say."""

from collections.abc import Mapping
from math import ceil

import msgspec

from middlewares.problem import expected

Fields = Mapping[str, msgspec.Raw]

CHARACTERS_A_SECOND = 12
"""Of slow speech; most voices say 15."""
_SLOWEST = 0.25
"""The lowest `speed` of OpenAI's API, also taken where the figure cannot be read."""
_FASTEST = 4.0
"""The highest one; servers that take more do not lower the bound."""
_DEFAULT_FORMAT = "mp3"

_decode_text = msgspec.json.Decoder(str).decode
_decode_number = msgspec.json.Decoder(int | float | None, strict=False).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError)


class Speech(msgspec.Struct, frozen=True):
    """A speech request.

    characters: code points of the text. milliseconds: of the longest answer. format: as requested.
    """

    characters: int
    milliseconds: int
    format: str


def speech_of(fields: Fields) -> Speech:
    """The speech request of a body's members. Raises Problem for a text that is no string."""
    try:
        characters = len(_decode_text(fields["input"]))
    except _UNREADABLE:
        raise expected("input", "a string") from None
    seconds = characters / CHARACTERS_A_SECOND / _speed(fields)
    return Speech(characters, ceil(seconds * 1000), _format(fields))


def _speed(fields: Fields) -> float:
    raw = fields.get("speed")
    try:
        speed = 1.0 if raw is None else _decode_number(raw)
    except _UNREADABLE:
        return _SLOWEST
    if speed is None:
        return 1.0
    return min(speed, _FASTEST) if speed > _SLOWEST else _SLOWEST


def _format(fields: Fields) -> str:
    raw = fields.get("response_format")
    try:
        return _DEFAULT_FORMAT if raw is None else _decode_text(raw).lower()
    except _UNREADABLE:
        return _DEFAULT_FORMAT
