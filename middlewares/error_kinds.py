"""The table of error kinds: status, types, code and text of each; changes of it by an operator."""

from collections.abc import Mapping
from string import Formatter
from types import MappingProxyType

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """One row of the table. `anthropic_status` differs from `status` only for overload.

    `code` None means the kind's own name; "" means that the OpenAI code is null. `message` may name
    `{brand}` and `{retry_after}`. issue: a short form of it, for `details`.
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
    issue: str = ""


_INVALID = "invalid_request_error"

_TABLE: Mapping[str, Kind] = {
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
        403,
        "permission_error",
        "permission_error",
        "This key may not use this model.",
        issue="Model not allowed",
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
        issue="Model not found",
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
    "upstream_signed_out": Kind(
        503,
        "server_error",
        "overloaded_error",
        "Overloaded: {brand} is currently overloaded. Please try again later.",
        code="upstream_unavailable",
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

KINDS: Mapping[str, Kind] = MappingProxyType(_TABLE)

_PLACEHOLDERS = ("brand", "retry_after")


class KindChange(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator changes of one row, in every dialect; None changes nothing.

    type: for OpenAI and Anthropic clients. code: for OpenAI clients, "" for null.
    message: may name `{brand}` and `{retry_after}`. Texts that a case has of its own stay.
    """

    status: int | None = None
    type: str | None = None
    code: str | None = None
    message: str | None = None

    def of(self, kind: Kind) -> Kind:
        """`kind` with the change. Raises ValueError for a message with another placeholder."""
        changed: dict[str, object] = {}
        if self.status is not None:
            changed |= {"status": self.status, "anthropic_status": 0}
        if self.type is not None:
            changed |= {"openai_type": self.type, "anthropic_type": self.type}
        if self.code is not None:
            changed["code"] = self.code
        if self.message is not None:
            if fault := message_fault(self.message):
                raise ValueError(fault)
            changed |= {"message": self.message, "anthropic_message": "", "issue": ""}
        return msgspec.structs.replace(kind, **changed) if changed else kind


def message_fault(message: str) -> str:
    """What is wrong with a text of a row; "" for nothing."""
    expected = "expected no placeholders but {brand} and {retry_after}; write {{ for a brace"
    try:
        for _, name, form, conversion in Formatter().parse(message):
            if name is not None and (name not in _PLACEHOLDERS or form or conversion):
                return expected
    except ValueError:
        return expected
    return ""


def changed_kinds(changes: Mapping[str, KindChange]) -> Mapping[str, Kind]:
    """The table with `changes`, by the name of a kind. Raises ValueError for a name that it does
    not have."""
    if not changes:
        return KINDS
    if unknown := sorted(set(changes) - set(KINDS)):
        known = ", ".join(sorted(KINDS))
        raise ValueError(f"unknown problem kind {unknown[0]!r}; one of {known}")
    return {**KINDS, **{name: change.of(KINDS[name]) for name, change in changes.items()}}
