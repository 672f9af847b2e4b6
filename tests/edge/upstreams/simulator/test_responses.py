"""The face of Responses: against the SDK's types, the grammar of its streams, and its refusals."""

import json
from typing import Any

import pytest
from openai.types.responses import response_create_params
from openai.types.responses.response_compact_params import ResponseCompactParams

from edge.upstreams.simulator import SECRETS
from edge.upstreams.simulator.conversation import decrypt_content, encrypt_content
from edge.upstreams.simulator.read_responses import FIELDS
from edge.upstreams.simulator.tokens import count
from tests.edge.upstreams.simulated import (
    CHAT,
    RESPONSES,
    RESPONSES_TOOLS,
    WEATHER,
    ask,
    ask_json,
    chat,
    events,
    post,
    responses,
    whole,
)
from tests.schemas import Summary, check, check_stream, summary

INCLUDE_ENCRYPTED = {"include": ["reasoning.encrypted_content"], "reasoning": {"summary": "auto"}}
PATCH = {"type": "custom", "name": "patch", "description": "Changes files."}


def twins(said: str, /, **fields: Any) -> tuple[Any, Summary]:
    """The plain answer, and the summary of its stream, which has to be the same but for ids."""
    plain = check("response", ask_json(post(RESPONSES, responses(said, **fields))))
    found = ask(post(RESPONSES, responses(said, stream=True, **fields)))
    streamed = check_stream("responses", whole(found))
    reported = summary("responses", plain)
    assert (reported.text, reported.thinking, reported.stop) == (
        streamed.text,
        streamed.thinking,
        streamed.stop,
    )
    assert [call[1:] for call in reported.calls] == [call[1:] for call in streamed.calls]
    assert reported.usage == streamed.usage
    return plain, streamed


def refused(body: dict[str, Any], status: int = 400) -> dict[str, Any]:
    found = ask(post(RESPONSES, body))
    assert found.status == status, whole(found)
    return dict(check("openai.error", whole(found))["error"])


def test_a_plain_answer() -> None:
    plain, streamed = twins("Good morning")
    assert streamed.text.startswith("You said: Good morning")
    assert plain["usage"]["output_tokens"] == count(streamed.text)
    assert (plain["status"], plain["incomplete_details"], plain["error"]) == (
        "completed",
        None,
        None,
    )
    assert [item["type"] for item in plain["output"]] == ["message"]


def test_everything() -> None:
    text = "Hi [[sim thinking=4 tokens=5 tools=3 cached=4 written=2]]"
    plain, streamed = twins(text, tools=[*RESPONSES_TOOLS, PATCH], **INCLUDE_ENCRYPTED)
    kinds = [item["type"] for item in plain["output"]]
    assert kinds == ["reasoning", "message", *["function_call"] * 2, "custom_tool_call"]
    reasoning, _, first, _, custom = plain["output"]
    assert len(reasoning["summary"]) == 2
    thinking = "".join(part["text"] for part in reasoning["summary"])
    assert decrypt_content(reasoning["encrypted_content"]) == thinking
    assert json.loads(first["arguments"]) == {"city": "sample", "days": 3}
    assert custom["input"] == "sample"
    assert streamed.stop == "tools"
    assert plain["usage"]["input_tokens_details"] == {"cached_tokens": 4, "cache_write_tokens": 2}
    reasoned = plain["usage"]["output_tokens_details"]["reasoning_tokens"]
    assert reasoned == count(thinking)


def test_all_dialects_count_the_same_output() -> None:
    text = "Hi [[sim tokens=9]]"
    usage = ask_json(post(RESPONSES, responses(text)))["usage"]
    other = ask_json(post(CHAT, chat(text)))["usage"]
    assert usage["output_tokens"] == other["completion_tokens"] == 9
    assert usage["input_tokens"] == other["prompt_tokens"]


@pytest.mark.parametrize(
    ("limit", "kinds"), [(16, ["message"]), (25, ["message", "function_call"])]
)
def test_the_answer_stops_at_its_limit(limit: int, kinds: list[str]) -> None:
    text = "Hi [[sim tokens=24 tools=1]]"
    plain, streamed = twins(text, tools=RESPONSES_TOOLS, max_output_tokens=limit)
    assert plain["incomplete_details"] == {"reason": "max_output_tokens"}
    assert plain["completed_at"] is None
    assert [item["type"] for item in plain["output"]] == kinds
    assert plain["output"][-1]["status"] == "incomplete"
    assert plain["usage"]["output_tokens"] == limit
    assert streamed.stop == "length"


def test_a_refusal() -> None:
    plain, streamed = twins("Hi [[sim refusal=1]]")
    assert plain["incomplete_details"] == {"reason": "content_filter"}
    assert plain["output"][0]["content"][0]["type"] == "refusal"
    assert streamed.stop == "refusal"


def test_a_structured_answer() -> None:
    wanted = {"type": "json_schema", "name": "x", "schema": WEATHER}
    _, streamed = twins("Hi", text={"format": wanted})
    assert json.loads(streamed.text) == {"city": "sample", "days": 3}


