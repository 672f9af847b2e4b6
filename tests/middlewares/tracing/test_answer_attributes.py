"""What the span of an attempt has of the upstream's answer, in each dialect."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middlewares.tracing.answer_attributes import answer_attributes


def sse(*events: Any, named: bool = False) -> bytes:
    return b"".join(
        (f"event: {event['type']}\n" if named else "").encode()
        + b"data: "
        + json.dumps(event).encode()
        + b"\n\n"
        for event in events
    )


CHAT = {"id": "c1", "model": "m-1", "choices": [{"finish_reason": "stop", "message": {}}]}
MESSAGE = {"id": "msg_1", "model": "m-1", "content": [], "stop_reason": "tool_use"}
RESPONSE = {"id": "resp_1", "model": "m-1", "status": "completed", "output": [{"id": "x"}]}
INCOMPLETE = {
    **RESPONSE,
    "status": "incomplete",
    "incomplete_details": {"reason": "max_output_tokens"},
}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CHAT, ("c1", ("stop",))),
        ({**CHAT, "choices": [{"finish_reason": "stop"}] * 2}, ("c1", ("stop", "stop"))),
        (MESSAGE, ("msg_1", ("tool_use",))),
        (RESPONSE, ("resp_1", ("stop",))),
        (INCOMPLETE, ("resp_1", ("length",))),
        ({**RESPONSE, "status": "failed"}, ("resp_1", ("error",))),
    ],
)
def test_whole_answers(answer: Any, expected: Any) -> None:
    found = answer_attributes(json.dumps(answer).encode())
    assert found == {
        "gen_ai.response.id": expected[0],
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": expected[1],
    }


def test_a_stream_of_messages() -> None:
    stream = sse(
        {"type": "message_start", "message": {**MESSAGE, "stop_reason": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
        named=True,
    )
    assert answer_attributes(stream) == {
        "gen_ai.response.id": "msg_1",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("end_turn",),
    }


@pytest.mark.parametrize("cut", [0, 200])
def test_a_stream_of_responses(cut: int) -> None:
    stream = sse(
        {"type": "response.created", "response": {**RESPONSE, "status": "in_progress"}},
        {"type": "response.output_text.delta", "item_id": "x", "delta": "words"},
        {"type": "response.completed", "response": RESPONSE},
        named=True,
    )
    head, tail = (stream, b"") if not cut else (stream[:cut], stream[cut:])
    assert answer_attributes(head, tail)["gen_ai.response.finish_reasons"] == ("stop",)


def test_a_stream_of_chat_in_two_ends() -> None:
    chunks = [{"id": "c1", "model": "m-1", "choices": [{"finish_reason": None}]}] * 100
    last = {"id": "c1", "model": "m-1", "choices": [{"finish_reason": "length"}]}
    stream = sse(*chunks, last) + b"data: [DONE]\n\n"
    found = answer_attributes(stream[:300], stream[-300:])
    assert found["gen_ai.response.id"] == "c1"
    assert found["gen_ai.response.finish_reasons"] == ("length",)


def test_the_end_of_a_long_last_event_is_enough() -> None:
    padding = {"output": [{"type": "message", "text": "words " * 1000}]}
    last = {"type": "response.completed", "response": {**padding, "status": "incomplete"}}
    stream = sse({"type": "response.created", "response": {"id": "resp_1"}}, last)
    found = answer_attributes(stream[:200], stream[-500:])
    assert found["gen_ai.response.finish_reasons"] == ("length",)


@pytest.mark.parametrize(
    "answer",
    [
        {"id": "two words", "model": "a\nb", "choices": [{"finish_reason": "a sentence."}]},
        {"id": 7, "model": ["x"], "choices": [{"finish_reason": {"a": 1}}]},
        {"id": "person@example.com", "stop_reason": "person@example.com"},
        {"error": {"message": "text", "type": "server_error"}},
        {"choices": "none"},
        [],
    ],
)
def test_what_is_no_id_and_no_word_is_left_out(answer: Any) -> None:
    assert not answer_attributes(json.dumps(answer).encode())
    assert not answer_attributes(sse(answer))


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_bytes_are_read(head: bytes, tail: bytes) -> None:
    for prefix in (b"", b"{", b"data: {", b'data: {"id":'):
        answer_attributes(prefix + head, tail)
