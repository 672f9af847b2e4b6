"""What the simulator answers, read with the vendors' own types."""

import base64
import json
import math
import struct
from typing import Any

import pytest
from anthropic.types import Message, MessageTokensCount, RawMessageStreamEvent
from anthropic.types import ModelInfo as AnthropicModel
from openai.types import CreateEmbeddingResponse, Model
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from edge.upstreams import Request
from edge.upstreams.simulator.sample import sample
from edge.upstreams.simulator.tokens import count, pieces
from tests.edge.upstreams.simulated import (
    CHAT,
    CHAT_TOOLS,
    MESSAGES,
    MESSAGES_TOOLS,
    ask,
    ask_json,
    chat,
    events,
    messages,
    post,
    whole,
)

_EVENT: TypeAdapter[RawMessageStreamEvent] = TypeAdapter(RawMessageStreamEvent)
_ALL = "Hi [[sim tokens=9 tools=2 thinking=1 cached=4 written=2]]"


def chat_twins(text: str, **fields: Any) -> tuple[ChatCompletion, list[ChatCompletionChunk]]:
    """The same chat request unstreamed and streamed, both checked as far as every one must be."""
    plain = ask_json(post(CHAT, chat(text, **fields)))
    body = chat(text, **fields, stream=True, stream_options={"include_usage": True})
    data = events(whole(ask(post(CHAT, body))))
    assert data[-1] == "[DONE]"
    *chunks, last = data[:-1]
    assert last["choices"] == []
    assert last["usage"] == plain["usage"]
    assert all(chunk["usage"] is None for chunk in chunks)
    assert len({(chunk["id"], chunk["model"], chunk["created"]) for chunk in data[:-1]}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert reasons[-1] == plain["choices"][0]["finish_reason"]
    assert set(reasons[:-1]) == {None}
    parsed = [ChatCompletionChunk.model_validate(chunk) for chunk in data[:-1]]
    return ChatCompletion.model_validate(plain), parsed


def messages_twins(text: str, **fields: Any) -> tuple[Message, list[Any]]:
    """The same Messages request unstreamed and streamed, its grammar checked."""
    plain = ask_json(post(MESSAGES, messages(text, **fields)))
    data = events(whole(ask(post(MESSAGES, messages(text, **fields, stream=True)))))
    names = [event["type"] for event in data]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]
    assert names.count("message_start") == names.count("message_delta") == 1
    opened = -1
    inside = False
    for event in data[1:-2]:
        if event["type"] == "content_block_start":
            assert not inside
            inside, opened = True, opened + 1
        elif event["type"] == "content_block_stop":
            assert inside
            inside = False
        elif event["type"] == "content_block_delta":
            assert inside
        if "index" in event:
            assert event["index"] == opened
    assert not inside
    assert opened == len(plain["content"]) - 1
    assert data[-2]["delta"]["stop_reason"] == plain["stop_reason"]
    assert data[-2]["usage"].items() <= plain["usage"].items()
    parsed = [_EVENT.validate_python(event) for event in data if event["type"] != "ping"]
    return Message.model_validate(plain), parsed


def test_a_chat_answer_and_its_streamed_twin() -> None:
    plain, chunks = chat_twins("Good morning")
    message = plain.choices[0].message
    assert message.content is not None
    assert message.content.startswith("You said: Good morning")
    deltas = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(deltas) == message.content
    assert plain.usage is not None
    assert plain.usage.completion_tokens == count(message.content)
    assert plain.choices[0].finish_reason == "stop"


def test_a_messages_answer_and_its_streamed_twin() -> None:
    plain, parsed = messages_twins("Good morning")
    (block,) = plain.content
    assert block.type == "text"
    assert block.text.startswith("You said: Good morning")
    texts = [e.delta.text for e in parsed if e.type == "content_block_delta"]
    assert "".join(texts) == block.text
    assert plain.usage.output_tokens == count(block.text)
    assert plain.stop_reason == "end_turn"


def test_chat_with_everything() -> None:
    plain, chunks = chat_twins(_ALL, tools=CHAT_TOOLS)
    choice = plain.choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    names = [call.function.name for call in calls if call.type == "function"]
    assert names == ["weather", "forecast"]
    assert len({call.id for call in calls}) == 2
    for call in calls:
        assert call.type == "function"
        assert json.loads(call.function.arguments) == {"city": "sample", "days": 3}
    arguments = ["", ""]
    fragments = 0
    for chunk in chunks:
        for delta in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            assert delta.function is not None
            arguments[delta.index] += delta.function.arguments or ""
            fragments += 1
    assert [call.function.arguments for call in calls if call.type == "function"] == arguments
    assert fragments > 4
    extra = choice.message.model_extra or {}
    assert extra["reasoning_content"]
    usage = plain.usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4
    assert usage.prompt_tokens_details.cache_write_tokens == 2
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == count(extra["reasoning_content"])


