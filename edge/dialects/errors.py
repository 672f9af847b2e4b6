"""Errors inside a 200 response: their kind of Problem, and the line for the log.

Vendors report overload, rate limits and even refused requests as events of a stream that has begun,
or as an error object instead of an answer. They are classified like statuses
(`edge.upstreams.refusal`): by type, then code, then wording. The text never reaches a caller.

Other servers use other members: `detail`, `code` and `msg`, `base_resp`; see `claims_failure`. An
empty `error` member is no error (`says_error`).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from edge.untyped_json import decode_any
from edge.vendors.errors.body import ErrorBody, read_error
from edge.vendors.errors.causes import is_filtered, is_rate
from edge.vendors.errors.overflow import OVERFLOW
from edge.vendors.errors.redact import redacted
from edge.vendors.errors.retry_after import wait_in

from .events import Failed

_KINDS = {
    "overloaded_error": "upstream_unavailable",
    "server_is_overloaded": "upstream_unavailable",
    "service_unavailable_error": "upstream_unavailable",
    "slow_down": "upstream_unavailable",
    "insufficient_quota": "upstream_unavailable",
    "billing_error": "upstream_unavailable",
    "rate_limit_error": "rate_limited",
    "rate_limit_exceeded": "rate_limited",
    "requests": "rate_limited",
    "tokens": "rate_limited",
    "timeout_error": "upstream_timeout",
    "timeout": "upstream_timeout",
    "context_length_exceeded": "context_length_exceeded",
    "content_filter": "content_filtered",
    "content_policy_violation": "content_filtered",
    "invalid_prompt": "content_filtered",
}
_STATUSES = {
    429: "rate_limited",
    503: "upstream_unavailable",
    529: "upstream_unavailable",
    408: "upstream_timeout",
    504: "upstream_timeout",
    # MiniMax, in `base_resp`:
    1001: "upstream_timeout",
    1002: "rate_limited",
    1026: "content_filtered",
    1027: "content_filtered",
    1039: "rate_limited",
}
_REASON = 500
_LARGEST = 64 << 10
"""The largest error whose text is read, in bytes."""
_NESTED = ("response", "error", "base_resp")
_CODES = ("code", "type", "status_code", "status")
_TEXTS = ("message", "msg", "detail", "error", "status_msg", "error_msg", "errmsg")
_WORDS = ("detail", "message", "msg", "errors", "error_msg", "errmsg", "error_message")
_CLAIMS = ("success", "code", "status", *_WORDS)
_FINE = (None, "", 0, 200, "0", "200", "ok", "OK", "success", "Success")
"""Codes that mean success."""
_NO_ERROR = (b"null", b'""', b"{}", b"[]", b"false", b"0")
_NOTHING: tuple[Any, ...] = (None, "", 0, [], {})


def failed_by(data: bytes) -> Failed:
    """The failure that `data` reports: an error object, or an event around one, as JSON."""
    reason = f"error in the stream: {redacted(data[:_REASON].strip().decode('utf-8', 'replace'))}"
    words = read_error(data if len(data) <= _LARGEST else b"")
    kind = _kind(_error_of(data), words)
    return Failed(reason, kind, "; ".join(words.messages), wait_in(words.wait, words.text))


def broken(what: str, data: bytes = b"") -> Failed:
    """The failure of an upstream whose bytes violate its dialect."""
    if data:
        what = f"{what}: {redacted(data[:_REASON].strip().decode('utf-8', 'replace'))}"
    return Failed(what)


def says_error(member: bytes | msgspec.Raw) -> bool:
    """Whether an `error` member has content: many servers write an empty one beside an answer."""
    raw = bytes(member)
    if raw in _NO_ERROR:
        return False
    found = _read(raw)
    if isinstance(found, dict):
        return any(value not in _NOTHING for value in found.values())
    return found not in _NOTHING


def claims_failure(members: Mapping[str, msgspec.Raw]) -> bool:
    """Whether an object without an answer reports a failure in members of no dialect.

    `base_resp` (MiniMax) may also do so beside an answer.
    """
    if "base_resp" in members:
        status = _read(bytes(members["base_resp"]))
        return isinstance(status, dict) and status.get("status_code") not in _FINE
    words = {name: _read(bytes(members[name])) for name in _CLAIMS if name in members}
    if words.get("success") is False or words.get("code", 0) not in _FINE:
        return True
    if isinstance(status := words.get("status"), int) and status >= 400:
        return True
    if "code" in words:  # and it means success
        return False
    return any(words.get(name) not in _NOTHING for name in _WORDS)


def _read(raw: bytes) -> Any:
    try:
        return decode_any(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return raw


def _error_of(data: bytes) -> dict[str, Any]:
    """The innermost object that describes the error."""
    try:
        found = decode_any(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    for member in _NESTED:
        if isinstance(found, dict) and isinstance(found.get(member), dict):
            found = found[member]
    return found if isinstance(found, dict) else {}


def _kind(error: dict[str, Any], words: ErrorBody) -> str:
    for member in _CODES:
        word = error.get(member)
        if isinstance(word, str) and word in _KINDS:
            return _KINDS[word]
        if isinstance(word, str) and word.isdecimal():
            word = int(word[:9])
        if isinstance(word, int) and word in _STATUSES:
            return _STATUSES[word]
    for member in _TEXTS:
        text = error.get(member)
        if isinstance(text, str) and OVERFLOW.search(text):
            return "context_length_exceeded"
    if is_filtered(words):
        return "content_filtered"
    return "rate_limited" if is_rate(words) else "upstream_error"
