"""Decode JSON of callers and upstreams for a span: what cannot be read is left out."""

from typing import Any

import msgspec

from middlewares.json_number import number

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_decode = msgspec.json.Decoder(Any, float_hook=number).decode


def value_of(encoded: bytes | msgspec.Raw, *, most: int) -> Any:
    """The value of `encoded`; None where it has more than `most` bytes, or cannot be read."""
    if len(bytes(encoded)) > most:
        return None
    try:
        return _decode(encoded)
    except UNREADABLE:
        return None