def test_messages_with_everything() -> None:
    plain, parsed = messages_twins(_ALL, tools=MESSAGES_TOOLS)
    assert plain.stop_reason == "tool_use"
    thinking, text, first, second = plain.content
    assert thinking.type == "thinking"
    assert thinking.signature
    assert text.type == "text"
    assert first.type == second.type == "tool_use"
    assert (first.name, second.name) == ("weather", "forecast")
    assert first.input == {"city": "sample", "days": 3}
    assert first.id != second.id
    partial = "".join(
        e.delta.partial_json for e in parsed if e.type == "content_block_delta" and e.index == 2
    )
    assert json.loads(partial) == first.input
    signatures = [
        e.delta.signature
        for e in parsed
        if e.type == "content_block_delta" and e.delta.type == "signature_delta"
    ]
    assert signatures == [thinking.signature]
    usage = plain.usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (4, 2)
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == count(thinking.thinking)


def test_both_dialects_count_the_same() -> None:
    text = "Hi [[sim tokens=9 cached=4 written=2]]"
    openai = ask_json(post(CHAT, chat(text)))["usage"]
    anthropic = ask_json(post(MESSAGES, messages(text)))["usage"]
    assert openai["completion_tokens"] == anthropic["output_tokens"] == 9
    assert openai["prompt_tokens"] == anthropic["input_tokens"] + 4 + 2
    assert openai["total_tokens"] == openai["prompt_tokens"] + 9


@pytest.mark.parametrize("limit", [1, 5, 14, 30])
def test_the_answer_stops_at_its_limit(limit: int) -> None:
    text = "Hi [[sim tokens=20 tools=1 thinking=1]]"
    plain, _ = chat_twins(text, tools=CHAT_TOOLS, max_completion_tokens=limit)
    assert plain.choices[0].finish_reason == "length"
    assert plain.usage is not None
    assert plain.usage.completion_tokens == limit
    other, _ = messages_twins(text, tools=MESSAGES_TOOLS, max_tokens=limit)
    assert other.stop_reason == "max_tokens"
    assert other.usage.output_tokens == limit


def test_a_tool_call_can_be_cut_by_the_limit() -> None:
    plain, _ = chat_twins("Hi [[sim tools=2]]", tools=CHAT_TOOLS, max_tokens=2)
    (call,) = plain.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.arguments == '{"city":"sample","'
    assert plain.choices[0].finish_reason == "length"
    other, _ = messages_twins("Hi [[sim tools=2]]", tools=MESSAGES_TOOLS, max_tokens=2)
    (block,) = other.content
    assert block.type == "tool_use"
    assert block.input == {}
    assert other.stop_reason == "max_tokens"


def test_stop_strings_end_the_text_before_them() -> None:
    plain, _ = chat_twins("one two three", stop=["three", "two"])
    assert plain.choices[0].message.content == "You said: one "
    assert plain.choices[0].finish_reason == "stop"
    other, _ = messages_twins("one two three", stop_sequences=["two"])
    assert (other.stop_reason, other.stop_sequence) == ("stop_sequence", "two")


def test_usage_is_sent_on_a_chat_stream_only_when_asked_for() -> None:
    data = events(whole(ask(post(CHAT, chat(stream=True)))))
    assert all("usage" not in chunk and chunk["choices"] for chunk in data[:-1])


def test_no_text_at_all_is_a_legal_answer() -> None:
    plain, _ = chat_twins("Hi [[sim tokens=0]]")
    assert plain.choices[0].message.content == ""
    other, _ = messages_twins("Hi [[sim tokens=0]]")
    assert other.content == []


def test_a_refusal() -> None:
    plain, _ = chat_twins("Hi [[sim refusal=1]]")
    assert plain.choices[0].finish_reason == "content_filter"
    other, _ = messages_twins("Hi [[sim refusal=1]]")
    assert other.stop_reason == "refusal"
    assert other.stop_details is not None


