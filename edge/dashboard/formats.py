"""Amounts, counts, times and limits as text.

0, a limit that is not set and "unlimited" are three texts. Times are in UTC here; the browser
shows them in its own zone.
"""

from decimal import Decimal
from math import floor

from edge.billing.period import moment, read_moment
from middlewares.pricing import decimal

NOT_SET = "not set"
UNLIMITED = "unlimited"
_UNITS = {"1s": "second", "1m": "minute", "1h": "hour", "1d": "day"}
_NANO = 10**9
_LEAST = Decimal("0.0001")
_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")


def credits_text(amount: int | str | None) -> str:
    """Nano-credits, or credits as a decimal string, with at least two digits after the point."""
    if amount is None:
        return NOT_SET
    text = decimal(amount) if isinstance(amount, int) else amount
    whole, _, rest = text.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    return f"{sign}{int(digits or 0):,}.{rest.ljust(2, '0')}"


def money(amount: int | str) -> str:
    """The same rounded for reading: two digits after the point from 1 on, else up to four; never
    0.00 for more than nothing."""
    exact = Decimal(amount) / _NANO if isinstance(amount, int) else Decimal(amount)
    if 0 < abs(exact) < _LEAST:
        return f"{'>-' if exact < 0 else '<'}{_LEAST}"
    if abs(exact) >= 1:
        return f"{exact:,.2f}"
    whole, _, rest = f"{exact:.4f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def column(amount: int) -> str:
    """Nano-credits for a column of amounts, which have four digits after the point each."""
    exact = Decimal(amount) / _NANO
    return f"<{_LEAST}" if 0 < exact < _LEAST else f"{exact:,.4f}"


def count(number: float | None) -> str:
    """A number with separators: "12,345"."""
    return NOT_SET if number is None else f"{number:,}"


def limit(number: float | None) -> str:
    """A limit: 0 is 0, None is no limit."""
    return UNLIMITED if number is None else f"{number:,}"


def per(length: str) -> str:
    """The length of a rate after "per": "minute" for "1m", else the text itself."""
    return _UNITS.get(length, length)


def share(used: int | str, cap: int | str) -> int:
    """Percent of `cap` that is used, rounded down; 100 for a cap of 0. May be more than 100."""
    whole = Decimal(cap)
    return floor(Decimal(used) * 100 / whole) if whole else 100


def size(number: int | None) -> str:
    """Bytes as "1.5 MiB"."""
    if number is None:
        return NOT_SET
    value, unit = float(number), 0
    while value >= 1024 and unit < len(_SIZES) - 1:
        value, unit = value / 1024, unit + 1
    return f"{int(value)} B" if not unit else f"{value:.1f} {_SIZES[unit]}"


def milliseconds(value: float | None) -> str:
    """A duration in milliseconds as "840 ms", "2.4 s" or "3 min 5 s"."""
    if value is None:
        return NOT_SET
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.1f} s"
    minutes, seconds = divmod(round(value / 1000), 60)
    return f"{minutes} min {seconds} s"


def instant(at: float | str) -> str:
    """Unix seconds or RFC 3339 as RFC 3339 in UTC, for `datetime` attributes."""
    return str(moment(at)) if isinstance(at, int | float) else at


def utc(at: float | str) -> str:
    """The same for people: "2026-11-21 10:00:00 UTC"."""
    return instant(at)[:19].replace("T", " ") + " UTC"


def countdown(at: float | str, now: float) -> str:
    """Time until a moment: "in 3 d 4 h", "in 12 min"; "now" once it has passed."""
    end = at if isinstance(at, int | float) else read_moment("at", at)
    left = max(0, round(end - now))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number or parts:
            parts.append(f"{number} {unit}")
        if len(parts) == 2:
            break
    return f"in {' '.join(part for part in parts if not part.startswith('0 '))}" if parts else "now"


def plural(number: int, one: str, many: str = "") -> str:
    """A number and its noun: "1 request", "2 requests"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
