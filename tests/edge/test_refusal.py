"""What an upstream's refusal becomes, in both dialects, and that none of its text crosses."""

import json
import re
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.upstreams.refusal import problem_of, redacted, retry_after
from middlewares.exchange import Dialect, Exchange
from middlewares.problem import Problem

DIALECTS: tuple[Dialect, ...] = ("openai", "anthropic")
CANARY = "canary-host.internal"
NOW = 1_700_000_000.0
MEMBERS = frozenset(("messages", "max_tokens", "tools", "thinking", "temperature", "model"))


def refuse(
    status: int,
    message: str = "",
    *,
    dialect: Dialect = "openai",
    headers: list[tuple[bytes, bytes]] | None = None,
    raw: bytes | None = None,
    **detail: Any,
) -> Problem:
    body = (
        raw if raw is not None else json.dumps({"error": {"message": message, **detail}}).encode()
    )
    return problem_of(status, headers or [], body, dialect=dialect, members=MEMBERS, now=NOW)


def said(problem: Problem, dialect: Dialect) -> str:
    """All the client can read."""
    content = json.dumps(problem.content(Exchange(dialect=dialect, request_id="r")))
    return content + repr(problem.headers)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("status", "kind", "openai_status", "anthropic_status"),
    [
        (400, "invalid_request", 400, 400),
        (422, "invalid_request", 400, 400),
        (413, "request_too_large", 413, 413),
        (401, "upstream_error", 502, 502),
        (402, "upstream_error", 502, 502),
        (403, "upstream_error", 502, 502),
        (404, "upstream_error", 502, 502),
        (405, "upstream_error", 502, 502),
        (409, "upstream_error", 502, 502),
        (418, "upstream_error", 502, 502),
        (408, "upstream_timeout", 504, 504),
        (504, "upstream_timeout", 504, 504),
        (429, "rate_limited", 429, 429),
        (500, "upstream_error", 502, 502),
        (502, "upstream_error", 502, 502),
        (503, "upstream_unavailable", 503, 529),
        (529, "upstream_unavailable", 503, 529),
        (599, "upstream_error", 502, 502),
        (204, "upstream_error", 502, 502),
        (302, "upstream_error", 502, 502),
    ],
)
def test_each_status_in_each_dialect(
    dialect: Dialect, status: int, kind: str, openai_status: int, anthropic_status: int
) -> None:
    problem = refuse(status, f"{CANARY} said no", dialect=dialect, type=CANARY, code=CANARY)
    assert problem.kind == kind
    expected = openai_status if dialect == "openai" else anthropic_status
    assert problem.status(Exchange(dialect=dialect)) == expected
    assert CANARY not in said(problem, dialect)
    assert CANARY in problem.reason


@pytest.mark.parametrize(
    ("status", "message", "detail"),
    [
        (429, "You exceeded your current quota", {"type": "insufficient_quota"}),
        (429, "You exceeded your current quota", {"code": "insufficient_quota"}),
        (429, "x", {"code": "billing_hard_limit_reached"}),
        (
            400,
            "Your credit balance is too low to access the API.",
            {"type": "invalid_request_error"},
        ),
        (400, "x", {"type": "billing_error"}),
    ],
)
def test_our_own_empty_purse_is_not_the_callers_fault(
    status: int, message: str, detail: dict[str, Any]
) -> None:
    problem = refuse(status, message, **detail)
    assert problem.kind == "upstream_unavailable"
    assert "quota" not in said(problem, "openai").lower()


# Context overflow. What the clients' own lists look for:

OPENCODE = re.compile(
    r"prompt is too long|reduce the length of the messages|maximum context length is \d+ tokens"
    r"|context_length_exceeded",
    re.IGNORECASE,
)
CLINE = re.compile(r"context[ _]length|maximum context|too long|reduce the length", re.IGNORECASE)
CLINE_VETO = re.compile(r"rate limit|too many requests|quota|per minute", re.IGNORECASE)
CLAUDE_CODE = re.compile(r"prompt is too long|exceed context limit: \d+ \+ \d+ > \d+")

