"""Errors inside a 200, by kind."""

import json

import pytest

from edge.dialects.errors import broken, claims_failure, failed_by, says_error
from edge.dialects.passthrough import UpstreamError, decode_fields


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error"}, "upstream_unavailable"),
        ({"type": "server_error", "code": "server_is_overloaded"}, "upstream_unavailable"),
        ({"code": "slow_down"}, "upstream_unavailable"),
        ({"code": "insufficient_quota"}, "upstream_unavailable"),
        ({"type": "rate_limit_error"}, "rate_limited"),
        ({"type": "tokens", "code": "rate_limit_exceeded"}, "rate_limited"),
        ({"code": 429}, "rate_limited"),
        ({"code": "429"}, "rate_limited"),
        ({"code": 503, "message": "x"}, "upstream_unavailable"),
        ({"type": "timeout_error"}, "upstream_timeout"),
        ({"code": "context_length_exceeded"}, "context_length_exceeded"),
        ({"message": "prompt is too long: 9 tokens > 8 maximum"}, "context_length_exceeded"),
        ({"message": "Rate limit reached, try again in 4s."}, "rate_limited"),
        ({"message": "Input data may contain inappropriate content."}, "content_filtered"),
        ({"message": "x", "code": "data_inspection_failed"}, "content_filtered"),
        ({"message": "API key not valid"}, "upstream_error"),
        ({"code": "content_filter"}, "content_filtered"),
        ({"type": "api_error", "message": "x"}, "upstream_error"),
        ({}, "upstream_error"),
        ("words", "upstream_error"),
    ],
)
def test_the_kind_of_an_error(error: object, kind: str) -> None:
    """openai/codex#43337, tontinton/maki#777: by code, not by status; overload is no 400."""
    for wrapped in (
        {"error": error},
        {"type": "error", "error": error},
        {"type": "response.failed", "response": {"status": "failed", "error": error}},
    ):
        assert failed_by(json.dumps(wrapped).encode()).kind == kind


@pytest.mark.parametrize(
    ("error", "upstream_message", "wait"),
    [
        ({"message": "Slow down, try again in 3.2s."}, "Slow down, try again in 3.2s.", 4),
        ({"message": "x", "metadata": {"raw": '{"error":{"message":"y"}}'}}, "x; y", None),
        ({"details": [{"retryDelay": "21s"}]}, "", 21),
        ({"code": 500}, "", None),
    ],
)
def test_failed_by_keeps_the_words_and_the_wait(
    error: object, upstream_message: str, wait: int | None
) -> None:
    failed = failed_by(json.dumps({"error": error}).encode())
    assert (failed.upstream_message, failed.wait) == (upstream_message, wait)
    broke = UpstreamError.by(failed)
    assert (broke.reason, broke.kind) == (failed.reason, failed.kind)
    assert (broke.upstream_message, broke.wait) == (upstream_message, wait)


def test_failed_by_looks_at_no_words_of_a_body_without_end() -> None:
    large = json.dumps({"error": {"code": 429, "message": "x" * 100_000}}).encode()
    failed = failed_by(large)
    assert (failed.kind, failed.upstream_message) == ("rate_limited", "")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 5000, b"null", b'{"error":1}'])
def test_what_is_no_error_object_is_an_error_all_the_same(data: bytes) -> None:
    assert failed_by(data).kind == "upstream_error"


def test_secrets_in_an_error_do_not_reach_the_log() -> None:
    upstream_message = failed_by(b'{"error":{"message":"bad key sk-abcdefghijklmnop"}}').reason
    assert "abcdefghijkl" not in upstream_message
    assert "abcdefghijkl" not in broken("not JSON", b"Bearer abcdefghijklmnop").reason


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"detail": "x"}, "upstream_error"),
        ({"code": 429, "msg": "x"}, "rate_limited"),
        ({"base_resp": {"status_code": 1002, "status_msg": "x"}}, "rate_limited"),
        ({"base_resp": {"status_code": 1027, "status_msg": "x"}}, "content_filtered"),
        ({"detail": "maximum context length is 8"}, "context_length_exceeded"),
    ],
)
def test_failed_by_other_words_has_its_kind(body: object, kind: str) -> None:
    assert failed_by(json.dumps(body).encode()).kind == kind


@pytest.mark.parametrize("member", [None, "", False, 0, {}, [], {"message": "", "code": None}])
def test_says_error_empty_is_none(member: object) -> None:
    assert not says_error(json.dumps(member).encode())


@pytest.mark.parametrize("member", ["x", True, 500, {"code": 500}, {"message": "x"}, ["x"]])
def test_says_error_filled_is_one(member: object) -> None:
    assert says_error(json.dumps(member).encode())


@pytest.mark.parametrize(
    ("upstream_message", "failed"),
    [
        ({"detail": "x"}, True),
        ({"code": 500, "msg": "x", "success": False}, True),
        ({"message": "x"}, True),
        ({"status": 503}, True),
        ({"base_resp": {"status_code": 1000, "status_msg": "x"}, "choices": None}, True),
        ({"errors": ["x"]}, True),
        ({}, False),
        ({"type": "ping"}, False),
        ({"code": 0, "msg": "ok"}, False),
        ({"code": "200", "message": "success", "data": {}}, False),
        ({"base_resp": {"status_code": 0, "status_msg": "success"}}, False),
        ({"status": "processing"}, False),
        ({"detail": None, "code": None}, False),
    ],
)
def test_claims_failure_knows_other_words(upstream_message: object, failed: bool) -> None:
    assert claims_failure(decode_fields(json.dumps(upstream_message).encode())) is failed
