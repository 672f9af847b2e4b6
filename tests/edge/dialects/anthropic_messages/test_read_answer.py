"""Answers of Messages upstreams, streamed and whole, as events."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.anthropic_messages.read_answer import MessagesReader, read
from edge.dialects.conversation import (
    Citation,
    Origin,
    Signature,
    Text,
    Thinking,
    ToolCall,
)
from edge.dialects.events import (
    Cited,
    Closed,
    Counted,
    Event,
    Failed,
    Reply,
    Signed,
    Started,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
    fold,
)
from middlewares.exchange import Usage

ORIGIN = Origin("anthropic")


def sse(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def start(**usage: int) -> bytes:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage or {"input_tokens": 20, "output_tokens": 1},
    }
    return sse("message_start", message=message)


def opened(index: int, **block: Any) -> bytes:
    return sse("content_block_start", index=index, content_block=block)


def delta(index: int, kind: str, **members: Any) -> bytes:
    return sse("content_block_delta", index=index, delta={"type": f"{kind}_delta", **members})


def shut(index: int) -> bytes:
    return sse("content_block_stop", index=index)


def text(index: int, *pieces: str) -> bytes:
    return b"".join(
        (
            opened(index, type="text", text=""),
            *(delta(index, "text", text=piece) for piece in pieces),
            shut(index),
        )
    )


def tool(index: int, id_: str, name: str, *pieces: str, **block: Any) -> bytes:
    return b"".join(
        (
            opened(index, **{"type": "tool_use", "id": id_, "name": name, "input": {}, **block}),
            *(delta(index, "input_json", partial_json=piece) for piece in pieces),
            shut(index),
        )
    )


def ended(
    reason: str | None = "end_turn", usage: dict[str, Any] | None = None, **more: Any
) -> bytes:
    said = {"stop_reason": reason, "stop_sequence": None, **more}
    return sse("message_delta", delta=said, usage=usage or {"output_tokens": 41})


STOP = sse("message_stop")
PING = sse("ping")


def events_of(*blocks: bytes) -> list[Event]:
    reader = MessagesReader()
    out: list[Event] = []
    for block in blocks:
        out += reader.decode(block)
    return out + reader.decode_end()


def reply_to(*blocks: bytes) -> Reply:
    return fold(events_of(*blocks))


def test_text_thinking_and_parallel_calls_in_their_order() -> None:
    events = events_of(
        start(input_tokens=20, cache_read_input_tokens=80, output_tokens=1),
        PING,
        opened(0, type="thinking", thinking="", signature=""),
        delta(0, "thinking", thinking="hm"),
        delta(0, "signature", signature="c2ln"),
        shut(0),
        text(1, "Check", "ing."),
        tool(2, "toolu_a", "w", "", '{"c":', '"Rome"}'),
        tool(3, "toolu_b", "now"),
        ended("tool_use"),
        STOP,
    )
    usage = Usage(input=20, cache_read=80, output=41)
    assert events == [
        Started(),
        Counted(Usage(input=20, cache_read=80)),
        ThinkingDelta("hm"),
        Signed(Signature(origin=ORIGIN, data="c2ln")),
        Closed(),
        TextDelta("Check"),
        TextDelta("ing."),
        Closed(),
        ToolOpened("toolu_a", "w"),
        ToolDelta('{"c":'),
        ToolDelta('"Rome"}'),
        Closed(),
        ToolOpened("toolu_b", "now"),
        Closed(),
        Counted(usage),
        Stopped("tool_use", usage=usage),
    ]


def test_a_signature_stays_with_its_own_block_also_without_text() -> None:
    """BerriAI/litellm#38809, BerriAI/litellm#41361, openai/openai-agents-python#4155."""
    reply = reply_to(
        start(),
        opened(0, type="thinking", thinking="", signature=""),
        delta(0, "signature", signature="Zmlyc3Q="),
        shut(0),
        opened(1, type="thinking", thinking="", signature=""),
        delta(1, "thinking", thinking="second"),
        delta(1, "signature", signature="c2Vjb25k"),
        shut(1),
        opened(2, type="redacted_thinking", data="c2VjcmV0"),
        shut(2),
        opened(3, type="thinking", thinking="unsigned", signature=""),
        shut(3),
        ended(),
        STOP,
    )
    assert reply.blocks == [
        Thinking(text="", signature=Signature(origin=ORIGIN, data="Zmlyc3Q=")),
        Thinking(text="second", signature=Signature(origin=ORIGIN, data="c2Vjb25k")),
        Thinking(signature=Signature(origin=ORIGIN, data="c2VjcmV0", redacted=True)),
        Thinking(text="unsigned"),
    ]


