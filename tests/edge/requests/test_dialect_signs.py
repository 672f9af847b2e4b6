"""The dialect of a request by its own shape, at a path that several dialects share."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config.load import parse
from edge.endpoints import CONVERSATIONS, Endpoint, PathRules
from edge.requests.body_limits import PIECE
from edge.requests.dialect_signs import dialect_of_headers, row_of
from edge.requests.json_body import members_of
from edge.routing.paths import Paths
from middlewares.asgi import Header

OPENAI = {"user-agent": "AsyncOpenAI/Python 2.8.0", "x-stainless-lang": "python"}
OPENAI_JS = {"user-agent": "OpenAI/JS 6.9.0"}
NAMELESS_SDK = {"user-agent": "my-app/1.0", "x-stainless-lang": "js"}
ANTHROPIC = {"user-agent": "Anthropic/Python 0.75.0", "anthropic-version": "2023-06-01"}
ANTHROPIC_AGENT = {"user-agent": "Anthropic/JS 0.71.0", "x-stainless-lang": "js"}
CURL = {"user-agent": "curl/8.14.1", "content-type": "application/json"}
TURN = {"role": "user", "content": "Hi"}
PLAIN: dict[str, Any] = {"model": "m", "messages": [TURN]}


def rules_of(path: str, **option: Any) -> PathRules:
    given = {"path": path, "dialect": "auto", **option}
    endpoints = {"endpoints": given.pop("offered")} if "offered" in given else {}
    row = Paths.of(parse({"routes": [given], **endpoints}, env={})).find(path)
    assert row is not None and row.rules is not None
    return row.rules


CHAT = rules_of("/v1/chat/completions")
CHAT_PREFERS_ANTHROPIC = rules_of("/v1/chat/completions", prefer="anthropic")
MESSAGES = rules_of("/v1/messages")
RESPONSES = rules_of("/v1/responses")


def headers_of(headers: dict[str, str]) -> list[Header]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def chosen(rules: PathRules, headers: dict[str, str], body: dict[str, Any]) -> Endpoint:
    return row_of(rules, headers_of(headers), members_of(json.dumps(body).encode()))


def said(*content: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {**PLAIN, "messages": [TURN, {"role": role, "content": list(content)}]}


@pytest.mark.parametrize(
    ("body", "dialect"),
    [
        # Members
        ({**PLAIN, "system": "Be brief."}, "anthropic"),
        ({**PLAIN, "system": [{"type": "text", "text": "x"}], "max_tokens": 9}, "anthropic"),
        ({**PLAIN, "stop_sequences": ["x"]}, "anthropic"),
        ({**PLAIN, "anthropic_version": "vertex-2023-10-16"}, "anthropic"),
        ({**PLAIN, "output_config": {"effort": "low"}}, "anthropic"),
        ({**PLAIN, "max_completion_tokens": 9}, "openai"),
        ({**PLAIN, "stop": ["x"]}, "openai"),
        ({**PLAIN, "response_format": {"type": "json_object"}}, "openai"),
        ({**PLAIN, "n": 1}, "openai"),
        ({**PLAIN, "stream": True, "stream_options": {"include_usage": True}}, "openai"),
        ({**PLAIN, "frequency_penalty": 0}, "openai"),
        # Messages
        ({**PLAIN, "messages": [{"role": "system", "content": "x"}, TURN]}, "openai"),
        ({**PLAIN, "messages": [{"role": "developer", "content": "x"}, TURN]}, "openai"),
        ({**PLAIN, "messages": [TURN, {"role": "tool", "tool_call_id": "1"}]}, "openai"),
        ({**PLAIN, "messages": [{"role": "assistant", "tool_calls": []}]}, "openai"),
        # Forms
        ({**PLAIN, "tools": [{"name": "f", "input_schema": {}}]}, "anthropic"),
        ({**PLAIN, "tools": [{"type": "web_search_20250305", "name": "s"}]}, "anthropic"),
        ({**PLAIN, "tools": [{"type": "function", "function": {"name": "f"}}]}, "openai"),
        ({**PLAIN, "tools": [{"type": "function", "name": "f", "parameters": {}}]}, "openai"),
        ({**PLAIN, "tools": [{"type": "custom", "custom": {"name": "f"}}]}, "openai"),
        ({**PLAIN, "tool_choice": "auto"}, "openai"),
        ({**PLAIN, "tool_choice": {"type": "function", "function": {}}}, "openai"),
        ({**PLAIN, "tool_choice": {"type": "any"}}, "anthropic"),
        (said({"type": "tool_use", "id": "1", "name": "f", "input": {}}), "anthropic"),
        (said({"type": "tool_result", "tool_use_id": "1"}), "anthropic"),
        (said({"type": "image", "source": {"type": "base64", "data": ""}}), "anthropic"),
        (said({"type": "image", "source": {"type": "file", "file_id": "x"}}), "anthropic"),
        (said({"type": "document", "source": {"type": "text", "data": "x"}}), "anthropic"),
        (said({"type": "thinking", "thinking": "", "signature": ""}), "anthropic"),
        (said({"type": "image_url", "image_url": {"url": "data:,"}}), "openai"),
        (said({"type": "input_audio", "input_audio": {}}), "openai"),
        (said({"type": "file", "file": {"file_id": "x"}}), "openai"),
        (said({"type": "input_text", "text": "x"}), "openai"),
        (said({"type": "input_image", "file_id": "x"}), "openai"),
        (said({"type": "input_file", "file_id": "x"}), "openai"),
        (said({"type": "image_url", "image_url": "data:,"}), "openai"),
        # What both have
        ({**PLAIN, "max_tokens": 1000, "temperature": 0.7, "stream": True}, None),
        ({**PLAIN, "top_p": 1, "top_k": 5, "metadata": {"user_id": "x"}}, None),
        ({**PLAIN, "thinking": {"type": "enabled", "budget_tokens": 2000}}, None),
        (said({"type": "text", "text": '"type":"tool_use"', "cache_control": {}}), None),
        ({**PLAIN, "tools": []}, None),
        ({"model": "m"}, None),
        # Signs of both
        ({**PLAIN, "system": "x", "stop": "y"}, None),
        ({**PLAIN, "tools": [{"input_schema": {}}, {"function": {}}]}, None),
        # Members before messages, messages before forms: what Cursor sends is answered as chat
        (
            {
                **PLAIN,
                "messages": [{"role": "system", "content": "x"}, *said()["messages"]],
                "tools": [{"name": "f", "input_schema": {}}],
            },
            "openai",
        ),
        ({**said({"type": "tool_result"}), "stream_options": {}}, "openai"),
        ({**PLAIN, "system": "x", "tools": [{"function": {}}]}, "anthropic"),
        ({**PLAIN, "system": "x", "stop": "y", "tools": [{"input_schema": {}}]}, "anthropic"),
    ],
)
def test_row_of_body_without_telling_headers(body: dict[str, Any], dialect: str | None) -> None:
    for rules, otherwise in ((CHAT, "openai"), (CHAT_PREFERS_ANTHROPIC, "anthropic")):
        assert chosen(rules, CURL, body).dialect == (dialect or otherwise)
    assert chosen(CHAT_PREFERS_ANTHROPIC, OPENAI, body).dialect == (dialect or "openai")
    assert chosen(CHAT, ANTHROPIC_AGENT, body).dialect == (dialect or "anthropic")
    assert chosen(CHAT, ANTHROPIC, body).dialect == "anthropic"


@pytest.mark.parametrize(
    ("headers", "dialect"),
    [
        (ANTHROPIC, "anthropic"),
        ({"anthropic-beta": "context-1m-2025-08-07", **OPENAI}, "anthropic"),
        (ANTHROPIC_AGENT, "anthropic"),
        ({"user-agent": "claude-cli/2.1.329 (external, sdk-cli)"}, "anthropic"),
        ({"user-agent": "ai-sdk/anthropic/2.0.1 runtime/node.js/20"}, "anthropic"),
        (OPENAI, "openai"),
        (OPENAI_JS, "openai"),
        (NAMELESS_SDK, "openai"),
        ({"user-agent": "OpenAI/Go 3.0.0"}, "openai"),
        ({"user-agent": "ai-sdk/openai-compatible/1.0.1 runtime/node.js/20"}, "openai"),
        ({"user-agent": "codex_exec/0.80.0 (Debian 12.0.0; x86_64) xterm"}, "openai"),
        ({"openai-organization": "org-x"}, "openai"),
        (CURL, None),
        ({}, None),
        ({"user-agent": "openai-to-anthropic/1.0"}, None),
        ({"x-api-key": "sk-x"}, None),
    ],
)
def test_dialect_of_headers_decides_refusals_and_plain_bodies(
    headers: dict[str, str], dialect: str | None
) -> None:
    for rules, otherwise in ((CHAT, "openai"), (CHAT_PREFERS_ANTHROPIC, "anthropic")):
        assert dialect_of_headers(headers_of(headers), rules) == (dialect or otherwise)
        assert chosen(rules, headers, PLAIN).dialect == (dialect or otherwise)


INPUT = {"model": "m", "input": "Hi", "instructions": "Be brief."}


@pytest.mark.parametrize(
    ("rules", "headers", "body", "name"),
    [
        # Cursor's body of Responses is answered as chat at the path of chat, whatever it prefers
        (CHAT, CURL, INPUT, "chat.completions"),
        (CHAT_PREFERS_ANTHROPIC, CURL, INPUT, "chat.completions"),
        (CHAT, OPENAI, INPUT, "chat.completions"),
        (MESSAGES, CURL, INPUT, "responses"),
        (RESPONSES, CURL, INPUT, "responses"),
        (RESPONSES, OPENAI, INPUT, "responses"),
        (RESPONSES, ANTHROPIC, INPUT, "messages"),
        (RESPONSES, CURL, PLAIN, "chat.completions"),
        (RESPONSES, OPENAI, PLAIN, "chat.completions"),
        (RESPONSES, CURL, {"model": "m", "previous_response_id": "r"}, "responses"),
        (RESPONSES, OPENAI, {"model": "m", "previous_response_id": "r"}, "responses"),
        (RESPONSES, CURL, {**PLAIN, "system": "x"}, "messages"),
        (MESSAGES, CURL, PLAIN, "messages"),
        (MESSAGES, OPENAI, PLAIN, "chat.completions"),
        # Only what the gateway offers
        (rules_of("/v1/messages", offered=["messages"]), OPENAI, INPUT, "messages"),
        (rules_of("/v1/messages", offered=["messages", "chat.completions"]), CURL, INPUT,
         "chat.completions"),
        (rules_of("/v1/chat/completions", offered=["chat.completions"]), ANTHROPIC, PLAIN,
         "chat.completions"),
    ],
)  # fmt: skip
def test_row_of_path(
    rules: PathRules, headers: dict[str, str], body: dict[str, Any], name: str
) -> None:
    row = chosen(rules, headers, body)
    assert row.name == name
    assert row in CONVERSATIONS.values()


def test_row_of_long_content_is_found_in_pieces() -> None:
    data = "A" * (3 * PIECE)
    image = {"type": "image", "source": {"type": "base64", "data": data}}
    link = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
    flat = {"type": "input_image", "image_url": f"data:image/png;base64,{data}"}
    text = {"type": "text", "text": '{"type":"tool_use","source":{}}' + data}
    assert chosen(CHAT, OPENAI, said(image)).dialect == "anthropic"
    assert chosen(CHAT_PREFERS_ANTHROPIC, CURL, said(link)).dialect == "openai"
    assert chosen(CHAT_PREFERS_ANTHROPIC, CURL, said(flat)).dialect == "openai"
    assert chosen(CHAT, CURL, said(text)).dialect == "openai"
    assert chosen(CHAT_PREFERS_ANTHROPIC, CURL, said(text)).dialect == "anthropic"


NAMES = st.sampled_from(
    [
        *("messages", "input", "system", "stop", "tools", "tool_choice", "role", "content", "type"),
        *("tool_calls", "source", "image_url", "input_schema", "function", "x"),
    ]
)
WORDS = st.sampled_from(["user", "system", "tool", "tool_use", "text", "any", "_20250305", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(
    st.dictionaries(NAMES, VALUES, max_size=6),
    st.sampled_from([CURL, OPENAI, ANTHROPIC, ANTHROPIC_AGENT, {}]),
    st.sampled_from([CHAT, CHAT_PREFERS_ANTHROPIC, MESSAGES, RESPONSES]),
)
def test_row_of_any_body_is_one_of_the_path_and_always_the_same(
    body: dict[str, Any], headers: dict[str, str], rules: PathRules
) -> None:
    row = chosen(rules, headers, body)
    assert row in rules.rows.values()
    spaced = members_of(json.dumps(body, indent=1).encode())
    assert row_of(rules, headers_of(headers), spaced) is row
    shuffled = dict(reversed(body.items()))
    assert chosen(rules, headers, shuffled) is row


@settings(max_examples=200)
@given(st.dictionaries(NAMES, st.binary(max_size=20), max_size=4))
def test_row_of_members_that_are_no_json_is_one_of_the_path(members: dict[str, bytes]) -> None:
    fields = {name: msgspec.Raw(value) for name, value in members.items()}
    assert row_of(CHAT, [], fields) in CHAT.rows.values()
