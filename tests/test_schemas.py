"""The checker of answers: what is right passes, and each single fault is refused."""

import json
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from edge.upstreams import Request
from tests.edge.upstreams.simulated import (
    CHAT,
    CHAT_TOOLS,
    MESSAGES,
    MESSAGES_TOOLS,
    ask,
    chat,
    messages,
    post,
    whole,
)
from tests.schemas import Surface, check, check_request, check_stream, summary

CASES = ("", "tools=1", "tools=3", "thinking=2", "thinking=1 tools=2 tokens=4", "refusal=1")
SIMPLE = "Tell me [[sim thinking=1 tools=2 tokens=3 cached=4]]"


def chat_bytes(text: str = SIMPLE, **fields: Any) -> bytes:
    return whole(ask(post(CHAT, chat(text, tools=CHAT_TOOLS, **fields))))


def messages_bytes(text: str = SIMPLE, **fields: Any) -> bytes:
    return whole(ask(post(MESSAGES, messages(text, tools=MESSAGES_TOOLS, **fields))))


def with_usage(text: str = SIMPLE) -> bytes:
    return chat_bytes(text, stream=True, stream_options={"include_usage": True})


def blocks(stream: bytes) -> list[Any]:
    """The events of a stream as JSON; those that are none as they are."""
    found: list[Any] = []
    for block in stream.split(b"\n\n")[:-1]:
        data = block.rpartition(b"data: ")[2]
        found.append(json.loads(data) if data.startswith(b"{") else block)
    return found


def stream_of(events: list[Any], *, named: bool) -> bytes:
    """The inverse of `blocks`."""
    parts = []
    for event in events:
        if isinstance(event, bytes):
            parts.append(event)
            continue
        name = b"event: %s\n" % event["type"].encode() if named else b""
        parts.append(name + b"data: " + json.dumps(event).encode())
    return b"".join(part + b"\n\n" for part in parts)


def changed(value: Any, path: str, new: Any = None, *, drop: bool = False) -> Any:
    """A copy of `value` with what is at `path` replaced, or dropped."""
    value = deepcopy(value)
    *steps, last = [int(s) if s.lstrip("-").isdigit() else s for s in path.split(".")]
    at = value
    for step in steps:
        at = at[step]
    if drop:
        del at[last]
    else:
        at[last] = new
    return value


# Bodies and streams that are right


@pytest.mark.parametrize("words", CASES)
def test_a_stream_of_each_dialect_says_what_its_twin_says(words: str) -> None:
    text = f"Hello [[sim {words}]]"
    unstreamed = summary("chat", chat_bytes(text))
    streamed = check_stream("chat", with_usage(text), include_usage=True)
    assert streamed.without_ids() == unstreamed.without_ids()
    assert unstreamed.usage is not None
    assert unstreamed.usage["output"] > 0
    twin = summary("messages", messages_bytes(text))
    streamed = check_stream("messages", messages_bytes(text, stream=True))
    assert streamed.without_ids() == twin.without_ids()
    assert (twin.text, twin.thinking, twin.stop) == (
        unstreamed.text,
        unstreamed.thinking,
        unstreamed.stop,
    )


def test_a_summary_says_what_the_answer_says() -> None:
    found = check_stream("messages", messages_bytes(stream=True))
    assert found.stop == "tools"
    assert found.thinking.startswith("I read the question")
    assert found.text == "You said: Tell"[: len(found.text)]
    assert [name for _, name, _ in found.calls] == ["weather", "forecast"]
    assert all(json.loads(arguments).keys() == {"city", "days"} for _, _, arguments in found.calls)
    assert found.usage is not None
    assert found.usage["cache_read"] == 4
    assert found.usage["reasoning"] > 0


def test_a_tool_input_may_be_cut_by_the_length_limit() -> None:
    text = "x [[sim tools=1]]"
    found = check_stream("messages", messages_bytes(text, stream=True, max_tokens=1))
    assert found.stop == "length"
    cut = found.calls[0][2]
    assert cut
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(cut)
    found = check_stream("chat", chat_bytes(text, stream=True, max_tokens=1))
    assert (found.stop, found.calls[0][2]) == ("length", cut)


def test_usage_is_in_a_chat_stream_when_asked_for_only() -> None:
    bare = chat_bytes(stream=True)
    assert check_stream("chat", bare, include_usage=False).usage is None
    with pytest.raises(AssertionError, match="usage asked: True"):
        check_stream("chat", bare, include_usage=True)
    with pytest.raises(AssertionError, match="usage asked: False"):
        check_stream("chat", with_usage(), include_usage=False)


@pytest.mark.parametrize("after", [1, 3])
def test_a_stream_that_fails_passes_as_one_that_fails_only(after: int) -> None:
    text = f"x [[sim tokens=9 fault=error-event:{after}]]"
    for dialect, stream in (
        ("chat", chat_bytes(text, stream=True)),
        ("messages", messages_bytes(text, stream=True)),
    ):
        assert check_stream(dialect, stream, error=True).stop == "error"  # type: ignore[arg-type]
        with pytest.raises(AssertionError):
            check_stream(dialect, stream)  # type: ignore[arg-type]
    for dialect, stream in (
        ("chat", with_usage()),
        ("messages", messages_bytes(stream=True)),
        ("responses", stream_of(responses_events(), named=True)),
    ):
        with pytest.raises(AssertionError):
            check_stream(dialect, stream, error=True)  # type: ignore[arg-type]


