"""Which change answers which refusal, and which refusals are not answered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.proxy.corrections.remedy import STATUSES, apply_corrections, find_remedy
from middlewares.exchange import Dialect

USAGE = {"include_usage": True}
CHAT: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "stream": True,
    "stream_options": USAGE,
}
MESSAGES: dict[str, Any] = {
    "model": "m",
    "max_tokens": 20000,
    "messages": [{"role": "user", "content": "Hi"}],
}
RESPONSES: dict[str, Any] = {"model": "m", "input": [{"role": "user", "content": "Hi"}]}


def remedied(
    refusal: Any, sent: dict[str, Any], dialect: Dialect = "openai", status: int = 400
) -> tuple[dict[str, Any] | None, bool]:
    """The apply_corrections body, None if there is none, and whether the correction lasts."""
    if isinstance(refusal, str):
        refusal = {"error": {"message": refusal}}
    found = find_remedy(status, json.dumps(refusal).encode(), json.dumps(sent).encode(), dialect)
    if found is None:
        return None, False
    return json.loads(found.body), all(change.lasting for change in found.changes)


def without(sent: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in sent.items() if name not in names}


def forbidden(*path: Any) -> dict[str, Any]:
    detail = {
        "type": "extra_forbidden",
        "loc": ["body", *path],
        "msg": "Extra inputs are not permitted",
        "input": True,
    }
    return {"object": "error", "message": {"detail": [detail]}, "type": "invalid_request_error"}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "refusal",
    [
        forbidden("stream_options", "include_usage"),
        {"detail": [{"loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}]},
        {"error_code": "BAD_REQUEST", "message": "stream_options: Extra inputs are not permitted"},
        {
            "error": {
                "message": "Unsupported parameter: 'stream_options'",
                "param": "stream_options",
            }
        },
        "Unrecognized request argument supplied: stream_options",
        "Unknown parameter: 'stream_options.include_usage'.",
        'Invalid JSON payload received. Unknown name "stream_options": Cannot find field.',
        "stream_options is not supported",
        "unknown field `stream_options`, expected one of `model`, `messages`",
        [{"error": {"message": "property 'stream_options' is unsupported"}}],
    ],
    ids=lambda refusal: json.dumps(refusal)[:50],
)
def test_refusal_that_names_stream_options_is_answered_without_them(
    refusal: Any, status: int
) -> None:
    expected = without(CHAT, "stream_options")
    assert remedied(refusal, CHAT, status=status) == (expected, True)


def test_stream_options_of_the_callers_are_refused_before_ours() -> None:
    sent = {**CHAT, "stream_options": {"include_obfuscation": False, **USAGE}}
    ours = {**CHAT, "stream_options": USAGE}
    for refusal in (
        forbidden("stream_options", "include_obfuscation"),
        forbidden("stream_options"),
    ):
        body, lasting = remedied(refusal, sent)
        assert body == ours
        assert lasting is (refusal == forbidden("stream_options", "include_obfuscation"))
    assert remedied(forbidden("stream_options"), ours) == (without(CHAT, "stream_options"), True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parallel_tool_calls", False),
        ("store", False),
        ("metadata", {"a": "b"}),
        ("user", "u"),
        ("safety_identifier", "u"),
        ("prompt_cache_key", "k"),
        ("verbosity", "low"),
        ("temperature", 0.2),
        ("top_p", 0.2),
        ("top_k", 5),
        ("seed", 7),
        ("presence_penalty", 1),
        ("reasoning_effort", "high"),
        ("thinking", {"type": "enabled"}),
        ("tool_choice", "auto"),
    ],
)
def test_member_that_the_answer_does_not_hang_on_is_dropped(name: str, value: Any) -> None:
    sent = {**CHAT, name: value}
    assert remedied(forbidden(name), sent) == (CHAT, True)
    words = f"Unsupported parameter: '{name}' is not supported with this model."
    refusal = {"error": {"message": words, "param": name, "code": "unsupported_parameter"}}
    assert remedied(refusal, sent) == (CHAT, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f"}}]),
        ("response_format", {"type": "json_object"}),
        ("n", 2),
        ("stop", ["x"]),
        ("logprobs", True),
        ("modalities", ["text", "audio"]),
        ("service_tier", "flex"),
        ("tool_choice", "required"),
        ("tool_choice", "none"),
        ("tool_choice", {"type": "function", "function": {"name": "f"}}),
        ("novel", 1),
    ],
)
def test_member_that_the_answer_hangs_on_is_never_dropped(name: str, value: Any) -> None:
    sent = {**CHAT, name: value}
    assert remedied(forbidden(name), sent) == (None, False)
    both = {"detail": [{"loc": ["body", each], "msg": "not supported"} for each in (name, "user")]}
    assert remedied(both, {**sent, "user": "u"}) == (None, False)


def test_all_members_of_one_refusal_are_corrected_at_once() -> None:
    names = ("store", "stream_options", "user")
    refusal = {"detail": [forbidden(name)["message"]["detail"][0] for name in names]}
    sent = {**CHAT, "store": True, "user": "u"}
    assert remedied(refusal, sent) == (without(CHAT, "stream_options"), True)


@pytest.mark.parametrize(
    ("refusal", "sent"),
    [
        ("messages.0.content: Field required", CHAT),
        ("Invalid value for 'metadata': expected a string", {**CHAT, "metadata": {"a": 1}}),
        ("temperature must be between 0 and 2", {**CHAT, "temperature": 3}),
        ("temperature: range: 0..1", {**CHAT, "temperature": 3}),
        ("'tools' is not supported with 'parallel_tool_calls'", {**CHAT, "tools": [], "user": "u"}),
        ("max_tokens must be at least 1", {**CHAT, "max_tokens": 0}),
        ("API key not valid.", CHAT),
        ("stream_options is not supported", without(CHAT, "stream_options")),
        ("", CHAT),
        ({}, CHAT),
    ],
)
def test_other_refusal_is_not_answered(refusal: Any, sent: dict[str, Any]) -> None:
    assert remedied(refusal, sent) == (None, False)


def repeated(name: str, value: Any) -> dict[str, Any]:
    """As vLLM writes a value of a wrong type: with the value itself."""
    detail = {"type": "parsing", "loc": ("body", name), "msg": "Input should be a valid number"}
    return {"object": "error", "message": str([{**detail, "input": value}])}


@pytest.mark.parametrize("name", ["temperature", "seed", "user", "max_tokens", "verbosity"])
@pytest.mark.parametrize(
    "value", ["x is not supported", "a' is deprecated for this model 'b", "only 1 is allowed"]
)
def test_refusal_that_repeats_its_own_words_from_the_request_is_not_answered(
    name: str, value: str
) -> None:
    assert remedied(repeated(name, value), {**CHAT, name: value}) == (None, False)


def test_what_the_request_itself_may_have_said_is_never_remembered() -> None:
    refusal = forbidden("metadata")
    assert remedied(refusal, {**CHAT, "metadata": {"a": "b"}}) == (CHAT, True)
    for odd in ("x is not supported", "x" * 20_000):
        assert remedied(refusal, {**CHAT, "metadata": {"a": odd}}) == (CHAT, False)
    escaped = json.dumps({**CHAT, "metadata": {"a": "is not supported"}}).replace("n", "\\u006e")
    found = find_remedy(400, json.dumps(refusal).encode(), escaped.encode(), "openai")
    assert found is not None
    assert not found.changes[0].lasting


@pytest.mark.parametrize("status", [200, 401, 403, 404, 409, 413, 429, 500])
def test_refusal_of_another_status_is_not_answered(status: int) -> None:
    assert remedied(forbidden("stream_options"), CHAT, status=status) == (None, False)


@pytest.mark.parametrize(("asked", "known"), [("max_tokens", "max_completion_tokens")])
def test_limit_of_the_answer_is_renamed_and_stays_what_it_was(asked: str, known: str) -> None:
    words = "Unsupported parameter: '{}' is not supported with this model. Use '{}' instead."
    for ours, theirs in ((asked, known), (known, asked)):
        sent = {**CHAT, ours: 100}
        assert remedied(words.format(ours, theirs), sent) == ({**CHAT, theirs: 100}, True)
        assert remedied(forbidden(ours), sent) == ({**CHAT, theirs: 100}, True)
        assert remedied(forbidden(ours), {**sent, theirs: 50}) == ({**CHAT, theirs: 50}, True)


@pytest.mark.parametrize(
    ("words", "lasting"),
    [
        (
            "Unsupported value: 'temperature' does not support 0.2 with this model. Only the "
            "default (1) value is supported.",
            True,
        ),
        ("`temperature` is deprecated for this model.", True),
        ("invalid temperature: only 1 is allowed for this model", False),
        ("`temperature` may only be set to 1 when thinking is enabled.", False),
    ],
)
def test_temperature_that_a_model_fixes_is_left_out(words: str, lasting: bool) -> None:
    refusal = {"error": {"message": words, "param": "temperature"}}
    assert remedied(refusal, {**CHAT, "temperature": 0.2}) == (CHAT, lasting)


def test_of_temperature_and_top_p_the_second_is_left_out() -> None:
    words = "`temperature` and `top_p` cannot both be specified for this model."
    sent = {**MESSAGES, "temperature": 0.2, "top_p": 0.9}
    assert remedied(words, sent, "anthropic") == ({**MESSAGES, "temperature": 0.2}, False)


@pytest.mark.parametrize(
    ("asked", "listed", "level"),
    [
        ("minimal", ("low", "medium", "high"), "low"),
        ("xhigh", ("low", "medium", "high"), "high"),
        ("none", ("minimal", "low"), "minimal"),
        ("medium", ("low", "high"), "high"),
    ],
)
def test_level_of_reasoning_becomes_the_nearest_that_the_refusal_lists(
    asked: str, listed: tuple[str, ...], level: str
) -> None:
    quoted = ", ".join(f"'{each}'" for each in listed)
    for name, value in (("reasoning_effort", asked), ("reasoning", {"effort": asked, "x": 1})):
        words = (
            f"Unsupported value: '{name}' does not support '{asked}' with this model. "
            f"Supported values are: {quoted}."
        )
        expected = level if name == "reasoning_effort" else {"effort": level, "x": 1}
        refusal = {"error": {"message": words, "param": name, "code": "unsupported_value"}}
        assert remedied(refusal, {**CHAT, name: value}) == ({**CHAT, name: expected}, False)


# Thinking, of Messages


def test_thinking_by_a_budget_becomes_one_by_a_level() -> None:
    words = (
        '"thinking.type.enabled" is not supported for this model. Use "thinking.type.adaptive" '
        'and "output_config.effort" to control thinking behavior.'
    )
    sent = {**MESSAGES, "thinking": {"type": "enabled", "budget_tokens": 8192, "display": "x"}}
    expected = {
        **MESSAGES,
        "thinking": {"type": "adaptive", "display": "x"},
        "output_config": {"effort": "medium"},
    }
    assert remedied(words, sent, "anthropic") == (expected, True)
    held = {**sent, "output_config": {"effort": "max", "format": {}}}
    expected["output_config"] = {"effort": "max", "format": {}}
    assert remedied(words, held, "anthropic") == (expected, True)


@pytest.mark.parametrize(
    ("most", "thinking"),
    [
        (20000, {"type": "enabled", "budget_tokens": 16384}),
        (4000, {"type": "enabled", "budget_tokens": 2976}),
        (1500, None),
    ],
)
def test_thinking_by_a_level_becomes_one_by_a_budget_that_fits(
    most: int, thinking: dict[str, Any] | None
) -> None:
    words = "adaptive thinking is not supported on this model"
    sent = {
        **MESSAGES,
        "max_tokens": most,
        "thinking": {"type": "adaptive"},
        "output_config": {"effort": "high"},
    }
    expected = {**MESSAGES, "max_tokens": most}
    if thinking is not None:
        expected["thinking"] = thinking
    assert remedied(words, sent, "anthropic") == (expected, True)


@pytest.mark.parametrize(
    "words",
    [
        "messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
        "`tool_use`.",
        "Thinking may not be enabled when tool_choice forces tool use.",
    ],
)
def test_thinking_that_cannot_be_in_this_request_is_left_out(words: str) -> None:
    sent = {**MESSAGES, "thinking": {"type": "enabled", "budget_tokens": 1024}}
    assert remedied(words, sent, "anthropic") == (MESSAGES, False)


def test_effort_that_a_model_does_not_know_leaves_the_format() -> None:
    sent = {**MESSAGES, "output_config": {"effort": "low", "format": {"type": "json_schema"}}}
    expected = {**MESSAGES, "output_config": {"format": {"type": "json_schema"}}}
    words = "This model does not support the effort parameter."
    assert remedied(words, sent, "anthropic") == (expected, True)
    assert remedied(forbidden("output_config", "effort"), sent, "anthropic") == (expected, True)
    assert remedied(forbidden("output_config"), sent, "anthropic") == (None, False)


def test_signatures_that_are_refused_are_left_out_with_their_thinking() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
    text = {"type": "text", "text": "Hello."}
    turns = [*MESSAGES["messages"], {"role": "assistant", "content": [thought, text]}]
    sent = {**MESSAGES, "messages": [*turns, *MESSAGES["messages"]]}
    words = "messages.1.content.0: Invalid `signature` in `thinking` block"
    body, lasting = remedied(words, sent, "anthropic")
    assert body is not None
    assert not lasting
    assert body["messages"][1] == {"role": "assistant", "content": [text]}
    assert body["messages"][::2] == sent["messages"][::2]


def test_sealed_reasoning_that_is_refused_is_left_out() -> None:
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
    said = {"role": "assistant", "content": "Hello."}
    sent = {**RESPONSES, "input": [*RESPONSES["input"], sealed, said]}
    refusal = {
        "error": {
            "message": "The encrypted content gAAA could not be verified.",
            "code": "invalid_encrypted_content",
        }
    }
    expected = {**RESPONSES, "input": [*RESPONSES["input"], said]}
    assert remedied(refusal, sent, "responses") == (expected, False)


# Members of messages and tools


def test_cache_marks_that_are_refused_are_left_out_everywhere_but_in_arguments() -> None:
    mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": dict(mark)}
    result: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "x"}],
    }
    inner = {**result, "content": [{**result["content"][0], **mark}], **mark}
    schema = {"type": "object", "properties": dict(mark)}

    def made(marks: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        return {
            **MESSAGES,
            "system": [{"type": "text", "text": "Be brief.", **marks}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "cache_control", **marks}]},
                {"role": "assistant", "content": [call]},
                {"role": "user", "content": [result]},
            ],
            "tools": [{"name": "f", "input_schema": schema, **marks}],
        }

    for refusal in (
        "system.0.cache_control: Extra inputs are not permitted",
        "messages.0.content.0.text.cache_control: Extra inputs are not permitted",
    ):
        assert remedied(refusal, made(mark, inner), "anthropic") == (made({}, result), True)
    short = {"cache_control": {"type": "ephemeral"}}
    shortly = {**result, "content": [{**result["content"][0], **short}], **short}
    words = "system.0.cache_control.ephemeral.ttl: Extra inputs are not permitted"
    assert remedied(words, made(mark, inner), "anthropic") == (made(short, shortly), True)
    many = "A maximum of 4 blocks with cache_control may be provided. Found 5."
    assert remedied(many, made(mark, inner), "anthropic") == (made({}, result), False)


@pytest.mark.parametrize(
    "refusal",
    [
        {
            "detail": [
                {"loc": ["body", "messages", at, "assistant", "reasoning_content"], "msg": "x"}
                for at in range(1, 40, 2)
            ],
            "type": "unknown_parameter",
        },
        "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : "
        "property 'reasoning_content' is unsupported)]",
        "messages.1.reasoning_content: Extra inputs are not permitted",
    ],
)
def test_thoughts_of_another_server_that_are_refused_are_left_out(refusal: Any) -> None:
    def made(**thought: str) -> dict[str, Any]:
        turn = {"role": "assistant", "content": "Hello.", **thought}
        return {**CHAT, "messages": [*CHAT["messages"], turn] * 20}

    assert remedied(refusal, made(reasoning_content="Hm.")) == (made(), True)


def test_a_part_of_what_was_said_is_never_left_out() -> None:
    turn = {"role": "user", "content": "Hi", "name": "Ann"}
    sent = {**CHAT, "messages": [turn]}
    assert remedied(forbidden("messages", 0, "user", "name"), sent) == (None, False)
    assert remedied(forbidden("messages", 0, "content"), sent) == (None, False)


def test_developer_that_is_no_role_there_becomes_system() -> None:
    def made(role: str) -> dict[str, Any]:
        return {**CHAT, "messages": [{"role": role, "content": '"developer"'}, *CHAT["messages"]]}

    words = "messages[0].role: unknown variant `developer`, expected one of `system`, `user`"
    assert remedied(words, made("developer")) == (made("system"), True)


# What was learned, and what is odd


def test_learned_changes_are_made_only_where_there_is_something_to_change() -> None:
    refusal = json.dumps(forbidden("stream_options")).encode()
    found = find_remedy(400, refusal, json.dumps(CHAT).encode(), "openai")
    assert found is not None
    again = apply_corrections(json.dumps(CHAT).encode(), found.changes, "openai")
    assert (again.changes, again.body) == (found.changes, found.body)
    other = json.dumps(without(CHAT, "stream_options")).encode()
    untouched = apply_corrections(other, found.changes, "openai")
    assert untouched.changes == ()
    assert untouched.body is other


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [1], [None], {"type": 1}])
@pytest.mark.parametrize("dialect", ["openai", "anthropic", "responses"])
def test_odd_members_of_the_request_are_left_to_the_upstream(value: Any, dialect: Dialect) -> None:
    names = ("messages", "input", "thinking", "output_config", "stream_options", "tools", "include")
    sent = {"model": "m", **dict.fromkeys(names, value)}
    for refusal in (
        "adaptive thinking is not supported",
        "thinking.type.enabled is not supported",
        "Invalid `signature` in `thinking` block",
        "unknown variant `developer`, role",
        *(f"{name}.0.cache_control: Extra inputs are not permitted" for name in names),
        *(f"{name}: Extra inputs are not permitted" for name in names),
    ):
        remedied(refusal, sent, dialect)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_garbage_has_no_remedy(refusal: bytes, sent: bytes) -> None:
    found = find_remedy(400, refusal, sent, "openai")
    assert found is None or json.loads(found.body) != json.loads(sent)