OVERFLOWS = [
    # what an upstream says, with the numbers it gives: used, most
    ("prompt is too long: 213462 tokens > 200000 maximum", 213462, 200000),
    (
        "This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "150000 tokens. Please reduce the length of the messages.",
        150000,
        128000,
    ),
    (
        "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens "
        "(8000 in the messages, 1000 in the completion). Please reduce the length.",
        9000,
        8192,
    ),
    (
        "The input token count (1500000) exceeds the maximum number of tokens allowed (1048576).",
        1500000,
        1048576,
    ),
    (
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
        200000,
        131072,
    ),
    ("request (9000 tokens) exceeds the available context size (8192 tokens)", 9000, 8192),
    ("prompt token count of 150000 exceeds the limit of 128000", 150000, 128000),
    ("The input (265,330 tokens) is longer than the context length (262,144)", 265330, 262144),
    ("Input is too long for requested model.", None, None),
    ("capability_rejected: prompt_too_long", None, None),
    ("Your input exceeds the context window of this model.", None, None),
    ("the request is greater than the context length", None, None),
    ("context window exceeds limit", None, None),
    ("exceeded model token limit", None, None),
    ("Context length exceeded", None, None),
    ("context_length_exceeded", None, None),
    ("context_window_exceeded", None, None),
    ("request entity too large", None, None),
    ("context length is only 4096 tokens", None, None),
    ("input length 9 exceeds the context length", None, None),
    ("maximum context reached", None, None),
    ("the tokens exceed what is allowed", None, None),
    ("too many tokens", None, None),
    ("please reduce the length of your prompt", None, None),
]


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize(("message", "used", "most"), OVERFLOWS)
def test_overflow_is_recognised_and_retold_in_words_that_clients_know(
    message: str, used: int | None, most: int | None, status: int
) -> None:
    for dialect in DIALECTS:
        problem = refuse(status, f"{message} [{CANARY}]", dialect=dialect)
        assert problem.kind == "context_length_exceeded"
        assert problem.status(Exchange(dialect=dialect)) == 400
        text = said(problem, dialect)
        assert CANARY not in text
        assert OPENCODE.search(text) and CLINE.search(text) and not CLINE_VETO.search(text)
        if used is not None:
            assert str(used) in text and str(most) in text
    assert CLAUDE_CODE.search(text)  # the last one is Anthropic's


def test_the_exact_words() -> None:
    message = OVERFLOWS[0][0]
    assert refuse(400, message, dialect="anthropic").message == message
    assert refuse(400, message).message == OVERFLOWS[1][0].replace("150000", "213462").replace(
        "128000", "200000"
    )
    assert refuse(400, OVERFLOWS[1][0]).message == OVERFLOWS[1][0]


def test_prompt_and_max_tokens_together_keep_their_three_numbers() -> None:
    message = (
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000, decrease "
        "input length or `max_tokens` and try again"
    )
    assert refuse(400, message, dialect="anthropic").message == message
    chat = refuse(400, message)
    assert chat.message is not None
    assert "200000" in chat.message and "222000" in chat.message


@pytest.mark.parametrize("word", ["rate limit", "Too Many Requests", "quota", "per minute"])
def test_words_of_rate_limits_veto_an_overflow(word: str) -> None:
    problem = refuse(400, f"{word}: too many tokens, reduce the length of the messages")
    assert problem.kind == "invalid_request"


def test_the_code_needs_no_wording_and_bears_a_veto() -> None:
    problem = refuse(400, "over your quota of words", code="context_length_exceeded")
    assert problem.kind == "context_length_exceeded"
    assert not CLINE_VETO.search(said(problem, "openai"))
    assert refuse(400, "x", code="context_window_exceeded").kind == "context_length_exceeded"


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        ("messages", "context_length_exceeded"),
        ("input", "context_length_exceeded"),
        ("tools", "invalid_request"),
        (None, "invalid_request"),
    ],
)
def test_string_too_long_is_an_overflow_only_of_the_prompt(param: str | None, kind: str) -> None:
    assert refuse(400, "Invalid: string too long.", param=param).kind == kind


@pytest.mark.parametrize("status", [500, 404, 403])
def test_overflow_words_under_another_status_are_not_an_overflow(status: int) -> None:
    assert refuse(status, OVERFLOWS[0][0]).kind == "upstream_error"


@pytest.mark.parametrize(
    "raw",
    [
        b'{"object":"error","message":"maximum context length is 8192 tokens","code":400}',
        b'{"detail":"maximum context length is 8192 tokens"}',
        b'[{"error":{"message":"maximum context length is 8192 tokens"}}]',
        b'{"error":"maximum context length is 8192 tokens"}',
        b'{"error":{"message":{"deep":"maximum context length is 8192"}}}',
        b"maximum context length is 8192 tokens",
        b"\xff maximum context length is 8192",
    ],
)
def test_overflow_is_found_in_bodies_of_any_shape(raw: bytes) -> None:
    assert refuse(400, raw=raw).kind == "context_length_exceeded"


# What else a client can mend


