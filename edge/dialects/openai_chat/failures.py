"""Recognise failures in Chat events and bodies without choices.

OpenAI reports an error in the member `error`. Other servers, and proxies in front of them, send
`detail`, `code` and `msg`, or put the error into a choice. Without any of these the event is a
heartbeat, or can be ignored.
"""

from typing import Any

from edge.dialects.errors import claims_failure, failed_by, says_error
from edge.dialects.events import Failed
from edge.dialects.heartbeats import is_heartbeat
from edge.dialects.passthrough import UNREADABLE, decode_fields
from middlewares import sse

from .wire import NULL

NEEDED = frozenset(
    (
        *("choices", "message", "delta", "content", "tool_calls", "function", "custom", "name"),
        *("arguments", "input", "text", "thinking", "reasoning_content"),
    )
)
"""Members without which there is no answer; they must have the right type."""

_DONE = b"[DONE]"
_UNNAMED = ("", "message", "error")


def is_done(data: bytes) -> bool:
    """Whether `data` is the end of a stream, with any blanks or quotes around it."""
    return data.startswith(_DONE) or (
        len(data) < 20 and data.strip(b" \t\"'").upper().startswith(_DONE)
    )


def failure_of(answer: Any, data: bytes, name: str = "") -> Failed | None:
    """The failure that an event or a body reports.

    answer: the decoded `data`, with `error`, `object` and `base_resp`. name: of the event.
    """
    if name == "error" or answer.object == "error" or says_error(answer.error):
        return failed_by(data)
    if answer.base_resp is not NULL and claims_failure({"base_resp": answer.base_resp}):
        return failed_by(data)
    return None


def failure_of_bare(event: sse.Event, *, known: bool) -> Failed | None:
    """The failure that an event without choices and usage reports; None if it can be ignored.

    known: it still is an event of the dialect, like Azure's first chunk.
    """
    if is_heartbeat(event) or (event.name not in _UNNAMED and not known):
        return None
    try:
        members = decode_fields(event.data)
    except UNREADABLE:
        return failed_by(event.data)
    empty = bytes(members.get("error", b"null")) != b"null"  # without an answer, any error counts
    return failed_by(event.data) if empty or claims_failure(members) else None