def test_reasoning_is_shown_only_when_a_summary_is_asked_for() -> None:
    hidden, _ = twins("Hi", reasoning={"effort": "high"})
    assert hidden["output"][0] == {
        "id": hidden["output"][0]["id"],
        "type": "reasoning",
        "summary": [],
    }
    assert hidden["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    shown, _ = twins("Hi", reasoning={"effort": "low", "summary": "concise"})
    assert shown["output"][0]["summary"]
    none, _ = twins("Hi", reasoning={"effort": "none", "summary": "auto"})
    assert [item["type"] for item in none["output"]] == ["message"]


def test_what_was_asked_is_repeated() -> None:
    asked: dict[str, Any] = {
        "instructions": "Be brief.",
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
        "store": False,
        "max_output_tokens": 99,
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low"},
        "safety_identifier": "somebody",
    }
    plain, _ = twins("Hi", **asked)
    same = ("instructions", "temperature", "metadata", "store", "max_output_tokens")
    assert all(plain[key] == asked[key] for key in same)
    assert plain["parallel_tool_calls"] is False
    assert plain["reasoning"] == {"effort": "low", "summary": None}
    assert plain["text"] == {"verbosity": "low", "format": {"type": "text"}}
    function = {"type": "function", "name": "f", "description": None, "parameters": None}
    assert plain["tools"] == [{**function, "strict": True}, {"type": "web_search"}]


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("auto", []),
        ("none", []),
        ("required", ["weather"]),
        ({"type": "function", "name": "forecast"}, ["forecast"]),
        ({"type": "custom", "name": "patch"}, ["patch"]),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "forecast"}],
            },
            ["forecast"],
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "custom", "name": "p"}]},
            [],
        ),
    ],
)
def test_tool_choice(choice: Any, names: list[str]) -> None:
    tools = [*RESPONSES_TOOLS, PATCH]
    _, streamed = twins("Hi", tools=tools, tool_choice=choice)
    assert [name for _, name, _ in streamed.calls] == names


def test_namespaces_and_additional_tools_are_offered_too() -> None:
    inner = {"type": "function", "name": "read", "parameters": WEATHER}
    space = {"type": "namespace", "name": "files", "description": "Files.", "tools": [inner]}
    more = {"type": "additional_tools", "role": "developer", "tools": [PATCH]}
    body = responses("Hi [[sim tools=2]]", tools=[space])
    body["input"].append(more)
    first, second = ask_json(post(RESPONSES, body))["output"]
    assert (first["namespace"], first["name"]) == ("files", "read")
    assert (second["type"], second["name"]) == ("custom_tool_call", "patch")


def test_a_conversation_with_all_its_items_comes_back() -> None:
    tools = [*RESPONSES_TOOLS, PATCH]
    text = "Hi [[sim thinking=1 tools=3]]"
    body = responses(text, tools=tools, **INCLUDE_ENCRYPTED)
    output = ask_json(post(RESPONSES, body))["output"]
    body["input"] += output
    for item in output:
        if item["type"] != "reasoning":
            kind = f"{item['type']}_output"
            parts = [{"type": "input_text", "text": "21 °C"}]
            body["input"].append({"type": kind, "call_id": item["call_id"], "output": parts})
    answered = ask_json(post(RESPONSES, body))
    message = answered["output"][-1]
    assert "21 °C and 21 °C and 21 °C" in message["content"][0]["text"]


def test_what_others_have_sealed_is_refused() -> None:
    body = responses("Hi [[sim thinking=1]]", **INCLUDE_ENCRYPTED)
    added = next(
        event["item"]
        for event in events(whole(ask(post(RESPONSES, {**body, "stream": True}))))
        if event["type"] == "response.output_item.added"
    )
    assert added["encrypted_content"]
    for sealed in (
        added["encrypted_content"],
        "gAAAAABsomething",
        "",
        "ä",
        encrypt_content("a") + "a",
    ):
        item: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": []}
        item["encrypted_content"] = sealed
        error = refused({**body, "input": [*body["input"], item]})
        assert error["code"] == "invalid_encrypted_content"


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [{"type": "function_call_output", "call_id": "call_1", "output": "x"}],
            "No tool call found for function call output with call_id call_1.",
        ),
        (
            [
                {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
                {"type": "custom_tool_call_output", "call_id": "call_1", "output": "x"},
            ],
            "No tool call found for custom tool call output with call_id call_1.",
        ),
        (
            [{"type": "custom_tool_call", "call_id": "call_1", "name": "f", "input": ""}],
            "No tool output found for custom tool call call_1.",
        ),
        ([{"type": "surprise"}], "Invalid value: 'surprise'. Supported values are: "),
        ([{"role": "tool", "content": "x"}], "Invalid value: 'tool'. "),
        (
            [{"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}],
            "Invalid value: 'input_text'. Supported values are: 'output_text' and 'refusal'.",
        ),
        (
            [{"role": "user", "content": [{"type": "output_text", "text": "x"}]}],
            "Invalid value: 'output_text'. ",
        ),
        (
            [{"type": "function_call", "name": "f", "arguments": "{}"}],
            "Missing required parameter: 'input[1].call_id'.",
        ),
        ([{"type": "reasoning", "encrypted_content": 3}], "The encrypted content for item None"),
        ([{"type": "compaction"}], "Missing required parameter: 'input[1].encrypted_content'."),
        (["x"], "Invalid type for 'input[1]': expected an object."),
    ],
)
def test_items_that_are_refused(items: list[Any], message: str) -> None:
    body = responses()
    body["input"] += items
    error = refused(body)
    assert error["message"].startswith(message)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"messages": []}, "messages", "unknown_parameter"),
        ({"stop": ["x"]}, "stop", "unknown_parameter"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"previous_response_id": "resp_1"}, "previous_response_id", "previous_response_not_found"),
        ({"max_output_tokens": 15}, "max_output_tokens", "integer_below_min_value"),
        ({"tool_choice": {"type": "function", "name": "gone"}}, "tool_choice", None),
        ({"stream": "yes"}, "stream", None),
    ],
)
def test_fields_that_are_refused(fields: dict[str, Any], param: str, code: str | None) -> None:
    error = refused(responses() | fields)
    assert (error["param"], error["code"]) == (param, code)