@pytest.mark.parametrize(
    ("message", "detail", "param", "expected"),
    [
        (
            "Unsupported parameter: 'temperature' is not supported with this model.",
            {"param": "temperature"},
            "temperature",
            "Unsupported parameter: 'temperature' is not supported.",
        ),
        (
            "tools.0.custom.defer_loading: Extra inputs are not permitted",
            {},
            "tools.0.custom.defer_loading",
            "tools.0.custom.defer_loading: Extra inputs are not permitted",
        ),
        (
            "canary_field: Extra inputs are not permitted",
            {},
            None,
            "A field is Extra inputs are not permitted.",
        ),
        (
            "messages.1.content.0: Invalid `signature` in `thinking` block",
            {},
            "messages.1.content.0",
            "messages.1.content.0: Invalid `signature` in `thinking` block",
        ),
        (
            "the signature of a thinking block is not ours",
            {},
            "messages",
            "messages: Invalid `signature` in `thinking` block",
        ),
        (
            "messages: role 'system' is not supported on canary",
            {},
            "messages",
            "messages: role `system` is not supported",
        ),
        (
            'Unexpected role "system". Use the top-level parameter',
            {},
            "messages",
            "messages: role `system` is not supported",
        ),
        ("max_tokens: Field required", {}, "max_tokens", "did not accept the value of"),
        ("bad", {"param": "messages[2].content[0].image_url.url"}, None, "image_url"),
        ("canary: bad", {}, None, "The model did not accept the request."),
        ("canary.BadRequestError: x", {}, None, "The model did not accept the request."),
        ("bad", {"param": "canary"}, None, "The model did not accept the request."),
        ("bad", {"param": "messages <canary>"}, None, "The model did not accept the request."),
    ],
)
def test_the_field_at_fault_crosses_when_it_is_the_callers(
    message: str, detail: dict[str, Any], param: str | None, expected: str
) -> None:
    for dialect in DIALECTS:
        problem = refuse(400, message, dialect=dialect, **detail)
        assert problem.kind == "invalid_request"
        assert problem.message is not None
        assert expected in problem.message
        assert problem.param == (param or (detail.get("param") if "image" in expected else None))
        assert "canary" not in said(problem, dialect)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x", "content_policy_violation"),
        ("x", "content_filter"),
        ("Your request was rejected by our safety system.", None),
    ],
)
def test_declined_content(message: str, code: str | None) -> None:
    assert refuse(400, message, code=code).kind == "content_filtered"


@given(st.text(max_size=200), st.sampled_from([400, 401, 404, 413, 422, 429, 500, 503]))
def test_no_run_of_upstream_text_crosses(message: str, status: int) -> None:
    marked = f"{CANARY} {message} {CANARY}"
    details: list[dict[str, Any]] = [
        {},
        {"param": message},
        {"code": message},
        {"type": message},
    ]
    for dialect in DIALECTS:
        for detail in details:
            assert CANARY not in said(refuse(status, marked, dialect=dialect, **detail), dialect)


@given(st.binary(max_size=200), st.integers(100, 599))
def test_any_body_is_a_problem_and_not_a_crash(raw: bytes, status: int) -> None:
    assert refuse(status, raw=raw).status(Exchange()) >= 400


@pytest.mark.parametrize(
    "raw",
    [
        b'{"trace":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"error":{"message":"caf\xe9"}}',
        b'{"error":{"message":"\\ud800"}}',
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem_and_not_a_crash(raw: bytes) -> None:
    assert refuse(400, raw=raw).kind == "invalid_request"


# retry-after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        (" 7 ", 7),
        ("7.4", 7),
        ("0", 1),
        ("0.2", 1),
        ("-5", 1),
        ("99999999", 3600),
        ("nan", 1),
        ("inf", 1),
        (formatdate(NOW + 30, usegmt=True), 30),
        (formatdate(NOW - 30, usegmt=True), 1),
        (formatdate(NOW + 10**6, usegmt=True), 3600),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: int | None) -> None:
    assert retry_after([(b"x", b"1"), (b"retry-after", value.encode())], NOW) == seconds


@given(st.binary(max_size=40))
def test_retry_after_of_any_garbage_is_harmless(value: bytes) -> None:
    seconds = retry_after([(b"retry-after", value)], NOW)
    assert seconds is None or 1 <= seconds <= 3600


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limited"), (503, "upstream_unavailable")])
def test_the_wait_is_told_and_is_there_even_when_the_upstream_gave_none(
    status: int, kind: str
) -> None:
    told = refuse(status, "x", headers=[(b"retry-after", b"17")])
    assert (told.kind, told.retry_after) == (kind, 17)
    assert refuse(status, "x").retry_after == 1
    if status == 429:
        assert "try again in 17s" in said(told, "openai")


# The log


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: {}. You can find",
        "invalid x-api-key: {}",
        "Authorization: Bearer {} refused",
        "key={}",
        "API key '{}' is expired",
        "Invalid API key {}",
    ],
)
@pytest.mark.parametrize(
    "secret", ["sk-live-canarycanary", "0123456789abcdef0123456789abcdef", "AIzaSyCanary123456"]
)
def test_a_credential_that_an_upstream_echoes_does_not_reach_the_log(
    text: str, secret: str
) -> None:
    assert secret not in redacted(text.format(secret))
    assert secret not in refuse(401, text.format(secret)).reason


def test_what_is_no_credential_stays_legible() -> None:
    text = "upstream said 400: messages.0: keyword arguments are not a key value; see key concepts"
    assert redacted(text) == text