def test_what_a_block_opens_with_is_not_lost() -> None:
    """BerriAI/litellm#25321: an empty input would be a lost call."""
    reply = reply_to(
        start(),
        opened(0, type="thinking", thinking="al", signature="c2ln"),
        delta(0, "thinking", thinking="so"),
        shut(0),
        opened(1, type="text", text="He"),
        delta(1, "text", text="llo"),
        shut(1),
        tool(2, "toolu_a", "f", input={"a": [1, "é"]}),
        tool(3, "toolu_b", "f", '{"b":2}', input={"a": 1}),
        ended("tool_use"),
        STOP,
    )
    assert reply.blocks == [
        Thinking(text="also", signature=Signature(origin=ORIGIN, data="c2ln")),
        Text(text="Hello"),
        ToolCall(id="toolu_a", name="f", arguments='{"a":[1,"\\u00e9"]}'),
        ToolCall(id="toolu_b", name="f", arguments='{"b":2}'),
    ]


def test_searches_of_the_vendor_are_left_out_and_what_they_found_is_cited() -> None:
    cited = {
        "type": "web_search_result_location",
        "url": "https://x.test/a",
        "title": "A",
        "cited_text": "about",
        "encrypted_index": "abc",
    }
    quoted = {"type": "char_location", "document_title": "D", "cited_text": "q"}
    events = events_of(
        start(),
        opened(0, type="server_tool_use", id="srvtoolu_1", name="web_search", input={}),
        delta(0, "input_json", partial_json='{"query":"x"}'),
        shut(0),
        opened(1, type="web_search_tool_result", tool_use_id="srvtoolu_1", content=[{"a": 1}]),
        shut(1),
        opened(2, type="text", text="", citations=[]),
        delta(2, "citations", citation=cited),
        delta(2, "text", text="It is so."),
        delta(2, "citations", citation=quoted),
        shut(2),
        ended(),
        STOP,
    )
    assert events[2:6] == [
        TextDelta("It is so."),
        Cited(Citation(url="https://x.test/a", title="A", quoted="about")),
        Cited(Citation(title="D", quoted="q")),
        Closed(),
    ]
    assert not any(isinstance(event, ToolOpened) for event in events)


def test_what_is_not_known_yet_is_passed_over() -> None:
    reply = reply_to(
        start(),
        sse("something_new", of={"a": 1}),
        opened(0, type="hologram", text="no"),
        delta(0, "text", text="no"),
        delta(0, "beam", power=9),
        shut(0),
        opened(1, type="text", text=""),
        delta(1, "beam", power=9),
        delta(1, "text", text="yes"),
        shut(1),
        b": a comment\n\n",
        b"data: [DONE]\n\n",
        ended("because"),
        STOP,
    )
    assert reply.blocks == [Text(text="yes")]
    assert (reply.stop, reply.failed) == ("end", None)


