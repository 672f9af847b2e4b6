"""`strict=1`: good requests of each dialect pass, and one fault in them is refused by name."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.types import message_create_params
from openai.types.chat import completion_create_params

from edge.upstreams import Header, Request
from edge.upstreams.simulator.strictness import chat as strict_chat
from edge.upstreams.simulator.strictness import messages as strict_messages
from tests.edge.upstreams.simulated import CHAT, MESSAGES, RESPONSES, WEATHER, ask, whole
from tests.schemas import check, check_request

PNG = "iVBORw0KGgo="
STRICT = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
GOOD_CHAT: dict[str, Any] = {
    "model": "sim-1",
    "max_completion_tokens": 99,
    "temperature": 0.5,
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [
        {"type": "function", "function": {"name": "f", "parameters": WEATHER}},
        {"type": "function", "function": {"name": "g", "parameters": STRICT, "strict": True}},
        {"type": "function", "function": {"name": "h"}},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": i, "type": "function", "function": {"name": "f", "arguments": "{}"}}
                for i in ("call_1", "call_2")
            ],
        },
        {"role": "tool", "tool_call_id": "call_2", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_1", "content": ""},
        {"role": "user", "content": "So?"},
    ],
}
GOOD_MESSAGES: dict[str, Any] = {
    "model": "sim-1",
    "max_tokens": 4096,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [{"name": "f", "input_schema": WEATHER}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PNG},
                },
            ],
        },
        {"role": "user", "content": "and think"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": i, "name": "f", "input": {}}
                for i in ("toolu_1", "toolu_2")
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "rain"},
                {"type": "tool_result", "tool_use_id": "toolu_1"},
                {"type": "text", "text": "So?"},
            ],
        },
    ],
}
GOOD_RESPONSES: dict[str, Any] = {
    "model": "sim-1",
    "instructions": "Be brief.",
    "tools": [
        {"type": "function", "name": "f", "parameters": WEATHER, "strict": False},
        {"type": "function", "name": "g", "parameters": STRICT, "strict": True},
        {"type": "custom", "name": "patch"},
        {"type": "web_search"},
    ],
    "tool_choice": "required",
    "text": {"format": {"type": "json_schema", "name": "x", "schema": STRICT, "strict": True}},
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {
                    "type": "input_image",
                    "image_url": f"data:image/png;base64,{PNG}",
                    "detail": "low",
                },
            ],
        },
        {"type": "message", "role": "assistant", "content": "Well", "phase": "commentary"},
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "f",
            "arguments": "{}",
            "status": "completed",
        },
        {"type": "custom_tool_call", "call_id": "call_2", "name": "patch", "input": "x"},
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "ok"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "rain"}],
        },
    ],
}
Change = Callable[[dict[str, Any]], Any]


def strictly(target: bytes, body: dict[str, Any], *headers: Header) -> tuple[int, bytes]:
    given = ((b"x-sim", b"strict=1"), *headers)
    found = ask(Request(b"POST", target, given, json.dumps(body).encode()))
    return found.status, whole(found)


def refusal(target: bytes, good: dict[str, Any], change: Change, *headers: Header) -> Any:
    body = copy.deepcopy(good)
    change(body)
    status, found = strictly(target, body, *headers)
    assert status == 400, found
    check("anthropic.error" if target == MESSAGES else "openai.error", found)
    return json.loads(found)["error"]


def at(*path: str | int, **fields: Any) -> Change:
    """Sets fields of what stands at a path."""

    def change(body: dict[str, Any]) -> None:
        found: Any = body
        for step in path:
            found = found[step]
        found.update(fields)

    return change


def without(*path: str | int) -> Change:
    def change(body: dict[str, Any]) -> None:
        found: Any = body
        for step in path[:-1]:
            found = found[step]
        del found[path[-1]]

    return change


def adding(*path: str | int, item: Any) -> Change:
    def change(body: dict[str, Any]) -> None:
        found: Any = body
        for step in path:
            found = found[step]
        found.append(item)

    return change


@pytest.mark.parametrize(
    ("target", "good", "dialect"),
    [
        (CHAT, GOOD_CHAT, "chat"),
        (MESSAGES, GOOD_MESSAGES, "messages"),
        (RESPONSES, GOOD_RESPONSES, "responses"),
    ],
)
def test_a_good_request_passes(target: bytes, good: dict[str, Any], dialect: Any) -> None:
    check_request(dialect, good)
    status, found = strictly(target, good)
    assert status == 200, found


def test_without_being_asked_nothing_of_this_is_refused() -> None:
    body = {**GOOD_CHAT, "top_k": 3, "messages": GOOD_CHAT["messages"][:3]}
    assert ask(Request(b"POST", CHAT, (), json.dumps(body).encode())).status == 200
    body = {**GOOD_MESSAGES, "seed": 3, "messages": GOOD_MESSAGES["messages"][:3]}
    assert ask(Request(b"POST", MESSAGES, (), json.dumps(body).encode())).status == 200


def test_the_fields_are_those_of_the_sdks() -> None:
    chat = set(completion_create_params.CompletionCreateParamsBase.__annotations__)
    assert chat | {"stream"} == strict_chat.FIELDS
    messages = set(message_create_params.MessageCreateParamsBase.__annotations__)
    # The SDK has left out what the older version of the API takes.
    older = {"stream", "temperature", "top_k", "top_p"}
    assert messages | older == strict_messages.FIELDS


LONG = "x" * 65


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        (at(top_k=3), "Unrecognized request argument supplied: top_k", None),
        (at(max_tokens=3), "Setting 'max_tokens' and 'max_completion_tokens'", "max_tokens"),
        (at(model="gpt-5", max_tokens=3), "Unsupported parameter: 'max_tokens'", "max_tokens"),
        (at(model="o3"), "Unsupported value: 'temperature' does not support 0.5", "temperature"),
        (at(temperature=2.5), "Invalid 'temperature': decimal above", "temperature"),
        (at(stop=list("abcde")), "Invalid 'stop': array too long.", "stop"),
        (at(stream=False), "The 'stream_options' parameter is only allowed", "stream_options"),
        (at(safety_identifier=LONG), "Invalid 'safety_identifier': string", "safety_identifier"),
        (without("tools"), "Invalid value for 'tool_choice'", "tool_choice"),
        (at(tools=[]), "Invalid 'tools': empty array.", "tools"),
        (at(tool_choice="any"), "Invalid value: 'any'.", "tool_choice"),
        (
            at("messages", 2, reasoning_content="x"),
            "Unknown parameter: 'messages[2].reasoning_content'.",
            "messages[2].reasoning_content",
        ),
        (
            at("messages", 1, "content", 0, cache_control={}),
            "Unknown parameter: 'messages[1].content[0].cache_control'.",
            "messages[1].content[0].cache_control",
        ),
        (
            at("messages", 1, "content", 1, "image_url", url="data:image/tiff;base64,AAAA"),
            "Invalid 'messages[1].content[1].image_url.url'. Expected a valid URL",
            "messages[1].content[1].image_url.url",
        ),
        (
            at("messages", 3, content=[{"type": "image_url", "image_url": {"url": "http://a"}}]),
            "Invalid value: 'image_url'. Supported values are: 'text'.",
            "messages[3].content[0].type",
        ),
        (
            at("messages", 2, tool_calls=[]),
            "Invalid 'messages[2].tool_calls': empty array.",
            "messages[2].tool_calls",
        ),
        (
            without("messages", 2, "tool_calls"),
            "Invalid value for 'content': expected a string, got null.",
            "messages[2].content",
        ),
        (
            at("messages", 2, "tool_calls", 0, id="i" * 41),
            "Invalid 'messages[2].tool_calls[0].id': string too long.",
            "messages[2].tool_calls[0].id",
        ),
        (
            at("messages", 2, "tool_calls", 0, "function", arguments={}),
            "Invalid type for 'messages[2].tool_calls[0].function.arguments': expected a string, "
            "but got an object",
            "messages[2].tool_calls[0].function.arguments",
        ),
        (
            without("messages", 2),
            "Invalid parameter: messages with role 'tool' must be a response to",
            "messages.[2].role",
        ),
        (
            at("messages", 3, tool_call_id="call_9"),
            "Invalid parameter: 'tool_call_id' of 'call_9' not found",
            "messages.[3].tool_call_id",
        ),
        (
            without("messages", 4),
            "An assistant message with 'tool_calls' must be followed by tool messages responding "
            "to each 'tool_call_id'. The following tool_call_ids did not have response messages: "
            "call_1",
            "messages.[4].role",
        ),
        (
            lambda body: body["messages"].insert(3, {"role": "user", "content": "Wait"}),
            "An assistant message with 'tool_calls' must be followed by",
            "messages.[3].role",
        ),
        (
            at("tools", 0, "function", name="a.b"),
            "Invalid 'tools[0].function.name': string does not match pattern.",
            "tools[0].function.name",
        ),
        (
            at("tools", 0, "function", name=LONG),
            "Invalid 'tools[0].function.name': string too long.",
            "tools[0].function.name",
        ),
        (
            at("tools", 0, "function", strict=True),
            "Invalid schema for function 'f': In context=(), 'additionalProperties' is required",
            "tools[0].function.parameters",
        ),
        (
            at("tools", 1, "function", "parameters", required=[]),
            "Invalid schema for function 'g': In context=(), 'required' is required",
            "tools[1].function.parameters",
        ),
        (
            at("tools", 0, "function", parameters={"anyOf": []}),
            "Invalid schema for function 'f': schema must be a JSON Schema of 'type: \"object\"'",
            "tools[0].function.parameters",
        ),
        (
            at("tools", 0, "function", parameters={"type": "object"}),
            "Invalid schema for function 'f': In context=(), object schema missing properties.",
            "tools[0].function.parameters",
        ),
        (
            at("tools", 0, input_schema={}),
            "Unknown parameter: 'tools[0].input_schema'.",
            "tools[0].input_schema",
        ),
        (
            at(response_format={"type": "json_object"}),
            "'messages' must contain the word 'json'",
            "messages",
        ),
        (
            at(response_format={"type": "json_schema", "json_schema": {"schema": STRICT}}),
            "Missing required parameter: 'response_format.json_schema.name'.",
            "response_format.json_schema.name",
        ),
    ],
)
def test_chat(change: Change, message: str, param: str | None) -> None:
    error = refusal(CHAT, GOOD_CHAT, change)
    assert error["message"].startswith(message)
    assert error["param"] == param


THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (at(seed=3), "seed: Extra inputs are not permitted"),
        (at(metadata={"a": "b"}), "metadata.a: Extra inputs are not permitted"),
        (at(temperature=None), "temperature: Input should be a valid value"),
        (at(temperature=1.5), "temperature: range: 0..1"),
        (at(stop_sequences=[" "]), "stop_sequences.0: each stop sequence must contain"),
        (
            at(model="claude-sonnet-4-5", temperature=0.5, top_p=0.5),
            "`temperature` and `top_p` cannot both be specified for this model.",
        ),
        (at(model="claude-opus-5", temperature=0.5), "`temperature` is deprecated for this model"),
        (at(model="claude-opus-5", thinking=THINKING), '"thinking.type.enabled" is not supported'),
        (
            at(model="claude-haiku-4-5", thinking={"type": "adaptive"}),
            "adaptive thinking is not supported on this model",
        ),
        (at(thinking={**THINKING, "budget_tokens": 9}), "thinking.enabled.budget_tokens: Input"),
        (at(thinking=THINKING, max_tokens=1024), "`max_tokens` must be greater than"),
        (
            at(thinking=THINKING, tool_choice={"type": "any"}),
            "Thinking may not be enabled when tool_choice forces tool use.",
        ),
        (at(thinking=THINKING, temperature=0.5), "`temperature` may only be set to 1 when"),
        (at(thinking=THINKING, top_k=5), "`top_k` must be unset when thinking is enabled."),
        (
            at(thinking=THINKING),
            "messages.2.content.0.type: Expected `thinking` or `redacted_thinking`, but found "
            "`tool_use`.",
        ),
        (at("messages", 0, name="x"), "messages.0.name: Extra inputs are not permitted"),
        (
            at("messages", 0, "content", 0, detail="low"),
            "messages.0.content.0.text.detail: Extra inputs are not permitted",
        ),
        (
            at("messages", 0, "content", 0, text=""),
            "messages: text content blocks must be non-empty",
        ),
        (
            at("messages", 0, "content", 0, text=" \n"),
            "messages: text content blocks must contain non-whitespace text",
        ),
        (
            at("messages", 1, content=" "),
            "messages: text content blocks must contain non-whitespace text",
        ),
        (at("system", 0, text=""), "system: text content blocks must be non-empty"),
        (at("messages", 1, content=[]), "messages.1: all messages must have non-empty content"),
        (at("messages", 1, role="system"), 'messages: Unexpected role "system".'),
        (at("messages", 1, role="tool"), "messages.1.role: Input should be 'user'"),
        (
            lambda body: body.update(messages=body["messages"][2:]),
            'messages: first message must use the "user" role',
        ),
        (
            without("messages", 3),
            "messages.2: `tool_use` ids were found without `tool_result` blocks immediately "
            "after: toolu_1, toolu_2.",
        ),
        (
            without("messages", 3, "content", 0),
            "messages.2: `tool_use` ids were found without `tool_result` blocks immediately "
            "after: toolu_2.",
        ),
        (
            lambda body: body["messages"][3]["content"].reverse(),
            "messages.2: `tool_use` ids were found without `tool_result` blocks immediately "
            "after: toolu_2.",
        ),
        (
            at("messages", 3, "content", 0, tool_use_id="toolu_9"),
            "messages.3.content.0: unexpected `tool_use_id` found in `tool_result` blocks: toolu_9",
        ),
        (
            adding(
                "messages",
                3,
                "content",
                item={"type": "tool_result", "tool_use_id": "toolu_1", "content": "again"},
            ),
            "messages.3.content: each tool_use must have a single result.",
        ),
        (
            at("messages", 2, "content", 0, id="call.1"),
            "messages.2.content.0.tool_use.id: String should match pattern",
        ),
        (
            at("messages", 2, "content", 0, id="toolu_2"),
            "messages.2.content: `tool_use` ids must be unique",
        ),
        (
            at("messages", 2, "content", 0, input="{}"),
            "messages.2.content.0.tool_use.input: Input should be a valid dictionary",
        ),
        (
            at("messages", 0, "content", 1, "source", media_type="image/tiff"),
            "messages.0.content.1.image.source.base64.media_type: Input should be",
        ),
        (
            at("messages", 0, "content", 1, "source", media_type="image/jpeg"),
            "messages.0.content.1.image.source.base64.data: The image was specified using the",
        ),
        (
            at("messages", 0, "content", 1, "source", data="data:image/png;base64,AAAA"),
            "messages.0.content.1.image.source.base64.data: Invalid base64 data",
        ),
        (
            adding("messages", 0, "content", item={"type": "input_text", "text": "x"}),
            "messages.0.content.2: Input tag 'input_text' found",
        ),
        (
            adding("messages", 2, "content", item={"type": "redacted_thinking", "data": "x"}),
            "messages.2.content.2: Invalid `data` in `redacted_thinking` block",
        ),
        (at("tools", 0, name="a.b"), "tools.0.custom.name: String should match pattern"),
        (at("tools", 0, name=LONG), "tools.0.custom.name: String should match pattern"),
        (at("tools", 0, parameters={}), "tools.0.custom.parameters: Extra inputs"),
        (
            adding("tools", item={"name": "f", "input_schema": {"type": "object"}}),
            "tools: Tool names must be unique.",
        ),
        (without("tools", 0, "input_schema", "type"), "tools.0.custom.input_schema.type: Field"),
        (
            at("tools", 0, "input_schema", oneOf=[]),
            "tools.0.custom.input_schema: input_schema does not support oneOf",
        ),
        (without("tools"), "tool_choice: tool_choice may only be specified while providing tools."),
        (at(tool_choice={"type": "required"}), "tool_choice: Input tag 'required' found"),
        (
            at(tool_choice={"type": "none", "disable_parallel_tool_use": True}),
            "tool_choice.none.disable_parallel_tool_use: Extra inputs are not permitted",
        ),
        (
            at(output_config={"format": {"type": "json_schema", "schema": WEATHER}}),
            "output_config.format.schema: For 'object' type, 'additionalProperties'",
        ),
        (
            at(
                output_config={
                    "format": {
                        "type": "json_schema",
                        "schema": {**STRICT, "properties": {"a": {"type": "number", "minimum": 1}}},
                    }
                }
            ),
            "output_config.format.schema: For 'number' type, property 'minimum'",
        ),
        (
            at(
                system=[
                    {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
                    for _ in range(5)
                ]
            ),
            "A maximum of 4 blocks with cache_control may be provided. Found 5.",
        ),
        (
            adding("messages", item={"role": "assistant", "content": "So "}),
            "messages: final assistant content cannot end with trailing whitespace",
        ),
        (
            lambda body: (
                body.update(model="claude-opus-4-6"),
                body["messages"].append({"role": "assistant", "content": "{"}),
            ),
            "This model does not support assistant message prefill.",
        ),
    ],
)
def test_messages(change: Change, message: str) -> None:
    assert refusal(MESSAGES, GOOD_MESSAGES, change)["message"].startswith(message)


def test_headers_decide_about_fields_of_messages() -> None:
    beta = (b"anthropic-beta", b"context-management-2025-06-27")
    with_beta = {**GOOD_MESSAGES, "context_management": {"edits": []}}
    assert strictly(MESSAGES, with_beta, beta)[0] == 200
    assert strictly(MESSAGES, with_beta)[0] == 400
    newest = (b"anthropic-version", b"2026-10-21")
    error = refusal(MESSAGES, GOOD_MESSAGES, at(temperature=1), newest)
    assert error["message"] == "temperature: Extra inputs are not permitted"
    assert strictly(MESSAGES, {**GOOD_MESSAGES, "temperature": 1})[0] == 200


@pytest.mark.parametrize(
    ("change", "message", "param"),
    [
        (at(temperature=-1), "Invalid 'temperature': decimal below minimum value.", "temperature"),
        (at(tool_choice="any"), "Invalid value: 'any'.", "tool_choice"),
        (at(tools=None), "Tool choice 'required' must be specified with 'tools'", "tool_choice"),
        (
            at("tools", 0, function={}),
            "Unknown parameter: 'tools[0].function'.",
            "tools[0].function",
        ),
        (at("tools", 0, name="a b"), "Invalid 'tools[0].name': string does not", "tools[0].name"),
        (
            at("tools", 0, strict=True),
            "Invalid schema for function 'f': In context=(), 'additionalProperties'",
            "tools[0].parameters",
        ),
        (
            at("text", "format", schema=WEATHER),
            "Invalid schema for response_format 'x': In context=(), 'additionalProperties'",
            "text.format",
        ),
        (
            at("text", "format", json_schema={}),
            "Unknown parameter: 'text.format.json_schema'.",
            "text.format.json_schema",
        ),
        (
            at(text={"format": {"type": "json_object"}}),
            "Response input messages must contain the word 'json'",
            "input",
        ),
        (
            at("input", 2, id="call_1"),
            "Invalid 'input[2].id': 'call_1'. Expected an ID that begins with 'fc'.",
            "input[2].id",
        ),
        (
            at("input", 0, "content", 0, cache_control={}),
            "Unknown parameter: 'input[0].content[0].cache_control'.",
            "input[0].content[0].cache_control",
        ),
        (
            at("input", 0, "content", 1, image_url={"url": "https://a"}),
            "Invalid type for 'input[0].content[1].image_url': expected a string",
            "input[0].content[1].image_url",
        ),
        (
            at("input", 5, is_error=True),
            "Unknown parameter: 'input[5].is_error'.",
            "input[5].is_error",
        ),
        (
            at("input", 5, output=[{"type": "text", "text": "x"}]),
            "Invalid value: 'text'.",
            "input[5].output[0].type",
        ),
        (
            at("input", 5, output=None),
            "Missing required parameter: 'input[5].output'.",
            "input[5].output",
        ),
        (
            lambda body: [body["input"][n].update(call_id="c" * 65) for n in (2, 5)],
            "Invalid 'input[2].call_id': string too long.",
            "input[2].call_id",
        ),
    ],
)
def test_responses(change: Change, message: str, param: str | None) -> None:
    error = refusal(RESPONSES, GOOD_RESPONSES, change)
    assert error["message"].startswith(message)
    assert error["param"] == param


def test_reasoning_stands_before_what_it_led_to_and_brings_its_content() -> None:
    asked = {"model": "sim-1", "input": "Hi [[sim thinking=1]]"}
    asked["include"] = ["reasoning.encrypted_content"]  # type: ignore[assignment]
    reasoning, message = json.loads(strictly(RESPONSES, asked)[1])["output"]
    question = {"role": "user", "content": "And?"}
    body = {"model": "sim-1", "input": [reasoning, message, question]}
    assert strictly(RESPONSES, body)[0] == 200
    status, found = strictly(RESPONSES, {**body, "input": [reasoning, question]})
    assert (status, b"without its required following item" in found) == (400, True)
    del reasoning["encrypted_content"]
    status, found = strictly(RESPONSES, body)
    assert (status, b"not found. Items are not persisted" in found) == (404, True)


@pytest.mark.parametrize(
    ("target", "good"),
    [(CHAT, GOOD_CHAT), (MESSAGES, GOOD_MESSAGES), (RESPONSES, GOOD_RESPONSES)],
)
def test_values_of_the_wrong_type_are_refused_and_break_nothing(
    target: bytes, good: dict[str, Any]
) -> None:
    for path in places(good):
        for wrong in (None, 3, "x", [], {}, [3], {"type": 3}):
            body = copy.deepcopy(good)
            found: Any = body
            for step in path[:-1]:
                found = found[step]
            found[path[-1]] = wrong
            assert strictly(target, body)[0] in (200, 400, 404)
            leniently = Request(b"POST", target, (), json.dumps(body).encode())
            assert ask(leniently).status in (200, 400, 404)


def places(value: Any) -> list[tuple[Any, ...]]:
    """The paths of all that is inside of a value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    found: list[tuple[Any, ...]] = []
    for key, inner in inside:
        found.append((key,))
        if isinstance(inner, (dict, list)):
            found += [(key, *rest) for rest in places(inner)]
    return found