def test_other_answers_of_the_simulator_pass() -> None:
    def got(method: bytes, target: bytes, body: Any = b"", claude: bool = False) -> bytes:
        headers = ((b"anthropic-version", b"2023-06-01"),) if claude else ()
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return whole(ask(Request(method, target, headers, data)))

    check("message.count", got(b"POST", MESSAGES + b"/count_tokens", messages()))
    check("openai.models", got(b"GET", b"/v1/models"))
    check("openai.model", got(b"GET", b"/v1/models/sim-1"))
    check("anthropic.models", got(b"GET", b"/v1/models", claude=True))
    check("anthropic.model", got(b"GET", b"/v1/models/sim-1", claude=True))
    embed = {"model": "sim-embed", "input": ["a", "b"]}
    check("embeddings", got(b"POST", b"/v1/embeddings", embed))
    check("embeddings", got(b"POST", b"/v1/embeddings", {**embed, "encoding_format": "base64"}))
    check("openai.error", chat_bytes("x [[sim fault=status:429]]"))
    check("anthropic.error", messages_bytes("x [[sim fault=status:529]]"))


# Responses, written out here: they are the reference for the simulator too


def response(status: str, output: list[Any], **more: Any) -> dict[str, Any]:
    done = status == "completed"
    usage = {
        "input_tokens": 9,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 14,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_767_225_600,
        "completed_at": 1_767_225_601 if done else None,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "model": "sim-1",
        "previous_response_id": None,
        "instructions": None,
        "output": output,
        "error": None,
        "tools": [
            {
                "type": "function",
                "name": "weather",
                "description": None,
                "parameters": {"type": "object"},
                "strict": None,
            }
        ],
        "tool_choice": "auto",
        "truncation": "disabled",
        "parallel_tool_calls": True,
        "text": {"format": {"type": "text"}},
        "top_p": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "top_logprobs": 0,
        "temperature": 1.0,
        "reasoning": None,
        "usage": usage if status in ("completed", "incomplete") else None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "store": False,
        "background": False,
        "service_tier": "default",
        "metadata": {},
        "safety_identifier": None,
        "prompt_cache_key": None,
        **more,
    }


def part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def thinking_item(*parts: str) -> Iterator[dict[str, Any]]:
    item: dict[str, Any] = {"id": "rs_1", "type": "reasoning", "summary": []}
    yield {"type": "response.output_item.added", "item": item}
    for n, text in enumerate(parts):
        at = {"item_id": "rs_1", "summary_index": n}
        name = "response.reasoning_summary"
        whole_part = {"type": "summary_text", "text": text}
        yield {"type": f"{name}_part.added", **at, "part": {**whole_part, "text": ""}}
        yield {"type": f"{name}_text.delta", **at, "delta": text}
        yield {"type": f"{name}_text.done", **at, "text": text}
        yield {"type": f"{name}_part.done", **at, "part": whole_part}
    summary_parts = [{"type": "summary_text", "text": text} for text in parts]
    done = {**item, "summary": summary_parts, "encrypted_content": "opaque"}
    yield {"type": "response.output_item.done", "item": done}


def text_item(*pieces: str, status: str = "completed") -> Iterator[dict[str, Any]]:
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress"}
    at = {"item_id": "msg_1", "content_index": 0}
    text = "".join(pieces)
    yield {"type": "response.output_item.added", "item": {**item, "content": []}}
    yield {"type": "response.content_part.added", **at, "part": part("")}
    for piece in pieces:
        yield {"type": "response.output_text.delta", **at, "delta": piece, "logprobs": []}
    yield {"type": "response.output_text.done", **at, "text": text, "logprobs": []}
    yield {"type": "response.content_part.done", **at, "part": part(text)}
    item = {**item, "status": status}
    yield {"type": "response.output_item.done", "item": {**item, "content": [part(text)]}}


def call_item(number: int, *pieces: str) -> Iterator[dict[str, Any]]:
    item = {
        "id": f"fc_{number}",
        "type": "function_call",
        "call_id": f"call_{number}",
        "name": "weather",
        "arguments": "",
        "status": "in_progress",
    }
    at = {"item_id": item["id"]}
    name = "response.function_call_arguments"
    arguments = "".join(pieces)
    yield {"type": "response.output_item.added", "item": item}
    for piece in pieces:
        yield {"type": f"{name}.delta", **at, "delta": piece}
    yield {"type": f"{name}.done", **at, "name": "weather", "arguments": arguments}
    done = {**item, "arguments": arguments, "status": "completed"}
    yield {"type": "response.output_item.done", "item": done}


def custom_item(text: str) -> Iterator[dict[str, Any]]:
    item = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "call_c", "name": "patch"}
    name, at = "response.custom_tool_call_input", {"item_id": "ctc_1"}
    yield {"type": "response.output_item.added", "item": {**item, "input": ""}}
    yield {"type": f"{name}.delta", **at, "delta": text}
    yield {"type": f"{name}.done", **at, "input": text}
    yield {"type": "response.output_item.done", "item": {**item, "input": text}}


def refusal_item(text: str) -> Iterator[dict[str, Any]]:
    item = {"id": "msg_2", "type": "message", "role": "assistant", "status": "in_progress"}
    at = {"item_id": "msg_2", "content_index": 0}
    refused = {"type": "refusal", "refusal": text}
    yield {"type": "response.output_item.added", "item": {**item, "content": []}}
    yield {"type": "response.content_part.added", **at, "part": {**refused, "refusal": ""}}
    yield {"type": "response.refusal.delta", **at, "delta": text}
    yield {"type": "response.refusal.done", **at, "refusal": text}
    yield {"type": "response.content_part.done", **at, "part": refused}
    done = {**item, "status": "completed", "content": [refused]}
    yield {"type": "response.output_item.done", "item": done}


