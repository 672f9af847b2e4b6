"""Answers of chat upstreams, as dozens of servers write them, read into events."""

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.conversation import Text, Thinking, ToolCall
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
from edge.dialects.openai_chat.read_answer import ChatReader, read
from middlewares.exchange import Usage

DONE = b"data: [DONE]\n\n"


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice], **more})


def tool(
    index: int | None = None, id_: str | None = None, name: str | None = None, args: Any = None
) -> dict[str, Any]:
    function = {k: v for k, v in (("name", name), ("arguments", args)) if v is not None}
    entry: dict[str, Any] = {"function": function}
    if index is not None:
        entry["index"] = index
    if id_ is not None:
        entry["id"] = id_
    return entry


def calls(*fragments: dict[str, Any]) -> bytes:
    return chunk({"tool_calls": list(fragments)})


def events_of(stream: Iterable[bytes]) -> list[Event]:
    reader = ChatReader()
    out: list[Event] = []
    for block in stream:
        out += reader.decode(block)
    out += reader.decode_end()
    assert reader.decode(chunk({"content": "more"})) == []
    assert reader.decode_end() == []
    check_grammar(out)
    return out


def reply_to(*stream: bytes) -> Reply:
    return fold(events_of(stream))


def check_grammar(events: Sequence[Event]) -> None:
    """The grammar of `edge.dialects.events`, as far as events show it."""
    allowed: dict[type, tuple[type, ...]] = {
        TextDelta: (TextDelta, Cited, Closed),
        Cited: (Cited, Closed),
        RefusalDelta: (RefusalDelta, Closed),
        ThinkingDelta: (ThinkingDelta, Signed, Closed),
        Signed: (Closed,),
        ToolOpened: (ToolDelta, Closed),
        ToolDelta: (ToolDelta, Closed),
    }
    between = (TextDelta, RefusalDelta, ThinkingDelta, Signed, ToolOpened, Counted, Stopped)
    if isinstance(events[0], Failed):
        assert len(events) == 1
        return
    assert isinstance(events[0], Started)
    for before, after in pairwise(events):
        if isinstance(after, Failed):
            continue
        if isinstance(after, Counted) and isinstance(events[-1], Failed):
            continue
        assert isinstance(after, allowed.get(type(before), between)), (before, after)
    assert isinstance(events[-1], Stopped | Failed)
    assert sum(isinstance(each, Stopped | Failed) for each in events) == 1
    assert all(each.text for each in events if isinstance(each, TextDelta | ToolDelta))


def call(id_: str, name: str, arguments: str = "") -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments)


END = chunk({}, "tool_calls")


def test_text() -> None:
    reply = reply_to(
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": "Grüß "}),
        chunk({"content": "dich"}),
        chunk({}, "stop"),
        DONE,
    )
    assert reply == Reply(blocks=[Text(text="Grüß dich")])


def test_nothing_said_is_an_answer() -> None:
    assert reply_to(chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), DONE) == Reply(
        blocks=[]
    )


def test_the_first_traced_answer() -> None:
    """Reasoning, text, tool: the trace of the rule book."""
    events = events_of(
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"reasoning_content": "hm"}),
            chunk({"content": "Ok."}),
            calls(tool(0, "call_x", "w", "")),
            calls(tool(0, args='{"a":1}')),
            END,
            event(
                {
                    "choices": [],
                    "usage": {
                        "prompt_tokens": 100,
                        "completion_tokens": 30,
                        "prompt_tokens_details": {"cached_tokens": 64},
                    },
                }
            ),
            DONE,
        ]
    )
    usage = Usage(input=36, output=30, cache_read=64)
    assert events == [
        Started(),
        ThinkingDelta("hm"),
        Closed(),
        TextDelta("Ok."),
        Closed(),
        ToolOpened("call_x", "w"),
        ToolDelta('{"a":1}'),
        Closed(),
        Counted(usage),
        Stopped("tool_use", usage=usage),
    ]