@pytest.mark.parametrize(
    ("said", "stop"),
    [
        ("end_turn", "end"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("stop_sequence", "stop_sequence"),
        ("tool_use", "tool_use"),
        ("pause_turn", "pause"),
        ("refusal", "refusal"),
        ("compaction", "end"),
        (None, "end"),
    ],
)
def test_reasons_to_stop(said: str | None, stop: str) -> None:
    assert reply_to(start(), text(0, "x"), ended(said), STOP).stop == stop


def test_which_string_it_was_and_why_it_declined() -> None:
    stopped = reply_to(start(), ended("stop_sequence", stop_sequence="END"), STOP)
    assert (stopped.stop, stopped.sequence) == ("stop_sequence", "END")
    details = {"type": "refusal", "category": "bio", "explanation": "Not this."}
    declined = reply_to(start(), ended("refusal", stop_details=details), STOP)
    assert (declined.stop, declined.explanation) == ("refusal", "Not this.")


def test_figures_replace_and_a_zero_says_nothing() -> None:
    """envoyproxy/ai-gateway#2236, envoyproxy/ai-gateway#1631, cline/cline#4346."""
    reply = reply_to(
        start(input_tokens=100, cache_read_input_tokens=7, output_tokens=1),
        text(0, "x"),
        ended(None, {"output_tokens": 10}),
        ended(
            "end_turn",
            {
                "input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 12,
                "output_tokens_details": {"thinking_tokens": 5},
            },
        ),
        STOP,
    )
    assert reply.usage == Usage(input=100, cache_read=7, output=12, reasoning=5)


def test_the_real_input_may_come_last() -> None:
    """sgl-project/sglang#20678: the beginning has a guess, or nothing."""
    final = {"input_tokens": 20, "cache_read_input_tokens": 480, "output_tokens": 3}
    reply = reply_to(start(input_tokens=0, output_tokens=0), text(0, "x"), ended(usage=final), STOP)
    assert reply.usage == Usage(input=20, cache_read=480, output=3)
    cached = {"input_tokens": 0, "cache_read_input_tokens": 500, "output_tokens": 3}
    reply = reply_to(start(input_tokens=500), text(0, "x"), ended(usage=cached), STOP)
    assert reply.usage == Usage(cache_read=500, output=3)


def test_thinking_is_no_more_than_the_output_it_is_part_of() -> None:
    usage = {"output_tokens": 3, "output_tokens_details": {"thinking_tokens": 9}}
    assert reply_to(start(), text(0, "x"), ended(usage=usage), STOP).usage == Usage(
        input=20, output=3, reasoning=3
    )


def test_an_upstream_that_breaks_off_has_failed() -> None:
    """router-for-me/CLIProxyAPI#3055: no clean end to a cut stream."""
    events = events_of(start(), opened(0, type="text", text=""), delta(0, "text", text="x"))
    assert isinstance(events[-1], Failed)
    assert events[-1].kind == "upstream_error"


def test_a_reason_to_stop_is_as_good_as_the_last_event() -> None:
    assert reply_to(start(), text(0, "x"), ended("max_tokens")).stop == "length"


def test_nothing_at_all_has_failed() -> None:
    for blocks in ((), (PING,), (STOP,)):
        (event,) = events_of(*blocks)
        assert isinstance(event, Failed)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "upstream_unavailable"),
        ({"type": "rate_limit_error", "message": "slow"}, "rate_limited"),
        (
            {"type": "invalid_request_error", "message": "prompt is too long: 9 tokens > 8"},
            "context_length_exceeded",
        ),
        ({"type": "api_error", "message": "oops"}, "upstream_error"),
    ],
)
def test_an_error_ends_it(error: dict[str, str], kind: str) -> None:
    """openai/codex#43337: an error inside a 200 is classified by its words, not its status."""
    events = events_of(start(), text(0, "x"), sse("error", error=error), text(1, "y"), STOP)
    assert isinstance(events[-1], Failed)
    assert events[-1].kind == kind
    assert TextDelta("y") not in events
    whole = read(json.dumps({"type": "error", "error": error}).encode())
    assert [type(event) for event in whole] == [Failed]
    assert isinstance(whole[0], Failed)
    assert whole[0].kind == kind


@pytest.mark.parametrize("junk", [b"data: <html>\n\n", b"event: x\ndata: {\n\n", b"data: 3\n\n"])
def test_a_frame_that_is_no_event_has_failed(junk: bytes) -> None:
    events = events_of(start(), junk, text(0, "x"), ended(), STOP)
    assert isinstance(events[-1], Failed)
    assert not any(isinstance(event, TextDelta) for event in events)


def test_a_kind_to_come_may_use_known_words_otherwise() -> None:
    strange = {"type": "hologram", "text": {"en": "no"}, "data": 3, "id": []}
    events = events_of(
        start(),
        opened(0, **strange),
        delta(0, "beam", text=["no"]),
        shut(0),
        sse("weather", delta=3, usage="none"),
        text(1, "yes"),
        ended(),
        STOP,
    )
    assert fold(events).blocks == [Text(text="yes")]
    assert fold(events).failed is None
    whole = {"type": "message", "content": [strange, {"type": "text", "text": "yes"}]}
    assert fold(read(json.dumps(whole).encode())).blocks == [Text(text="yes")]
    wrong = {"type": "message", "content": [{"type": "text", "text": 3}]}
    for broken in (read(json.dumps(wrong).encode()), events_of(start(), delta(0, "text", text=3))):
        assert isinstance(broken[-1], Failed)


