"""Counts and sizes as text for people."""


def counted(count: float, noun: str) -> str:
    """A number and its noun: "1 worker", "2 workers"."""
    return f"{count:g} {noun}{'s' * (count != 1)}"


def shown_size(count: float) -> str:
    """A number of bytes for people: "12.3 GiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