def test_the_request_itself_can_ask_for_thinking() -> None:
    plain, _ = chat_twins("Hi", reasoning_effort="low")
    assert (plain.choices[0].message.model_extra or {})["reasoning_content"]
    other, _ = messages_twins("Hi", thinking={"type": "enabled", "budget_tokens": 1024})
    assert other.content[0].type == "thinking"
    off, _ = messages_twins("Hi [[sim thinking=0]]", thinking={"type": "adaptive"})
    assert off.content[0].type == "text"


def test_omitted_thinking_is_signed_and_counted_but_not_shown() -> None:
    plain, _ = messages_twins("Hi", thinking={"type": "adaptive", "display": "omitted"})
    block = plain.content[0]
    assert block.type == "thinking"
    assert (block.thinking, bool(block.signature)) == ("", True)
    assert plain.usage.output_tokens_details is not None
    assert plain.usage.output_tokens_details.thinking_tokens > 0


def test_a_thinking_block_comes_back_only_with_its_signature() -> None:
    first = ask_json(post(MESSAGES, messages("Hi [[sim thinking=1]]")))
    turn = {"role": "assistant", "content": first["content"]}
    question = {"role": "user", "content": "And now?"}
    body = messages() | {"messages": [*messages()["messages"], turn, question]}
    assert ask(post(MESSAGES, body)).status == 200
    first["content"][0]["signature"] = "Zm9yZ2Vk"
    found = ask(post(MESSAGES, body))
    assert found.status == 400
    assert b"messages.1.content.0: Invalid `signature`" in whole(found)


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("auto", []),
        ("none", []),
        ("required", ["weather"]),
        ({"type": "function", "function": {"name": "forecast"}}, ["forecast"]),
    ],
)
def test_tool_choice_of_chat(choice: Any, names: list[str]) -> None:
    plain, _ = chat_twins("Hi", tools=CHAT_TOOLS, tool_choice=choice)
    calls = plain.choices[0].message.tool_calls or []
    assert [call.function.name for call in calls if call.type == "function"] == names


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "auto"}, ["weather", "forecast"]),
        ({"type": "none"}, []),
        ({"type": "auto", "disable_parallel_tool_use": True}, ["weather"]),
        ({"type": "tool", "name": "forecast"}, ["forecast", "forecast"]),
    ],
)
def test_tool_choice_of_messages(choice: Any, names: list[str]) -> None:
    plain, _ = messages_twins("Hi [[sim tools=2]]", tools=MESSAGES_TOOLS, tool_choice=choice)
    assert [block.name for block in plain.content if block.type == "tool_use"] == names


def test_a_deferred_tool_is_not_called() -> None:
    waiting = {"name": "later", "input_schema": {"type": "object"}, "defer_loading": True}
    tools = [waiting, {**MESSAGES_TOOLS[0], "defer_loading": False}]
    plain, _ = messages_twins("Hi [[sim tools=2]]", tools=tools)
    assert [b.name for b in plain.content if b.type == "tool_use"] == ["weather", "weather"]