@given(st.binary(max_size=60), st.recursive(st.none() | st.text() | st.integers(), st.lists))
def test_no_bytes_make_it_raise(junk: bytes, value: Any) -> None:
    for data in (junk, json.dumps({"type": "content_block_delta", "delta": value}).encode()):
        for event in (data, b"data: " + data + b"\n\n", b"event: error\ndata: " + data + b"\n\n"):
            events = events_of(start(), event)
            assert isinstance(events[-1], Failed)
        assert isinstance(read(data)[-1], Failed)


def test_a_call_without_a_name_or_a_beginning_has_failed() -> None:
    for broken in (
        tool(0, "toolu_a", ""),
        delta(0, "input_json", partial_json="{}"),
    ):
        assert isinstance(events_of(start(), broken, ended(), STOP)[-1], Failed)


def test_a_server_that_skips_the_beginning_of_a_text_is_understood() -> None:
    reply = reply_to(delta(0, "thinking", thinking="hm"), delta(1, "text", text="x"), ended(), STOP)
    assert reply.blocks == [Thinking(text="hm"), Text(text="x")]


def test_nothing_comes_after_the_end() -> None:
    reader = MessagesReader()
    reader.decode(start() + text(0, "x") + ended() + STOP)
    assert reader.decode(text(1, "y")) == []
    assert reader.decode_end() == []


def test_a_whole_answer_is_as_its_stream() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "text", "text": "Hi", "citations": [{"url": "https://x.test", "title": "X"}]},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "toolu_a", "name": "f", "input": {"a": 1.50, "b": {}}},
        {"type": "tool_use", "id": "toolu_b", "name": "g", "input": {}},
    ]
    body = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": content,
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 9},
    }
    reply = fold(read(json.dumps(body).encode()))
    assert reply == Reply(
        blocks=[
            Thinking(text="hm", signature=Signature(origin=ORIGIN, data="c2ln")),
            Thinking(signature=Signature(origin=ORIGIN, data="c2VjcmV0", redacted=True)),
            Text(text="Hi", citations=(Citation(url="https://x.test", title="X"),)),
            ToolCall(id="toolu_a", name="f", arguments='{"a":1.5,"b":{}}'),
            ToolCall(id="toolu_b", name="g"),
        ],
        stop="tool_use",
        usage=Usage(input=5, output=9),
    )


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"type":"message"}'])
def test_a_body_that_is_no_message_has_failed(body: bytes) -> None:
    (event,) = read(body)
    assert isinstance(event, Failed)


@given(
    st.lists(st.text(min_size=1), max_size=4),
    st.lists(st.tuples(st.text("ab_-", min_size=1), st.lists(st.text())), max_size=3),
    st.data(),
)
def test_nothing_is_lost_or_changed_however_it_is_cut(
    texts: list[str], calls: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    stream = [start()]
    at = 0
    for piece in texts:
        stream += [opened(at, type="text", text=""), delta(at, "text", text=piece), shut(at)]
        at += 1
    for name, pieces in calls:
        stream.append(opened(at, type="tool_use", id=f"t{at}", name=name, input={}))
        stream += [delta(at, "input_json", partial_json=piece) for piece in pieces]
        stream.append(shut(at))
        at += 1
    stream += [ended(), STOP]
    joins: list[bool] = data.draw(
        st.lists(st.booleans(), min_size=len(stream), max_size=len(stream))
    )
    blocks = [b""]
    for each, join in zip(stream, joins, strict=True):
        if join:
            blocks[-1] += each
        else:
            blocks.append(each)
    reply = reply_to(*blocks)
    assert [block.text for block in reply.blocks if isinstance(block, Text)] == texts
    actual = [(b.name, b.arguments) for b in reply.blocks if isinstance(b, ToolCall)]
    assert actual == [(name, "".join(pieces)) for name, pieces in calls]
    assert reply.failed is None


@pytest.mark.parametrize(
    "beat",
    [
        b"event: ping\ndata: {}\n\n",
        b"data: ping\n\n",
        b"data:\n\n",
        b"data: {}\n\n",
        b'data: {"type":"ping"}\n\n',
        b"data: [DONE]\n\n",
        b'event: ping\ndata: {"type":"ping","cost":"0.1"}\n\n',
    ],
)
def test_decode_heartbeats_say_nothing(beat: bytes) -> None:
    events = events_of(beat, start(), beat, text(0, "a", "b"), beat, ended(), beat, STOP, beat)
    assert fold(events).blocks == [Text(text="ab")]
    assert isinstance(events[-1], Stopped)


def test_decode_done_is_an_end_once_there_is_a_reason_to_stop() -> None:
    reader = MessagesReader()
    assert reader.decode(start() + text(0, "x") + b"data: [DONE]\n\n")[-1] == Closed()
    assert isinstance(reader.decode(ended() + b'data: "[DONE]"\n\n')[-1], Stopped)


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        (b'data: {"detail":"no worker is free"}\n\n', "upstream_error"),
        (b'data: {"code":429,"msg":"slow","success":false}\n\n', "rate_limited"),
        (b'event: error\ndata: {"detail":"x"}\n\n', "upstream_error"),
        (b"event: error\ndata: {}\n\n", "upstream_error"),
        (
            b'event: error\ndata: {"type":"overloaded_error","message":"x"}\n\n',
            "upstream_unavailable",
        ),
        (b'data: {"type":"overloaded_error","message":"x"}\n\n', "upstream_unavailable"),
        (b'data: {"type":"message_delta","error":{"type":"api_error"}}\n\n', "upstream_error"),
    ],
)
def test_decode_an_error_in_other_words_is_a_failure(frame: bytes, kind: str) -> None:
    events = events_of(start(), text(0, "x"), frame, ended(), STOP)
    assert isinstance(events[-1], Failed)
    assert events[-1].kind == kind