def numbered(*items: Iterator[dict[str, Any]], status: str = "completed") -> list[dict[str, Any]]:
    """A whole stream of these items, with its numbers."""
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": response("in_progress", [])},
        {"type": "response.in_progress", "response": response("in_progress", [])},
    ]
    output = []
    for place, item in enumerate(items):
        events.extend({**event, "output_index": place} for event in item)
        output.append(events[-1]["item"])
    events.append({"type": f"response.{status}", "response": response(status, output)})
    return [{**event, "sequence_number": n} for n, event in enumerate(events)]


def responses_events() -> list[dict[str, Any]]:
    return numbered(
        thinking_item("First.", "Then."),
        text_item("Hel", "lo"),
        call_item(1, '{"b":1,', '"a":"ä"}'),
        call_item(2, "{}"),
    )


def failed_events() -> list[dict[str, Any]]:
    error = {"code": "server_is_overloaded", "message": "Overloaded.", "param": None}
    events = numbered(text_item("Hello"), refusal_item("No."))[:10]
    nested = {"type": "service_unavailable_error", **error}
    events.append({"type": "error", "sequence_number": 10, **error, "error": nested})
    output = [events[7]["item"]]
    told = {"code": error["code"], "message": error["message"]}
    failed = response("failed", output, error=told)
    events.append({"type": "response.failed", "sequence_number": 11, "response": failed})
    return events


def check_responses(events: list[Any], **how: Any) -> Any:
    return check_stream("responses", stream_of(events, named=True), **how)


def test_a_stream_of_responses_says_what_its_twin_says() -> None:
    events = responses_events()
    found = check_responses(events)
    assert found == summary("responses", events[-1]["response"])
    assert (found.text, found.thinking, found.stop) == ("Hello", "First.\n\nThen.", "tools")
    assert found.calls == (("call_1", "weather", '{"a":"ä","b":1}'), ("call_2", "weather", "{}"))
    assert found.usage == {
        "input": 5,
        "cache_read": 4,
        "cache_write": 0,
        "output": 5,
        "reasoning": 2,
    }


def test_other_streams_of_responses_pass() -> None:
    found = check_responses(numbered(custom_item("*** patch"), refusal_item("No.")))
    assert found.calls == (("call_c", "patch", '{"input":"*** patch"}'),)
    assert found.refusal == "No."
    cut = numbered(text_item("Hel", status="incomplete"), status="incomplete")
    assert check_responses(cut).stop == "length"
    assert check_responses(numbered()).text == ""
    failed = failed_events()
    assert check_responses(failed, error=True).stop == "error"
    with pytest.raises(AssertionError, match="an error: Overloaded"):
        check_responses(failed)


def test_a_compaction_and_a_list_of_items_pass() -> None:
    said = {
        "id": "msg_0",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "Hello"}],
    }
    output = [said, {"id": "cmp_1", "type": "compaction", "encrypted_content": "opaque"}]
    usage = response("completed", [])["usage"]
    compaction = {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": 1,
        "output": output,
        "usage": usage,
    }
    check("response.compaction", compaction)
    items = {
        "object": "list",
        "data": [said],
        "first_id": "msg_0",
        "last_id": "msg_0",
        "has_more": False,
    }
    check("response.items", items)
    check("response.input_tokens", {"object": "response.input_tokens", "input_tokens": 3})
    for surface, value, path in (
        ("response.compaction", compaction, "output.1.encrypted_content"),
        ("response.compaction", compaction, "usage"),
        ("response.items", items, "data.0.status"),
        ("response.items", items, "has_more"),
    ):
        with pytest.raises(AssertionError, match=r"is a required property|no branch"):
            check(surface, changed(value, path, drop=True))  # type: ignore[arg-type]


# Single faults in bodies

MESSAGE = json.loads(messages_bytes())
COMPLETION = json.loads(chat_bytes())
RESPONSE = responses_events()[-1]["response"]
TEXT = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
REQUIRED: list[tuple[Surface, Any, str]] = [
    *(("chat.completion", COMPLETION, key) for key in ("id", "object", "created", "model")),
    ("chat.completion", COMPLETION, "usage"),
    ("chat.completion", COMPLETION, "usage.prompt_tokens_details"),
    ("chat.completion", COMPLETION, "usage.completion_tokens_details.reasoning_tokens"),
    ("chat.completion", COMPLETION, "choices.0.logprobs"),
    ("chat.completion", COMPLETION, "choices.0.finish_reason"),
    ("chat.completion", COMPLETION, "choices.0.index"),
    ("chat.completion", COMPLETION, "choices.0.message.refusal"),
    ("chat.completion", COMPLETION, "choices.0.message.content"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.id"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.arguments"),
    *(("text_completion", TEXT, key) for key in ("id", "object", "created", "model", "usage")),
    ("text_completion", TEXT, "choices.0.logprobs"),
    ("text_completion", TEXT, "choices.0.finish_reason"),
    *(("message", MESSAGE, key) for key in MESSAGE),
    ("message", MESSAGE, "usage.cache_creation_input_tokens"),
    ("message", MESSAGE, "usage.cache_read_input_tokens"),
    ("message", MESSAGE, "content.0.signature"),
    ("message", MESSAGE, "content.2.input"),
    *(("response", RESPONSE, key) for key in RESPONSE),
    ("response", RESPONSE, "usage.input_tokens_details"),
    ("response", RESPONSE, "usage.output_tokens_details.reasoning_tokens"),
    ("response", RESPONSE, "tools.0.description"),
    ("response", RESPONSE, "tools.0.strict"),
    ("response", RESPONSE, "text.format"),
    ("response", RESPONSE, "output.0.id"),
    ("response", RESPONSE, "output.1.status"),
    ("response", RESPONSE, "output.1.content.0.annotations"),
    ("response", RESPONSE, "output.1.content.0.logprobs"),
    ("response", RESPONSE, "output.2.id"),
    ("response", RESPONSE, "output.2.status"),
]


