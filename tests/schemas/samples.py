"""Answers that are right: of the simulator, and of Responses, written out event by event."""

from collections.abc import Iterator
from typing import Any

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

CASES = ("", "tools=1", "tools=3", "thinking=2", "thinking=1 tools=2 tokens=4", "refusal=1")


SIMPLE = "Tell me [[sim thinking=1 tools=2 tokens=3 cached=4]]"


def chat_bytes(text: str = SIMPLE, **fields: Any) -> bytes:
    return whole(ask(post(CHAT, chat(text, tools=CHAT_TOOLS, **fields))))


def messages_bytes(text: str = SIMPLE, **fields: Any) -> bytes:
    return whole(ask(post(MESSAGES, messages(text, tools=MESSAGES_TOOLS, **fields))))


def with_usage(text: str = SIMPLE) -> bytes:
    return chat_bytes(text, stream=True, stream_options={"include_usage": True})


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
    shown = {"code": error["code"], "message": error["message"]}
    failed = response("failed", output, error=shown)
    events.append({"type": "response.failed", "sequence_number": 11, "response": failed})
    return events


TEXT = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}


RESPONSE = responses_events()[-1]["response"]