CALLS: dict[str, tuple[list[bytes], list[Any]]] = {
    "parallel calls, one after the other": (
        [
            calls(tool(0, "a", "w", "")),
            calls(tool(0, args='{"c":')),
            calls(tool(0, args='"Rome"}')),
            calls(tool(1, "b", "now", "")),
            calls(tool(1, args="{}")),
        ],
        [call("a", "w", '{"c":"Rome"}'), call("b", "now", "{}")],
    ),
    "headroomlabs-ai/headroom#2890, ls1intum/edutelligence#923, QwenLM/Qwen-Agent#943: in turns": (
        [
            calls(tool(0, "a", "w", ""), tool(1, "b", "v", "")),
            calls(tool(0, args='{"x"')),
            calls(tool(1, args='{"y"')),
            calls(tool(0, args=":1}"), tool(1, args=":{}")),
            calls(tool(1, args="}")),
        ],
        [call("a", "w", '{"x":1}'), call("b", "v", '{"y":{}}')],
    ),
    "BerriAI/litellm#15307: another id on a known index": (
        [calls(tool(0, "a", "w", '{"x":1}')), calls(tool(0, "b", "w", '{"x":2}'))],
        [call("a", "w", '{"x":1}'), call("b", "w", '{"x":2}')],
    ),
    "mozilla-ai/any-llm#970, ai-dynamo/dynamo#4723, huggingface/smolagents#1958: index 0 for all": (
        [
            calls(tool(0, "a", "w"), tool(0, "b", "v"), tool(0, "c", "u")),
            calls(tool(0, "b", args='{"n":2}'), tool(0, "a", args='{"n":1}')),
            calls(tool(0, "c", args='{"n":3}')),
        ],
        [call("a", "w", '{"n":1}'), call("b", "v", '{"n":2}'), call("c", "u", '{"n":3}')],
    ),
    "index 0 for all, and no ids: another name": (
        [calls(tool(0, name="w", args='{"x":1}')), calls(tool(0, name="v", args='{"x":2}'))],
        [call("", "w", '{"x":1}'), call("", "v", '{"x":2}')],
    ),
    "index 0 for all, and no ids: the same name, and the first is whole": (
        [calls(tool(0, name="w", args='{"x":1}')), calls(tool(0, name="w", args='{"x":2}'))],
        [call("", "w", '{"x":1}'), call("", "w", '{"x":2}')],
    ),
    "no index, ids": (
        [
            calls(tool(id_="a", name="w", args='{"x"')),
            calls(tool(id_="a", args=":1}")),
            calls(tool(id_="b", name="v", args="{}")),
        ],
        [call("a", "w", '{"x":1}'), call("b", "v", "{}")],
    ),
    "neither index nor id": (
        [
            calls(tool(name="w", args='{"x"')),
            calls(tool(args=":1}")),
            calls(tool(name="v", args='{"y":2}')),
        ],
        [call("", "w", '{"x":1}'), call("", "v", '{"y":2}')],
    ),
    "name and id repeated in each fragment": (
        [calls(tool(0, "a", "w", '{"x"')), calls(tool(0, "a", "w", ":1}"))],
        [call("a", "w", '{"x":1}')],
    ),
    "the name in pieces": (
        [calls(tool(0, "a", "get_")), calls(tool(0, name="weather")), calls(tool(0, args="{}"))],
        [call("a", "get_weather", "{}")],
    ),
    "TriDefender/zcode-api#23: arguments before the name": (
        [calls(tool(0, args='{"x"')), calls(tool(0, "a", "w")), calls(tool(0, args=":1}"))],
        [call("a", "w", '{"x":1}')],
    ),
    "BerriAI/litellm#5091: a call without fragments": (
        [calls(tool(0, "a", "w", ""))],
        [call("a", "w", "")],
    ),
    "a call without fragments before another": (
        [calls(tool(0, "a", "w", "")), calls(tool(1, "b", "v", '{"x":1}'))],
        [call("a", "w", ""), call("b", "v", '{"x":1}')],
    ),
    "BerriAI/litellm#18238: content and a call in one chunk": (
        [chunk({"content": "Ok.", "tool_calls": [tool(0, "a", "w", "{}")]})],
        [Text(text="Ok."), call("a", "w", "{}")],
    ),
    "arguments as an object": (
        [calls(tool(0, "a", "w", {"x": 1.0, "ä": [None]}))],
        [call("a", "w", '{"x":1.0,"ä":[null]}')],
    ),
    "text behind a call": (
        [calls(tool(0, "a", "w", "{}")), chunk({"content": "done"})],
        [call("a", "w", "{}"), Text(text="done")],
    ),
    "text between the parts of a call": (
        [
            calls(tool(0, "a", "w", '{"x"')),
            chunk({"content": "o"}),
            chunk({"content": "k"}),
            calls(tool(0, args=":1}")),
        ],
        [call("a", "w", '{"x":1}'), Text(text="ok")],
    ),
    "thinking and its seal while a call is open": (
        [
            calls(tool(0, "a", "w", '{"x"')),
            chunk({"reasoning_content": "hm"}),
            calls(tool(1, "b", "v", "{}")),
            calls(tool(0, args=":1}")),
        ],
        [call("a", "w", '{"x":1}'), Thinking(text="hm"), call("b", "v", "{}")],
    ),
    "a call with nothing to it is none": (
        [calls(tool(0, "", "", "")), chunk({"content": "hi"})],
        [Text(text="hi")],
    ),
    "the call of the older functions": (
        [chunk({"function_call": {"name": "w"}}), chunk({"function_call": {"arguments": "{}"}})],
        [call("", "w", "{}")],
    ),
    "free text": (
        [
            calls({"index": 0, "id": "a", "type": "custom", "custom": {"name": "p", "input": ""}}),
            calls({"index": 0, "custom": {"input": "*** Begin"}}),
            calls(tool(1, "b", "w", "{}")),
        ],
        [ToolCall(id="a", name="p", arguments="*** Begin", custom=True), call("b", "w", "{}")],
    ),
}


