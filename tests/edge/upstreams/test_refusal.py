"""What an upstream's refusal becomes, in both dialects, and that none of its text crosses."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.upstreams.refusal import problem_of
from edge.vendors.errors.redact import disclosed, redacted
from middlewares.exchange import Dialect, Exchange
from middlewares.problem import Problem
from tests.edge.refusing import CANARY, DIALECTS, FIELDS, NOW, refuse, said


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
def test_overflow_is_recognised_and_reported_in_words_that_clients_know(
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


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("rate limit", "rate_limited"),
        ("Too Many Requests", "rate_limited"),
        ("per minute", "rate_limited"),
        ("quota", "invalid_request"),
    ],
)
def test_words_of_rate_limits_veto_an_overflow(word: str, kind: str) -> None:
    problem = refuse(400, f"{word}: too many tokens, reduce the length of the messages")
    assert problem.kind == kind


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
    ("body", "param"),
    [
        ({"error": {"message": "'seed' is not supported"}}, "seed"),
        ({"error": {"message": "Unsupported parameter: 'seed' is not supported here."}}, "seed"),
        ({"error": {"message": "Unrecognized request argument supplied: seed"}}, "seed"),
        ({"error": {"message": 'Unknown name "seed": Cannot find field.'}}, "seed"),
        ({"error": {"message": 'json: unknown field "seed"'}}, "seed"),
        ({"error": {"message": "seed is not supported by canary"}}, "seed"),
        ({"message": "Invalid value for `seed`, canary"}, "seed"),
        ({"message": "invalid seed: only 1 is allowed, canary"}, "seed"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "canary"}]}, "seed"),
        (
            {"detail": [{"loc": ["body", "messages", 0, "content", 0, "type"], "msg": "x"}]},
            "messages[0].content[0].type",
        ),
        (
            {"detail": [{"loc": ["body", "messages", 0, "user", "canary", "content"], "msg": "x"}]},
            "messages[0].content",
        ),
        (
            {"message": {"detail": [{"loc": ["body", "tools", 0, "defer_loading"], "msg": "x"}]}},
            "tools[0].defer_loading",
        ),
        ({"error": {"message": "messages.0.content.0.text: bad"}}, "messages.0.content.0.text"),
        (
            {"error": {"message": "Bad 'messages[0].content[0].type'."}},
            "messages[0].content[0].type",
        ),
        ({"error": {"message": "x", "param": "messages[0].canary.content"}}, "messages[0].content"),
        (
            [
                {
                    "error": {
                        "details": [{"fieldViolations": [{"field": "seed", "description": "x"}]}]
                    }
                }
            ],
            "seed",
        ),
        ({"error": {"message": "'canary' is not supported"}}, None),
        ({"error": {"message": "'model' is bad"}}, None),
    ],
    ids=lambda body: json.dumps(body)[:50],
)
def test_member_of_the_request_that_the_upstream_names_is_reported(
    body: Any, param: str | None
) -> None:
    for status in (400, 422):
        problem = refuse(status, raw=json.dumps(body).encode())
        assert (problem.kind, problem.param) == ("invalid_request", param)
        assert "canary" not in said(problem, "openai")
        assert param is None or param in (problem.message or "")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"error": {"message": "Unsupported: 'stop' is not supported"}}, "stop_sequences"),
        ({"detail": [{"loc": ["body", "messages", 0, "content"], "msg": "x"}]}, "messages"),
        ({"error": {"message": "'canary' is not supported"}}, None),
    ],
)
def test_member_of_a_translated_request_has_the_callers_name(body: Any, param: str | None) -> None:
    spelled = {"stop": "stop_sequences", "messages": "messages"}
    problem = refuse(400, raw=json.dumps(body).encode(), spelled=spelled)
    assert (problem.kind, problem.param) == ("invalid_request", param)


# An operator with nothing to hide


def test_disclosed_message_crosses_less_keys_and_addresses() -> None:
    message = (
        "Incorrect API key provided: sk-live-canarycanary. See https://canary.example.com/keys, "
        "write to help@canary.com, host 10.1.2.3:8000 or gw.canary.internal, org-a1b2c3d4."
    )
    for status in (400, 401, 429):
        problem = refuse(status, message, disclose=True)
        text = said(problem, "openai")
        assert "Incorrect API key provided" in text
        assert not re.search(r"canary|10\.1\.2\.3|a1b2c3", text)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_disclosed_refusal_keeps_its_kind_and_its_field(dialect: Dialect) -> None:
    problem = refuse(400, "seed: must be even", disclose=True, dialect=dialect)
    assert (problem.kind, problem.param) == ("invalid_request", "seed")
    assert problem.message == "seed: must be even"
    limited = refuse(429, "slow down", headers=[(b"retry-after", b"9")], disclose=True)
    assert limited.message == "slow down Please try again in 9s."
    overflow = refuse(400, OVERFLOWS[0][0] + CANARY, disclose=True, dialect=dialect)
    assert CANARY not in said(overflow, dialect)


def test_disclosed_message_is_bounded_and_one_line() -> None:
    text = disclosed("a\nb\t" + "c" * 5000)
    assert text.startswith("a b ccc")
    assert len(text) == 1000
    plain = "messages.1.content: claude-3.5 takes e.g. 3.0 or request_too_large, user_location"
    assert disclosed(plain) == plain


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


_NAMES = ("error", "errors", "message", "msg", "detail", "details", "code", "type", "param", "loc",
          "metadata", "raw", "reason", "retryDelay", "input")  # fmt: skip
_WORDS = st.sampled_from(
    (
        *("canary", "messages", "seed", "canary.seed", "messages[0].canary.content", "model"),
        *("messages.0.canary: bad", "'canary' is not supported", "unknown field seed.canary"),
        *("'seed' canary", "prompt is too long: canary 9000 > 8000", "canary per minute"),
    )
)
_ERRORS = st.recursive(
    _WORDS | st.integers(0, 3),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(_ERRORS, st.sampled_from((400, 403, 413, 422, 429, 503)))
def test_no_name_of_the_upstreams_crosses_whatever_the_shape(body: Any, status: int) -> None:
    for spelled in (None, {"messages": "messages", "seed": "seed"}):
        for dialect in DIALECTS:
            raw = json.dumps(body).encode()
            problem = refuse(status, raw=raw, dialect=dialect, spelled=spelled)
            assert "canary" not in said(problem, dialect)


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


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, {"message": "The model `gpt-9` does not exist", "code": "model_not_found"}),
        (400, {"message": "Invalid model: gpt-9", "param": "model"}),
        (404, {"message": 'model "gpt-9" not found, try pulling it first'}),
    ],
)
@pytest.mark.parametrize(
    ("dialect", "words"),
    [
        ("openai", "The model `gpt-9` does not exist or you do not have access to it."),
        ("anthropic", "model: gpt-9"),
    ],
)
def test_model_that_the_caller_chose_is_not_found_and_not_held_against_the_target(
    status: int, error: dict[str, Any], dialect: Dialect, words: str
) -> None:
    body = json.dumps({"error": error}).encode()

    def problem(chosen: str) -> Problem:
        return problem_of(status, [], body, dialect=dialect, fields=FIELDS, chosen=chosen, now=NOW)

    found = problem("gpt-9")
    assert (found.kind, found.message, found.held) == ("model_not_found", words, False)
    assert problem("").kind == "upstream_error"


def test_another_refusal_of_a_chosen_model_means_what_it_says() -> None:
    body = json.dumps({"error": {"message": "Incorrect API key provided"}}).encode()
    found = problem_of(400, [], body, dialect="openai", fields=FIELDS, chosen="gpt-9", now=NOW)
    assert (found.kind, found.held) == ("upstream_error", True)


@pytest.mark.parametrize(
    "text",
    [
        "Unrecognized file format. Supported formats: ['flac', 'mp3']",
        "The audio file could not be decoded or its format is not supported.",
        "Invalid file",
    ],
)
def test_file_of_a_form_at_fault_is_named_without_the_words_of_the_upstream(text: str) -> None:
    def refused(*files: str) -> Problem:
        body = json.dumps({"error": {"message": text, "param": "file"}}).encode()
        return problem_of(400, [], body, dialect="openai", fields=FIELDS, files=files, now=NOW)

    named = refused("file")
    assert (named.kind, named.param) == ("invalid_request", "file")
    assert named.message == "The model did not accept the value of `file`."
    assert refused().param is None
