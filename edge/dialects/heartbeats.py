"""Events that hold no JSON of their dialect: heartbeats, and `[DONE]`.

Each dialect has its own form of a heartbeat, and servers and proxies write those of others, or
none: empty data, a bare word, an object without members.
"""

import msgspec

from edge.requests.untyped_json import decode_any
from middlewares import sse

_WORDS = frozenset(
    ("ping", "pong", "heartbeat", "keepalive", "keep-alive", "keep_alive", "processing")
)
_NOTHING = frozenset((b"", b"{}", b"[]", b"null", b'""'))
_UNNAMED = frozenset(("", "message"))
_LONGEST = 256
"""Bytes of a heartbeat; what is longer says something."""


def is_heartbeat(event: sse.Event) -> bool:
    """Whether `event` can be left out. Its name counts only where its data has no type."""
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
    """Whether `data` is the mark of the end that Chat streams have, in any spelling."""
    return b"[DONE]" in data and data.strip(b" \t\r\n\"'") == b"[DONE]"
