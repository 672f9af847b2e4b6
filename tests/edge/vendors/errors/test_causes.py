"""What an upstream's refusal is about where its status does not say."""

import json
import re
from typing import Any

import pytest

from tests.edge.refusing import CANARY, DIALECTS, GOOGLE, refuse, said


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ("You exceeded your current quota", {"type": "insufficient_quota"}),
        ("You exceeded your current quota", {"code": "insufficient_quota"}),
        ("x", {"code": "billing_hard_limit_reached"}),
        ("x", {"code": "project_spend_limit_exceeded"}),
        ("Insufficient balance or no resource package. Please recharge.", {"code": "1113"}),
    ],
)
def test_unpaid_bill_as_429_is_unavailable(message: str, detail: dict[str, Any]) -> None:
    problem = refuse(429, message, **detail)
    assert problem.kind == "upstream_unavailable"
    assert "quota" not in said(problem, "openai").lower()


# What the operator has to correct, reported as 400

OPERATORS: list[Any] = [
    # the key
    [
        {
            "error": {
                "code": 400,
                "message": "API key not valid. Please pass a valid API key.",
                "status": "INVALID_ARGUMENT",
                "details": [{"@type": f"{GOOGLE}ErrorInfo", "reason": "API_KEY_INVALID"}],
            }
        }
    ],
    {"error": {"code": 400, "message": "API Key not found. Please pass a valid API key."}},
    {"error": {"code": 400, "message": "API key expired. Please renew the API key."}},
    {
        "code": "Client specified an invalid argument",
        "error": "Incorrect%20API%20key%20provided:%20ab***yz.%20You%20can%20obtain%20one",
    },
    {"code": "InvalidApiKey", "message": "Invalid API-key provided.", "request_id": "1"},
    {"error": {"message": "invalid x-api-key", "type": "authentication_error"}},
    {"message": "The security token included in the request is invalid."},
    {"__type": "com.amazon.coral.service#X", "code": "UnrecognizedClientException"},
    {"Message": "User: arn:aws:iam::1:user/x is not authorized to perform: bedrock:InvokeModel"},
    # the region
    {"error": {"message": "User location is not supported for the API use."}},
    {"error": {"code": "unsupported_country_region_territory", "message": "x"}},
    {
        "error": {
            "message": "Access to Anthropic models is not allowed: not available in your region"
        }
    },
    # the account
    {
        "code": "Arrearage",
        "message": "Access denied, please make sure your account is in good standing.",
    },
    {"error": {"message": "Your credit balance is too low to access the API."}},
    {"error": {"message": "x", "type": "billing_error"}},
    {"error": {"message": "Insufficient Balance", "type": "unknown_error"}},
    {"error": {"message": "You have reached your specified API usage limits."}},
    {"error": {"message": "This organization has been disabled.", "type": "invalid_request_error"}},
    {"error": {"message": "Your account has been suspended", "code": None}},
    {"message": "Operation not allowed", "type": "ValidationException"},
    {
        "error": {
            "message": "Your organization must be verified to stream this model.",
            "param": "stream",
            "code": "unsupported_value",
        }
    },
    # the model
    {"error": {"message": "Model Not Exist", "type": "invalid_request_error"}},
    {
        "object": "error",
        "message": "Invalid model: some-model",
        "type": "invalid_model",
        "code": 1500,
    },
    {"error": {"message": "some/model is not a valid model ID", "code": 400}},
    {"error": {"message": "The model `x` does not exist or you do not have access to it."}},
    {"error": {"message": "The requested model is not supported.", "param": "model"}},
    {"error": {"message": "The requested model is not supported."}},
    {"error": {"message": "models/some-model is not found for API version v1beta."}},
    {"error": {"message": "Model some-model not found"}},
    {"message": "model with id some-model is not available"},
    {"detail": "The operation does not work with the specified model, some-model."},
    {"error": {"code": "DeploymentNotFound", "message": "The API deployment does not exist."}},
    {"error": {"code": "OperationNotSupported", "message": "It does not work with this model."}},
    {"error": {"message": "The model `x` has been decommissioned and is no longer supported."}},
    {
        "message": "Invocation of model ID a.b-v1:0 with on-demand throughput isn\u2019t supported."
        " Retry your request with the ID or ARN of an inference profile that contains this model."
    },
    {"message": "The provided model identifier is invalid."},
    {"detail": [{"type": "x", "loc": ["body", "model"], "msg": "unknown", "input": "x"}]},
    # what is loaded
    {"error": {"message": "No models loaded. Please load a model in the developer page."}},
    {"error": "Model has unloaded or crashed.."},
    {"error": 'model "x" not found, try pulling it first'},
    {"object": "error", "message": '"auto" tool choice requires --enable-auto-tool-choice and'},
]