@pytest.mark.parametrize(("surface", "body", "path"), REQUIRED)
def test_a_body_without_a_key_is_refused(surface: Surface, body: Any, path: str) -> None:
    check(surface, body)
    where = re.sub(r"\.(\d+)", r"[\1]", f".{path}").rpartition(".")[0]
    with pytest.raises(AssertionError) as refused:
        check(surface, changed(body, path, drop=True))
    assert str(refused.value).startswith(f"{surface}{where}: ")
    assert f"'{path.rpartition('.')[2]}'" in str(refused.value)


WRONG: list[tuple[Surface, Any, str, Any]] = [
    ("chat.completion", COMPLETION, "id", "msg_1"),
    ("chat.completion", COMPLETION, "created", "1"),
    ("chat.completion", COMPLETION, "created", 1.0),
    ("chat.completion", COMPLETION, "created", True),
    ("chat.completion", COMPLETION, "model", None),
    ("chat.completion", COMPLETION, "choices", []),
    ("chat.completion", COMPLETION, "choices.0.index", 1),
    ("chat.completion", COMPLETION, "choices.0.finish_reason", "end_turn"),
    ("chat.completion", COMPLETION, "choices.0.finish_reason", "stop"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls", []),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.arguments", ""),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.arguments", "[]"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.name", ""),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.id", ""),
    (
        "chat.completion",
        COMPLETION,
        "choices.0.message.tool_calls.1.id",
        COMPLETION["choices"][0]["message"]["tool_calls"][0]["id"],
    ),
    ("chat.completion", COMPLETION, "choices.0.message.reasoning_content", 1),
    ("chat.completion", COMPLETION, "usage.total_tokens", 1),
    ("chat.completion", COMPLETION, "usage.prompt_tokens", -1),
    ("chat.completion", COMPLETION, "usage.prompt_tokens_details.cached_tokens", 10**9),
    ("chat.completion", COMPLETION, "service_tier", "standard"),
    ("text_completion", TEXT, "choices.0.text", None),
    ("text_completion", TEXT, "choices.0.finish_reason", None),
    ("text_completion", TEXT, "usage.total_tokens", 4),
    ("message", MESSAGE, "id", "chatcmpl-1"),
    ("message", MESSAGE, "type", "completion"),
    ("message", MESSAGE, "stop_reason", None),
    ("message", MESSAGE, "stop_reason", "tool_calls"),
    ("message", MESSAGE, "stop_reason", "end_turn"),
    ("message", MESSAGE, "stop_sequence", "END"),
    ("message", MESSAGE, "content", MESSAGE["content"][:2]),
    ("message", MESSAGE, "content.0.type", "thought"),
    ("message", MESSAGE, "content.1.text", ""),
    ("message", MESSAGE, "content.2.input", "{}"),
    ("message", MESSAGE, "content.2.id", "functions.x:0"),
    ("message", MESSAGE, "content.2.id", MESSAGE["content"][3]["id"]),
    ("message", MESSAGE, "usage.input_tokens", None),
    ("message", MESSAGE, "usage.service_tier", "default"),
    ("response", RESPONSE, "created_at", 1.5),
    ("response", RESPONSE, "completed_at", None),
    ("response", RESPONSE, "status", "in_progress"),
    ("response", RESPONSE, "status", "incomplete"),
    ("response", RESPONSE, "status", "failed"),
    ("response", RESPONSE, "error", {"code": "server_error", "message": "x"}),
    ("response", RESPONSE, "usage", None),
    ("response", RESPONSE, "usage.total_tokens", 1),
    ("response", RESPONSE, "usage.output_tokens_details.reasoning_tokens", 6),
    ("response", RESPONSE, "temperature", None),
    ("response", RESPONSE, "top_p", "1"),
    ("response", RESPONSE, "metadata", None),
    ("response", RESPONSE, "service_tier", None),
    ("response", RESPONSE, "truncation", None),
    ("response", RESPONSE, "store", None),
    ("response", RESPONSE, "reasoning", {"effort": "low"}),
    ("response", RESPONSE, "text.format", {"type": "json_schema", "name": "a", "schema": {}}),
    ("response", RESPONSE, "tool_choice", {"type": "function"}),
    ("response", RESPONSE, "output.0.encrypted_content", None),
    ("response", RESPONSE, "output.1.id", "fc_9"),
    ("response", RESPONSE, "output.1.status", "in_progress"),
    ("response", RESPONSE, "output.1.content.0.text", None),
    ("response", RESPONSE, "output.2.arguments", ""),
    ("response", RESPONSE, "output.2.call_id", "call_2"),
    ("response", RESPONSE, "output.2.call_id", "x" * 65),
    ("response", RESPONSE, "output.2.id", "fc_2"),
    ("response", RESPONSE, "output.2.type", "tool_use"),
]


