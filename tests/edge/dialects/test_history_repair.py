"""Histories as clients send them, and what is left to repair in none of them."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.conversation import (
    Block,
    Image,
    Origin,
    Signature,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from edge.dialects.history_repair import NO_RESULT, repair_turns


def user(*blocks: Block) -> Turn:
    return Turn("user", list(blocks))


def assistant(*blocks: Block) -> Turn:
    return Turn("assistant", list(blocks))


def system(text: str) -> Turn:
    return Turn("system", [Text(text=text)])


def text(said: str) -> Text:
    return Text(text=said)


def call(id_: str, name: str = "w", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments)


def result(id_: str, said: str = "ok") -> ToolResult:
    return ToolResult(id=id_, content=(text(said),))


MISSING = (Text(text=NO_RESULT),)


def missing(id_: str) -> ToolResult:
    return ToolResult(id=id_, content=MISSING, failed=True)


CASES: dict[str, tuple[list[Turn], list[Turn]]] = {
    "in order": (
        [user(text("a")), assistant(text("b"), call("1")), user(result("1"), text("c"))],
        [user(text("a")), assistant(text("b"), call("1")), user(result("1"), text("c"))],
    ),
    "neighbours of one role are one turn": (
        [user(text("a")), user(text("b")), assistant(text("c")), assistant(text("d"))],
        [user(text("a"), text("b")), assistant(text("c"), text("d"))],
    ),
    "aliasrobotics/cai#182, NousResearch/hermes-agent#11929: empty and blank texts go": (
        [user(text("a")), assistant(text(""), text(" \n")), user(text("b"), text("\t"))],
        [user(text("a"), text("b"))],
    ),
    "OpenHands/OpenHands#7512, lidge-jun/opencodex#620: a lost result is said to be lost": (
        [user(text("a")), assistant(call("1"), call("2")), user(result("2"), text("go on"))],
        [
            user(text("a")),
            assistant(call("1"), call("2")),
            user(missing("1"), result("2"), text("go on")),
        ],
    ),
    "a lost result at the end": (
        [user(text("a")), assistant(call("1"))],
        [user(text("a")), assistant(call("1")), user(missing("1"))],
    ),
    "a lost result before the assistant goes on is not filled by its own empty turn": (
        [assistant(call("1")), user(text("")), assistant(text("b"))],
        [assistant(call("1"), text("b")), user(missing("1"))],
    ),
    "a result of no call is the user's own content": (
        [user(result("9", "20 degrees")), assistant(text("b"))],
        [user(text("20 degrees")), assistant(text("b"))],
    ),
    "a result that comes a turn too late is content": (
        [assistant(call("1")), user(text("a")), assistant(text("b")), user(result("1", "late"))],
        [
            assistant(call("1")),
            user(missing("1"), text("a")),
            assistant(text("b")),
            user(text("late")),
        ],
    ),
    "results in the order of the calls, words behind": (
        [assistant(call("1"), call("2")), user(text("a"), result("2", "B"), result("1", "A"))],
        [assistant(call("1"), call("2")), user(result("1", "A"), result("2", "B"), text("a"))],
    ),
    "an instruction between call and result goes behind the results": (
        [assistant(call("1")), system("hurry"), user(result("1"), text("a"))],
        [assistant(call("1")), user(result("1")), system("hurry"), user(text("a"))],
    ),
    "an instruction between two results": (
        [assistant(call("1"), call("2")), user(result("1")), system("x"), user(result("2"))],
        [assistant(call("1"), call("2")), user(result("1"), result("2")), system("x")],
    ),
    "BerriAI/litellm#23510: one call sent twice is one": (
        [assistant(call("1"), call("1")), user(result("1"))],
        [assistant(call("1")), user(result("1"))],
    ),
    "two calls of one id are two": (
        [
            assistant(call("c", "x"), call("c", "y")),
            user(result("c", "of x"), result("c", "of y")),
        ],
        [
            assistant(call("c", "x"), call("c_2", "y")),
            user(result("c", "of x"), result("c_2", "of y")),
        ],
    ),
    "NVIDIA-NeMo/Switchyard#502: an id used in each turn becomes one of its own": (
        [
            assistant(call("call_0")),
            user(result("call_0", "A")),
            assistant(call("call_0")),
            user(result("call_0", "B")),
        ],
        [
            assistant(call("call_0")),
            user(result("call_0", "A")),
            assistant(call("call_0_2")),
            user(result("call_0_2", "B")),
        ],
    ),
    "ducks/claux#40: empty ids are filled and pair in order": (
        [assistant(call(""), call("", "v")), user(result("", "A"), result("", "B"))],
        [
            assistant(call("call_2"), call("call_3", "v")),
            user(result("call_2", "A"), result("call_3", "B")),
        ],
    ),
    "a second result for one call is content": (
        [assistant(call("1")), user(result("1", "A"), result("1", "again"))],
        [assistant(call("1")), user(result("1", "A"), text("again"))],
    ),
    "an empty result is a result": (
        [assistant(call("1")), user(result("1", ""))],
        [assistant(call("1")), user(ToolResult(id="1"))],
    ),
    "netease-lcap/wave-agent#1368: a result of an image only stays a result": (
        [assistant(call("1")), user(ToolResult(id="1", content=(Image(data="eA=="),)))],
        [assistant(call("1")), user(ToolResult(id="1", content=(Image(data="eA=="),)))],
    ),
    "nothing at all": ([user(text(" "))], []),
}


@pytest.mark.parametrize("case", CASES)
def test_repairs(case: str) -> None:
    given_, expected = CASES[case]
    assert repair_turns(given_) == expected


def test_keeps_thinking_that_has_only_a_signature() -> None:
    """BerriAI/litellm#38809, #41361: the text may be empty, the signature counts."""
    signed = Thinking(signature=Signature(origin=Origin("anthropic"), data="c2ln"))
    turns = [user(text("a")), assistant(Thinking(), signed, call("1")), user(result("1"))]
    assert repair_turns(turns)[1].blocks == [signed, call("1")]


