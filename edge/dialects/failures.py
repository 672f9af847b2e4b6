"""What an upstream's error inside a 200 amounts to: the kind of problem, and a line for the log.

Both vendors report overload, rate limits and even refused requests as events of a stream that has
begun, or as an error object where an answer was expected. They are told apart as statuses are
(`edge.upstreams.refusal`): by type, then code, then wording. The text never reaches a caller.
"""

from typing import Any

import msgspec

from edge.upstreams.refusal import OVERFLOW, redacted

from .neutral import Failed

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
}
_REASON = 500

_decode = msgspec.json.Decoder().decode


def failed_by(data: bytes) -> Failed:
    """The failure that `data` reports: the JSON of an error object, or of an event around one."""
    reason = f"error in the stream: {redacted(data[:_REASON].strip().decode('utf-8', 'replace'))}"
    return Failed(reason, _kind(_error_of(data), data))


def broken(what: str, data: bytes = b"") -> Failed:
    """The failure of an upstream whose bytes are not what its dialect promises."""
    if data:
        what = f"{what}: {redacted(data[:_REASON].strip().decode('utf-8', 'replace'))}"
    return Failed(what)


def _error_of(data: bytes) -> dict[str, Any]:
    """The innermost object that describes the error."""
    try:
        found = _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    for member in ("response", "error"):
        if isinstance(found, dict) and isinstance(found.get(member), dict):
            found = found[member]
    return found if isinstance(found, dict) else {}


def _kind(error: dict[str, Any], data: bytes) -> str:
    for member in ("code", "type"):
        word = error.get(member)
        if isinstance(word, str) and word in _KINDS:
            return _KINDS[word]
        if isinstance(word, int) and word in _STATUSES:
            return _STATUSES[word]
    said = error.get("message")
    if isinstance(said, str) and OVERFLOW.search(said):
        return "context_length_exceeded"
    return "upstream_error"