@pytest.mark.parametrize(("surface", "body", "path", "value"), WRONG)
def test_a_body_with_a_wrong_value_is_refused(
    surface: Surface, body: Any, path: str, value: Any
) -> None:
    check(surface, body)
    with pytest.raises(AssertionError):
        check(surface, changed(body, path, value))


@pytest.mark.parametrize(
    ("surface", "value"),
    [
        ("openai.error", {"error": {"message": "m", "type": "t", "param": None}}),
        ("openai.error", {"error": {"message": "", "type": "t", "param": None, "code": None}}),
        ("openai.error", {"error": {"message": "m", "type": "t", "param": 1, "code": None}}),
        ("openai.error", {"detail": "m"}),
        ("anthropic.error", {"type": "error", "error": {"type": "api_error", "message": "m"}}),
        (
            "anthropic.error",
            {"type": "error", "error": {"type": "server_error", "message": "m"}, "request_id": "r"},
        ),
        ("message.count", {"input_tokens": "3"}),
        ("message.count", {}),
        ("response.input_tokens", {"input_tokens": 3}),
        ("openai.model", {"id": "m", "object": "model", "created": 1}),
        ("openai.models", {"data": []}),
        ("anthropic.models", {"data": [], "first_id": None, "has_more": False}),
        (
            "anthropic.model",
            {"type": "model", "id": "m", "display_name": "m", "created_at": "2026-01-01"}
            | {"lifecycle": "active"},
        ),
        ("embeddings", {"object": "list", "data": [], "model": "m"}),
        ("chat.completion", b"{"),
        ("chat.completion", b'{"id": NaN}'),
        ("chat.completion", b'{"id": "chatcmpl-1", "id": "chatcmpl-1"}'),
        ("chat.completion", b"\xff"),
    ],
)
def test_other_wrong_values_are_refused(surface: Surface, value: Any) -> None:
    with pytest.raises(AssertionError):
        check(surface, value)


# Single faults in streams

Change = Callable[[list[Any]], list[Any]]


def having(events: list[Any], *keys: str) -> int:
    """Index of the first event whose JSON contains all of `keys`."""
    texts = [event.decode() if isinstance(event, bytes) else json.dumps(event) for event in events]
    return next(n for n, text in enumerate(texts) if all(key in text for key in keys))


def set_at(n: int | tuple[str, ...], path: str, value: Any) -> Change:
    """Another value in one event: the n-th, or the first that contains these strings."""

    def change(events: list[Any]) -> list[Any]:
        at = n if isinstance(n, int) else having(events, *n)
        events[at] = changed(events[at], path, value)
        return events

    return change


def dropped(n: int | tuple[str, ...], path: str = "") -> Change:
    """Without one event, or without a key of it."""

    def change(events: list[Any]) -> list[Any]:
        at = n if isinstance(n, int) else having(events, *n)
        if path:
            events[at] = changed(events[at], path, drop=True)
        else:
            del events[at]
        return events

    return change


def twice(n: int | tuple[str, ...], at: int | None = None) -> Change:
    """One event again, right behind itself or at another place."""

    def change(events: list[Any]) -> list[Any]:
        found = n if isinstance(n, int) else having(events, *n)
        place = found % len(events) + 1 if at is None else at % (len(events) + 1)
        events.insert(place, deepcopy(events[found % len(events)]))
        return events

    return change


def added(event: Any, at: int) -> Change:
    """One more event."""

    def change(events: list[Any]) -> list[Any]:
        events.insert(at % (len(events) + 1), event)
        return events

    return change


CALL = ('"tool_calls"', '"id": "call_', '"name": "weather"')
FINISH = ('"finish_reason": "tool_calls"',)
OPENAI_ERROR = {"error": {"message": "m", "type": "t", "param": None, "code": None}}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "without [DONE]"),
        (lambda events: [], "cut off"),
        (lambda events: events[-1:], "no choice"),
        (twice(-1), "not the last"),
        (twice(0, -1), "without [DONE]"),
        (dropped(0), "no role"),
        (twice(0), "role again"),
        (set_at(3, "id", "chatcmpl-other"), "before"),
        (set_at(3, "created", 5), "before"),
        (set_at(3, "model", "other"), "before"),
        (dropped(3, "model"), "'model'"),
        (dropped(3, "usage"), "some chunks only"),
        (set_at(3, "choices.0.delta.content", 5), "5"),
        (set_at(3, "choices", []), "without choices"),
        (dropped(3, "choices.0.finish_reason"), "'finish_reason'"),
        (set_at(FINISH, "choices.0.finish_reason", "end_turn"), "end_turn"),
        (set_at(FINISH, "choices.0.finish_reason", None), "before every choice"),
        (set_at(FINISH, "choices.0.finish_reason", "stop"), "says stop"),
        (set_at(FINISH, "choices.0.delta", {"content": "x"}), "beside the finish"),
        (set_at(FINISH, "choices.0.index", 1), "no role"),
        (twice(FINISH), "has finished"),
        (twice(3, -2), "after the usage"),
        (twice(3, -3), "has finished"),
        (twice(-2), "after the usage"),
        (set_at(-2, "usage.total_tokens", 1), "total_tokens"),
        (dropped(-2), "usage asked"),
        (set_at(CALL, "choices.0.delta.tool_calls.0.index", 1), "after 0 calls"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.id"), "no id"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.type"), "no type"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.function.name"), "no name"),
        (dropped(CALL, "choices.0.delta.tool_calls.0.function.arguments"), "without arguments"),
        (set_at(CALL, "choices.0.delta.tool_calls", []), "tool_calls"),
        (dropped(CALL), "no id"),
        (twice(CALL), "a later fragment"),
        (dropped(("arguments", '{\\"')), "not JSON"),
        (added(OPENAI_ERROR, 3), "an error"),
        (added(b"data: ", 3), "not JSON"),
        (added(b"data: [1]", 3), "no object"),
        (added(b"event: x\ndata: {}", 3), "lines"),
        (added(b"data: {}\ndata: {}", 3), "lines"),
        (added(b"id: 1", 3), "odd lines"),
    ],
)
def test_a_chat_stream_with_one_fault_is_refused(change: Change, complaint: str) -> None:
    good = blocks(with_usage())
    check_stream("chat", stream_of(good, named=False))
    bad = stream_of(change(good), named=False)
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_stream("chat", bad, include_usage=True)


