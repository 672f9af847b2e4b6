"""Answers of Responses upstreams, read into events; whole, and cut between any events."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
    RefusalDelta,
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
from edge.dialects.openai_responses import UPSTREAM
from edge.dialects.openai_responses.read_answer import ResponsesReader, read
from middlewares.exchange import Usage
from tests.edge.dialects.grammar import check_events

USAGE = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 6},
    "output_tokens": 30,
    "output_tokens_details": {"reasoning_tokens": 12},
    "total_tokens": 130,
}
COUNTED = Usage(input=30, output=30, cache_read=64, cache_write=6, reasoning=12)
DONE = Stopped("end", usage=COUNTED)

Json = dict[str, Any]


def sse(event: Json) -> bytes:
    data = json.dumps(event, ensure_ascii=False).encode()
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), data)


def ev(kind: str, **members: Any) -> Json:
    return {"type": f"response.{kind}", **members}


def response(status: str = "completed", output: list[Json] | None = None, **more: Any) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "status": status,
        "output": output or [],
        "usage": USAGE,
        **more,
    }


CREATED = ev("created", response=response("in_progress", usage=None))
COMPLETED = ev("completed", response=response())


def message(place: int, *deltas: str, text: str | None = None) -> Iterator[Json]:
    at = {"item_id": f"msg_{place}", "output_index": place, "content_index": 0}
    text = "".join(deltas) if text is None else text
    item = {"id": f"msg_{place}", "type": "message", "role": "assistant", "content": []}
    yield ev("output_item.added", output_index=place, item=item)
    yield ev("content_part.added", **at, part={"type": "output_text", "text": ""})
    for delta in deltas:
        yield ev("output_text.delta", **at, delta=delta, logprobs=[])
    yield ev("output_text.done", **at, text=text)
    part = {"type": "output_text", "text": text, "annotations": []}
    yield ev("content_part.done", **at, part=part)
    yield ev("output_item.done", output_index=place, item={**item, "content": [part]})


def call(place: int, *deltas: str, arguments: str | None = None, **more: Any) -> Iterator[Json]:
    at = {"item_id": f"fc_{place}", "output_index": place}
    arguments = "".join(deltas) if arguments is None else arguments
    item = {
        "id": f"fc_{place}",
        "type": "function_call",
        "call_id": f"call_{place}",
        "name": "w",
        "arguments": "",
        **more,
    }
    yield ev("output_item.added", output_index=place, item=item)
    for delta in deltas:
        yield ev("function_call_arguments.delta", **at, delta=delta)
    yield ev("function_call_arguments.done", **at, name="w", arguments=arguments)
    yield ev("output_item.done", output_index=place, item={**item, "arguments": arguments})


def run(events: list[Json], *, size: int = 1) -> list[Event]:
    """The events of a stream, fed in blocks of `size`."""
    reader = UPSTREAM.reader()
    out: list[Event] = []
    for at in range(0, len(events), size):
        out += reader.decode(b"".join(map(sse, events[at : at + size])))
    return out + reader.decode_end()


def test_text() -> None:
    assert run([CREATED, *message(0, "Hé", "llo"), COMPLETED]) == [
        Started(),
        TextDelta("Hé"),
        TextDelta("llo"),
        Closed(),
        DONE,
    ]


def test_reasoning_and_what_its_maker_needs() -> None:
    """Parts of a summary are paragraphs. The content that counts is the one at the end."""
    at = {"item_id": "rs_1", "output_index": 0}
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "early"}
    parts = [{"type": "summary_text", "text": text} for text in ("One.", "Two.")]
    events = run(
        [
            CREATED,
            ev("output_item.added", output_index=0, item=item),
            ev("reasoning_summary_part.added", **at, summary_index=0, part={}),
            ev("reasoning_summary_text.delta", **at, summary_index=0, delta="On"),
            ev("reasoning_summary_text.delta", **at, summary_index=0, delta="e."),
            ev("reasoning_summary_text.done", **at, summary_index=0, text="One."),
            ev("reasoning_summary_text.delta", **at, summary_index=1, delta="Two."),
            ev("reasoning_text.delta", **at, content_index=0, delta="One. Two. Really."),
            ev(
                "output_item.done",
                output_index=0,
                item={**item, "summary": parts, "encrypted_content": "late"},
            ),
            *call(1, "{}"),
            COMPLETED,
        ]
    )
    signature = Signature(origin=Origin("responses"), data="late", id="rs_1")
    assert events == [
        Started(),
        ThinkingDelta("On"),
        ThinkingDelta("e."),
        ThinkingDelta("\n\n"),
        ThinkingDelta("Two."),
        Signed(signature),
        Closed(),
        ToolOpened("call_1", "w"),
        ToolDelta("{}"),
        Closed(),
        Stopped("tool_use", usage=COUNTED),
    ]


@pytest.mark.parametrize("kind", ["reasoning_text", "reasoning"])
def test_reasoning_in_the_very_words(kind: str) -> None:
    at = {"item_id": "rs_1", "output_index": 0, "content_index": 0}
    item = {"id": "rs_1", "type": "reasoning", "summary": []}
    content = [{"type": "reasoning_text", "text": "Hm, no."}]
    events = run(
        [
            CREATED,
            ev("output_item.added", output_index=0, item=item),
            ev(f"{kind}.delta", **at, delta="Hm"),
            ev(f"{kind}.done", **at, text="Hm, no."),
            ev("output_item.done", output_index=0, item={**item, "content": content}),
            COMPLETED,
        ]
    )
    assert events == [Started(), ThinkingDelta("Hm"), ThinkingDelta(", no."), Closed(), DONE]


def test_reasoning_without_a_word() -> None:
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "e"}
    silent = {"id": "rs_2", "type": "reasoning", "summary": []}
    found = run(
        [
            CREATED,
            ev("output_item.added", output_index=0, item=item),
            ev("output_item.done", output_index=0, item=item),
            ev("output_item.done", output_index=1, item=silent),
            COMPLETED,
        ]
    )
    signature = Signature(origin=Origin("responses"), data="e", id="rs_1", redacted=True)
    assert found == [Started(), Signed(signature), Closed(), DONE]


def test_custom_tools_and_namespaces() -> None:
    """antirez/ds4#745: the input is raw text."""
    at = {"item_id": "ctc_0", "output_index": 0}
    item = {"id": "ctc_0", "type": "custom_tool_call", "call_id": "c", "name": "patch", "input": ""}
    found = run(
        [
            CREATED,
            ev("output_item.added", output_index=0, item=item),
            ev("custom_tool_call_input.delta", **at, delta="*** B"),
            ev("custom_tool_call_input.delta", **at, delta="egin"),
            ev("custom_tool_call_input.done", **at, input="*** Begin"),
            ev("output_item.done", output_index=0, item={**item, "input": "*** Begin"}),
            *call(1, "{}", namespace="mcp"),
            COMPLETED,
        ]
    )
    assert fold(found).blocks == [
        ToolCall(id="c", name="patch", arguments="*** Begin", custom=True),
        ToolCall(id="call_1", name="w", arguments="{}", namespace="mcp"),
    ]