@pytest.mark.parametrize("body", OPERATORS, ids=lambda body: json.dumps(body)[:60])
@pytest.mark.parametrize("status", [400, 422])
def test_refusal_for_which_the_operator_is_to_blame_is_502(body: Any, status: int) -> None:
    raw = json.dumps(body).encode()
    for dialect in DIALECTS:
        for spelled in (None, {"messages": "messages", "max_tokens": "max_tokens"}):
            problem = refuse(status, raw=raw, dialect=dialect, spelled=spelled)
            assert (problem.kind, problem.held) == ("upstream_error", True)
            text = said(problem, dialect).lower()
            assert not re.search(r"key|account|model|region|balance|organi", text)


@pytest.mark.parametrize("status", [402, 403, 404])
@pytest.mark.parametrize("body", OPERATORS[::4], ids=lambda body: json.dumps(body)[:60])
def test_the_same_under_their_own_status_is_502(body: Any, status: int) -> None:
    assert refuse(status, raw=json.dumps(body).encode()).kind == "upstream_error"


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "messages.0.content.0.text: Field required"}},
        {"error": {"message": "Invalid value: 'API key not valid'. Supported values are: 'text'."}},
        {"error": {"message": "Invalid type for 'messages[0].content': expected a string."}},
        {
            "error": {"message": "`temperature`: the account has been disabled", "param": "seed"},
            "x": 1,
        },
        {"error": {"message": "temperature: model not found in 0..2", "param": "temperature"}},
        {"error": {"message": "tools.0.name: the model `billing` does not exist"}},
        {"detail": [{"loc": ["body", "seed"], "msg": "bad", "input": "API key not valid"}]},
        {"error": {"message": "This model does not support image input."}},
        {"error": {"message": "The model called a tool that was not found."}},
        {"error": {"message": "The file does not exist."}},
        {"error": {"message": "A message of role user is not allowed after one of role tool."}},
        {"error": {"message": "The conversation must not end with a call that is blocked."}},
        {"error": {"message": "Tool results are missing.", "type": "invalid_request_error"}},
        {"error": {"message": "An assistant message with 'tool_calls' must be followed by tools"}},
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_refusal_of_the_callers_own_request_stays_400(body: Any) -> None:
    assert refuse(400, raw=json.dumps(body).encode()).kind == "invalid_request"


# Rate limits with another status


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (
            413,
            {
                "error": {
                    "message": "Request too large for model `m` on tokens per minute (TPM): Limit "
                    "8000, Requested 42084, please reduce your message size and try again.",
                    "type": "tokens",
                    "code": "rate_limit_exceeded",
                }
            },
        ),
        (413, {"error": {"message": "Too large: 9000 tokens per minute (TPM) allowed"}}),
        (413, "Rate limit reached: too many tokens"),
        (400, {"__type": "ThrottlingException", "message": "Too many tokens, please wait"}),
        (400, {"code": "Throttling.RateQuota", "message": "Requests rate limit exceeded"}),
        (403, {"error": {"code": 403, "message": "x", "status": "RESOURCE_EXHAUSTED"}}),
        (422, {"detail": "Too Many Requests"}),
    ],
)
def test_rate_limit_under_another_status_is_429_with_its_wait(status: int, body: Any) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    problem = refuse(status, raw=raw, headers=[(b"retry-after", b"12")])
    assert (problem.kind, problem.retry_after, problem.retry_after_given) == (
        "rate_limited",
        12,
        True,
    )


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize(
    ("figures", "held"),
    [
        ("Limit 8000, Requested 42084, please", False),
        ("Limit: 30,000, Requested: 87,000. The", False),
        ("Limit 8000, Requested 8000.", True),
        ("Limit 8000, Used 7000, Requested 42084.", True),
        ("'Limit 8000, Requested 42084'", True),
        ("Limit ,requested 5", True),
        ("", True),
    ],
)
def test_rate_that_one_request_exceeds_alone_is_not_held_against_the_target(
    status: int, figures: str, held: bool
) -> None:
    problem = refuse(status, f"Request too large on tokens per minute (TPM): {figures}")
    assert (problem.kind, problem.held) == ("rate_limited", held)


