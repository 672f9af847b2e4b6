"""The short ways for usual messages and regular histories give what the long ways give."""

import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects import history_repair
from edge.dialects.anthropic_messages import read_request as messages_reader
from edge.dialects.conversation import Conversation, Origin, Signature, Turn
from edge.dialects.history_repair import repair_turns
from edge.dialects.openai_chat import read_messages as chat_reader
from edge.dialects.openai_responses import read_input as responses_reader
from edge.dialects.signatures import pack
from edge.proxy.translate import CLIENTS
from edge.requests.json_body import members_of
from middlewares.problem import Problem
from tests.edge.dialects.strategies import conversations

MARK = {"type": "ephemeral"}
CHAT: list[Any] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": MARK}]},
    {
        "role": "assistant",
        "content": None,
        "reasoning_content": "Hm.",
        "refusal": None,
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "index": 0,
                "function": {"name": "look", "arguments": '{"at": 1.0}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "seen"}]},
    {"role": "assistant", "content": "Done."},
    {"role": "user", "name": "Ann", "content": "More"},
]
MESSAGES: list[Any] = [
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "c2lnbmVk"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1e3}},
        ],
    },
    {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": "toolu_1",
                "is_error": True,
                "content": [{"type": "text", "text": "seen", "cache_control": MARK}],
            },
            {"type": "text", "text": "And?", "cache_control": {**MARK, "ttl": "1h"}},
        ],
    },
]
RESPONSES: list[Any] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "gAAA",
    },
    {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": "I look.", "annotations": []}],
    },
    {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "call_1", "output": "seen"},
    {"type": "custom_tool_call", "call_id": "call_2", "name": "sh", "input": "ls"},
    {
        "type": "custom_tool_call_output",
        "call_id": "call_2",
        "output": [{"type": "input_text", "text": "seen"}],
    },
]
DIALECTS: dict[Any, tuple[str, list[Any], Any, str, dict[str, Any]]] = {
    "chat": ("messages", CHAT, chat_reader, "usual_turn", {}),
    "messages": ("messages", MESSAGES, messages_reader, "usual_turn", {"max_tokens": 9}),
    "responses": ("input", RESPONSES, responses_reader, "usual_item", {}),
}
VALUES = st.sampled_from(
    [
        *(None, True, 7, 1.5, "", "x", [], {}, ["x"], {"type": "text", "text": "x"}),
        *("user", "assistant", "tool", "text", "thinking", "reasoning", "tool_use", "5m", MARK),
        *({"type": "ephemeral", "ttl": "2h"}, "image", "developer", "custom", "\u00e9\ud83d"),
    ]
    + [
        pack(Signature(origin=Origin(dialect), data="c2ln", redacted=redacted))
        for dialect in ("anthropic", "responses")
        for redacted in (True, False)
    ]
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Each container within `value`, with each of its keys."""
    found: list[tuple[Any, Any]] = []
    inner = enumerate(value) if isinstance(value, list) else list(value.items())
    for key, each in inner:
        found.append((value, key))
        if isinstance(each, list | dict):
            found += places(each)
    return found


@st.composite
def altered(draw: st.DrawFn, turns: list[Any]) -> list[Any]:
    """Usual turns, up to twice altered somewhere. What is put in is a copy: the second change may
    fall within the first."""
    turns = copy.deepcopy(turns)
    for _ in range(draw(st.integers(0, 2))):
        holder, key = draw(st.sampled_from(places(turns)))
        if draw(st.booleans()):
            holder[key] = copy.deepcopy(draw(VALUES))
        elif isinstance(holder, dict) and draw(st.booleans()):
            name = draw(st.sampled_from(["name", "type", "status", "cache_control", "x"]))
            holder[name] = copy.deepcopy(draw(VALUES))
        else:
            del holder[key]
        if not turns:
            break
    return turns


def outcome(read: Callable[[Any], Conversation], body: bytes) -> Any:
    try:
        return read(members_of(body))
    except Problem as problem:
        return problem.kind, problem.message, problem.param, problem.issue


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data())
def test_read_usual_turn_equals_reading_it_member_by_member(
    dialect: Any, data: st.DataObject
) -> None:
    member, turns, module, usual, others = DIALECTS[dialect]
    body = json.dumps({"model": "m", member: data.draw(altered(turns)), **others}).encode()
    quick = outcome(CLIENTS[dialect].read, body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, usual, lambda _raw: None)
        assert outcome(CLIENTS[dialect].read, body) == quick


@pytest.mark.parametrize("dialect", DIALECTS)
def test_read_usual_turns_takes_the_short_way(
    dialect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, turns, module, usual, others = DIALECTS[dialect]
    read = getattr(module, usual)
    missed: list[bytes] = []

    def noting(raw: msgspec.Raw) -> Any:
        turn = read(raw)
        if turn is None:
            missed.append(bytes(raw))
        return turn

    monkeypatch.setattr(module, usual, noting)
    CLIENTS[dialect].read(members_of(json.dumps({member: turns, **others}).encode()))
    assert not missed


@pytest.mark.parametrize("dialect", DIALECTS)
def test_read_unreadable_turn_is_refused_before_an_invalid_one(dialect: Any) -> None:
    member, _, _, _, others = DIALECTS[dialect]
    given_ = json.dumps({member: [7, "@"], **others}).encode()
    with pytest.raises(Problem) as raised:
        CLIENTS[dialect].read(members_of(given_.replace(b"@", b"\xff")))
    assert raised.value.param == member


@given(conversation=conversations(), data=st.data())
def test_repair_regular_turns_equals_repairing_them(
    conversation: Conversation, data: st.DataObject
) -> None:
    turns = [
        Turn(turn.role, turn.blocks[:cut])
        for turn in conversation.turns
        for cut in [data.draw(st.sampled_from([None, None, -1, 0]))]
    ]
    quick = repair_turns(turns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_repair, "count_regular", lambda _turns, _known: 0)
        assert repair_turns(turns) == quick
