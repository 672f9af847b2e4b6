"""What was changed in a request is taken back in its answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.codec import WrittenRequest, WrittenTool
from edge.dialects.conversation import (
    Citation,
    Origin,
    Signature,
    Text,
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
    unfold,
)
from edge.dialects.restore import ResponseRestorer
from middlewares.exchange import Usage

ORIGIN = Origin("anthropic", "f00d")


def restorer(
    sent: WrittenRequest | None = None, *, caller: str = "anthropic", taken: tuple[str, ...] = ()
) -> ResponseRestorer:
    return ResponseRestorer(
        sent or WrittenRequest(body=b""), caller=caller, seed="5eed", taken=taken, origin=ORIGIN
    )


def through(events: list[Event], sent: WrittenRequest | None = None, **how: object) -> Reply:
    return fold(restorer(sent, **how).restore(events))  # type: ignore[arg-type]


def call(id_: str = "c1", name: str = "t", *fragments: str) -> list[Event]:
    return [ToolOpened(id_, name), *map(ToolDelta, fragments), Closed()]


def said(text: str) -> list[Event]:
    return [TextDelta(text), Closed()]


def calls_of(reply: Reply) -> list[ToolCall]:
    return [block for block in reply.blocks if isinstance(block, ToolCall)]


def test_an_answer_that_needs_nothing_passes_as_it_is() -> None:
    events: list[Event] = [
        Started(),
        Counted(Usage(input=1)),
        ThinkingDelta("hm"),
        Closed(),
        TextDelta("hi"),
        Cited(Citation(url="u")),
        Closed(),
        *call("c1", "t", "{}"),
        Stopped("tool_use", usage=Usage(input=1, output=2)),
    ]
    one_by_one = restorer()
    assert [out for event in events for out in one_by_one.restore([event])] == events
    assert list(restorer().restore(events)) == events


def test_a_tool_is_called_by_the_name_the_caller_gave_it() -> None:
    sent = WrittenRequest(
        body=b"", names={"long_1": WrittenTool("a.b/long"), "ns__x": WrittenTool("x", False, "ns")}
    )
    reply = through([*call("c1", "long_1"), *call("c2", "ns__x"), *call("c3", "other")], sent)
    assert [(c.namespace, c.name) for c in calls_of(reply)] == [
        ("", "a.b/long"),
        ("ns", "x"),
        ("", "other"),
    ]


def test_a_custom_tool_gets_its_raw_input() -> None:
    """antirez/ds4#745, router-for-me/CLIProxyAPI#5753: custom calls return with raw input."""
    sent = WrittenRequest(body=b"", names={"patch": WrittenTool("patch", True)})
    (made,) = calls_of(through(call("c1", "patch", '{"inp', 'ut": "*** a\\n"}'), sent))
    assert (made.custom, made.arguments) == (True, "*** a\n")
    native: list[Event] = [ToolOpened("c1", "patch", True), ToolDelta('{"input": 1}'), Closed()]
    (made,) = calls_of(through(native, sent))
    assert (made.custom, made.arguments) == (True, '{"input": 1}')


def test_arguments_of_a_wrapped_schema_are_unwrapped() -> None:
    sent = WrittenRequest(body=b"", wrapped=frozenset({"t"}))
    reply = through([*call("c1", "t", '{"value"', ": [1]}"), *call("c2", "u", '{"value":1}')], sent)
    assert [c.arguments for c in calls_of(reply)] == ["[1]", '{"value":1}']


# The answer as a tool call


def test_only_the_answer_tool_becomes_text() -> None:
    """BerriAI/litellm#12463, vercel/ai#6577: other calls stay calls."""
    sent = WrittenRequest(body=b"", answer_tool="json_output")
    events = [*call("c1", "json_output", '{"a"', ":1}"), Stopped("tool_use")]
    out = list(restorer(sent).restore(events))
    assert out == [TextDelta('{"a"'), TextDelta(":1}"), Closed(), Stopped("end")]
    both = [*call("c1", "json_output", "{}"), *call("c2", "t", "{}"), Stopped("tool_use")]
    reply = through(both, sent)
    assert [type(block) for block in reply.blocks] == [Text, ToolCall]
    assert reply.stop == "tool_use"


def test_an_answer_without_arguments_is_an_empty_object() -> None:
    sent = WrittenRequest(body=b"", answer_tool="json_output")
    reply = through([*call("c1", "json_output"), Stopped("tool_use")], sent)
    assert reply.blocks == [Text(text="{}")]


@pytest.mark.parametrize("tool", ["json_output", ""])
def test_a_wrapped_answer_is_unwrapped(tool: str) -> None:
    sent = WrittenRequest(body=b"", answer_tool=tool, answer_wrapped=True)
    whole = '{"value": ["x"]}'
    events = call("c1", tool, *whole) if tool else [*map(TextDelta, whole), Closed()]
    assert through([*events, Stopped("end")], sent).blocks == [Text(text='["x"]')]


def test_json_asked_for_in_words_loses_its_fence() -> None:
    sent = WrittenRequest(body=b"", fenced=True)
    events: list[Event] = [*map(TextDelta, "```json\n{}\n```"), Closed(), Stopped("end")]
    assert through(events, sent).blocks == [Text(text="{}")]


# Stop strings


def test_a_stop_string_ends_the_reply_and_is_not_in_it() -> None:
    sent = WrittenRequest(body=b"", stops=("STOP",))
    each = restorer(sent)
    out = [o for text in ("one S", "TOP two", "three") for o in each.restore([TextDelta(text)])]
    assert out == [
        TextDelta("one "),
        Closed(),
        Stopped("stop_sequence", "STOP"),
    ]
    assert each.over
    assert each.restore([Closed(), Stopped("end")]) == []


