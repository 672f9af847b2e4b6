"""Folding events into a reply, and back."""

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

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
    CONTENT,
    Cited,
    Closed,
    Counted,
    Event,
    Failed,
    RefusalDelta,
    Reply,
    Signed,
    Started,
    Stop,
    Stopped,
    TextDelta,
    ThinkingDelta,
    ToolDelta,
    ToolOpened,
    fold,
    unfold,
)
from middlewares.exchange import Usage

SIGNATURE = Signature(origin=Origin("anthropic"), data="sig")

words = st.text(min_size=1, max_size=20)
citations = st.builds(Citation, url=words, start=st.integers(0, 9))
blocks = st.one_of(
    st.builds(Text, text=words, citations=st.lists(citations, max_size=2).map(tuple)),
    st.builds(Refusal, text=words),
    st.builds(Thinking, text=words, signature=st.none() | st.just(SIGNATURE)),
    st.just(Thinking(signature=SIGNATURE)),
    st.builds(ToolCall, id=words, name=words, arguments=st.text(max_size=9), custom=st.booleans()),
)
usages = st.none() | st.builds(Usage, input=st.integers(0, 99), output=st.integers(0, 99))
replies = st.builds(
    Reply,
    blocks=st.lists(blocks, max_size=5),
    stop=st.sampled_from(get_args(Stop)),
    sequence=st.none() | words,
    usage=usages,
)


@given(replies)
def test_a_reply_survives_its_events(reply: Reply) -> None:
    assert fold(unfold(reply)) == reply


@given(replies, st.randoms(use_true_random=False))
def test_how_deltas_are_cut_makes_no_difference(reply: Reply, random: object) -> None:
    cut: list[Event] = []
    for event in unfold(reply):
        if isinstance(event, TextDelta | ThinkingDelta | ToolDelta | RefusalDelta):
            cut += [type(event)(letter) for letter in event.text]
        else:
            cut.append(event)
    assert fold(cut) == reply


def test_every_kind_of_block_in_one_reply() -> None:
    events: list[Event] = [
        Started(),
        Counted(Usage(input=3)),
        ThinkingDelta("hm"),
        Signed(SIGNATURE),
        Closed(),
        TextDelta("see "),
        TextDelta("here"),
        Cited(Citation(url="u")),
        Closed(),
        RefusalDelta("no"),
        Closed(),
        ToolOpened("c1", "t", namespace="n"),
        ToolDelta('{"a"'),
        ToolDelta(":1}"),
        Closed(),
        Stopped("tool_use", usage=Usage(input=3, output=7)),
    ]
    reply = fold(events)
    assert reply.blocks == [
        Thinking(text="hm", signature=SIGNATURE),
        Text(text="see here", citations=(Citation(url="u"),)),
        Refusal(text="no"),
        ToolCall(id="c1", name="t", arguments='{"a":1}', namespace="n"),
    ]
    assert (reply.stop, reply.usage) == ("tool_use", Usage(input=3, output=7))


def test_a_failure_keeps_what_came_before_it() -> None:
    reply = fold([Started(), TextDelta("a"), Closed(), Failed("cut", "upstream_error")])
    assert reply.blocks == [Text(text="a")]
    assert reply.failed == Failed("cut", "upstream_error")
    assert fold(unfold(reply)).failed == reply.failed


def test_usage_that_came_early_stands_when_none_comes_later() -> None:
    assert fold([Counted(Usage(input=9)), Stopped("end")]).usage == Usage(input=9)


def test_what_shows_that_the_model_made_something() -> None:
    assert not isinstance(Started(), CONTENT)
    assert not isinstance(Counted(Usage()), CONTENT)
    assert isinstance(Stopped("end"), CONTENT)
    assert isinstance(ToolOpened("", "t"), CONTENT)
