"""Units of a configuration: durations, sizes, rates, credits, windows, networks.

`parse` of each class reads its written form and raises ValueError that says what was expected.
`parse` also reads the `str()` of a value, so that defaults are shown as operators write them.
"""

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, ClassVar, Self, SupportsFloat

Schema = Mapping[str, Any]
Network = IPv4Network | IPv6Network

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PERIOD = {**_SECONDS, "sec": 1.0, "second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0}
_BYTES = {
    "": 1,
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_MULTIPLE = {"": 1, "k": 10**3, "m": 10**6}

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)", re.ASCII)
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?)\s*([a-z]*)", re.IGNORECASE | re.ASCII)
_RATE = re.compile(
    r"(\d{1,20}(?:\.\d{1,20})?)([km]?)\s*/\s*(\d{0,20})\s*([a-z]+)", re.IGNORECASE | re.ASCII
)
_CREDITS = re.compile(r"\d{1,9}(?:\.\d{1,9})?", re.ASCII)

NANO = 10**9
"""Nano-credits in one credit."""
_MOST = 10**12
_LARGEST = 1e300
_LONGEST = 3653 * 86400.0
"""Ten years in seconds, the longest period: the end of a longer one may have no date."""


class Duration(float):
    """A length of time in seconds."""

    __slots__ = ()
    expected: ClassVar[str] = 'a duration such as "250ms", "2s", "10m" or "1h", or seconds'
    schema: ClassVar[Schema] = {
        "anyOf": [
            {"type": "string", "pattern": r"^(\d+(\.\d+)?(ms|s|min|m|h|d))+$"},
            {"type": "number", "minimum": 0},
        ]
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        """Seconds from "250ms", "2s", "10m", "1h30m", or from a number of seconds."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            if 0 <= value <= _LARGEST:
                return cls(value)
        elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
            parts = _DURATION_PART.findall(value)
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
            if math.isfinite(seconds):
                return cls(seconds)
        raise ValueError(f"expected {cls.expected}")

    def __str__(self) -> str:
        for unit in ("d", "h", "m", "s"):
            count = self / _SECONDS[unit]
            if count >= 1 and count == int(count):
                return f"{int(count)}{unit}"
        return f"{self * 1000:.6f}".rstrip("0").rstrip(".") + "ms"

    def __repr__(self) -> str:
        return f"Duration({float(self)!r})"


class Size(int):
    """A number of bytes."""

    expected: ClassVar[str] = 'a size such as "32MiB" or "1GB", or a number of bytes'
    schema: ClassVar[Schema] = {
        "anyOf": [
            {"type": "string", "pattern": r"^\d+(\.\d+)? *([kKmMgGtT][iI]?)?[bB]?$"},
            {"type": "integer", "minimum": 0},
        ]
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        """Bytes from "32MiB" (binary), "1GB" (decimal), "65536", or from a whole number."""
        if isinstance(value, int) and not isinstance(value, bool):
            if 0 <= value < 1 << 63:
                return cls(value)
        elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
            unit = _BYTES.get(match[2].lower())
            if unit is not None:
                return cls(Decimal(match[1]) * unit)
        raise ValueError(f"expected {cls.expected}")

    def __str__(self) -> str:
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if self and self % _BYTES[unit.lower()] == 0:
                return f"{self // _BYTES[unit.lower()]}{unit}"
        return format(int(self), "d")

    def __repr__(self) -> str:
        return f"Size({int(self)})"


class RateSetting:
    """A rate: `count` in each `seconds`."""

    __slots__ = ("count", "seconds")
    expected: ClassVar[str] = 'a rate such as "60/min", "5000/10min" or "200k/min"'
    schema: ClassVar[Schema] = {
        "type": "string",
        "pattern": r"^\d+(\.\d+)?[kKmM]? */ *\d* *[a-z]+$",
    }

    def __init__(self, count: int, seconds: float) -> None:
        self.count = count
        self.seconds = seconds

    @classmethod
    def parse(cls, value: object) -> Self:
        """Count and seconds from "60/min", "5000/10min", "200k/min", "2/s"."""
        if isinstance(value, str) and (match := _RATE.fullmatch(value.strip())):
            count = Decimal(match[1]) * _MULTIPLE[match[2].lower()]
            period = _PERIOD.get(match[4].lower())
            length = int(match[3] or 1)
            seconds = (period or 0) * min(length, _LONGEST + 1)
            if 0 < seconds <= _LONGEST and 1 <= count <= _MOST and count == int(count):
                return cls(int(count), seconds)
        raise ValueError(f"expected {cls.expected}")

    def __str__(self) -> str:
        period = str(Duration(self.seconds))
        return f"{self.count}/{period[1:] if period in ('1s', '1m', '1h', '1d') else period}"

    def __repr__(self) -> str:
        return f"Rate({self.count}, {self.seconds})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RateSetting):
            return NotImplemented
        return (self.count, self.seconds) == (other.count, other.seconds)

    def __hash__(self) -> int:
        return hash((self.count, self.seconds))


class Credits(int):
    """An amount of money in nano-credits; one credit is one US dollar unless configured."""

    expected: ClassVar[str] = (
        'credits as a decimal string such as "3.00", at most nine digits after the point'
    )
    schema: ClassVar[Schema] = {
        "anyOf": [
            {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,9})?$"},
            {"type": "integer", "minimum": 0, "maximum": 999_999_999},
        ]
    }

    @classmethod
    def parse(cls, value: object) -> Self:
        """Nano-credits from "3.00" or from a whole number; binary fractions are refused."""
        if isinstance(value, float):
            raise ValueError(f"expected {cls.expected}; put the figure in quotes")
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < NANO:
            value = str(value)
        if isinstance(value, str) and _CREDITS.fullmatch(value.strip()):
            return cls(Decimal(value.strip()) * NANO)
        raise ValueError(f"expected {cls.expected}")

    def __str__(self) -> str:
        text = f"{int(self) // NANO}.{int(self) % NANO:09d}".rstrip("0")
        return text + "00"[: max(0, 2 - len(text.partition(".")[2]))]

    def __repr__(self) -> str:
        return f"Credits({int(self)})"


class Span:
    """The length of a budget window: `seconds`, or None for the calendar month."""

    __slots__ = ("seconds",)
    expected: ClassVar[str] = 'a window such as "5h", "1d", "7d", or "calendar month"'
    schema: ClassVar[Schema] = {
        "anyOf": [{"const": "calendar month"}, *Duration.schema["anyOf"]],
    }

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds

    @classmethod
    def parse(cls, value: object) -> Self:
        """A window length from a duration of at least a minute or "calendar month"."""
        if value == "calendar month":
            return cls(None)
        try:
            seconds = Duration.parse(value)
        except ValueError:
            seconds = Duration(0)
        if not 60 <= seconds <= _LONGEST:
            raise ValueError(f"expected {cls.expected}, at least one minute and at most ten years")
        return cls(float(seconds))

    def __str__(self) -> str:
        return "calendar month" if self.seconds is None else str(Duration(self.seconds))

    def __repr__(self) -> str:
        return f"Span({self.seconds})"

    def __eq__(self, other: object) -> bool:
        return self.seconds == other.seconds if isinstance(other, Span) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.seconds)


def network(value: object) -> Network:
    """An IP network from "10.0.0.0/8", "fd00::/8", or one address. ValueError otherwise."""
    if isinstance(value, str):
        try:
            return ip_network(value.strip())
        except ValueError as error:
            if "host bits" in str(error):
                wider = ip_network(value.strip(), strict=False)
                raise ValueError(f'expected a network; did you mean "{wider}"?') from None
    raise ValueError('expected a network such as "10.0.0.0/8" or "fd00::/8"')


NETWORK_SCHEMA: Schema = {"type": "string", "pattern": r"^[0-9a-fA-F.:]+(/\d{1,3})?$"}


def plain(value: object) -> object:
    """`value` as it would be written in a configuration file: units as text, tuples as lists."""
    if isinstance(value, bool | None):
        return value
    if type(value) in (int, float, str):
        return value
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str | SupportsFloat):
        if isinstance(value, IPv4Network | IPv6Network):
            return str(value)
        return [plain(inner) for inner in value]
    return str(value)
