"""Answers for chat callers: chunks and whole bodies, held against the SDK's types."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.codec import Caller
from edge.dialects.conversation import (
    Citation,
    Origin,
    Refusal,
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
    Reply,
    Started,
    Stopped,
    TextDelta,
    ToolDelta,
    ToolOpened,
    fold,
    unfold,
)
from edge.dialects.openai_chat.read_answer import ChatReader
from edge.dialects.openai_chat.write_answer import ChatWriter
from edge.dialects.signatures import unpack
from middlewares.exchange import Usage
from tests.schemas import check, check_stream, summary

ID = "0123456789abcdef0123456789abcdef"
USAGE = Usage(input=20, output=41, cache_read=80, reasoning=7)


def writer(**fields: Any) -> ChatWriter:
    raw = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    return ChatWriter(Caller(model="acme/best", id=ID, created=1700000000, fields=raw))


def stream_of(events: Sequence[Event], **fields: Any) -> bytes:
    made = writer(**fields)
    return b"".join(made.encode([event]) for event in events)


def chunks_of(stream: bytes) -> list[dict[str, Any]]:
    events = stream.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]


def deltas_of(stream: bytes) -> list[dict[str, Any]]:
    return [c["choices"][0]["delta"] for c in chunks_of(stream) if c["choices"]]


def body_of(reply: Reply, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(writer(**fields).encode_body(reply))
    check("chat.completion", body)
    return body


def test_the_traced_answer_of_two_calls() -> None:
    """BerriAI/litellm#5231: calls are numbered among themselves. The trace of the rule book."""
    stream = stream_of(
        [
            Started(),
            Counted(Usage(input=20, cache_read=80, output=1)),
            TextDelta("Checking."),
            Closed(),
            ToolOpened("toolu_a", "w"),
            ToolDelta('{"c":"Rome"}'),
            Closed(),
            ToolOpened("toolu_b", "now"),
            Closed(),
            Stopped("tool_use", usage=Usage(input=20, cache_read=80, output=41)),
        ],
        stream_options={"include_usage": True},
    )
    call = {"type": "function", "function": {"name": "w", "arguments": ""}}
    now = {"type": "function", "function": {"name": "now", "arguments": ""}}
    assert deltas_of(stream) == [
        {"role": "assistant", "content": ""},
        {"content": "Checking."},
        {"tool_calls": [{"index": 0, "id": "toolu_a", **call}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"c":"Rome"}'}}]},
        {"tool_calls": [{"index": 1, "id": "toolu_b", **now}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    chunks = chunks_of(stream)
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == {
        "prompt_tokens": 100,
        "completion_tokens": 41,
        "total_tokens": 141,
        "prompt_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }
    assert {(c["id"], c["created"], c["model"]) for c in chunks} == {
        (f"chatcmpl-{ID}", 1700000000, "acme/best")
    }
    check_stream("chat", stream, include_usage=True)


def test_cached_tokens_are_part_of_the_prompt() -> None:
    """traceloop/openllmetry#2175."""
    usage = Usage(input=1, cache_read=2, cache_write=4, output=8, reasoning=3)
    assert body_of(Reply(blocks=[], usage=usage))["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 8,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_usage_only_when_asked(options: Any) -> None:
    reply = Reply(blocks=[Text(text="x")], usage=USAGE)
    stream = stream_of(list(unfold(reply)), stream_options=options)
    assert b"usage" not in stream
    check_stream("chat", stream, include_usage=False)


THOUGHT = Thinking(text="hm", signature=Signature(origin=Origin("anthropic", "f"), data="c2ln"))
HIDDEN = Thinking(
    signature=Signature(origin=Origin("anthropic", "f"), data="ZGF0YQ==", redacted=True)
)


def test_thinking_comes_back_with_what_its_maker_needs() -> None:
    reply = Reply(blocks=[THOUGHT, HIDDEN, Text(text="x")])
    stream = stream_of(list(unfold(reply)))
    actual = [
        detail for delta in deltas_of(stream) for detail in delta.get("reasoning_details", [])
    ]
    message = body_of(reply)["choices"][0]["message"]
    assert message["reasoning_content"] == "hm"
    assert message["reasoning_details"] == actual
    assert [detail["type"] for detail in actual] == ["reasoning.text", "reasoning.encrypted"]
    assert actual[0]["text"] == "hm"
    assert unpack(actual[0]["signature"]) == THOUGHT.signature
    assert unpack(actual[1]["data"]) == HIDDEN.signature


def test_content_is_null_only_where_there_are_calls_instead() -> None:
    """anthropics/anthropic-sdk-python#461, anomalyco/opencode#31259."""
    call = ToolCall(id="a", name="w", arguments="{}")
    assert (
        body_of(Reply(blocks=[call], stop="tool_use"))["choices"][0]["message"]["content"] is None
    )
    empty = body_of(Reply(blocks=[]))["choices"][0]["message"]
    assert empty == {"role": "assistant", "content": "", "refusal": None}


def test_a_call_without_arguments_is_an_empty_object() -> None:
    """BerriAI/litellm#5091."""
    reply = Reply(blocks=[ToolCall(id="a", name="w")], stop="tool_use")
    message = body_of(reply)["choices"][0]["message"]
    assert message["tool_calls"][0]["function"]["arguments"] == "{}"


def test_free_text_comes_back_raw() -> None:
    """antirez/ds4#745, router-for-me/CLIProxyAPI#5753, github/gh-aw-firewall#8350."""
    calls = [
        ToolCall(id="a", name="patch", arguments="*** Begin", custom=True),
        ToolCall(id="b", name="patch", custom=True),
    ]
    reply = Reply(blocks=list(calls), stop="tool_use")
    actual = body_of(reply)["choices"][0]["message"]["tool_calls"]
    assert actual[0] == {
        "id": "a",
        "type": "custom",
        "custom": {"name": "patch", "input": "*** Begin"},
    }
    stream = stream_of(list(unfold(reply)))
    assert [delta["tool_calls"][0] for delta in deltas_of(stream)[1:-1]] == [
        {"index": 0, "id": "a", "type": "custom", "custom": {"name": "patch", "input": ""}},
        {"index": 0, "custom": {"input": "*** Begin"}},
        {"index": 1, "id": "b", "type": "custom", "custom": {"name": "patch", "input": ""}},
    ]


def test_the_older_functions_are_answered_in_their_shape() -> None:
    reply = Reply(
        blocks=[
            ToolCall(id="a", name="w", arguments='{"x":1}'),
            ToolCall(id="b", name="v", arguments="{}"),
        ],
        stop="tool_use",
        usage=USAGE,
    )
    functions = [{"name": "w"}]
    choice = body_of(reply, functions=functions)["choices"][0]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "w", "arguments": '{"x":1}'}
    assert "tool_calls" not in choice["message"]
    stream = stream_of(list(unfold(reply)), functions=functions)
    assert deltas_of(stream) == [
        {"role": "assistant", "content": ""},
        {"function_call": {"name": "w", "arguments": ""}},
        {"function_call": {"arguments": '{"x":1}'}},
        {},
    ]
    check_stream("chat", stream)


@pytest.mark.parametrize("tools", [None, []])
def test_tools_that_are_none_leave_the_older_functions(tools: Any) -> None:
    reply = Reply(blocks=[ToolCall(id="a", name="w", arguments="{}")], stop="tool_use")
    choice = body_of(reply, functions=[{"name": "w"}], tools=tools)["choices"][0]
    assert choice["finish_reason"] == "function_call"
    both = body_of(reply, functions=[{"name": "w"}], tools=[{"type": "function"}])["choices"][0]
    assert both["finish_reason"] == "tool_calls"


def test_sources_are_annotations() -> None:
    cited = (
        Citation(url="https://a", title="A", start=1, end=3),
        Citation(url="https://b", title="B"),
        Citation(title="a book", quoted="x"),
    )
    blocks: list[Any] = [Text(text="first "), Text(text="second", citations=cited)]
    expected = [
        {"url": "https://a", "title": "A", "start_index": 1, "end_index": 3},
        {"url": "https://b", "title": "B", "start_index": 6, "end_index": 12},
    ]
    reply = Reply(blocks=blocks)
    message = body_of(reply)["choices"][0]["message"]
    assert message["content"] == "first second"
    assert [each["url_citation"] for each in message["annotations"]] == expected
    stream = stream_of(list(unfold(reply)))
    actual = [delta["annotations"] for delta in deltas_of(stream) if "annotations" in delta]
    assert actual == [message["annotations"]]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end", "stop"),
        ("stop_sequence", "stop"),
        ("length", "length"),
        ("refusal", "content_filter"),
        ("pause", "stop"),
    ],
)
def test_reasons(reason: Any, finish: str) -> None:
    reply = Reply(blocks=[Text(text="x")], stop=reason)
    assert body_of(reply)["choices"][0]["finish_reason"] == finish
    assert chunks_of(stream_of(list(unfold(reply))))[-1]["choices"][0]["finish_reason"] == finish


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(blocks=[], stop="refusal", explanation="No."), "No."),
        (Reply(blocks=[], stop="refusal"), "The model declined to answer."),
        (Reply(blocks=[Refusal(text="Never.")], stop="refusal"), "Never."),
        (Reply(blocks=[Refusal(text="Never.")]), "Never."),
    ],
)
def test_refusals(reply: Reply, said: str) -> None:
    assert body_of(reply)["choices"][0]["message"]["refusal"] == said
    stream = stream_of(list(unfold(reply)))
    assert "".join(delta.get("refusal", "") for delta in deltas_of(stream)) == said
    check_stream("chat", stream)