def test_comments_pass_and_carriage_returns_and_half_events_do_not() -> None:
    good = with_usage()
    assert check_stream("chat", b": ping\n\n" + good).stop == "tools"
    for bad in (good.replace(b"\n", b"\r\n"), good[:-1], good + b"data: "):
        with pytest.raises(AssertionError, match=r"carriage return|cut off"):
            check_stream("chat", bad)


def text_chunk(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    choice = {"index": index, "text": text, "logprobs": None, "finish_reason": finish}
    envelope = {key: TEXT[key] for key in ("id", "object", "created", "model")}
    return {**envelope, "choices": [choice]}


def test_a_stream_of_completions_says_what_its_twin_says() -> None:
    events = [text_chunk("H"), text_chunk("i"), text_chunk("", "stop"), b"data: [DONE]"]
    found = check_stream("completions", stream_of(events, named=False))
    twin = summary("completions", TEXT)
    assert (found.text, found.stop) == (twin.text, twin.stop) == ("Hi", "end")
    assert twin.usage is not None
    assert twin.usage["output"] == 2


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "without [DONE]"),
        (dropped(2), "not finished"),
        (twice(2), "has finished"),
        (dropped(1, "choices.0.logprobs"), "'logprobs'"),
        (set_at(1, "choices.0.index", 2), "not finished"),
        (set_at(1, "object", "chat.completion.chunk"), "text_completion"),
    ],
)
def test_a_stream_of_completions_with_one_fault_is_refused(change: Change, complaint: str) -> None:
    good = [text_chunk("H"), text_chunk("i"), text_chunk("", "stop"), b"data: [DONE]"]
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_stream("completions", stream_of(change(good), named=False))


THINKING = ('"thinking_delta"',)
SIGNATURE = ('"signature_delta"',)
TEXT_DELTA = ('"text_delta"',)
TEXT_START = ('"content_block": {"type": "text"',)
TOOL_START = ('"tool_use"', '"content_block_start"')
FRAGMENT = ('"input_json_delta"', "city")
STOP_0 = ('"content_block_stop"', '"index": 0')
ENDING = ('"message_delta"',)
CLAUDE_ERROR = {
    "type": "error",
    "error": {"type": "api_error", "message": "m"},
    "request_id": "r",
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "ends with message_delta"),
        (dropped(0), "before message_start"),
        (twice(0), "a second start"),
        (twice(-1), "after message_stop"),
        (added({"type": "ping"}, 0), "before message_start"),
        (added({"type": "ping"}, -1), "after message_stop"),
        (added(b"data: [DONE]", -1), "lines"),
        (added(CLAUDE_ERROR, 3), "comes after error"),
        (set_at(0, "message.content", [{"type": "text", "text": "x"}]), "message.content"),
        (set_at(0, "message.stop_reason", "end_turn"), "stop_reason"),
        (dropped(0, "message.usage.cache_read_input_tokens"), "'cache_read_input_tokens'"),
        (dropped(STOP_0), "another is open"),
        (twice(STOP_0), "not open"),
        (dropped(TEXT_START), "not open"),
        (set_at(TEXT_START, "index", 2), "index 2"),
        (set_at(TEXT_START, "content_block.text", "x"), "content_block.text"),
        (set_at(TEXT_DELTA, "index", 0), "not open"),
        (set_at(TEXT_DELTA, "delta", {"type": "thinking_delta", "thinking": "x"}), "in a block"),
        (set_at(TEXT_DELTA, "delta", {"type": "text_delta", "thinking": "x"}), "'text'"),
        (set_at(TEXT_DELTA, "delta", {"type": "words", "text": "x"}), "none of"),
        (set_at(TEXT_DELTA, "type", "response.output_text.delta"), "none of"),
        (set_at(THINKING, "delta", {"type": "text_delta", "text": "x"}), "in a block"),
        (dropped(SIGNATURE), "without a signature"),
        (twice(SIGNATURE), "after the signature"),
        (set_at(TOOL_START, "content_block.input", {"city": "Rome"}), "input"),
        (set_at(TOOL_START, "content_block.id", "a.b:0"), "a.b:0"),
        (set_at(TOOL_START, "content_block.name", ""), "name"),
        (dropped(FRAGMENT), "not JSON"),
        (dropped(ENDING), "no message_delta"),
        (set_at(ENDING, "delta.stop_reason", None), "no stop_reason"),
        (set_at(ENDING, "delta.stop_reason", "end_turn"), "end_turn"),
        (dropped(ENDING, "delta.stop_sequence"), "'stop_sequence'"),
        (dropped(ENDING, "usage.output_tokens"), "'output_tokens'"),
        (dropped(ENDING, "usage.input_tokens"), "input_tokens"),
        (twice(STOP_0, -2), "not open"),
        (twice(TEXT_START, -2), "after message_delta"),
        (added({"type": "error", "error": {"type": "x", "message": "m"}}, 3), "request_id"),
    ],
)
def test_a_messages_stream_with_one_fault_is_refused(change: Change, complaint: str) -> None:
    good = blocks(messages_bytes(stream=True))
    check_stream("messages", stream_of(good, named=True))
    bad = stream_of(change(good), named=True)
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_stream("messages", bad)