def test_text_held_for_a_stop_string_that_does_not_come_is_not_lost() -> None:
    sent = WrittenRequest(body=b"", stops=("STOP",))
    reply = through([TextDelta("a S"), TextDelta("T"), Closed(), Stopped("end")], sent)
    assert (reply.blocks, reply.stop) == ([Text(text="a ST")], "end")


def test_a_stop_string_at_the_very_beginning_leaves_no_empty_block() -> None:
    sent = WrittenRequest(body=b"", stops=("X",))
    assert list(restorer(sent).restore([Started(), TextDelta("X...")])) == [
        Started(),
        Stopped("stop_sequence", "X"),
    ]


def test_a_stop_string_behind_a_call_leaves_the_call_to_be_answered() -> None:
    sent = WrittenRequest(body=b"", stops=("X",))
    assert through([*call(), TextDelta("aX"), Closed()], sent).stop == "tool_use"


def test_usage_known_so_far_goes_with_a_local_stop() -> None:
    sent = WrittenRequest(body=b"", stops=("X",))
    out = restorer(sent).restore([Counted(Usage(input=5)), TextDelta("aX")])
    assert out[-1] == Stopped("stop_sequence", "X", usage=Usage(input=5))


# Ids


@pytest.mark.parametrize("caller", ["anthropic", "openai", "responses"])
def test_ids_a_caller_cannot_use_are_mapped_alike_everywhere(caller: str) -> None:
    """maximhq/bifrost#5097, weave-os/router#581: in streams too, before the client stores them."""
    (made,) = calls_of(through(call("functions.x:0"), caller=caller))
    again = calls_of(through(call("functions.x:0"), caller=caller))[0]
    assert made.id == again.id
    assert made.id.replace("_", "").isalnum()


def test_missing_ids_are_made_up() -> None:
    """ducks/claux#40: an empty id wedges the conversation."""
    made = calls_of(through([*call(""), *call("")]))
    assert len({c.id for c in made}) == 2
    assert all(c.id.startswith("toolu_") for c in made)


def test_an_id_used_before_in_the_conversation_is_replaced() -> None:
    """NVIDIA-NeMo/Switchyard#502: upstreams that begin each turn at call_0."""
    made = calls_of(through([*call("call_0"), *call("call_0")], taken=("call_0",), caller="openai"))
    assert "call_0" not in {c.id for c in made}
    assert len({c.id for c in made}) == 2
    assert calls_of(through(call("call_0"), caller="openai"))[0].id == "call_0"


def test_long_ids_are_mapped_and_not_cut() -> None:
    """agno-agi/agno#5382, leookun/cursor-byok#364: 40 characters in chat; never truncation."""
    ids = ["a" * 41, "a" * 42]
    made = calls_of(through([*call(ids[0]), *call(ids[1])], caller="openai"))
    assert len({c.id for c in made}) == 2
    assert all(len(c.id) <= 40 for c in made)


# Reasons


@pytest.mark.parametrize(
    ("events", "upstream_text", "reason"),
    [
        (call(), "end", "tool_use"),
        (call(), "tool_use", "tool_use"),
        (said("x"), "tool_use", "end"),
        ([], "tool_use", "end"),
        (call(), "length", "length"),
        (call(), "refusal", "refusal"),
        (said("x"), "stop_sequence", "stop_sequence"),
        (call(), "stop_sequence", "tool_use"),
    ],
)
def test_a_reason_that_contradicts_the_reply_is_put_right(
    events: list[Event], upstream_text: str, reason: str
) -> None:
    """jasonxu114514/opencode2api#27, BerriAI/litellm#29286: no tool emitted, no tool turn."""
    assert through([*events, Stopped(upstream_text)]).stop == reason  # type: ignore[arg-type]


def test_opaque_data_gets_its_origin() -> None:
    signature = Signature(origin=Origin("anthropic"), data="sig")
    (out, _) = restorer().restore([Signed(signature), Closed()])
    assert out == Signed(Signature(origin=ORIGIN, data="sig"))


def test_a_failure_ends_everything() -> None:
    each = restorer(WrittenRequest(body=b"", stops=("X",)))
    assert each.restore([TextDelta("a"), Failed("cut"), TextDelta("b")])[-1] == Failed("cut")
    assert each.over


# Any cut


@given(
    st.lists(
        st.one_of(
            st.text(min_size=1, max_size=12).map(lambda text: Text(text=text)),
            st.builds(
                ToolCall,
                id=st.uuids().map(str),
                name=st.sampled_from(["t", "patch", "wrapped"]),
                arguments=st.recursive(
                    st.integers() | st.text(max_size=5), st.lists, max_leaves=3
                ).map(lambda value: json.dumps({"input": value, "value": value})),
            ),
        ),
        max_size=4,
    ),
    st.booleans(),
    st.booleans(),
)
def test_pieces_come_out_as_the_whole(
    blocks: list[Text | ToolCall], fenced: bool, stops: bool
) -> None:
    sent = WrittenRequest(
        body=b"",
        names={"patch": WrittenTool("patch", True)},
        wrapped=frozenset({"wrapped"}),
        fenced=fenced,
        stops=("ab", "0"),
    )
    whole = list(unfold(Reply(blocks=list(blocks))))
    pieces: list[Event] = []
    for event in whole:
        if isinstance(event, TextDelta | ToolDelta):
            pieces += [type(event)(letter) for letter in event.text]
        else:
            pieces.append(event)
    one, other = restorer(sent), restorer(sent)
    by_pieces = [out for event in pieces for out in other.restore([event])]
    assert fold(one.restore(whole)) == fold(by_pieces)