def test_a_tool_result_is_answered_with_text_that_mentions_it() -> None:
    text = "Hi [[sim tools=1]]"
    call = ask_json(post(CHAT, chat(text, tools=CHAT_TOOLS)))["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "21 °C"}
    body = chat(text, tools=CHAT_TOOLS)
    body["messages"] += [call, result]
    message = ask_json(post(CHAT, body))["choices"][0]["message"]
    assert "21 °C" in message["content"]
    assert "tool_calls" not in message

    body = messages(text, tools=MESSAGES_TOOLS)
    turn = ask_json(post(MESSAGES, body))["content"]
    done = {"type": "tool_result", "tool_use_id": turn[0]["id"]}
    done["content"] = [{"type": "text", "text": "21 °C"}]
    body["messages"] += [
        {"role": "assistant", "content": turn},
        {"role": "user", "content": [done]},
    ]
    content = ask_json(post(MESSAGES, body))["content"]
    assert [block["type"] for block in content] == ["text"]
    assert "21 °C" in content[0]["text"]


def test_a_structured_answer_fits_its_schema() -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    content = ask_json(post(CHAT, chat(response_format=wanted)))["choices"][0]["message"]["content"]
    assert json.loads(content) == {"ok": True}
    config = {"format": {"type": "json_schema", "schema": schema}}
    block = ask_json(post(MESSAGES, messages(output_config=config)))["content"][0]
    assert json.loads(block["text"]) == {"ok": True}


def test_messages_answers_an_object_when_its_system_prompt_ends_with_that_wish() -> None:
    wish = "Reply with a single JSON object and nothing else."
    for system in (f"Be brief. {wish}", [{"type": "text", "text": wish}]):
        block = ask_json(post(MESSAGES, messages(system=system)))["content"][0]
        assert isinstance(json.loads(block["text"]), dict)
    block = ask_json(post(MESSAGES, messages(system=f"{wish} Or not.")))["content"][0]
    assert not block["text"].startswith("{")


def test_every_text_event_carries_the_canary() -> None:
    canary = "c" * 64
    data = events(whole(ask(post(CHAT, chat(f"{canary} [[sim canary=1 tokens=5]]", stream=True)))))
    texts = [c["choices"][0]["delta"].get("content") for c in data[:-1] if c["choices"]]
    assert [text for text in texts if text] == [canary + " "] * 5


def test_marked_prompts_are_written_to_the_cache_and_read_in_the_next_turn() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "word " * 50, **mark}]
    usage = ask_json(post(MESSAGES, messages("Hi", system=system)))["usage"]
    assert usage["cache_creation_input_tokens"] >= 50
    assert usage["cache_read_input_tokens"] == 0
    assert 0 < usage["input_tokens"] < 50
    body = messages("Hi", system=system)
    body["messages"] += [{"role": "assistant", "content": "Yes"}, {"role": "user", "content": "So"}]
    second = ask_json(post(MESSAGES, body))["usage"]
    assert second["cache_read_input_tokens"] == usage["cache_creation_input_tokens"]
    assert second["cache_creation_input_tokens"] == 0


def test_a_long_chat_prompt_is_cached_up_to_its_last_message() -> None:
    long = [{"role": "system", "content": "word " * 2000}, {"role": "user", "content": "Hi"}]
    details = ask_json(post(CHAT, {"model": "m", "messages": long}))["usage"]
    cached = details["prompt_tokens_details"]["cached_tokens"]
    assert cached % 128 == 0
    assert 1500 < cached < details["prompt_tokens"]


def test_count_tokens_counts_what_messages_charges() -> None:
    body = messages("Hello", system="Be brief.", tools=MESSAGES_TOOLS)
    counted = MessageTokensCount.model_validate(
        ask_json(post(b"/v1/messages/count_tokens?beta=true", body))
    )
    assert counted.input_tokens == ask_json(post(MESSAGES, body))["usage"]["input_tokens"]
    assert (
        counted.input_tokens > ask_json(post(MESSAGES, messages("Hello")))["usage"]["input_tokens"]
    )


def test_embeddings_in_floats_and_in_base64() -> None:
    body = {"model": "sim-embed", "input": ["a", "b", "a"], "dimensions": 8}
    found = CreateEmbeddingResponse.model_validate(ask_json(post(b"/v1/embeddings", body)))
    vectors = [item.embedding for item in found.data]
    assert vectors[0] == vectors[2] != vectors[1]
    assert [item.index for item in found.data] == [0, 1, 2]
    assert all(math.isclose(sum(x * x for x in v), 1.0, abs_tol=1e-5) for v in vectors)
    packed = ask_json(post(b"/v1/embeddings", body | {"encoding_format": "base64"}))["data"]
    for item, vector in zip(packed, vectors, strict=True):
        assert list(struct.unpack("<8f", base64.b64decode(item["embedding"]))) == vector


@pytest.mark.parametrize("given", ["one", [1, 2, 3]])
def test_a_single_embedding_has_the_default_length(given: Any) -> None:
    found = ask_json(post(b"/v1/embeddings", {"model": "m", "input": given}))
    assert len(found["data"]) == 1
    assert len(found["data"][0]["embedding"]) == 1536
    assert found["usage"]["prompt_tokens"] == (3 if isinstance(given, list) else 1)


@pytest.mark.parametrize(
    "fields",
    [{"input": ""}, {"input": []}, {"dimensions": 0}, {"encoding_format": "hex"}, {"input": {}}],
)
def test_what_cannot_be_embedded_is_a_400(fields: dict[str, Any]) -> None:
    found = ask(post(b"/v1/embeddings", {"model": "m", "input": "a", **fields}))
    assert found.status == 400
    (field,) = fields
    assert json.loads(whole(found))["error"]["param"] == field