def test_an_empty_text_block_is_refused() -> None:
    events = blocks(messages_bytes(stream=True))
    events = [event for event in events if '"text_delta"' not in json.dumps(event)]
    with pytest.raises(AssertionError, match="an empty text"):
        check_stream("messages", stream_of(events, named=True))


def test_the_name_of_an_event_is_its_type() -> None:
    stream = messages_bytes(stream=True)
    for bad in (
        stream.replace(b"event: message_stop", b"event: message_end"),
        stream.replace(b"event: message_stop\n", b""),
    ):
        with pytest.raises(AssertionError, match=r"message_end holds|lines"):
            check_stream("messages", bad)


def renumbered(change: Change) -> Change:
    """`change`, with the numbers put right after it, so that only what it changes is wrong."""

    def both(events: list[Any]) -> list[Any]:
        return [{**event, "sequence_number": n} for n, event in enumerate(change(events))]

    return both


R = "response."
ADDED = ('"response.output_item.added"', '"message"')
ITEM_DONE = ('"response.output_item.done"', '"message"')
R_DELTA = ('"response.output_text.delta"',)
ARGUMENTS_DONE = ('"response.function_call_arguments.done"',)
SUMMARY_PART = ('"response.reasoning_summary_part.added"',)
R_ERROR = failed_events()[10]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "no terminal event"),
        (dropped(5), "sequence_number 6, not 5"),
        (set_at(0, "sequence_number", 1), "sequence_number 1, not 0"),
        (dropped(4, "sequence_number"), "'sequence_number'"),
        (renumbered(dropped(0)), "response.created comes here"),
        (renumbered(dropped(1)), "response.in_progress comes here"),
        (renumbered(twice(1)), "at the beginning only"),
        (renumbered(twice(-1)), "comes after response.completed"),
        (set_at(0, "response.usage", RESPONSE["usage"]), "usage"),
        (set_at(0, "response.status", "completed"), "response.usage"),
        (set_at(-1, "response.id", "resp_2"), "resp_1"),
        (set_at(-1, "response.model", "other"), "other"),
        (set_at(-1, "response.output", RESPONSE["output"][:2]), "not what the items were"),
        (set_at(-1, "response.output.1.content.0.text", "x"), "not what the items were"),
        (set_at(-1, "type", R + "incomplete"), "status"),
        (set_at(-1, "error", {"message": "x"}), "set in a good event"),
        (renumbered(dropped(ADDED)), "no item is open"),
        (renumbered(dropped(ITEM_DONE)), "another is open"),
        (renumbered(twice(ADDED)), "another is open"),
        (set_at(ADDED, "output_index", 0), "output_index 0"),
        (set_at(ADDED, "item.status", "completed"), "is completed"),
        (set_at(ADDED, "item.content", [part("x")]), "not empty"),
        (set_at(ADDED, "item.id", "msg_9"), "open item is msg_9"),
        (set_at(R_DELTA, "item_id", "msg_9"), "open item is msg_1"),
        (set_at(R_DELTA, "output_index", 7), "output_index 7"),
        (set_at(R_DELTA, "content_index", 1), "content_index 0"),
        (set_at(R_DELTA, "delta", "Help"), "the deltas say"),
        (dropped(R_DELTA, "logprobs"), "'logprobs'"),
        (renumbered(dropped(R_DELTA)), "the deltas say"),
        (renumbered(dropped(('"response.content_part.added"',))), "no part is open"),
        (renumbered(twice(('"response.content_part.added"',))), "another is open"),
        (set_at(('"response.content_part.added"',), "content_index", 1), "index 1"),
        (set_at(('"response.content_part.added"',), "part.text", "x"), "text at the start"),
        (renumbered(dropped(('"response.output_text.done"',))), "never done"),
        (renumbered(twice(('"response.output_text.done"',))), "was done"),
        (set_at(('"response.output_text.done"',), "text", "Help"), "the deltas say"),
        (renumbered(dropped(('"response.content_part.done"',))), "part is still open"),
        (set_at(('"response.content_part.done"',), "part.text", "Help"), "the deltas say"),
        (set_at(('"response.content_part.done"',), "part.type", "refusal"), "'refusal'"),
        (set_at(ITEM_DONE, "item.id", "msg_9"), "'msg_1'"),
        (set_at(ITEM_DONE, "item.status", "in_progress"), "in progress"),
        (set_at(ITEM_DONE, "item.content.0.text", "Help"), "'Help'"),
        (renumbered(dropped(ARGUMENTS_DONE)), "never done"),
        (renumbered(twice(ARGUMENTS_DONE)), "done again"),
        (dropped(ARGUMENTS_DONE, "name"), "'name'"),
        (set_at(ARGUMENTS_DONE, "name", "other"), "'weather'"),
        (set_at(ARGUMENTS_DONE, "arguments", "{}"), "'{}'"),
        (
            set_at(('"response.output_item.done"', '"fc_1"'), "item.arguments", "{}"),
            "'{}'",
        ),
        (set_at(('"response.output_item.done"', '"fc_1"'), "item.call_id", "x"), "'x'"),
        (set_at(SUMMARY_PART, "summary_index", 1), "index 1"),
        (dropped(SUMMARY_PART, "part"), "'part'"),
        (set_at(('"response.reasoning_summary_text.done"',), "text", "x"), "the deltas say"),
        (
            set_at(('"response.output_item.done"', '"rs_1"'), "item.summary", []),
            "[]",
        ),
        (set_at(R_DELTA, "type", R + "refusal.delta"), "inside output_text"),
        (set_at(R_DELTA, "type", R + "words.delta"), "none of"),
        (renumbered(added(R_ERROR, 5)), "an error"),
        (renumbered(lambda events: [*events[:-1], failed_events()[-1]]), "no error event"),
    ],
)
def test_a_responses_stream_with_one_fault_is_refused(change: Change, complaint: str) -> None:
    good = responses_events()
    check_responses(good)
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_responses(change(good))


