"""Decode JSON whose form is not known, as callers, models and upstreams write it.

msgspec reads a number such as 1e308 digit by digit: 19 µs each, the time of 400 others, so that
200 kB of them would keep the event loop waiting for half a second. Here Python's `float` reads
them, which takes 0.5 µs of any number. Integers are read by msgspec.

Every decoder with `Any` within has `number` for its hook, as members are decoded as often as they
are there. A member that is to be a float has no hook: it is Raw, and read once.
"""

from math import isinf
from typing import Any

import msgspec


def number(text: str) -> float:
    """A number with a fraction or an exponent. Raises ValueError beyond the range of a double."""
    value = float(text)
    if isinf(value):
        raise ValueError("Number out of range")
    return value


decode_any = msgspec.json.Decoder(float_hook=number).decode
"""Raises msgspec.DecodeError, UnicodeDecodeError and RecursionError."""
decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=number).decode
"""The same of an object; anything else is a ValidationError."""