@pytest.mark.parametrize("case", CALLS)
@pytest.mark.parametrize("grouped", [False, True], ids=["each", "together"])
def test_calls(case: str, grouped: bool) -> None:
    stream, blocks = CALLS[case]
    stream = [*stream, END, DONE]
    reply = reply_to(*([b"".join(stream)] if grouped else stream))
    assert reply == Reply(blocks=blocks, stop="tool_use")


def test_an_empty_list_of_calls_beside_content_is_a_text() -> None:
    """BerriAI/litellm#29286."""
    stream = [chunk({"content": "hi", "tool_calls": []}), chunk({"tool_calls": []}, "stop"), DONE]
    assert reply_to(*stream) == Reply(blocks=[Text(text="hi")])


def test_a_call_cut_by_the_length_limit_says_so() -> None:
    """BerriAI/litellm#19028."""
    reply = reply_to(calls(tool(0, "a", "w", '{"x":')), chunk({}, "length"), DONE)
    assert reply == Reply(blocks=[call("a", "w", '{"x":')], stop="length")


def test_no_call_is_shown_before_it_has_a_name() -> None:
    reader = ChatReader()
    assert reader.decode(calls(tool(0, "a", args='{"x"'))) == [Started()]
    assert reader.decode(calls(tool(0, name="w"))) == [ToolOpened("a", "w"), ToolDelta('{"x"')]


def test_a_call_without_a_name_is_a_failure() -> None:
    failed = events_of([calls(tool(0, "a", args="{}")), END, DONE])[-1]
    assert isinstance(failed, Failed)


