"""Recognise events without content: heartbeats, and `[DONE]`.

Each dialect has its own heartbeat. Servers and proxies also write those of other dialects, and
other forms: empty data, a bare word, an object without members.
"""

import msgspec

from edge.untyped_json import decode_any
from middlewares import sse

_WORDS = frozenset(
    ("ping", "pong", "heartbeat", "keepalive", "keep-alive", "keep_alive", "processing")
)
_NOTHING = frozenset((b"", b"{}", b"[]", b"null", b'""'))
_UNNAMED = frozenset(("", "message"))
_LONGEST = 256
"""The longest heartbeat in bytes; a longer event has content."""


def is_heartbeat(event: sse.Event) -> bool:
    """Whether `event` is a heartbeat. Its name counts only where its data has no type."""
    data = event.data.strip()
    named = event.name.lower() in _WORDS
    if data in _NOTHING:
        return named or event.name in _UNNAMED
    if len(data) > _LONGEST:
        return False
    word = data.strip(b" \t\r\n\"'[]:").lower()
    if word.decode("latin-1") in _WORDS:
        return named or event.name in _UNNAMED
    try:
        value = decode_any(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return named
    if not isinstance(value, dict):
        return named
    kind = value.get("type")
    if isinstance(kind, str) and kind:
        return kind.lower() in _WORDS
    return named or (len(value) == 1 and next(iter(value)).lower() in _WORDS)


def is_done(data: bytes) -> bool:
    """Whether `data` is `[DONE]`, the end of a Chat stream, in any spelling."""
    return b"[DONE]" in data and data.strip(b" \t\r\n\"'") == b"[DONE]"