@pytest.mark.parametrize(
    "events",
    [
        [*call(0, arguments='{"a":1}')],
        [*call(0, '{"a"', arguments='{"a":1}')],
        [*call(0, '{"a":1}')][:-2],
        [list(call(0, arguments='{"a":1}'))[-1]],
        [event for event in call(0, '{"a"', arguments='{"a":1}') if ".done" not in event["type"]],
        [],
    ],
)
def test_arguments_are_never_lost(events: list[Json]) -> None:
    """BerriAI/litellm#25321: whatever part of the story a server tells."""
    output = [list(call(0, arguments='{"a":1}'))[-1]["item"]]
    done = ev("completed", response=response(output=output))
    [found] = fold(run([CREATED, *events, done])).blocks
    assert found == ToolCall(id="call_0", name="w", arguments='{"a":1}')


@pytest.mark.parametrize("actual", [1, 2, 3, 4, 5, 6])
def test_text_is_never_lost(actual: int) -> None:
    events = [*message(0, "Hel", text="Hello")]
    output = [events[-1]["item"]]
    done = ev("completed", response=response(output=output))
    some = [CREATED, *events[:actual], done]
    assert fold(run(some)).blocks == [Text(text="Hello")]
    assert fold(run([CREATED, events[-1], done])).blocks == [Text(text="Hello")]
    assert fold(run([done])).blocks == [Text(text="Hello")]


def test_a_call_gets_its_name_late() -> None:
    item = {"id": "fc_0", "type": "function_call", "call_id": "c", "name": "w", "arguments": "{}"}
    found = run(
        [
            CREATED,
            ev("output_item.added", output_index=0, item={**item, "name": None, "arguments": ""}),
            ev("function_call_arguments.delta", output_index=0, delta="{}"),
            ev("output_item.done", output_index=0, item=item),
            COMPLETED,
        ]
    )
    assert fold(found).blocks == [ToolCall(id="c", name="w", arguments="{}")]