REASONING: dict[str, list[dict[str, Any]]] = {
    "reasoning_content": [{"reasoning_content": "hm "}, {"reasoning_content": "so"}],
    "reasoning": [{"reasoning": "hm "}, {"reasoning": "so"}],
    "two members alike": [
        {"reasoning_content": "hm ", "reasoning": "hm "},
        {"reasoning_content": "so", "reasoning": "so"},
    ],
    "details alike": [
        {"reasoning": "hm ", "reasoning_details": [{"type": "reasoning.text", "text": "hm "}]},
        {"reasoning": "so", "reasoning_details": [{"type": "reasoning.text", "text": "so"}]},
    ],
    "details only": [
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm "}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "so"}]},
    ],
    "all of it again at the end": [
        {"reasoning": "hm so"},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm so"}]},
    ],
    "parts": [{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm so"}]}]}],
}


@pytest.mark.parametrize("case", REASONING)
def test_reasoning_is_read_once(case: str) -> None:
    stream = [chunk(delta) for delta in REASONING[case]]
    reply = reply_to(*stream, chunk({"content": "ok"}), chunk({}, "stop"), DONE)
    assert reply.blocks == [Thinking(text="hm so"), Text(text="ok")]


def test_keeps_what_a_server_recognises_its_thinking_by() -> None:
    detail = {"type": "reasoning.text", "text": "", "signature": "c2ln", "format": "f", "index": 0}
    events = events_of(
        [
            chunk({"reasoning": "hm", "reasoning_details": [{**detail, "signature": None}]}),
            chunk({"reasoning_details": [detail]}),
            chunk({"content": "ok"}),
            chunk({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x", "id": "r"}]}),
            chunk({}, "stop"),
            DONE,
        ]
    )
    signed = [each.signature for each in events if isinstance(each, Signed)]
    assert json.loads(signed[0].data) == {key: detail[key] for key in detail if key != "text"}
    assert not signed[0].redacted
    assert (signed[1].id, signed[1].redacted) == ("r", True)
    assert signed[0].origin.dialect == "openai"


def test_a_seal_that_has_to_wait_is_kept() -> None:
    encrypted = {"type": "reasoning.encrypted", "data": "x"}
    reply = reply_to(
        calls(tool(0, "a", "w", '{"x"')),
        chunk({"reasoning_content": "hm"}),
        chunk({"reasoning_details": [encrypted]}),
        calls(tool(0, args=":1}")),
        END,
        DONE,
    )
    thinking = reply.blocks[1]
    assert isinstance(thinking, Thinking)
    assert thinking.text == "hm"
    assert thinking.signature is not None
    assert not thinking.signature.redacted


def test_a_refusal() -> None:
    reply = reply_to(chunk({"refusal": "I "}), chunk({"refusal": "can't"}), chunk({}, "stop"), DONE)
    assert [type(block).__name__ for block in reply.blocks] == ["Refusal"]
    assert reply.stop == "end"


def test_sources() -> None:
    cited = {"url": "https://a", "title": "A", "start_index": 0, "end_index": 2}
    events = events_of(
        [
            chunk({"content": "ok"}),
            chunk({"annotations": [{"type": "url_citation", "url_citation": cited}]}),
            chunk({"content": "."}),
            chunk({}, "stop"),
            DONE,
        ]
    )
    assert [type(each).__name__ for each in events[1:5]] == [
        "TextDelta",
        "TextDelta",
        "Cited",
        "Closed",
    ]


@pytest.mark.parametrize(
    ("finish", "stop"),
    [
        ("stop", "end"),
        ("length", "length"),
        ("tool_calls", "tool_use"),
        ("function_call", "tool_use"),
        ("content_filter", "refusal"),
        ("eos", "end"),
    ],
)
def test_reasons(finish: str, stop: str) -> None:
    assert reply_to(chunk({"content": "x"}), chunk({}, finish), DONE).stop == stop


@pytest.mark.parametrize("member", ["stop_reason", "matched_stop"])
def test_the_stop_string_is_reported_by_some(member: str) -> None:
    """vllm-project/vllm#45807, agentgateway/agentgateway#3283."""
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", member: "END"}
    reply = reply_to(chunk({"content": "x"}), event({"choices": [choice]}), DONE)
    assert (reply.stop, reply.sequence) == ("stop_sequence", "END")
    choice[member] = 151643
    reply = reply_to(chunk({"content": "x"}), event({"choices": [choice]}), DONE)
    assert (reply.stop, reply.sequence) == ("end", None)


USAGE = [
    ({"prompt_tokens": 10, "completion_tokens": 5}, Usage(input=10, output=5)),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
        Usage(input=3, output=5, cache_read=4, cache_write=3, reasoning=2),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 5, "prompt_cache_hit_tokens": 4},
        Usage(input=6, output=5, cache_read=4),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 5, "cached_tokens": 4},
        Usage(input=6, output=5, cache_read=4),
    ),
    (
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 40},
        Usage(input=10, output=30),
    ),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "prompt_tokens_details": None,
            "completion_tokens_details": None,
        },
        Usage(input=10, output=5),
    ),
    (
        {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 115,
            "prompt_tokens_details": {"cached_tokens": 100},
        },
        Usage(input=10, output=5, cache_read=100),
    ),
]


