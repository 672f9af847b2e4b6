"""Problems: errors as exception, ASGI response and stream event. Their kinds: `error_kinds`.

Raise a `Problem`, `await` it with `(scope, receive, send)`, or send `problem.event(exchange)` on a
stream that has begun. The client reads the texts of the table, as the operator changed them
(`ErrorStyle.kinds`); `reason` is for the log only.

Envelopes, by the caller's dialect:

* OpenAI, both dialects: `{"error": {"message", "type", "param", "code"}}`;
* Anthropic: `{"type": "error", "error": {"type", "message"}, "request_id"}`, with `param` and
  `code` if the operator wants them (`ErrorStyle.openai_members`).

Members of `extra` (window, remaining, reset_at) are inside `error` in both, and so is `details`
(`{"field", "issue"}`) if the operator wants it (`ErrorStyle.details`).
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from . import sse
from .asgi import Header, Receive, Scope, Send
from .error_kinds import KINDS, Kind
from .exchange import Exchange, exchange_of

_encode = msgspec.json.Encoder().encode


class Problem(Exception):
    """An error: a kind of `KINDS` and the details of this case.

    message: public text in place of the kind's. Must be our own: no upstream text, unless the
        operator discloses it.
    param: path of the field at fault, e.g. `messages[2].content[0].image_url.url`.
    issue: what was expected of it, in place of the kind's; sent in `details` if the operator wants
        them.
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
        row = self._row(exchange)
        if exchange.dialect == "anthropic" and row.anthropic_status:
            return row.anthropic_status
        return row.status

    def text(self, exchange: Exchange) -> str:
        """The public message."""
        if self.message is not None:
            return self.message
        row = self._row(exchange)
        text = row.message
        if exchange.dialect == "anthropic":
            text = row.anthropic_message or text
        return text.format(brand=exchange.error_style.brand, retry_after=self.retry_after)

    def content(self, exchange: Exchange) -> dict[str, Any]:
        """The error body in the caller's envelope, as JSON-ready data."""
        row, text, style = self._row(exchange), self.text(exchange), exchange.error_style
        anthropic = exchange.dialect == "anthropic"
        error: dict[str, Any] = (
            {"type": row.anthropic_type, "message": style.message(text)}
            if anthropic
            else {"message": style.message(text), "type": row.openai_type}
        )
        if not anthropic or style.openai_members:
            error["param"] = self.param
            error["code"] = self.kind if row.code is None else row.code or None
        error.update(self.extra or {})
        if anthropic and not style.openai_members:
            error.pop("code", None)
        if style.details:
            error["details"] = {"field": self.param, "issue": self.issue or row.issue or text}
        if anthropic:
            return {"type": "error", "error": error, "request_id": exchange.request_id}
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

    def _row(self, exchange: Exchange) -> Kind:
        return exchange.error_style.kind(self.kind, exchange.endpoint)

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
        should_retry = self._row(exchange).should_retry
        if should_retry is not None:
            headers.append((b"x-should-retry", b"true" if should_retry else b"false"))
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