def test_a_stream_that_broke_ends_with_its_error() -> None:
    made = writer()
    error = {"error": {"message": "x", "type": "server_error", "param": None, "code": "y"}}
    stream = made.encode([Started(), TextDelta("a")]) + made.encode_failure(error)
    assert stream.endswith(b"data: " + msgspec.json.encode(error) + b"\n\n")
    check_stream("chat", stream, error=True)


def test_cited_stands_where_it_is_reported() -> None:
    events: list[Event] = [
        Started(),
        TextDelta("a"),
        Cited(Citation(url="https://a")),
        Closed(),
        Stopped("end"),
    ]
    assert [sorted(delta) for delta in deltas_of(stream_of(events))] == [
        ["content", "role"],
        ["content"],
        ["annotations"],
        [],
    ]


# Any answer --------------------------------------------------------------------------------------

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
_ARGUMENTS = st.dictionaries(_WORDS, _WORDS | st.integers(), max_size=3).map(json.dumps)
_BLOCKS = st.lists(
    st.one_of(
        st.builds(Text, text=_WORDS),
        st.builds(Thinking, text=_WORDS),
        st.builds(ToolCall, id=st.just(""), name=_WORDS, arguments=_ARGUMENTS),
    ),
    max_size=6,
)


@given(_BLOCKS, st.booleans())
def test_a_stream_and_a_body_say_the_same(blocks: list[Any], asked: bool) -> None:
    calls = [block for block in blocks if isinstance(block, ToolCall)]
    for number, call in enumerate(calls):
        call.id = f"call_{number}"
    reply = Reply(blocks=blocks, stop="tool_use" if calls else "end", usage=USAGE)
    options = {"stream_options": {"include_usage": asked}}
    stream = stream_of(list(unfold(reply)), **options)
    streamed = check_stream("chat", stream, include_usage=asked)
    whole = summary("chat", body_of(reply))
    assert streamed.text == whole.text == "".join(b.text for b in blocks if isinstance(b, Text))
    assert streamed.calls == whole.calls
    assert streamed.thinking == whole.thinking


@given(_BLOCKS)
def test_what_is_written_can_be_read(blocks: list[Any]) -> None:
    calls = [block for block in blocks if isinstance(block, ToolCall)]
    for number, call in enumerate(calls):
        call.id = f"call_{number}"
    reply = Reply(blocks=blocks, stop="tool_use" if calls else "end", usage=USAGE)
    stream = stream_of(list(unfold(reply)), stream_options={"include_usage": True})
    reader = ChatReader()
    again = fold(reader.decode(stream) + reader.decode_end())
    assert [b for b in again.blocks if isinstance(b, ToolCall)] == calls
    assert again.stop == reply.stop
    assert again.usage == USAGE
