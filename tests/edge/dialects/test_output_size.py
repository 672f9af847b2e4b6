"""The size of what a model said: the same in every dialect, streamed or not, however it is cut."""

import json
from typing import Any

import pytest

from edge.dialects.anthropic_messages import passthrough as messages
from edge.dialects.openai_chat import passthrough as chat
from edge.dialects.openai_responses import passthrough as responses
from edge.dialects.output_size import OutputSize

WORDS = ["Hello", " wörld", "\n", 'a "quoted" one', " C:\\dir", " 你好", "!"]
SIZE = len("".join(WORDS).encode())


def sse(event: dict[str, Any], *, named: bool, ascii_: bool = False) -> bytes:
    name = f"event: {event['type']}\n" if named else ""
    return f"{name}data: {json.dumps(event, ensure_ascii=ascii_)}\n\n".encode()


def of_chat(text: str, **members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}}], **members}


def of_messages(text: str) -> dict[str, Any]:
    delta = {"type": "text_delta", "text": text}
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def of_responses(text: str) -> dict[str, Any]:
    number = len(text) * 7  # of any length
    return {"type": "response.output_text.delta", "sequence_number": number, "delta": text}


@pytest.mark.parametrize("event", [of_chat, of_messages, of_responses])
@pytest.mark.parametrize("together", [1, 2, len(WORDS)])
def test_said_counts_the_text_and_not_what_stands_around(event: Any, together: int) -> None:
    output_size = OutputSize()
    events = [sse(event(word), named=event is not of_chat) for word in WORDS * 2]
    for at in range(0, len(events), together):
        block = events[at : at + together]
        output_size.add(b"".join(block), len(block))
    assert output_size.bytes == 2 * SIZE


def test_said_events_like_the_last_are_counted_by_their_length() -> None:
    output_size = OutputSize()
    event = sse(of_chat("x" * 9), named=False)
    output_size.add(event, 1)
    output_size.add(event * 5, 5)
    assert output_size.bytes == 54


def test_said_what_comes_behind_the_text_does_not_count() -> None:
    output_size = OutputSize()
    for at in range(3):
        output_size.add(sse(of_chat("abcd", obfuscation="z" * at), named=False), 1)
    assert output_size.bytes == 12


def test_said_a_text_that_stands_twice_counts_once() -> None:
    details = [{"type": "reasoning.text", "text": "think"}]
    delta = {"content": "", "reasoning": "think", "reasoning_details": details}
    output_size = OutputSize()
    for _ in range(3):
        output_size.add(sse({"choices": [{"delta": delta}]}, named=False), 1)
    assert output_size.bytes == 15


def test_said_reasoning_arguments_and_names_count_signatures_do_not() -> None:
    output_size = OutputSize()
    for delta in (
        {"type": "thinking_delta", "thinking": "12345"},
        {"type": "input_json_delta", "partial_json": '{"a":1}'},
        {"type": "signature_delta", "signature": "c2VjcmV0"},
    ):
        output_size.add(sse({"type": "content_block_delta", "delta": delta}, named=True), 1)
    assert output_size.bytes == 12


def test_said_escapes_count_as_what_they_stand_for() -> None:
    output_size = OutputSize()
    output_size.add(sse(of_chat("你好\n\\"), named=False, ascii_=True), 1)
    assert output_size.bytes == len("你好\n\\".encode())


def test_said_very_many_escapes_count_one_by_one() -> None:
    output_size = OutputSize()
    output_size.add(sse(of_chat("x"), named=False), 1)
    for text in ('"' * 500_000, "\\" * 499_999, '\\"' * 250_000):
        output_size.add(sse(of_chat(text), named=False), 1)
    assert output_size.bytes == 1_500_000


TEXT = "".join(WORDS)
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}


@pytest.mark.parametrize(
    ("output_size", "answer"),
    [
        (
            chat.output_size,
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {
                            "content": TEXT,
                            "reasoning_content": "why",
                            "tool_calls": [CALL],
                        },
                    },
                    {"index": 1, "message": {"content": "other"}},
                ]
            },
        ),
        (
            messages.output_size,
            {
                "type": "message",
                "content": [
                    {"type": "thinking", "thinking": "why", "signature": "c2VjcmV0"},
                    {"type": "text", "text": TEXT + "other"},
                    {"type": "tool_use", "id": "c", "name": "look", "input": {"a": 1}},
                ],
            },
        ),
        (
            responses.output_size,
            {
                "object": "response",
                "status": "completed",
                "output": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}]},
                    {
                        "type": "message",
                        "content": [{"type": "output_text", "text": TEXT + "other"}],
                    },
                    {
                        "type": "function_call",
                        "call_id": "c",
                        "name": "look",
                        "arguments": '{"a":1}',
                    },
                ],
            },
        ),
    ],
    ids=["chat", "messages", "responses"],
)
def test_said_of_a_whole_answer_is_its_text(output_size: Any, answer: dict[str, Any]) -> None:
    assert output_size(json.dumps(answer).encode()) == SIZE + len("whyotherlook" + '{"a":1}')


@pytest.mark.parametrize(
    "output_size", [chat.output_size, messages.output_size, responses.output_size]
)
@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data":[{"embedding":[0.1]}]}'])
def test_output_size_of_what_is_no_answer_is_0(output_size: Any, body: bytes) -> None:
    assert output_size(body) == 0