def test_done_is_no_end_of_a_responses_stream() -> None:
    good = stream_of(responses_events(), named=True)
    with pytest.raises(AssertionError, match="lines"):
        check_stream("responses", good + b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda events: events[:-1], "does not end with its failure"),
        (renumbered(dropped(-2)), "no error event"),
        (dropped(-2, "error"), "'error'"),
        (dropped(-2, "code"), "'code'"),
        (dropped(-2, "error.param"), "'param'"),
        (dropped(-1, "response.error"), "'error'"),
        (set_at(-1, "response.error", None), "None"),
        (renumbered(twice(-3, -2)), "only the failure"),
        (renumbered(twice(-1)), "comes after"),
        (set_at(-1, "response.output", []), "not what the items were"),
    ],
)
def test_a_failing_responses_stream_with_one_fault_is_refused(
    change: Change, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_responses(change(failed_events()), error=True)


@pytest.mark.parametrize("dialect", ["chat", "messages"])
def test_nothing_may_stand_before_or_behind_an_error_that_says_success(dialect: str) -> None:
    named = dialect == "messages"
    text = "x [[sim tokens=9 fault=error-event:4]]"
    make = messages_bytes if named else chat_bytes
    failed = blocks(make(text, stream=True))
    good = blocks(make("x [[sim tokens=3]]", stream=True))
    for bad in ([*failed, good[-1]], [*good, failed[-1]], [*good[:-1], failed[-1]], failed[:-1]):
        with pytest.raises(AssertionError):
            check_stream(dialect, stream_of(bad, named=named), error=True)  # type: ignore[arg-type]


# Requests

REQUESTS: dict[str, Any] = {
    "chat": {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "w", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
        ],
        "tools": CHAT_TOOLS,
        "max_completion_tokens": 5,
    },
    "messages": {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                    }
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "w", "input": {}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}],
            },
        ],
        "tools": MESSAGES_TOOLS,
        "thinking": {"type": "adaptive"},
    },
    "responses": {
        "model": "m",
        "stream": True,
        "store": False,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "function_call", "call_id": "call_1", "name": "w", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
        ],
        "tools": RESPONSE["tools"],
        "include": ["reasoning.encrypted_content"],
    },
}


@pytest.mark.parametrize("dialect", list(REQUESTS))
def test_a_request_of_each_vendor_passes(dialect: Any) -> None:
    request = REQUESTS[dialect]
    assert check_request(dialect, json.dumps(request).encode()) == request
    del (unstreamed := deepcopy(request))["model"]
    with pytest.raises(AssertionError, match="'model' is a required property"):
        check_request(dialect, unstreamed)


@pytest.mark.parametrize(
    ("dialect", "path", "value", "complaint"),
    [
        ("chat", "top_k", 5, "'top_k' was unexpected"),
        ("chat", "messages.2.reasoning_content", "x", "reasoning_content"),
        ("chat", "messages.1.content.0.image_url", "https://x", "messages[1].content[0].image_url"),
        ("chat", "messages.3.role", "user", "tool_call_id"),
        ("chat", "stream", "true", "stream"),
        ("chat", "max_completion_tokens", "5", "max_completion_tokens"),
        ("messages", "stream_options", {}, "stream_options"),
        ("messages", "max_tokens", 5.0, "max_tokens"),
        ("messages", "messages.1.content.0.input", "{}", "messages[1].content[0]"),
        ("messages", "messages.0.content.0.source.media_type", "image/jpg", "image/jpg"),
        ("messages", "messages.2.role", "tool", "messages[2]"),
        ("messages", "tools.0.parameters", {}, "parameters"),
        ("responses", "messages", [], "messages"),
        ("responses", "input.1.arguments", {}, "input[1]"),
        ("responses", "input.2.tool_call_id", "x", "input[2]"),
        ("responses", "include", ["everything"], "include"),
    ],
)
def test_a_request_with_one_fault_is_refused(
    dialect: Any, path: str, value: Any, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_request(dialect, changed(REQUESTS[dialect], path, value))


def test_extensions_pass_where_they_are_allowed_by_name() -> None:
    request = changed(REQUESTS["chat"], "messages.2.reasoning_content", "x")
    check_request("chat", request, extensions={"reasoning_content"})
    with pytest.raises(AssertionError, match="reasoning_content"):
        check_request("chat", request, extensions={"reasoning"})