def interleaved(*streams: list[Json]) -> list[Json]:
    rounds = itertools.zip_longest(*streams)
    return [event for each in rounds for event in each if event is not None]


def test_items_in_turns_are_reported_one_after_the_other() -> None:
    """headroomlabs-ai/headroom#2890, ls1intum/edutelligence#923, QwenLM/Qwen-Agent#943."""
    events = interleaved(
        [*call(0, '{"a":', "1}")], [*message(1, "x", "y", "z")], [*call(2, '{"b":2}')]
    )
    found = run([CREATED, *events, COMPLETED])
    assert fold(found).blocks == [
        ToolCall(id="call_0", name="w", arguments='{"a":1}'),
        Text(text="xyz"),
        ToolCall(id="call_2", name="w", arguments='{"b":2}'),
    ]
    assert sum(isinstance(event, Closed) for event in found) == 3


def test_items_of_the_vendors_own_tools_are_not_passed_on() -> None:
    search = {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"a": 1}}
    odd = {"id": "ts_1", "type": "tool_search_call", "arguments": {"q": 1}, "content": "x"}
    events = [
        CREATED,
        ev("output_item.added", output_index=0, item=search),
        ev("web_search_call.searching", output_index=0, item_id="ws_1"),
        ev("output_item.added", output_index=1, item=odd),
        *message(2, "Found."),
        ev("output_item.done", output_index=1, item=odd),
        ev("completed", response=response(output=[search, odd])),
    ]
    assert fold(run(events)).blocks == [Text(text="Found.")]


def test_citations() -> None:
    """Offsets count from the beginning of the answer's text."""
    events = [*message(1, "See Rome.")]
    note = {
        "type": "url_citation",
        "url": "https://a.example",
        "title": "A",
        "start_index": 4,
        "end_index": 8,
    }
    at = {"item_id": "msg_1", "output_index": 1, "content_index": 0, "annotation_index": 0}
    file = {"type": "file_citation", "file_id": "f", "filename": "n", "index": 3}
    events[3:3] = [
        ev("output_text.annotation.added", **at, annotation=note),
        ev("output_text.annotation.added", **at, annotation=file),
    ]
    cited = Cited(Citation("https://a.example", "A", "", 9, 13))
    found = run([CREATED, *message(0, "Well."), *events, COMPLETED])
    assert found[-4:] == [TextDelta("See Rome."), cited, Closed(), DONE]
    part = {"type": "output_text", "text": "See Rome.", "annotations": [note]}
    whole = response(output=[{"id": "m", "type": "message", "content": [part]}])
    [text] = fold(read(json.dumps(whole).encode())).blocks
    assert text == Text(text="See Rome.", citations=(Citation("https://a.example", "A", "", 4, 8),))


def test_refusals() -> None:
    at = {"item_id": "m", "output_index": 0, "content_index": 1}
    item = {"id": "m", "type": "message", "content": []}
    found = run(
        [
            CREATED,
            ev("output_item.added", output_index=0, item=item),
            ev("output_text.delta", **{**at, "content_index": 0}, delta="Well"),
            ev("refusal.delta", **at, delta="I "),
            ev("refusal.done", **at, refusal="I won't."),
            ev(
                "incomplete",
                response=response("incomplete", incomplete_details={"reason": "content_filter"}),
            ),
        ]
    )
    assert found == [
        Started(),
        TextDelta("Well"),
        Closed(),
        RefusalDelta("I "),
        RefusalDelta("won't."),
        Closed(),
        Stopped("refusal", usage=COUNTED),
    ]


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ({"reason": "max_output_tokens"}, "length"),
        ({"reason": "content_filter"}, "refusal"),
        ({"reason": "max_messages"}, "end"),
        ({"reason": "MAX_TOKENS"}, "length"),
        ({"reason": "sensitive"}, "refusal"),
        ({"reason": ""}, "end"),
        (None, "end"),
    ],
)
def test_incomplete_is_an_end_too(details: Json | None, reason: str) -> None:
    """langwatch/langwatch#6207; a cut call stays one: BerriAI/litellm#19028."""
    end = ev("incomplete", response=response("incomplete", incomplete_details=details))
    found = run([CREATED, *list(call(0, '{"a":'))[:2], end])
    assert found[-2:] == [Closed(), Stopped(reason, usage=COUNTED)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (
            {"type": "error", "code": "server_is_overloaded", "message": "x", "param": None},
            "upstream_unavailable",
        ),
        (
            {"type": "error", "error": {"type": "rate_limit_error", "code": None, "message": "x"}},
            "rate_limited",
        ),
        (
            ev(
                "failed",
                response=response(
                    "failed", error={"code": "context_length_exceeded", "message": ""}
                ),
            ),
            "context_length_exceeded",
        ),
        (
            ev(
                "incomplete",
                response=response("incomplete", incomplete_details={"reason": "abort"}),
            ),
            "upstream_error",
        ),
        (
            ev(
                "incomplete",
                response=response(
                    "incomplete", incomplete_details={"reason": "insufficient_system_resource"}
                ),
            ),
            "upstream_error",
        ),
        (ev("cancelled", response=response("cancelled")), "upstream_error"),
        (ev("completed", response=response("failed", error={"code": "x"})), "upstream_error"),
    ],
)
def test_failures(event: Json, kind: str) -> None:
    """Overload comes inside a 200 and is classified by its code: openai/codex#43337."""
    reader = ResponsesReader()
    out = reader.decode(b"".join(map(sse, [CREATED, *list(message(0, "Hel"))[:3], event])))
    assert isinstance(out[-1], Failed)
    assert out[-1].kind == kind
    assert out[1] == TextDelta("Hel")
    assert reader.decode(sse(COMPLETED)) == []
    assert reader.decode_end() == []


