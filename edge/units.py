"""The value types of the configuration: durations, sizes, rates, money, secrets, addresses.

Each class reads its written form with `parse`, which raises ValueError with a clause that says what
was expected and never repeats a secret. `str()` of a value is again a form that `parse` reads
(secrets excepted), so that defaults can be shown as an operator would write them.
"""

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, ClassVar, Self, SupportsFloat
from urllib.parse import urlsplit, urlunsplit

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

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_RATE = re.compile(r"(\d+(?:\.\d+)?)([km]?)\s*/\s*(\d*)\s*([a-z]+)", re.IGNORECASE)
_CREDITS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_VISIBLE = re.compile(r"[!-~]+")

NANO = 10**9
"""Nano-credits in one credit."""


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
            if value >= 0 and math.isfinite(value):
                return cls(value)
        elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
            parts = _DURATION_PART.findall(value)
            return cls(sum(float(number) * _SECONDS[unit] for number, unit in parts))
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
            if value >= 0:
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


class Rate:
    """So many per so long: `count` in each `seconds`."""

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
            if period and length and count >= 1 and count == int(count):
                return cls(int(count), period * length)
        raise ValueError(f"expected {cls.expected}")

    def __str__(self) -> str:
        period = str(Duration(self.seconds))
        return f"{self.count}/{period[1:] if period in ('1s', '1m', '1h', '1d') else period}"

    def __repr__(self) -> str:
        return f"Rate({self.count}, {self.seconds})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rate):
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
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and _CREDITS.fullmatch(value.strip()):
            try:
                return cls(Decimal(value.strip()) * NANO)
            except InvalidOperation:
                pass
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
        if seconds < 60:
            raise ValueError(f"expected {cls.expected}, at least one minute")
        return cls(float(seconds))

    def __str__(self) -> str:
        return "calendar month" if self.seconds is None else str(Duration(self.seconds))

    def __repr__(self) -> str:
        return f"Span({self.seconds})"

    def __eq__(self, other: object) -> bool:
        return self.seconds == other.seconds if isinstance(other, Span) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.seconds)


class Secret:
    """A text that shows itself as `***` everywhere but in `reveal()`.

    It is `***` in repr, str, format, logs, JSON and pickles too, so a configuration that is dumped,
    logged or sent to another process does not carry it along. Load the file again there.
    """

    __slots__ = ("_text",)
    expected: ClassVar[str] = '"env:NAME", "file:PATH" or the text itself'
    schema: ClassVar[Schema] = {"type": "string", "minLength": 1}

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def parse(cls, value: object) -> Self:
        """A secret given literally; `References.resolve` reads the `env:` and `file:` forms."""
        if not isinstance(value, str) or not value:
            raise ValueError(f"expected {cls.expected}")
        return cls(value)

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret('***')"

    def __format__(self, spec: str) -> str:
        return format("***", spec)

    def __reduce__(self) -> tuple[type["Secret"], tuple[str]]:
        return (Secret, ("***",))

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)


class Location(str):
    """Where a store is, as a URL. A string like any other, but its repr hides a password."""

    __slots__ = ()
    expected: ClassVar[str] = 'a location, or "env:NAME" for the variable that holds it'
    schema: ClassVar[Schema] = {"type": "string", "minLength": 1}

    @classmethod
    def parse(cls, value: object) -> Self:
        """A non-empty line of visible text."""
        if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
            raise ValueError(f"expected {cls.expected}")
        return cls(value)

    @property
    def shown(self) -> str:
        """The URL with `***` for its password and without its query, for people and logs."""
        try:
            parts = urlsplit(self)
        except ValueError:
            return "***"
        host = parts.netloc.rpartition("@")
        netloc = f"***@{host[2]}" if host[1] else parts.netloc
        if not parts.netloc:
            return str(self).partition("?")[0]
        return urlunsplit((parts.scheme, netloc, parts.path, "", ""))

    def __repr__(self) -> str:
        return f"Location({self.shown!r})"


class HttpUrl(str):
    """The base of an HTTP API: scheme, host, optional port and path, no slash at its end."""

    __slots__ = ()
    expected: ClassVar[str] = 'a URL such as "https://api.example.com/v1"'
    schema: ClassVar[Schema] = {"type": "string", "pattern": r"^https?://[^\s?#@]+$"}

    @classmethod
    def parse(cls, value: object) -> Self:
        """An http or https URL without credentials, query or fragment. Nothing of it is echoed."""
        if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
            raise ValueError(f"expected {cls.expected}")
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError(f"expected {cls.expected}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"expected {cls.expected}, with http or https and a host")
        if "@" in parts.netloc:
            raise ValueError("must not carry credentials; put them in api_key or headers")
        if "?" in value or "#" in value:
            raise ValueError("must not carry a query or a fragment")
        return cls(value.rstrip("/"))


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


class References:
    """What the texts of a configuration may point to: environment variables and files.

    Relative paths are relative to `directory`, the folder of the configuration file.
    """

    def __init__(self, env: Mapping[str, str], directory: Path) -> None:
        self._env = env
        self._directory = directory

    def resolve(self, value: object) -> object:
        """The text that `env:NAME` or `file:PATH` stands for; anything else as it is.

        Raises ValueError that names the variable or the file, never what is in it.
        """
        if not isinstance(value, str):
            return value
        scheme, _, name = value.partition(":")
        if scheme == "env":
            if not self._env.get(name):
                state = "is empty" if name in self._env else "is not set"
                raise ValueError(f"environment variable {name} {state}")
            return self._env[name]
        if scheme == "file":
            try:
                text = self.path(name).read_text("utf-8").rstrip("\r\n")
            except OSError as error:
                raise ValueError(f"file {name} cannot be read: {error.strerror}") from None
            except UnicodeDecodeError:
                raise ValueError(f"file {name} is not UTF-8 text") from None
            if not text:
                raise ValueError(f"file {name} is empty")
            return text
        return value

    def secret(self, value: object) -> Secret:
        """A secret, literal or referred to."""
        return Secret.parse(self.resolve(value))

    def location(self, value: object) -> Location:
        """A location, literal or `env:NAME`. `file:` is a location of its own here."""
        by_name = isinstance(value, str) and value.startswith("env:")
        return Location.parse(self.resolve(value) if by_name else value)

    def path(self, value: object) -> Path:
        """A path relative to the configuration file. It need not exist."""
        if not isinstance(value, str) or not value:
            raise ValueError("expected the path of a file")
        return self._directory / Path(value).expanduser()

    def existing(self, value: object) -> Path:
        """A path that is a readable file."""
        path = self.path(value)
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        return path


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
