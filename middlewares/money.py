"""Money: whole nano-credits, and what usage costs. No floats, so that sums are exact."""

from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow

import msgspec

from .exchange import Usage

NANO = 10**9
"""Nano-credits in one credit."""
_MILLION = 10**6
_UP = _MILLION - 1
_MINUTE = 60_000
_DENOMINATOR = _MILLION * _MINUTE
_MOST = 10**18
_EXACT = Context(prec=28, traps=[InvalidOperation, Inexact, Overflow])


class Price(msgspec.Struct, frozen=True):
    """What a model costs its caller.

    input, output, cache_read, cache_write: nano-credits per million tokens.
    image, audio_minute, job: nano-credits for each.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    image: int = 0
    audio_minute: int = 0
    job: int = 0

    def cost(self, usage: Usage) -> int:
        """Nano-credits for `usage`, rounded up to a whole one."""
        tokens = usage.input * self.input + usage.output * self.output
        if usage.cache_read or usage.cache_write:
            tokens += usage.cache_read * self.cache_read + usage.cache_write * self.cache_write
        if not (usage.images or usage.audio_ms or usage.jobs):
            return (tokens + _UP) // _MILLION
        whole = usage.images * self.image + usage.jobs * self.job
        parts = tokens * _MINUTE + usage.audio_ms * self.audio_minute * _MILLION
        return whole - (-parts // _DENOMINATOR)

    def tokens(self, input: int, output: int) -> int:  # noqa: A002
        """Nano-credits for tokens of which none were in a cache, rounded up to a whole one."""
        return (input * self.input + output * self.output + _UP) // _MILLION

    def most(self, input: int, output: int) -> int:  # noqa: A002
        """The same where it may be that all input is written to a cache, if that is dearer."""
        dearer = max(self.input, self.cache_write)
        return (input * dearer + output * self.output + _UP) // _MILLION


def decimal(nano: int) -> str:
    """Credits as a decimal string, at least two digits after the point: 1230000 -> "0.00123"."""
    if nano < 0:
        return "-" + decimal(-nano)
    digits = str(nano).zfill(10)
    return f"{digits[:-9]}.{digits[-9:-7]}{digits[-7:].rstrip('0')}"


def nano(text: str) -> int:
    """Nano-credits of a decimal string. ValueError for anything finer, huge, or no number."""
    try:
        amount = _EXACT.multiply(Decimal(text.strip()), NANO)
    except (DecimalException, AttributeError):
        amount = Decimal("NaN")
    if not amount.is_finite() or amount != amount.to_integral_value() or abs(amount) > _MOST:
        raise ValueError('expected credits such as "5.00", at most nine digits after the point')
    return int(amount)
