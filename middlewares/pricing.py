"""Money in whole nano-credits, and prices of usage. No floats, so that sums are exact."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest

import msgspec
from msgspec.structs import replace

from .exchange import Usage

NANO = 10**9
"""Nano-credits in one credit."""
_MILLION = 10**6
_UP = _MILLION - 1
_MINUTE = 60_000
_SECONDS = 60
_DENOMINATOR = _MILLION * _MINUTE
_MOST = 10**18
_WRITTEN = re.compile(r"\s*([+-]?)([0-9]{1,10})(?:\.([0-9]{1,9})0{0,100})?\s*")


UNITS = ("images", "audio_ms", "jobs", "characters", "video_ms")
"""Fields of `Usage` that are priced beside tokens, and are known before the answer."""


def has_units(usage: Usage) -> bool:
    """Whether `usage` counts any of `UNITS`."""
    return bool(usage.images or usage.audio_ms or usage.jobs or usage.characters or usage.video_ms)


class Price(msgspec.Struct, frozen=True):
    """The price of a model for its callers.

    input, output, cache_read, cache_write, cache_write_1h: nano-credits per million tokens.
    image, audio_minute, job, hosted_call, character, second: nano-credits for each. `second` is of
        video or music that was made.
    factors: multiply the price of tokens, in billionths, by service tier, speed or region.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    image: int = 0
    audio_minute: int = 0
    job: int = 0
    cache_write_1h: int = 0
    hosted_call: int = 0
    character: int = 0
    second: int = 0
    factors: Mapping[str, int] = {}

    def cost(self, usage: Usage, requested: Sequence[str] = ()) -> int:
        """Nano-credits for `usage`, rounded up to a whole one.

        requested: tiers of the request, as `Usage.tiers`. A different tier in the answer counts if
        it is cheaper, so that no answer costs more than was requested.
        """
        tokens = usage.input * self.input + usage.output * self.output
        if usage.cache_read or usage.cache_write:
            hour = min(usage.cache_write_1h, usage.cache_write)
            tokens += usage.cache_read * self.cache_read
            tokens += (usage.cache_write - hour) * self.cache_write + hour * self.cache_write_1h
        if self.factors and (usage.tiers or requested):
            for tier, reported in zip_longest(requested, usage.tiers, fillvalue=""):
                factor = self._max_factor(tier)
                if reported:
                    factor = min(factor, self.factors.get(reported, NANO))
                tokens = -(-tokens * factor // NANO)
        if not (  # `has_units`, without the cost of its call
            usage.images
            or usage.audio_ms
            or usage.jobs
            or usage.characters
            or usage.video_ms
            or usage.hosted
        ):
            return (tokens + _UP) // _MILLION
        return self._with_units(tokens, usage) + usage.hosted * self.hosted_call

    def _with_units(self, tokens: int, units: Usage) -> int:
        """Nano-credits for millionths of `tokens` and for `units`, rounded up once."""
        whole = units.images * self.image + units.jobs * self.job
        whole += units.characters * self.character
        time = units.audio_ms * self.audio_minute + units.video_ms * self.second * _SECONDS
        return whole - (-(tokens * _MINUTE + time * _MILLION) // _DENOMINATOR)

    def _max_factor(self, tier: str) -> int:
        """The factor of `tier`, at least 1: the vendor may serve the standard tier instead."""
        return max(NANO, self.factors.get(tier, NANO))

    def max_price(self, requested: Sequence[str] = (), *, hour: bool = False) -> "Price":
        """The highest price of a request for these tiers.

        hour: whether cache writes may be kept for an hour.
        """
        price = self
        for tier in requested:
            factor = self._max_factor(tier)
            if factor != NANO:
                price = price._times(factor)
        if hour:
            price = replace(price, cache_write=max(price.cache_write, price.cache_write_1h))
        return price

    def _times(self, factor: int) -> "Price":
        names = ("input", "output", "cache_read", "cache_write", "cache_write_1h")
        return replace(self, **{name: -(-getattr(self, name) * factor // NANO) for name in names})

    def tokens(self, input: int, output: int, units: Usage | None = None) -> int:  # noqa: A002
        """Nano-credits for uncached tokens, rounded up to a whole one.

        units: what is priced beside tokens.
        """
        tokens = input * self.input + output * self.output
        return (tokens + _UP) // _MILLION if units is None else self._with_units(tokens, units)

    def max_cost(
        self,
        input: int,  # noqa: A002
        output: int,
        hosted: int = 0,
        units: Usage | None = None,
    ) -> int:
        """The highest cost: all input at the price of cache writes, if that is higher.

        hosted: calls of tools that the vendor runs. units: most of what is priced beside tokens.
        """
        tokens = input * max(self.input, self.cache_write) + output * self.output
        hosted *= self.hosted_call
        if units is None:
            return (tokens + _UP) // _MILLION + hosted
        return self._with_units(tokens, units) + hosted

    @classmethod
    def most_expensive(cls, prices: Sequence["Price"]) -> "Price":
        """The price with the highest of each figure in `prices`; free if there are none."""
        if not prices:
            return cls()
        factors: dict[str, int] = {}
        for price in prices:
            for name, factor in price.factors.items():
                factors[name] = max(factor, factors.get(name, 0))
        names = [name for name in cls.__struct_fields__ if name != "factors"]
        most = {name: max(getattr(price, name) for price in prices) for name in names}
        return cls(**most, factors=factors)


@lru_cache(256)
def decimal(nano: int) -> str:
    """Credits as a decimal string, at least two digits after the point: 1230000 -> "0.00123"."""
    if nano < 0:
        return "-" + decimal(-nano)
    digits = str(nano).zfill(10)
    return f"{digits[:-9]}.{digits[-9:-7]}{digits[-7:].rstrip('0')}"


def nano(text: str) -> int:
    """Nano-credits of a decimal string of ASCII digits: no exponent, no underscore, and no digits
    of other scripts. ValueError for anything finer, huge, or no number."""
    found = _WRITTEN.fullmatch(text) if isinstance(text, str) else None
    if found is not None:
        sign, whole, part = found.groups("")
        amount = int(whole) * NANO + int(part.ljust(9, "0"))
        if amount <= _MOST:
            return -amount if sign == "-" else amount
    raise ValueError('expected credits such as "5.00", at most nine digits after the point')
