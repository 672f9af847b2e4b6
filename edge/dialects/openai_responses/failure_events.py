"""Numbered events, and the final events of a broken stream.

The reference documents an `error` event with flat members, the live API nests them, and clients
read one or the other, so both are written. `response.failed` follows, since some clients read only
that. The codes are those that coding clients act on: wait, shorten the conversation, or give up.
"""

from collections.abc import Callable
from typing import Any

from edge.dialects.passthrough import encode

_CODES = {
    "rate_limited": "rate_limit_exceeded",
    "upstream_unavailable": "server_is_overloaded",
    "budget_exceeded": "insufficient_quota",
    "insufficient_credits": "insufficient_quota",
    "content_filtered": "invalid_prompt",
}
"""By the code of the Problem."""
_USUAL = "server_error"


class EventNumbering:
    """Numbers the events of one stream. following: the next number."""

    __slots__ = ("following",)

    def __init__(self, following: int = 0) -> None:
        self.following = following

    def event(self, kind: bytes, members: bytes) -> bytes:
        """One SSE event. members: of its JSON object, without braces, type and number."""
        number = self.following
        self.following = number + 1
        return b'event: %b\ndata: {"type":"%b",%b,"sequence_number":%d}\n\n' % (
            kind,
            kind,
            members,
            number,
        )


def failing(
    stream: EventNumbering, content: dict[str, Any], failed: Callable[[str, str], bytes]
) -> bytes:
    """The `error` event and `response.failed`.

    content: `Problem.content`. failed: (code, message) -> the response object.
    """
    error = {"message": "", "type": _USUAL, "param": None, "code": None, **content["error"]}
    code = error["code"] or _USUAL
    code = error["code"] = _CODES.get(code, code)
    flat = {"code": code, "message": error["message"], "param": error["param"], "error": error}
    return stream.event(b"error", encode(flat)[1:-1]) + stream.event(
        b"response.failed", b'"response":' + failed(code, error["message"])
    )