@pytest.mark.parametrize("error", [None, {}, "", False])
def test_read_an_empty_error_is_none(error: Any) -> None:
    actual = {"type": "message_stop", "error": error}
    stop = f"event: message_stop\ndata: {json.dumps(actual)}\n\n".encode()
    assert reply_to(start(), text(0, "x"), ended(), stop).failed is None
    body = {"type": "message", "content": [{"type": "text", "text": "x"}], "error": error}
    assert fold(read(json.dumps(body).encode())).blocks == [Text(text="x")]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("stop", "end"),
        ("length", "length"),
        ("MAX_TOKENS", "length"),
        ("model_context_window_exceeded", "length"),
        ("sensitive", "refusal"),
        ("pause_turn", "pause"),
        ("", "end"),
        (None, "end"),
    ],
)
def test_read_reasons_of_other_vendors_are_understood(word: str | None, expected: str) -> None:
    body = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": word}
    assert fold(read(json.dumps(body).encode())).stop == expected
    assert reply_to(start(), text(0, "x"), ended(word), STOP).stop == expected


@pytest.mark.parametrize("word", ["abort", "network_error", "MALFORMED_FUNCTION_CALL"])
def test_read_an_interrupted_answer_is_a_failure(word: str) -> None:
    body = {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": word}
    for events in (
        read(json.dumps(body).encode()),
        events_of(start(), text(0, "x"), ended(word), STOP),
    ):
        assert isinstance(events[-1], Failed)


@pytest.mark.parametrize("reason", [None, ""])
def test_read_no_content_and_no_reason_is_no_answer(reason: str | None) -> None:
    body: dict[str, Any] = {"type": "message", "content": [], "stop_reason": reason}
    assert isinstance(read(json.dumps(body).encode())[-1], Failed)
    assert isinstance(events_of(start(), ended(reason), STOP)[-1], Failed)
    assert reply_to(start(), ended(), STOP).failed is None


def test_read_members_of_odd_types_count_as_absent() -> None:
    odd: dict[str, Any] = {
        "type": "message",
        "id": 5,
        "content": [
            {"type": "text", "text": "x", "citations": "none"},
            None,
            {"type": "tool_use", "id": 7, "name": "f", "input": None},
        ],
        "stop_reason": "tool_use",
        "stop_details": "none",
        "usage": "free",
    }
    reply = fold(read(json.dumps(odd).encode()))
    assert reply.blocks == [Text(text="x"), ToolCall(id="7", name="f")]
    assert reply.usage is None
    events = events_of(
        start(),
        opened(0, type="text", text=None, citations=0),
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":"0",'
        b'"delta":{"type":"text_delta","text":"x","signature":0},"logprob":NaN}\n\n',
        shut(0),
        sse("message_delta", delta={"stop_reason": "end_turn", "stop_details": 0}, usage="5"),
        STOP,
    )
    assert fold(events).blocks == [Text(text="x")]
    assert isinstance(events[-1], Stopped)
