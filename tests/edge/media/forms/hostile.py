"""Forms that cost a parser much, in the pieces in which they come."""

from collections.abc import Mapping, Sequence

from .wire import form, part, pieces

HOSTILE: Mapping[str, Sequence[bytes]] = {
    "preamble": [b"x" * (64 << 10)] * 320,
    "preamble of line ends": [b"\r\n" * (32 << 10)] * 320,
    "many headers": pieces(b"--B\r\n" + b"A: b\r\n" * 100_000, 64 << 10),
    "many parts": pieces(form(*[part("a", b"")] * 100_000), 64 << 10),
    "endless header": [b"--B\r\nA: ", *[b"x" * (64 << 10)] * 300],
    "long continuation": pieces(b"--B\r\nA: b\r\n" + b" c\r\n" * 100_000, 64 << 10),
    "half boundaries": pieces(b"--B\r\n" + part("f", b"\r\n--" * 3_000_000, "f"), 64 << 10),
}
