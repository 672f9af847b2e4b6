"""Gemini's signatures of calls through a tool loop: they come back to the model that made them."""

import json
from typing import Any

import pytest

from middlewares import sse
from tests.golden.play import cross_of, fed

Json = dict[str, Any]

SCHEMA: Json = {"type": "object", "properties": {"city": {"type": "string"}}}
SIGNATURES: list[Json | None] = [{"google": {"thought_signature": "U0VBTC0x"}, "more": [1]}, None]
CALLS: list[Json] = [
    {
        "index": at,
        "id": f"call_{at}",
        "type": "function",
        "function": {"name": "w", "arguments": '{"city":"Rome"}'},
        **({"extra_content": signature} if signature else {}),
    }
    for at, signature in enumerate(SIGNATURES)
]
ASKED: dict[str, Json] = {
    "messages": {
        "max_tokens": 99,
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"name": "w", "input_schema": SCHEMA}],
    },
    "responses": {
        "input": [{"role": "user", "content": "Hi"}],
        "tools": [{"type": "function", "name": "w", "parameters": SCHEMA}],
    },
    "chat.completions": {  # Anthropic's tools in a chat: translated
        "messages": [{"role": "user", "content": "Hi"}],
        "tools": [{"name": "w", "input_schema": SCHEMA}],
    },
}


def answered(caller: str, model: str, *, streamed: bool) -> tuple[list[Json], list[str]]:
    """What the caller keeps of an answer with calls, and their ids."""
    body = {"model": "m", "stream": streamed, **ASKED[caller]}
    exchange, way = cross_of(caller, body, "openai", model)
    if not streamed:
        message = {"role": "assistant", "content": None, "tool_calls": CALLS}
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        out = way.finish_body(json.dumps({"choices": [choice]}).encode())[0]
        return kept_of_body(caller, json.loads(out))
    chunks = [{"tool_calls": [call]} for call in CALLS]
    data = [line({"index": 0, "delta": delta, "finish_reason": None}) for delta in chunks]
    data += [line({"index": 0, "delta": {}, "finish_reason": "tool_calls"}), b"data: [DONE]\n\n"]
    out, _, problem = fed(exchange, way.relay(), data)
    assert problem is None
    return kept_of_stream(caller, [each.data for each in map(sse.parse, sse.split(out)) if each])


def line(choice: Json) -> bytes:
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def kept_of_body(caller: str, body: Json) -> tuple[list[Json], list[str]]:
    if caller == "messages":
        content = body["content"]
        return [{"role": "assistant", "content": content}], ids(content, "tool_use", "id")
    if caller == "responses":
        return body["output"], ids(body["output"], "function_call", "call_id")
    message = body["choices"][0]["message"]
    return [message], [call["id"] for call in message["tool_calls"]]


def ids(blocks: list[Json], kind: str, member: str) -> list[str]:
    return [block[member] for block in blocks if block["type"] == kind]


def kept_of_stream(caller: str, datas: list[bytes]) -> tuple[list[Json], list[str]]:
    events: list[Json] = [json.loads(data) for data in datas if data != b"[DONE]"]
    if caller == "responses":
        return kept_of_body(caller, events[-1]["response"])
    if caller == "messages":
        content: list[Json] = []
        for event in events:
            if event["type"] == "content_block_start":
                content.append(event["content_block"])
            elif event["type"] == "content_block_delta":
                delta = event["delta"]
                if delta["type"] == "signature_delta":
                    content[-1]["signature"] = delta["signature"]
                elif delta["type"] == "input_json_delta":
                    content[-1]["input"] = json.loads(delta["partial_json"])
        return kept_of_body(caller, {"content": content})
    message: Json = {"role": "assistant", "reasoning_details": [], "tool_calls": []}
    for event in events:
        delta = event["choices"][0]["delta"] if event["choices"] else {}
        message["reasoning_details"] += delta.get("reasoning_details", [])
        for call in delta.get("tool_calls", ()):
            if "id" in call:
                message["tool_calls"].append(call)
            else:
                message["tool_calls"][-1]["function"]["arguments"] += call["function"]["arguments"]
    return kept_of_body(caller, {"choices": [{"message": message}]})


def sent_back(caller: str, kept: list[Json], calls: list[str], model: str) -> list[Json]:
    """The calls in the next request to `model`."""
    body = {"model": "m", **ASKED[caller]}
    if caller == "messages":
        results = [{"type": "tool_result", "tool_use_id": id_, "content": "7"} for id_ in calls]
        body["messages"] = [*body["messages"], *kept, {"role": "user", "content": results}]
    elif caller == "responses":
        outputs = [{"type": "function_call_output", "call_id": c, "output": "7"} for c in calls]
        body["input"] = [*body["input"], *kept, *outputs]
    else:
        answers = [{"role": "tool", "tool_call_id": id_, "content": "7"} for id_ in calls]
        body["messages"] = [*body["messages"], *kept, *answers]
    _, way = cross_of(caller, body, "openai", model)
    sent = json.loads(way.take_body())
    return [call for message in sent["messages"] for call in message.get("tool_calls", ())]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("caller", ASKED)
def test_seal_of_a_call_comes_back_to_its_maker(caller: str, streamed: bool) -> None:
    kept, calls = answered(caller, "gemini-3", streamed=streamed)
    again = sent_back(caller, kept, calls, "gemini-3")
    assert [call.get("extra_content") for call in again] == SIGNATURES
    assert [call["function"] for call in again] == [call["function"] for call in CALLS]


@pytest.mark.parametrize("caller", ASKED)
def test_seal_of_a_call_goes_to_no_other_model(caller: str) -> None:
    kept, calls = answered(caller, "gemini-3", streamed=False)
    again = sent_back(caller, kept, calls, "gpt-5")
    assert [call.get("extra_content") for call in again] == [None, None]


def test_seal_that_came_late_belongs_to_the_call_before_it() -> None:
    body = {"model": "m", "stream": True, **ASKED["messages"]}
    exchange, way = cross_of("messages", body, "openai", "gemini-3")
    bare = [{key: call[key] for key in call if key != "extra_content"} for call in CALLS]
    late = {"index": 0, "extra_content": SIGNATURES[0]}
    deltas: list[Json] = [{"tool_calls": [call]} for call in (bare[0], late, bare[1])]
    data = [line({"index": 0, "delta": delta, "finish_reason": None}) for delta in deltas]
    data += [line({"index": 0, "delta": {}, "finish_reason": "tool_calls"}), b"data: [DONE]\n\n"]
    out, _, _ = fed(exchange, way.relay(), data)
    datas = [each.data for each in map(sse.parse, sse.split(out)) if each]
    again = sent_back("messages", *kept_of_stream("messages", datas), "gemini-3")
    assert [call.get("extra_content") for call in again] == SIGNATURES