def test_a_custom_call_has_custom_results() -> None:
    custom = ToolCall(id="1", name="patch", arguments="raw", custom=True)
    answered = repair_turns([assistant(custom), user(result("1"))])[1].blocks[0]
    unanswered = repair_turns([assistant(custom)])[1].blocks[0]
    assert isinstance(answered, ToolResult)
    assert isinstance(unanswered, ToolResult)
    assert answered.custom
    assert unanswered.custom


_IDS = st.sampled_from(["", "a", "b", "call_0", "call_0_2"])
_BLOCKS = st.one_of(
    st.builds(Text, text=st.sampled_from(["", " ", "one", "two"])),
    st.builds(Thinking, text=st.sampled_from(["", "hm"])),
)
_TURNS = st.lists(
    st.one_of(
        st.builds(system, st.sampled_from(["", "mind"])),
        st.builds(lambda b: user(*b), st.lists(_BLOCKS | st.builds(result, _IDS), max_size=4)),
        st.builds(lambda b: assistant(*b), st.lists(_BLOCKS | st.builds(call, _IDS), max_size=4)),
    ),
    max_size=8,
)


def _calls(turn: Turn) -> list[str]:
    return [block.id for block in turn.blocks if isinstance(block, ToolCall)]


def _results(turns: Sequence[Turn]) -> list[list[str]]:
    return [[b.id for b in turn.blocks if isinstance(b, ToolResult)] for turn in turns]


@given(_TURNS)
def test_every_history_comes_out_whole(turns: list[Turn]) -> None:
    before = repr(turns)
    fixed = repair_turns(turns)
    assert repr(turns) == before
    assert repair_turns(fixed) == fixed
    ids = [id_ for turn in fixed for id_ in _calls(turn)]
    assert len(set(ids)) == len(ids)
    assert "" not in ids
    results = _results([*fixed, user()])
    for at, turn in enumerate(fixed):
        assert turn.blocks
        assert at == 0 or fixed[at - 1].role != turn.role
        assert results[at + 1] == _calls(turn)
        assert results[at] == [] or turn.role == "user"


@given(_TURNS)
def test_no_word_is_lost(turns: list[Turn]) -> None:
    def words(of: Sequence[Turn]) -> list[str]:
        said = [block for turn in of for block in turn.blocks]
        inner = [part for b in said if isinstance(b, ToolResult) for part in b.content]
        texts = [b.text for b in (*said, *inner) if isinstance(b, Text | Thinking)]
        return sorted(t for t in texts if t.strip() and t != NO_RESULT)

    assert words(repair_turns(turns)) == words(turns)


def test_a_turn_with_very_many_calls_of_one_id_is_repaired_in_linear_time() -> None:
    """20,000 took minutes when each was compared with all before it."""
    many = range(20_000)
    calls: list[Block] = [ToolCall(id="a", name="f", arguments=f"{n}") for n in many]
    results: list[Block] = [ToolResult(id="a", content=(Text(text=f"{n}"),)) for n in many]
    asked, answered = repair_turns([Turn("assistant", calls), Turn("user", results)])
    ids = [call.id for call in asked.blocks if isinstance(call, ToolCall)]
    assert ids[:3] == ["a", "a_2", "a_3"] and len(set(ids)) == len(many)
    assert [result.id for result in answered.blocks if isinstance(result, ToolResult)] == ids