def test_an_item_of_the_vendor_s_memory_is_not_there() -> None:
    refused(responses() | {"input": [{"type": "item_reference", "id": "rs_1"}]}, 404)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"model":"m","input":3}', b"[" * 9999]
)
def test_a_body_that_is_no_request_is_a_400(body: bytes) -> None:
    found = ask(post(RESPONSES, body))
    assert found.status == 400
    check("openai.error", whole(found))


def test_the_fields_are_those_of_the_sdk_and_of_codex() -> None:
    sdk = set(response_create_params.ResponseCreateParamsBase.__annotations__) | {"stream"}
    compact = set(ResponseCompactParams.__annotations__)
    assert sdk | compact <= FIELDS
    assert FIELDS - sdk - compact == {"client_metadata", "personality"}


def test_a_compaction_is_taken_back() -> None:
    target = RESPONSES + b"/compact"
    compacted = check("response.compaction", ask_json(post(target, responses("A long story"))))
    (item,) = compacted["output"]
    assert item["type"] == "compaction"
    body = responses("And now?")
    body["input"].insert(0, item)
    longer = ask_json(post(RESPONSES, body))["usage"]["input_tokens"]
    assert longer > ask_json(post(RESPONSES, responses("And now?")))["usage"]["input_tokens"]
    body["input"][0] = {**item, "encrypted_content": "x" + item["encrypted_content"]}
    assert refused(body)["code"] == "invalid_encrypted_content"


def test_input_tokens_are_those_that_are_charged() -> None:
    body = responses("Hello", instructions="Be brief.", tools=RESPONSES_TOOLS)
    counted = ask_json(post(RESPONSES + b"/input_tokens", body))
    check("response.input_tokens", counted)
    charged = ask_json(post(RESPONSES, body))["usage"]["input_tokens"]
    assert counted["input_tokens"] == charged
    assert charged > ask_json(post(RESPONSES, responses("Hello")))["usage"]["input_tokens"]


@pytest.mark.parametrize("after", [2, 5, 9, 20, 36])
def test_an_error_event_is_followed_by_the_failure(after: int) -> None:
    text = f"Hi [[sim thinking=2 tokens=9 fault=error-event:{after}]]"
    found = whole(ask(post(RESPONSES, responses(text, stream=True, **INCLUDE_ENCRYPTED))))
    assert check_stream("responses", found, error=True).stop == "error"
    *_, error, failed = events(found)
    assert (error["message"], error["code"]) == (error["error"]["message"], error["error"]["code"])
    assert all(secret in error["message"] for secret in SECRETS)
    assert failed["response"]["status"] == "failed"


def test_pings_are_numbered_events() -> None:
    found = ask(post(RESPONSES, responses("Hi [[sim fault=pings:3]]", stream=True)))
    data = events(whole(found))
    kinds = [event["type"] for event in data]
    assert kinds[:5] == ["response.created", *["keepalive"] * 3, "response.in_progress"]
    assert [event["sequence_number"] for event in data] == list(range(len(data)))


def test_an_overflow_has_the_words_codex_knows() -> None:
    error = refused(responses("Hi [[sim fault=overflow]]"))
    assert (error["code"], error["param"]) == ("context_length_exceeded", "input")


def test_the_same_request_is_answered_with_the_same_bytes() -> None:
    body = responses(
        "Hi [[sim thinking=2 tools=2]]", tools=RESPONSES_TOOLS, stream=True, **INCLUDE_ENCRYPTED
    )
    assert ask(post(RESPONSES, body)) == ask(post(RESPONSES, body))