@pytest.mark.parametrize(("reported", "usage"), USAGE)
def test_usage(reported: dict[str, Any], usage: Usage) -> None:
    """ogx-ai/ogx#6415, askui/python-sdk#303, Helicone/helicone#5652: cached tokens are in the

    prompt's, unless there are more of them than the prompt has.
    """
    stream = [chunk({"content": "x"}), chunk({}, "stop"), event({"choices": [], "usage": reported})]
    assert reply_to(*stream, DONE).usage == usage
    assert reply_to(chunk({"content": "x"}, usage=reported), chunk({}, "stop"), DONE).usage == usage
    body = {"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}], "usage": reported}
    assert fold(read(json.dumps(body).encode())).usage == usage


def test_the_last_usage_counts() -> None:
    """envoyproxy/ai-gateway#2236, #1631, cline/cline#4346: figures replace, they never add."""
    reply = reply_to(
        chunk({"content": "x"}, usage={"prompt_tokens": 7, "completion_tokens": 1}),
        chunk({"content": "y"}, usage={"prompt_tokens": 7, "completion_tokens": 2}),
        chunk({}, "stop", usage=None),
        event({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}),
        DONE,
    )
    assert reply.usage == Usage(input=7, output=2)
    assert reply.blocks == [Text(text="xy")]


def test_chunks_without_choices_are_normal() -> None:
    """BerriAI/litellm#30761, #36553, TheR1D/shell_gpt#741."""
    stream = [event({"choices": [], "prompt_filter_results": []}), event({"choices": None})]
    assert reply_to(*stream, chunk({"content": "x"}), chunk({}, "stop"), DONE).blocks == [
        Text(text="x")
    ]


@pytest.mark.parametrize(
    "done", [b"data:[DONE]\n\n", b"data: [DONE]  \n\n", b"data: [DONE]\r\n\r\n", b""]
)
def test_ends_as_servers_write_them(done: bytes) -> None:
    assert reply_to(chunk({"content": "x"}), chunk({}, "stop"), done) == Reply(
        blocks=[Text(text="x")]
    )


def test_a_stream_without_a_finish_reason_has_broken_off() -> None:
    """router-for-me/CLIProxyAPI#3055, openai/codex#41340."""
    reply = reply_to(chunk({"content": "x"}, usage={"prompt_tokens": 3, "completion_tokens": 1}))
    assert reply.failed is not None
    assert reply.usage == Usage(input=3, output=1)
    assert reply_to(calls(tool(0, "a", "w", "{}"))).failed is not None
    assert reply_to(b": ping\n\n").failed is not None
    assert reply_to(DONE).failed is not None


def test_an_end_marker_without_a_finish_reason_is_no_end() -> None:
    reply = reply_to(chunk({"content": "x"}), DONE)
    assert reply.failed is not None


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (event({"error": {"message": "x", "type": "rate_limit_error"}}), "rate_limited"),
        (event({"error": {"code": "server_is_overloaded"}, "choices": []}), "upstream_unavailable"),
        (event({"error": "boom"}), "upstream_error"),
        (b'event: error\ndata: {"message":"x","code":"timeout"}\n\n', "upstream_timeout"),
        (event({"object": "error", "message": "x"}), "upstream_error"),
        (b"data: {nonsense\n\n", "upstream_error"),
        (b"data: <html>\n\n", "upstream_error"),
        (chunk({}, "error"), "upstream_error"),
    ],
)
def test_errors_inside_a_stream(bad: bytes, kind: str) -> None:
    """openai/codex#43337: an error of a stream is classified by its code."""
    events = events_of([chunk({"content": "x"}), bad + chunk({"content": "y"}), DONE])
    assert events[:2] == [Started(), TextDelta("x")]
    assert isinstance(events[-1], Failed)
    assert events[-1].kind == kind