@pytest.mark.parametrize("message", ["too big", "Payload Too Large", "max 1048576 bytes"])
def test_413_without_such_words_stays_413(message: str) -> None:
    assert refuse(413, message).kind == "request_too_large"


# What one caller's request provokes


@pytest.mark.parametrize(
    ("status", "body", "held"),
    [
        (431, b"", False),
        (415, b'{"error":{"message":"x"}}', False),
        (411, b"", False),
        (414, b"<html><title>414 Request-URI Too Large</title>", False),
        (417, b"Expectation Failed", False),
        (494, b"", False),
        (403, b"", False),
        (403, b"error code: 1020", False),
        (403, b"Access Denied", False),
        (403, b"Invalid API key", True),
        (400, b"<p>Size of a request header field exceeds server limit.</p>", False),
        (400, b"Bad Request - Request Too Long: size of the request headers is too long", False),
        (403, b"<!DOCTYPE html><html><title>Attention Required!</title></html>", False),
        (403, b" <HTML><HEAD><TITLE>403 Forbidden</TITLE>", False),
        (413, b"Request header fields too large", False),
        (400, b"<html><head><title>400 Request Header Or Cookie Too Large</title>", False),
        (403, b'{"error":{"message":"no permission"}}', True),
        (401, b"<html>", True),
        (500, b"<html>", True),
    ],
)
def test_status_that_one_request_provokes_is_not_held_against_the_target(
    status: int, body: bytes, held: bool
) -> None:
    problem = refuse(status, raw=body)
    assert (problem.kind, problem.held) == ("upstream_error", held)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "x", "code": "content_policy_violation"},
        {"message": "x", "code": "content_filter"},
        {"message": "Your request was rejected by our safety system."},
        {"message": "x", "code": "data_inspection_failed"},
        {"message": "x", "code": "DataInspectionFailed"},
        {"message": "<400> InternalError.Algo: Input data may contain inappropriate content."},
        {"message": "data_inspection_failed"},
        {"message": "Content Exists Risk"},
        {"message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}},
        {"message": "The response was filtered due to content management policy."},
        {"message": "Invalid prompt: it was flagged as potentially violating our usage policy."},
        {"message": "x", "details": [{"reason": "PROHIBITED_CONTENT"}]},
        {"code": 403, "message": "needs moderation", "metadata": {"reasons": ["violence"]}},
    ],
)
@pytest.mark.parametrize("status", [400, 403])
def test_declined_content(error: dict[str, Any], status: int) -> None:
    assert refuse(status, raw=json.dumps({"error": error}).encode()).kind == "content_filtered"


# A reseller's own words around the provider's


@pytest.mark.parametrize(
    "raw",
    [
        '{"type":"error","error":{"message":"prompt is too long: 9000 tokens > 8000 maximum"}}',
        "prompt is too long: 9000 tokens > 8000 maximum",
        {"error": {"message": "prompt is too long: 9000 tokens > 8000 maximum"}},
        '[{"error":{"message":"prompt is too long: 9000 tokens > 8000 maximum"}}]',
    ],
)
def test_a_resellers_error_is_read_inside(raw: Any) -> None:
    metadata = {"raw": raw, "provider_name": CANARY}
    error = {"message": "Provider returned error", "code": 400, "metadata": metadata}
    problem = refuse(400, raw=json.dumps({"error": error}).encode(), dialect="anthropic")
    assert problem.kind == "context_length_exceeded"
    assert problem.message == "prompt is too long: 9000 tokens > 8000 maximum"
    assert CANARY not in said(problem, "anthropic")


def test_an_error_as_json_within_a_message_is_read() -> None:
    inner = json.dumps({"error": {"message": "seed: bad", "code": "x"}})
    assert refuse(400, inner).param == "seed"


@pytest.mark.parametrize("depth", [1, 7, 50, 3000])
def test_an_error_within_errors_without_end_is_a_problem(depth: int) -> None:
    raw = b'{"error":' * depth + b'"x"' + b"}" * depth
    assert refuse(400, raw=raw).kind == "invalid_request"
