"""Content of requests and answers in the shape of the conventions, within its bound."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.tracing.answer_content import output_messages
from middlewares.tracing.content import MAX_CONTENT, request_content

read = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
DATA = "data:image/png;base64," + "QUJD" * 8


def content(body: dict[str, Any]) -> dict[str, Any]:
    found = request_content(read(json.dumps(body).encode()))
    return {name.removeprefix("gen_ai."): json.loads(value) for name, value in found.items()}


def test_a_request_of_chat() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    found = content(
        {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": [{"type": "text", "text": "look"}]},
                {"role": "assistant", "reasoning_content": "hm", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "t1", "content": "42"},
            ],
            "tools": [
                {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
            ],
        }
    )
    assert found == {
        "input.messages": [
            {"role": "system", "parts": [{"type": "text", "content": "be brief"}]},
            {"role": "user", "parts": [{"type": "text", "content": "look"}]},
            {
                "role": "assistant",
                "parts": [
                    {"type": "reasoning", "content": "hm"},
                    {"type": "tool_call", "name": "f", "id": "t1", "arguments": '{"a":1}'},
                ],
            },
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "response": "42", "id": "t1"}],
            },
        ],
        "tool.definitions": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    }


def test_a_request_of_messages() -> None:
    found = content(
        {
            "system": [{"type": "text", "text": "be brief"}],
            "messages": [
                {"role": "user", "content": "look"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                    ],
                },
                {
                    "role": "user",
                    "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "42"}],
                },
            ],
            "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        }
    )
    assert found["system_instructions"] == [{"type": "text", "content": "be brief"}]
    assert found["input.messages"][1]["parts"] == [
        {"type": "reasoning", "content": "hm"},
        {"type": "tool_call", "name": "f", "id": "t1", "arguments": {"a": 1}},
    ]
    assert found["input.messages"][2]["parts"] == [
        {"type": "tool_call_response", "response": "42", "id": "t1"}
    ]
    assert found["tool.definitions"] == [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"type": "object"},
        }
    ]


def test_a_request_of_responses() -> None:
    found = content(
        {
            "instructions": "be brief",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "look"}]},
                {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "function_call", "call_id": "t1", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "t1", "output": "42"},
                {"type": "item_reference", "id": "x"},
            ],
        }
    )
    assert found["system_instructions"] == [{"type": "text", "content": "be brief"}]
    assert [message["role"] for message in found["input.messages"]] == [
        *("user", "assistant", "assistant", "tool", "assistant")
    ]
    assert found["input.messages"][1]["parts"] == [{"type": "reasoning", "content": "hm"}]
    assert found["input.messages"][4]["parts"] == [{"type": "item_reference"}]


@pytest.mark.parametrize("text", ["look", ["look"]])
def test_plain_texts_are_a_message_of_the_user(text: Any) -> None:
    expected = [{"role": "user", "parts": [{"type": "text", "content": "look"}]}]
    for member in ("input", "prompt"):
        assert content({member: text}) == {"input.messages": expected}


@pytest.mark.parametrize(
    ("part", "modality"),
    [
        ({"type": "image_url", "image_url": {"url": DATA}}, "image"),
        ({"type": "image_url", "image_url": {"url": "https://a.test/x?sig=canary"}}, "image"),
        ({"type": "input_image", "image_url": DATA}, "image"),
        ({"type": "image", "source": {"type": "base64", "data": "QUJD"}}, "image"),
        ({"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}, "audio"),
        ({"type": "file", "file": {"filename": "canary.pdf", "file_data": DATA}}, "document"),
        ({"type": "document", "title": "canary", "source": {"data": "QUJD"}}, "document"),
    ],
)
def test_media_are_a_hash_without_bytes_names_and_addresses(part: Any, modality: str) -> None:
    found = content({"messages": [{"role": "user", "content": [part]}]})
    (shown,) = found["input.messages"][0]["parts"]
    assert (shown["type"], shown["modality"]) == ("blob", modality)
    assert shown["content"].startswith("sha256:")
    assert not {"QUJD", "canary", "a.test"} & set(json.dumps(found).replace(":", " ").split())
    assert "QUJD" not in json.dumps(found)
    assert "canary" not in json.dumps(found)


def test_media_in_the_result_of_a_tool_are_hashes_too() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "QUJD"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    found = content({"messages": [{"role": "user", "content": [result]}]})
    assert "QUJD" not in json.dumps(found)


@pytest.mark.parametrize(("count", "size"), [(1, 1 << 20), (3, 20_000), (5000, 50), (40, 9000)])
def test_content_is_valid_json_of_at_most_32_kib_with_the_last_message(
    count: int, size: int
) -> None:
    messages = [{"role": "user", "content": f"{n} " + "ä" * size} for n in range(count)]
    found = request_content(read(json.dumps({"messages": messages}).encode()))
    text = found["gen_ai.input.messages"]
    assert len(text.encode()) <= MAX_CONTENT
    shown = json.loads(text)
    assert shown
    assert shown[-1]["parts"][0]["content"].startswith(f"{count - 1} ")


def test_answers_of_each_dialect() -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    chat = {
        "choices": [{"finish_reason": "stop", "message": {"content": "Hi", "tool_calls": [call]}}]
    }
    message = {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}
    response = {
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "Hi"}]},
            {"type": "function_call", "call_id": "t1", "name": "f", "arguments": "{}"},
        ],
    }
    hi = {"type": "text", "content": "Hi"}
    called = {"type": "tool_call", "name": "f", "id": "t1", "arguments": "{}"}
    for answer, parts, reason in (
        (chat, [hi, called], "stop"),
        (message, [hi], "end_turn"),
        (response, [{"type": "reasoning", "content": "hm"}, hi, called], "completed"),
    ):
        (shown,) = json.loads(output_messages(json.dumps(answer).encode()))
        assert shown == {"role": "assistant", "parts": parts, "finish_reason": reason}


def test_streams_of_each_dialect() -> None:
    def chunk(delta: Any, reason: str | None = None) -> Any:
        return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}

    begun = {"index": 0, "id": "t1", "function": {"name": "f", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": "{}"}}
    chat = [
        chunk({"content": "H"}),
        chunk({"content": "i"}),
        chunk({"tool_calls": [begun]}),
        chunk({"tool_calls": [more]}),
        chunk({}, "tool_calls"),
    ]
    tool = {"type": "tool_use", "id": "t1", "name": "f"}
    messages = [
        {"type": "content_block_delta", "index": 0, "delta": {"text": "H"}},
        {"type": "content_block_delta", "index": 0, "delta": {"text": "i"}},
        {"type": "content_block_start", "index": 1, "content_block": tool},
        {"type": "content_block_delta", "index": 1, "delta": {"partial_json": "{}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    ]
    responses = [
        {"type": "response.output_text.delta", "output_index": 0, "delta": "H"},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "i"},
    ]
    hi = {"type": "text", "content": "Hi"}
    called = {"type": "tool_call", "name": "f", "id": "t1", "arguments": "{}"}
    for events, parts, reason in (
        (chat, [hi, called], "tool_calls"),
        (messages, [hi, called], "tool_use"),
        (responses, [hi], ""),
    ):
        stream = b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in events)
        (shown,) = json.loads(output_messages(stream))
        assert shown == {"role": "assistant", "parts": parts, "finish_reason": reason}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("messages", "input", "content", "role", "type", "tool_calls", "function"),
                    *("choices", "delta", "message", "output", "index", "summary", "text"),
                ]
            ),
            inner | st.sampled_from(["tool", "image", "tool_use", "reasoning", "message"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["messages", "input", "tools", "system"]), _json))
def test_any_request_and_answer_is_read(body: dict[str, Any]) -> None:
    encoded = json.dumps(body).encode()
    for value in request_content(read(encoded)).values():
        json.loads(value)
    for answer in (encoded, b"data: " + encoded + b"\n\n", b"\xff" + encoded):
        shown = output_messages(answer)
        assert not shown or json.loads(shown)


@pytest.mark.parametrize(
    "written",
    ["\U0001f600" * 20_000, "\x01" * 20_000, [{"type": "text", "text": "y" * 8000}] * 6],
    ids=["wide", "escaped", "many"],
)
def test_a_last_message_of_any_text_is_cut_not_left_out(written: object) -> None:
    found = request_content(
        read(json.dumps({"messages": [{"role": "user", "content": written}]}).encode())
    )
    (text,) = found.values()
    assert len(text.encode()) <= MAX_CONTENT
    (message,) = json.loads(text)
    assert message["parts"][0]["content"].endswith("…")


def test_deep_arguments_are_cut_below_some_levels() -> None:
    deep = "[" * 600 + f'"{"x" * 40_000}"' + "]" * 600
    call = f'[{{"type":"tool_use","id":"a","name":"b","input":{deep}}}]'
    body = f'{{"messages":[{{"role":"user","content":{call}}}]}}'
    (text,) = request_content(read(body.encode())).values()
    assert '"…"' in text


@pytest.mark.parametrize("kind", ["{}", "[1]", "7", "null"])
def test_a_part_whose_type_is_no_text_is_unknown(kind: str) -> None:
    body = f'{{"messages":[{{"role":"user","content":[{{"type":{kind},"text":"x"}}]}}]}}'
    (text,) = request_content(read(body.encode())).values()
    assert json.loads(text)[0]["parts"] == [{"type": "unknown"}]


@pytest.mark.parametrize("index", ["{}", "[1]", '"a"', "null"])
def test_an_index_that_is_no_number_counts_as_the_first(index: str) -> None:
    events = (
        f'{{"choices":[{{"index":{index},"delta":{{"content":"x"}}}}]}}',
        f'{{"type":"content_block_delta","index":{index},"delta":{{"text":"y"}}}}',
    )
    for event in events:
        (message,) = json.loads(output_messages(f"data: {event}\n\n".encode()))
        assert message["parts"][0]["type"] == "text"
    call = f'{{"index":{index},"function":{{"name":"f","arguments":"z"}}}}'
    event = f'{{"choices":[{{"index":0,"delta":{{"tool_calls":[{call}]}}}}]}}'
    (message,) = json.loads(output_messages(f"data: {event}\n\n".encode()))
    assert message["parts"][0]["arguments"] == "z"
