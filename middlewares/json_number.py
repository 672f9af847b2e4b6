"""Read a number of untyped JSON at the cost of any other value."""

from math import isinf


def number(text: str) -> float:
    """A number with a fraction or an exponent, for `float_hook` of msgspec, which by itself reads
    one such as 1e308 digit by digit. Raises ValueError beyond the range of a double."""
    value = float(text)
    if isinf(value):
        raise ValueError("Number out of range")
    return value
