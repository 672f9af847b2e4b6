"""Error bodies in the vendors' formats, with text that a gateway must not leak."""

from typing import Any

import msgspec

from middlewares.exchange import Dialect

SECRETS = (
    "sk-sim-secret-4f9d2c",
    "org-simsecret77",
    "sim-gpu-17.internal.example",
    "SimProvider",
)
"""Secrets in errors of the simulator. No client of a gateway may see one."""

_TEXT = (
    "SimProvider failed on sim-gpu-17.internal.example for organization org-simsecret77 "
    "with key sk-sim-secret-4f9d2c (status {status})."
)
_OPENAI = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("permission_error", None),
    404: ("invalid_request_error", "model_not_found"),
    405: ("invalid_request_error", None),
    413: ("invalid_request_error", "request_too_large"),
    429: ("requests", "rate_limit_exceeded"),
    503: ("service_unavailable_error", "server_is_overloaded"),
}
_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_encode = msgspec.json.Encoder().encode


def error_body(
    dialect: Dialect,
    status: int,
    identity: str,
    message: str = "",
    param: str | None = None,
    code: str | None = None,
) -> bytes:
    """An error in the dialect's format; without `message`, one with SECRETS."""
    error = _error(dialect, status, identity, message or _TEXT.format(status=status), param)
    if code is not None and dialect != "anthropic":
        error["error"]["code"] = code
    return _encode(error)


def failure(status: int) -> dict[str, Any]:
    """The `error` object of OpenAI, with SECRETS."""
    error: dict[str, Any] = _error("openai", status, "", _TEXT.format(status=status), None)["error"]
    return error


def _error(
    dialect: Dialect, status: int, identity: str, message: str, param: str | None
) -> dict[str, Any]:
    if dialect == "anthropic":
        kind = _ANTHROPIC.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {
            "type": "error",
            "error": {"type": kind, "message": message},
            "request_id": f"req_{identity[:24]}",
        }
    fallback = ("server_error" if status >= 500 else "invalid_request_error", None)
    kind, code = _OPENAI.get(status, fallback)
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_event(dialect: Dialect, identity: str) -> bytes:
    """The overload error as the last event of a stream, with SECRETS.

    Events of Responses are numbered, so `responses` writes that one.
    """
    if dialect == "anthropic":
        return b"event: error\ndata: " + error_body(dialect, 529, identity) + b"\n\n"
    return b"data: " + error_body(dialect, 503, identity) + b"\n\n"


def overflow_body(dialect: Dialect, identity: str, tokens: int) -> bytes:
    """A context overflow in the vendor's wording."""
    used, most = tokens + 200_000, 200_000
    if dialect == "anthropic":
        return error_body(
            dialect, 400, identity, f"prompt is too long: {used} tokens > {most} maximum"
        )
    code = "context_length_exceeded"
    if dialect == "responses":
        message = (
            "Your input exceeds the context window of this model. "
            "Please adjust your input and try again."
        )
        return error_body(dialect, 400, identity, message, "input", code)
    message = (
        f"This model's maximum context length is {most} tokens. However, your messages resulted "
        f"in {used} tokens. Please reduce the length of the messages."
    )
    return error_body(dialect, 400, identity, message, "messages", code)
