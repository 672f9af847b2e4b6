"""Problems: the table of error kinds, and errors as exception, ASGI response and stream event.

Raise a `Problem`, `await` it with `(scope, receive, send)`, or send `problem.event(exchange)` on a
stream that has begun. The client reads the texts of this table; `reason` is for the log only.

Envelopes, by the caller's dialect:

* OpenAI, both dialects: `{"error": {"message", "type", "param", "code"}}`, with `"details"`
  (`{"field", "issue"}`) inside `error` if the operator wants it (`ErrorStyle.details`);
* Anthropic: `{"type": "error", "error": {"type", "message"}, "request_id"}`, without a code.

Members of `extra` (window, remaining, reset_at) are inside `error` in both.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from . import sse
from .asgi import Header, Receive, Scope, Send
from .exchange import Exchange, exchange_of

_encode = msgspec.json.Encoder().encode


class Kind(msgspec.Struct, frozen=True):
    """One row of the table. `anthropic_status` differs from `status` only for overload.

    `code` None means the kind's own name; "" means that the OpenAI code is null.
    """

    status: int
    openai_type: str
    anthropic_type: str
    message: str
    code: str | None = None
    anthropic_status: int = 0
    retry_after: int = 0
    should_retry: bool | None = None
    anthropic_message: str = ""


_INVALID = "invalid_request_error"

KINDS: Mapping[str, Kind] = {
    "missing_key": Kind(
        401,
        "authentication_error",
        "authentication_error",
        "No API key was given. Send `Authorization: Bearer KEY` or `x-api-key: KEY`.",
        should_retry=False,
    ),
    "invalid_key": Kind(
        401,
        "authentication_error",
        "authentication_error",
        "The API key is not valid: it is wrong, expired, revoked or disabled.",
        should_retry=False,
    ),
    "endpoint_not_allowed": Kind(
        403,
        "permission_error",
        "permission_error",
        "{brand} does not offer this endpoint to this key.",
    ),
    "model_not_allowed": Kind(
        403, "permission_error", "permission_error", "This key may not use this model."
    ),
    "key_misconfigured": Kind(
        403,
        "permission_error",
        "permission_error",
        "This key is not set up rightly: its plan does not exist any more, or its limits cannot be "
        "read. Ask the operator of {brand}.",
        should_retry=False,
    ),
    "model_not_found": Kind(
        404,
        _INVALID,
        "not_found_error",
        "The model does not exist or you do not have access to it.",
    ),
    "not_found": Kind(404, _INVALID, "not_found_error", "There is nothing at this address."),
    "video_not_ready": Kind(
        404, _INVALID, "not_found_error", "The video is not finished yet.", should_retry=True
    ),
    "method_not_allowed": Kind(
        405, _INVALID, _INVALID, "This endpoint does not answer this method.", code=""
    ),
    "invalid_request": Kind(400, _INVALID, _INVALID, "The request is not valid."),
    "audio_not_supported_by_model": Kind(
        400, _INVALID, _INVALID, "This model does not take audio. Transcribe it first."
    ),
    "image_not_supported_by_model": Kind(
        400, _INVALID, _INVALID, "This model does not take images, and nothing here describes them."
    ),
    "video_not_supported_by_model": Kind(
        400, _INVALID, _INVALID, "This model does not take video, and nothing here describes it."
    ),
    "document_not_supported_by_model": Kind(
        400,
        _INVALID,
        _INVALID,
        "This model does not take documents of this type, and nothing here reads them.",
    ),
    "invalid_media": Kind(
        400, _INVALID, _INVALID, "The media cannot be read: it is broken, or of another type."
    ),
    "previous_response_not_found": Kind(
        400, _INVALID, _INVALID, "There is no such response to continue, or not any more."
    ),
    "context_length_exceeded": Kind(
        400,
        _INVALID,
        _INVALID,
        "This model's maximum context length was exceeded. "
        "Please reduce the length of the messages.",
        anthropic_message="prompt is too long: the model's context window is exceeded",
    ),
    "content_filtered": Kind(
        400, _INVALID, _INVALID, "The request was declined by the content policy."
    ),
    "request_too_large": Kind(
        413, _INVALID, "request_too_large", "The request body is larger than {brand} accepts."
    ),
    "request_timeout": Kind(408, _INVALID, _INVALID, "The request body did not arrive in time."),
    "request_headers_too_large": Kind(
        431, _INVALID, _INVALID, "A header of the request is larger than {brand} passes on."
    ),
    "unsupported_media_type": Kind(
        415, _INVALID, _INVALID, "The content type or encoding of the body is not supported."
    ),
    "idempotency_conflict": Kind(
        409,
        _INVALID,
        _INVALID,
        "A request with this Idempotency-Key is being answered. Please try again.",
    ),
    "idempotency_mismatch": Kind(
        422,
        _INVALID,
        _INVALID,
        "This Idempotency-Key was used before, with another request.",
    ),
    "rate_limited": Kind(
        429,
        "rate_limit_error",
        "rate_limit_error",
        "Rate limit reached. Please try again in {retry_after}s.",
        code="rate_limit_exceeded",
        retry_after=1,
    ),
    "budget_exceeded": Kind(
        429,
        "insufficient_quota",
        "rate_limit_error",
        "The spend limit of the current window is reached.",
        retry_after=1,
        should_retry=False,
    ),
    "insufficient_credits": Kind(
        429,
        "insufficient_quota",
        "rate_limit_error",
        "The credits are used up.",
        retry_after=1,
        should_retry=False,
    ),
    "range_not_satisfiable": Kind(
        416, _INVALID, _INVALID, "The file does not have the requested range of bytes."
    ),
    "storage_limit_exceeded": Kind(413, _INVALID, _INVALID, "The storage limit is reached."),
    "upstream_error": Kind(
        502, "server_error", "api_error", "{brand} could not complete the request. Please retry."
    ),
    "submission_unknown": Kind(
        502,
        "server_error",
        "api_error",
        "{brand} does not know whether the job was begun, and has charged nothing. Check before "
        "you send it again.",
        should_retry=False,
    ),
    "upstream_unavailable": Kind(
        503,
        "server_error",
        "overloaded_error",
        "Overloaded: {brand} is currently overloaded. Please try again later.",
        anthropic_status=529,
        retry_after=1,
    ),
    "store_unavailable": Kind(
        503,
        "server_error",
        "api_error",
        "The store of {brand} does not answer, so this cannot be looked up or changed now. "
        "Please try again.",
        retry_after=1,
    ),
    "upstream_timeout": Kind(
        504, "server_error", "api_error", "{brand} did not get an answer from the model in time."
    ),
    "internal": Kind(
        500, "server_error", "api_error", "{brand} made a mistake; it has been recorded."
    ),
}


class Problem(Exception):
    """An error: a kind of `KINDS` and the details of this case.

    message: public text in place of the table's. Must be our own: no upstream text, unless the
        operator discloses it.
    param: path of the field at fault, e.g. `messages[2].content[0].image_url.url`.
    issue: what was expected of it; sent in `details` if the operator wants them.
    reason: internal; logged with the request id, never sent.
    retry_after: seconds for the header `retry-after`, at least 1. If it is None, kinds with status
        429 and 503 use the seconds of `KINDS`. `retry_after_given`: whether it was not None.
    headers: further response headers, e.g. `allow`.
    extra: further members of the `error` object, e.g. `reset_at`, `remaining`.
    held: whether the failure counts against the health of its target.

    Raises ValueError for a kind that is not in the table.
    """

    def __init__(
        self,
        kind: str,
        *,
        message: str | None = None,
        param: str | None = None,
        issue: str | None = None,
        reason: str = "",
        retry_after: int | None = None,
        headers: tuple[Header, ...] = (),
        extra: Mapping[str, Any] | None = None,
        held: bool = True,
    ) -> None:
        row = KINDS.get(kind)
        if row is None:
            raise ValueError(f"unknown problem kind {kind!r}; one of {', '.join(sorted(KINDS))}")
        super().__init__(kind, reason or message or "")
        self.kind = kind
        self.row = row
        self.message = message
        self.param = param
        self.issue = issue
        self.reason = reason
        self.retry_after_given = retry_after is not None
        self.retry_after = max(1, retry_after) if retry_after is not None else row.retry_after
        self.headers = headers
        self.extra = extra
        self.held = held

    def status(self, exchange: Exchange) -> int:
        """HTTP status in the caller's dialect."""
        if exchange.dialect == "anthropic" and self.row.anthropic_status:
            return self.row.anthropic_status
        return self.row.status

    def text(self, exchange: Exchange) -> str:
        """The public message."""
        if self.message is not None:
            return self.message
        text = self.row.message
        if exchange.dialect == "anthropic":
            text = self.row.anthropic_message or text
        return text.format(brand=exchange.error_style.brand, retry_after=self.retry_after)

    def content(self, exchange: Exchange) -> dict[str, Any]:
        """The error body in the caller's envelope, as JSON-ready data."""
        if exchange.dialect == "anthropic":
            return {
                "type": "error",
                "error": {
                    "type": self.row.anthropic_type,
                    "message": self.text(exchange),
                    **{name: value for name, value in (self.extra or {}).items() if name != "code"},
                },
                "request_id": exchange.request_id,
            }
        code = self.kind if self.row.code is None else self.row.code or None
        error: dict[str, Any] = {
            "message": self.text(exchange),
            "type": self.row.openai_type,
            "param": self.param,
            "code": code,
        }
        if self.extra:
            error.update(self.extra)
        if exchange.error_style.details:
            error["details"] = {
                "field": self.param,
                "issue": self.issue or self.text(exchange),
            }
        return {"error": error}

    def answered(self, exchange: Exchange) -> None:
        """Note that the request is answered with it in another form than its own."""
        self._record(exchange, "answer")

    def cut(self, exchange: Exchange) -> None:
        """Note that it broke off an answer that had begun and cannot say so."""
        self._record(exchange, "cut")

    def event(self, exchange: Exchange) -> bytes:
        """The error as the last event of a stream that has begun; nothing follows it."""
        self.cut(exchange)
        content = self.content(exchange)
        if exchange.failure_encoder is not None:
            encoded = exchange.failure_encoder.encode_failure(content)
            if encoded is not None:
                return encoded
        body = _encode(content)
        if exchange.dialect == "anthropic":
            return sse.encode(body, "error")
        return sse.encode(body)

    def _record(self, exchange: Exchange, outcome: str) -> None:
        exchange.problem = self.kind
        exchange.reason = self.reason
        exchange.outcome = (
            "failed"
            if outcome == "answer" and exchange.attempts
            else ("cut" if outcome == "cut" else "refused")
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request with this problem."""
        exchange = exchange_of(scope)
        self._record(exchange, "answer")
        body = _encode(self.content(exchange))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            *self.headers,
        ]
        if self.retry_after:
            headers.append((b"retry-after", str(self.retry_after).encode()))
        if self.row.should_retry is not None:
            headers.append((b"x-should-retry", b"true" if self.row.should_retry else b"false"))
        status = self.status(exchange)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.body", "body": body})


def invalid_value(path: str, why: str, *, issue: str | None = None) -> Problem:
    """An `invalid_request` for the value at `path`. why: half a sentence.

    issue: see `Problem`.
    """
    message = f"Invalid value for `{path}`: {why}."
    return Problem("invalid_request", message=message, param=path or None, issue=issue)


def expected(path: str, what: str, *, code: str = "") -> Problem:
    """An `invalid_request` for the value at `path`. what: the expected value, half a sentence.

    code: the OpenAI code, where it is not the kind's own.
    """
    problem = invalid_value(path, f"expected {what}", issue=f"expected {what}")
    if code:
        problem.extra = {"code": code}
    return problem
