"""Answers of chat upstreams that are not as OpenAI writes them: what is understood, what fails."""

import json
from typing import Any

import pytest

from edge.dialects.conversation import Text, ToolCall
from edge.dialects.events import (
    Counted,
    Event,
    Reply,
    Signed,
    Started,
    Stopped,
    TextDelta,
    ToolDelta,
    fold,
)
from edge.dialects.openai_chat.read_answer import ChatReader, read
from edge.dialects.openai_chat.signatures import pack_call_signature
from tests.edge.dialects.grammar import check_events

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


def tool(index: int, id_: str, name: str, arguments: str) -> dict[str, Any]:
    return {"index": index, "id": id_, "function": {"name": name, "arguments": arguments}}


def calls(*fragments: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(fragments)})


def events_of(*stream: bytes) -> list[Event]:
    reader = ChatReader()
    out = [event for block in stream for event in reader.decode(block)] + reader.decode_end()
    check_events(out)
    return out


def reply_to(*stream: bytes) -> Reply:
    return fold(events_of(*stream))


def read_whole(body: dict[str, Any]) -> list[Event]:
    events = read(json.dumps(body).encode())
    check_events(events)
    return events


@pytest.mark.parametrize(
    "end", [b"data:  [DONE] \n\n", b"data:\t[DONE]\n\n", b'data: "[DONE]"\n\n', DONE]
)
def test_an_end_marker_in_any_spelling_is_an_end(end: bytes) -> None:
    reply = reply_to(chunk({"content": "x"}, "stop"), end)
    assert reply == Reply(blocks=[Text(text="x")])


@pytest.mark.parametrize("word", ["", "null"])
def test_an_empty_finish_reason_is_none(word: str) -> None:
    assert reply_to(chunk({"content": "x"}, word)).failed is not None
    reply = reply_to(chunk({"content": "x"}, word), chunk({}, "length"), chunk({}, word))
    assert (reply.failed, reply.stop) == (None, "length")


@pytest.mark.parametrize(
    ("word", "stop"),
    [("eos", "end"), ("model_length", "length"), ("SAFETY", "refusal"), ("sensitive", "refusal")],
)
def test_a_finish_reason_in_other_words_is_understood(word: str, stop: str) -> None:
    assert reply_to(chunk({"content": "x"}), chunk({}, word), DONE).stop == stop


@pytest.mark.parametrize(
    "beat",
    [
        b"data:\n\n",
        b"data: ping\n\n",
        b"data: {}\n\n",
        b"event: ping\ndata: {}\n\n",
        b'event: metadata\ndata: {"took":1}\n\n',
        event({"choices": [], "prompt_filter_results": []}),
    ],
)
def test_heartbeats_say_nothing(beat: bytes) -> None:
    assert ChatReader().decode(beat) == []
    stream = [beat, chunk({"content": "x"}), beat, chunk({}, "stop"), beat, DONE]
    assert reply_to(*stream) == Reply(blocks=[Text(text="x")])


@pytest.mark.parametrize(
    "said",
    [
        {"detail": "boom"},
        {"code": 500, "msg": "boom"},
        {"base_resp": {"status_code": 1000, "status_msg": "boom"}},
        {"choices": [{"delta": {}, "error": {"message": "boom"}}]},
        {"choices": [{"delta": {}, "finish_reason": "network_error"}]},
        {"error": {}},
    ],
)
def test_a_failure_in_other_words_ends_the_answer(said: dict[str, Any]) -> None:
    reply = reply_to(chunk({"content": "half"}), event(said), DONE)
    assert reply.failed is not None
    whole = {"choices": [{"message": {"content": "half"}}], **said}
    assert fold(read_whole(said)).failed is not None
    if "base_resp" in said:
        assert fold(read_whole(whole)).failed is not None


@pytest.mark.parametrize(
    "odd",
    [
        {"refusal": False},
        {"refusal": {"a": 1}},
        {"annotations": "none"},
        {"annotations": [None, {"url_citation": 5}]},
        {"tool_calls": [None]},
        {"tool_calls": ""},
        {"function_call": {"name": None}},
        {"reasoning_content": False},
    ],
)
def test_odd_members_of_a_message_count_as_absent(odd: dict[str, Any]) -> None:
    said = {"role": "assistant", "content": "x", **odd}
    assert reply_to(chunk(said), chunk({}, "stop"), DONE) == Reply(blocks=[Text(text="x")])
    choice = {"index": "0", "message": said, "finish_reason": "stop", "logprobs": float("nan")}
    errors: tuple[object, ...] = ("", {}, False, None)
    for error in errors:
        body = json.dumps({"id": 7, "choices": [choice], "error": error, "usage": "n/a"})
        assert fold(read(("\ufeff" + body).encode())) == Reply(blocks=[Text(text="x")])