def test_what_a_failure_cost_is_counted() -> None:
    """QuantumNous/new-api#6549."""
    failed = ev("failed", response=response("failed", error={"code": "server_error"}))
    assert run([CREATED, failed])[1] == Counted(COUNTED)


@pytest.mark.parametrize("actual", range(1, 8))
def test_an_end_without_a_terminal_event_is_a_failure(actual: int) -> None:
    """router-for-me/CLIProxyAPI#3055, openai/codex#41340."""
    found = run([CREATED, *message(0, "Hel", "lo")][:actual])
    assert isinstance(found[-1], Failed)
    assert found[-1].kind == "upstream_error"


@pytest.mark.parametrize(
    "noise",
    [
        b": keep-alive\n",
        b'event: keepalive\ndata: {"type":"keepalive","sequence_number":3}\n\n',
        b'event: response.new_thing\ndata: {"type":"response.new_thing","delta":{"a":1}}\n\n',
        b'data: {"type":"response.mcp_call.failed","error":{"x":1},"output_index":0}\n\n',
        b"data: [DONE]\n\n",
        b"data: [DONE] \n\n",
        b"event: response.heartbeat\n\n",
        b"data:\n\n",
        b"data: {}\n\n",
        b"data: ping\n\n",
        b"event: ping\ndata: {}\n\n",
        b'data: {"type":"ping"}\n\n',
        b'data: "[DONE]"\n\n',
        b'data: {"type":"x","error":{}}\n\n',
    ],
)
def test_what_is_not_known_is_ignored(noise: bytes) -> None:
    reader = ResponsesReader()
    out: list[Event] = []
    for event in [CREATED, *message(0, "a", "b"), COMPLETED]:
        out += reader.decode(noise + sse(event) + noise)
    assert [event for event in out if not isinstance(event, Started)] == [
        TextDelta("a"),
        TextDelta("b"),
        Closed(),
        DONE,
    ]


@pytest.mark.parametrize(
    "garbage",
    [
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.del\n\n',
        b"data: <html>\n\n",
        b'data: {"type":"response.output_text.delta","delta":{"a":1}}\n\n',
        b'data: {"type":"response.output_item.done","item":{"type":"message","content":5}}\n\n',
        b'data: {"type":"response.completed","response":[]}\n\n',
        b'data: {"type":"response.completed","response":{"output":[{"type":"message",'
        b'"content":{"a":1}}]}}\n\n',
        b'data: {"type":"response.completed","response":{}}\n\n',
        b'data: {"detail":"no worker is free"}\n\n',
        b'data: {"code":500,"msg":"no","success":false}\n\n',
        b'event: error\ndata: {"type":"server_error","message":"x"}\n\n',
        b"event: error\ndata: {}\n\n",
        b'data: {"type":"overloaded_error"}\n\n',
        b'data: {"type":"x","error":{"message":"x"}}\n\n',
        b"data: \xff\xfe\n\n",
    ],
)
def test_garbage_is_a_failure_and_no_exception(garbage: bytes) -> None:
    reader = ResponsesReader()
    reader.decode(sse(CREATED))
    out = reader.decode(garbage)
    assert isinstance(out[-1], Failed)
    assert reader.decode(sse(COMPLETED)) == []