def test_comments_blank_data_and_other_choices_pass_by() -> None:
    other = event({"choices": [{"index": 1, "delta": {"content": "no"}}]})
    stream = [b": ping\n\n", b"data: \n\n", chunk({"content": "x"}), other, chunk({}, "stop")]
    assert reply_to(*stream, DONE).blocks == [Text(text="x")]


# Whole bodies ------------------------------------------------------------------------------------


def whole(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> list[Event]:
    body = {"choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}
    events = read(json.dumps(body).encode())
    check_grammar(events)
    return events


def test_a_whole_answer() -> None:
    same = tool(id_="call_0", name="w", args="{}")
    message = {
        "role": "assistant",
        "content": "Ok.",
        "reasoning_content": "hm",
        "reasoning": "hm",
        "refusal": None,
        "tool_calls": [same, tool(id_="call_0", name="w", args='{"x'), tool(name="v", args="")],
    }
    assert fold(whole(message, "tool_calls")) == Reply(
        blocks=[
            Thinking(text="hm"),
            Text(text="Ok."),
            call("call_0", "w", "{}"),
            call("call_0", "w", '{"x'),
            call("", "v"),
        ],
        stop="tool_use",
    )


@pytest.mark.parametrize("content", [None, "", []])
def test_a_whole_answer_without_words(content: Any) -> None:
    assert fold(whole({"content": content})) == Reply(blocks=[])


def test_a_whole_answer_in_parts() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert fold(whole({"content": parts})).blocks == [Text(text="ab")]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>", "upstream_error"),
        (b"[]", "upstream_error"),
        (b"{}", "upstream_error"),
        (b'{"choices":[]}', "upstream_error"),
        (b'{"choices":[{"message":{"content":null},"finish_reason":null}]}', "upstream_error"),
        (b'{"error":{"type":"overloaded_error"}}', "upstream_unavailable"),
    ],
)
def test_a_whole_failure(body: bytes, kind: str) -> None:
    failed = read(body)[-1]
    assert isinstance(failed, Failed)
    assert failed.kind == kind


# Any cut -----------------------------------------------------------------------------------------

_WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
_JSON = st.dictionaries(_WORDS, st.one_of(st.integers(), _WORDS, st.none()), max_size=3)


@st.composite
def _streams(draw: st.DrawFn) -> tuple[str, list[tuple[str, str, str]], list[bytes]]:
    """A text, calls, and one of the ways to stream them: fragments of the calls in turns."""
    texts = draw(st.lists(_WORDS, max_size=4))
    made = draw(st.lists(st.tuples(_WORDS, _JSON), max_size=4))
    wanted = [(f"id{n}", name, json.dumps(args)) for n, (name, args) in enumerate(made)]
    queues = []
    for index, (id_, name, text) in enumerate(wanted):
        size = draw(st.integers(1, 8))
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        queues.append([tool(index, id_, name, "")] + [tool(index, args=piece) for piece in pieces])
    stream = [chunk({"content": text}) for text in texts]
    firsts = 0
    while any(queues):
        open_ = [n for n, queue in enumerate(queues[: firsts + 1]) if queue]
        number = draw(st.sampled_from(open_)) if open_ else firsts
        firsts = max(firsts, number + 1)
        stream.append(calls(queues[number].pop(0)))
    return "".join(texts), wanted, [*stream, END, DONE]