@pytest.mark.parametrize("content", [5, {"a": 1}, True])
def test_content_that_is_no_text_is_no_answer(content: object) -> None:
    assert reply_to(chunk({"content": content}), chunk({}, "stop"), DONE).failed is not None


def test_a_sole_choice_of_another_number_is_the_answer() -> None:
    stream = [
        event({"choices": [{"index": 1, "delta": {"content": word}}]}) for word in ("Hel", "lo")
    ]
    end = event({"choices": [{"index": 1, "delta": {}, "finish_reason": "stop"}]})
    assert reply_to(*stream, end, DONE) == Reply(blocks=[Text(text="Hello")])


@pytest.mark.parametrize("together", [False, True])
def test_text_and_calls_in_several_choices_are_one_answer(together: bool) -> None:
    parts: list[dict[str, Any]] = [
        {"index": 0, "delta": {"content": "Looking."}},
        {"index": 1, "delta": {"tool_calls": [tool(0, "a", "f", "{}")]}},
        {"index": 2, "delta": {"tool_calls": [tool(0, "b", "g", "{}")]}},
        {"index": 1, "delta": {}, "finish_reason": "tool_calls"},
    ]
    stream = [event({"choices": parts})] if together else [event({"choices": [p]}) for p in parts]
    reply = reply_to(*stream, DONE)
    calls = [ToolCall(id="a", name="f", arguments="{}"), ToolCall(id="b", name="g", arguments="{}")]
    assert reply == Reply(blocks=[Text(text="Looking."), *calls], stop="tool_use")


def test_text_and_calls_in_several_choices_of_a_body_are_one_answer() -> None:
    same = {"function": {"name": "f", "arguments": "{}"}}
    choices = [
        {"message": {"content": "Looking."}, "finish_reason": "stop"},
        {"message": {"tool_calls": [{"id": "a", **same}]}, "finish_reason": "tool_calls"},
        {"message": {"tool_calls": [{"id": "b", **same}]}, "finish_reason": "tool_calls"},
    ]
    reply = fold(read_whole({"choices": choices}))
    names = [block.id for block in reply.blocks if isinstance(block, ToolCall)]
    assert (names, reply.stop) == (["a", "b"], "tool_use")


# Signatures of calls -----------------------------------------------------------------------------

SEAL = {"google": {"thought_signature": "U0VBTA=="}}


def sealed(events: list[Event]) -> list[str]:
    """The kinds of events, and the data of signatures, in order."""
    return [
        event.signature.data if isinstance(event, Signed) else type(event).__name__
        for event in events
        if not isinstance(event, Started | Counted | Stopped | TextDelta | ToolDelta)
    ]


def test_the_seal_of_a_call_comes_as_a_thought_before_it() -> None:
    call = {**tool(0, "a", "w", "{}"), "extra_content": SEAL}
    events = events_of(calls(call), chunk({}, "tool_calls"), DONE)
    data = pack_call_signature(json.dumps(SEAL).encode(), behind=False)
    assert sealed(events) == [data, "Closed", "ToolOpened", "Closed"]
    message = {"content": None, "tool_calls": [call]}
    choice = {"message": message, "finish_reason": "tool_calls"}
    assert sealed(read_whole({"choices": [choice]})) == sealed(events)


def test_the_seal_of_an_open_call_comes_behind_it() -> None:
    late = {"index": 0, "extra_content": SEAL}
    stream = [calls(tool(0, "a", "w", "{}")), calls(late), chunk({}, "tool_calls"), DONE]
    data = pack_call_signature(json.dumps(SEAL).encode(), behind=True)
    assert sealed(events_of(*stream)) == ["ToolOpened", "Closed", data, "Closed"]


def test_extra_content_without_a_signature_is_no_seal() -> None:
    call = {**tool(0, "a", "w", "{}"), "extra_content": {"google": {}}}
    assert sealed(events_of(calls(call), chunk({}, "tool_calls"), DONE)) == ["ToolOpened", "Closed"]
