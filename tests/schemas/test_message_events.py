"""A stream of Messages with a single fault is refused."""

import json
import re

import pytest

from tests.schemas import check_stream

from .faults import Change, added, blocks, dropped, set_at, stream_of, twice
from .samples import messages_bytes

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