@given(_streams(), st.data())
def test_nothing_is_lost_or_changed_however_it_is_cut(
    made: tuple[str, list[tuple[str, str, str]], list[bytes]], data: st.DataObject
) -> None:
    text, wanted, stream = made
    joins: list[bool] = data.draw(st.lists(st.booleans(), min_size=len(stream)))
    blocks = [b""]
    for each, join in zip(stream, joins, strict=False):
        if join:
            blocks[-1] += each
        else:
            blocks.append(each)
    reply = reply_to(*blocks)
    said = "".join(block.text for block in reply.blocks if isinstance(block, Text))
    reported = [(b.id, b.name, b.arguments) for b in reply.blocks if isinstance(b, ToolCall)]
    assert said == text
    assert reported == wanted
    assert reply == reply_to(*stream)


_SMALL = st.sampled_from(["", "a", "{", "}", '{"x":1}', " ", "w", "v"])
_MAYBE = st.none() | _SMALL
_FRAGMENT = st.fixed_dictionaries(
    {},
    optional={
        "index": st.none() | st.integers(0, 2),
        "id": _MAYBE,
        "function": st.none()
        | st.fixed_dictionaries({}, optional={"name": _MAYBE, "arguments": _MAYBE}),
        "custom": st.none() | st.fixed_dictionaries({}, optional={"name": _MAYBE, "input": _MAYBE}),
    },
)
_DETAIL = st.fixed_dictionaries(
    {}, optional={"type": _SMALL, "text": _MAYBE, "signature": _MAYBE, "data": _MAYBE, "id": _MAYBE}
)
_DELTA = st.fixed_dictionaries(
    {},
    optional={
        "content": _MAYBE
        | st.lists(st.fixed_dictionaries({"type": _SMALL, "text": _MAYBE, "thinking": _MAYBE})),
        "reasoning_content": _MAYBE,
        "reasoning": _MAYBE,
        "reasoning_details": st.none() | st.lists(_DETAIL, max_size=2),
        "refusal": _MAYBE,
        "tool_calls": st.none() | st.lists(_FRAGMENT, max_size=3),
        "function_call": st.none() | st.fixed_dictionaries({"name": _MAYBE, "arguments": _MAYBE}),
        "annotations": st.just([{"url_citation": {"url": "u"}}]),
    },
)
_FINISH = st.none() | st.sampled_from(["stop", "tool_calls", "", "error"])
_USAGES = st.none() | st.just({"prompt_tokens": 3, "completion_tokens": 1.0})


@given(st.lists(st.tuples(_DELTA, _FINISH, _USAGES), max_size=8), st.booleans())
def test_whatever_comes_is_read_in_order(
    reported: list[tuple[dict[str, Any], str | None, Any]], done: bool
) -> None:
    stream = [chunk(delta, finish, usage=usage) for delta, finish, usage in reported]
    events = events_of([*stream, DONE] if done else stream)
    said = "".join(each.text for each in events if isinstance(each, TextDelta | ThinkingDelta))
    if isinstance(events[-1], Stopped):
        contents = [delta.get("content") for delta, _, _ in reported]
        assert all(c in said for c in contents if isinstance(c, str))
    for delta, finish, usage in reported:
        whole(delta, finish, usage=usage)


@given(st.binary(max_size=40), st.booleans())
def test_no_bytes_make_it_raise(data: bytes, framed: bool) -> None:
    reader = ChatReader()
    events = reader.decode(b"data: " + data + b"\n\n" if framed else data) + reader.decode_end()
    assert isinstance(events[-1], Failed | Stopped)
    assert isinstance(read(data)[-1], Failed)