def test_lines_may_end_as_they_like() -> None:
    stream = b"".join(map(sse, [CREATED, *message(0, "a"), COMPLETED]))
    expected = ResponsesReader().decode(stream)
    assert expected[-1] == DONE
    assert ResponsesReader().decode(stream.replace(b"\n", b"\r\n")) == expected
    bare = b"".join(line + b"\n" for line in stream.split(b"\n") if not line.startswith(b"event"))
    assert ResponsesReader().decode(bare.replace(b"data: ", b"data:")) == expected


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, None),
        ({}, None),
        ({"input_tokens": 5, "output_tokens": 7}, Usage(input=5, output=7)),
        (
            {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": None},
            Usage(input=5, output=7),
        ),
        (
            {"input_tokens": 5, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 50}},
            Usage(input=5, output=7, cache_read=50),
        ),
        ({"input_tokens": 5, "output_tokens": 7, "total_tokens": 20}, Usage(input=5, output=15)),
    ],
)
def test_usage(usage: Json | None, expected: Usage | None) -> None:
    """ogx-ai/ogx#6415, askui/python-sdk#303, Helicone/helicone#5652: never below 0."""
    found = run([CREATED, ev("completed", response=response(usage=usage))])
    assert found[-1] == Stopped("end", usage=expected)


# Whole answers


def test_a_whole_answer_says_what_its_stream_does() -> None:
    thought = {
        "id": "rs_0",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "e",
    }
    events = [
        ev("output_item.done", output_index=0, item=thought),
        *message(1, "Ok", "."),
        *call(2, '{"a"', ":1}"),
        *call(3),
    ]
    output = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    end = response(output=output)
    streamed = fold(run([CREATED, *events, ev("completed", response=end)]))
    whole = fold(UPSTREAM.read(json.dumps(end).encode()))
    assert whole == streamed
    assert whole == Reply(
        blocks=[
            Thinking(
                text="Hm.", signature=Signature(origin=Origin("responses"), data="e", id="rs_0")
            ),
            Text(text="Ok."),
            ToolCall(id="call_2", name="w", arguments='{"a":1}'),
            ToolCall(id="call_3", name="w"),
        ],
        stop="tool_use",
        usage=COUNTED,
    )


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "upstream_error"),
        (b"[]", "upstream_error"),
        (b"{}", "upstream_error"),
        (b'{"error":{"code":"rate_limit_exceeded"}}', "rate_limited"),
        (json.dumps(response("queued")).encode(), "upstream_error"),
        (
            json.dumps(response("failed", error={"code": "slow_down"})).encode(),
            "upstream_unavailable",
        ),
        (json.dumps(response("cancelled")).encode(), "upstream_error"),
    ],
)
def test_whole_answers_that_are_none(body: bytes, kind: str) -> None:
    found = read(body)
    assert isinstance(found[-1], Failed)
    assert found[-1].kind == kind


@given(
    st.lists(
        st.one_of(
            st.lists(st.text(min_size=1), min_size=1, max_size=4).map(lambda t: ("text", t)),
            st.lists(st.text(min_size=1), min_size=1, max_size=4).map(lambda t: ("call", t)),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(1, 7),
    st.booleans(),
)
def test_texts_and_arguments_come_through_exactly(
    items: list[tuple[str, list[str]]], size: int, mixed: bool
) -> None:
    """However the events are grouped, and whether items come in turns or one by one."""
    streams = [
        [*(message if kind == "text" else call)(place, *texts)]
        for place, (kind, texts) in enumerate(items)
    ]
    events = interleaved(*streams) if mixed else list(itertools.chain(*streams))
    found = run([CREATED, *events, COMPLETED], size=size)
    assert fold(found).blocks == [
        Text(text="".join(texts))
        if kind == "text"
        else ToolCall(id=f"call_{place}", name="w", arguments="".join(texts))
        for place, (kind, texts) in enumerate(items)
    ]
    assert isinstance(found[-1], Stopped)


STORY = [
    CREATED,
    *call(0, '{"a"', ":1}"),
    *message(1, "Hel", "lo"),
    ev("reasoning_text.delta", output_index=2, content_index=0, delta="Hm."),
    ev(
        "output_item.done",
        output_index=2,
        item={"id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "e"},
    ),
    COMPLETED,
]
BEHIND_ITS_END = [next(call(0)), *message(1, "Hello"), list(message(1, "x"))[2]]
"""An item goes on after it was done, while it was not its turn."""


@example([*BEHIND_ITS_END, *list(call(0))[1:], COMPLETED], 1)
@given(st.lists(st.sampled_from(STORY), max_size=20), st.integers(1, 5))
def test_no_order_of_events_leads_out_of_the_grammar(events: list[Json], size: int) -> None:
    """Lost, doubled and out of order: the events can still be encoded for any caller."""
    check_events(run(events, size=size))