def test_a_choice_of_a_tool_that_is_not_there_is_a_400() -> None:
    chosen = {"type": "function", "function": {"name": "gone"}}
    found = ask(post(CHAT, chat(tools=CHAT_TOOLS, tool_choice=chosen)))
    assert (found.status, b"gone" in whole(found)) == (400, True)
    chosen = {"type": "tool", "name": "gone"}
    found = ask(post(MESSAGES, messages(tools=MESSAGES_TOOLS, tool_choice=chosen)))
    assert (found.status, b"gone" in whole(found)) == (400, True)


def test_models_in_the_shape_of_the_asking_dialect() -> None:
    for item in ask_json(Request(b"GET", b"/v1/models", body=b""))["data"]:
        Model.model_validate(item)
    asking = ((b"anthropic-version", b"2023-06-01"),)
    listed = ask_json(Request(b"GET", b"/v1/models", asking, b""))
    assert listed["first_id"] == listed["data"][0]["id"]
    for item in listed["data"]:
        AnthropicModel.model_validate(item)
    one = ask_json(Request(b"GET", b"/v1/models/a%2Fb", body=b""))
    assert one["id"] == "a/b"


def test_the_tail_of_the_path_decides() -> None:
    for target in (b"/chat/completions", b"/v1/chat/completions", b"/x/v1/chat/completions?a=b"):
        assert ask(post(target, chat())).status == 200
    assert ask(post(b"/v1/nothing", chat())).status == 404
    assert ask(Request(b"GET", CHAT, body=b"")).status == 405


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b'{"model":"m"}',
        b'{"model":"m","messages":[]}',
        b'{"model":"m","messages":[{"role":"user","content":3}]}',
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"n":2}',
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"max_tokens":-1}',
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"tool_choice":{"function":1}}',
        b'{"model":"m","messages":[{"role":"user","content":"a"}],"tools":[{"function":{"name":'
        b'"f","parameters":{"type":"object","properties":["a"]}}}],"tool_choice":"required"}',
        b"[" * 200_000,
        b'{"model":"m","messages":[{"role":"user","content":['
        + b'{"type":"tool_result","content":[' * 400
        + b"]}" * 400
        + b"]}]}",
    ],
)
def test_a_body_that_is_no_chat_request_is_a_400(body: bytes) -> None:
    found = ask(post(CHAT, body))
    assert found.status == 400
    assert json.loads(whole(found))["error"]["type"] == "invalid_request_error"


def test_messages_needs_max_tokens() -> None:
    found = ask(post(MESSAGES, chat()))
    assert found.status == 400
    assert json.loads(whole(found))["error"]["message"] == "max_tokens: Field required"


def test_the_same_request_is_answered_with_the_same_bytes() -> None:
    for target, body in ((CHAT, chat(_ALL, tools=CHAT_TOOLS, stream=True)), (MESSAGES, messages())):
        assert ask(post(target, body)) == ask(post(target, body))
    one, other = (ask_json(post(CHAT, chat(text))) for text in ("Hi", "Ho"))
    assert one["id"] != other["id"]


def test_tokens_joined_are_the_text() -> None:
    for text in ("", " ", "a  b\n\nc", "naïve — 日本語🎉 ok!!!?", "x" * 100, " \n"):
        assert "".join(pieces(text)) == text
        assert count(text) == len(pieces(text))


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 3}, 3),
        ({"enum": ["b", "a"]}, "b"),
        ({"type": ["null", "string"]}, "sample"),
        ({"anyOf": [{"type": "null"}, {"type": "number"}]}, 1.5),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {}}}]},
            {"a": 1, "b": None},
        ),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"type": "string", "minLength": 9}, "samplexxx"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"type": "integer"}}}, 1),
        ({"type": "integer", "minimum": -9007199254740991, "exclusiveMinimum": 0}, 1),
        ({"type": "integer", "minimum": 0, "maximum": 0}, 0),
        ({"type": "number", "exclusiveMinimum": 4}, 5),
        ({"type": "number", "minimum": -1, "exclusiveMaximum": 1}, 0),
        ({"type": "number", "minimum": 7, "exclusiveMinimum": True}, 7),
        ({"$ref": "#/$defs/gone"}, None),
        ({"$ref": "#"}, None),
    ],
)
def test_samples_fit_their_schema(schema: Any, value: Any) -> None:
    assert sample(schema) == value


def test_what_is_no_schema_has_no_sample() -> None:
    with pytest.raises(ValueError, match="not a JSON Schema"):
        sample({"type": "object", "properties": ["a"]})
