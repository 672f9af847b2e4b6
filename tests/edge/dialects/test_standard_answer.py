"""Whole answers that are read at one look come out as if they were looked at closely."""

import json
from types import ModuleType
from typing import Any

import pytest

from edge.dialects.anthropic_messages import passthrough as messages
from edge.dialects.openai_chat import passthrough as chat
from edge.dialects.openai_chat import standard_answer as standard_chat

CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
COUNTS = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "theirs",
    "choices": [CHOICE],
    "usage": COUNTS,
}
TEXT = {"type": "text", "text": 'say "model": "x", "provider": 1'}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "theirs",
    "content": [TEXT],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 4},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"model":1}'}}


def said(**members: Any) -> dict[str, Any]:
    return {"choices": [{**CHOICE, "message": {"role": "assistant", **members}}]}


def chose(**members: Any) -> dict[str, Any]:
    return {"choices": [{**CHOICE, **members}]}


def counted(**counts: Any) -> dict[str, Any]:
    return {"usage": {**COUNTS, **counts}}


def used(**counts: Any) -> dict[str, Any]:
    return {"usage": {"input_tokens": 3, "output_tokens": 4, **counts}}


def closely(monkeypatch: pytest.MonkeyPatch, dialect: ModuleType, body: bytes) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(dialect, "finish_standard", lambda *_: None)
        return dialect.finish_body(body, "ours")


USUAL: list[tuple[ModuleType, dict[str, Any]]] = [
    (chat, {}),
    (chat, said(content='"model": "theirs", "provider": "x"')),
    (chat, said(content=None, refusal="no", annotations=[])),
    (chat, said(content=None, tool_calls=[CALL]) | {"service_tier": "priority"}),
    (chat, chose(logprobs=None, finish_reason="length")),
    (chat, {"system_fingerprint": None}),
    (chat, {"usage": None, "service_tier": ""}),
    (chat, counted(total_tokens=9)),
    (chat, counted(total_tokens=0)),
    (chat, counted(prompt_tokens=0)),
    (chat, counted(prompt_tokens_details={"cached_tokens": 2, "audio_tokens": None})),
    (chat, counted(completion_tokens_details={"reasoning_tokens": 6})),
    (chat, counted(prompt_cache_hit_tokens=2)),
    (messages, {}),
    (messages, {"content": [{"text": "", "citations": None, "type": "text"}]}),
    (messages, {"stop_reason": "stop_sequence", "stop_sequence": "END"}),
    (messages, {"usage": None}),
    (messages, used(cache_read_input_tokens=2, cache_creation_input_tokens=0)),
    (messages, used(cache_creation={"ephemeral_1h_input_tokens": 5})),
    (messages, used(service_tier="priority", inference_geo="us")),
]


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["dense", "spaced"])
@pytest.mark.parametrize(("dialect", "members"), USUAL)
def test_usual_answer_comes_out_as_if_looked_at_closely(
    dialect: Any, members: dict[str, Any], separators: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = (CHAT if dialect is chat else MESSAGE) | members
    body = json.dumps(whole, separators=separators).encode()
    at_one_look = dialect.finish_standard(body, "ours")
    assert at_one_look == closely(monkeypatch, dialect, body)
    assert b"theirs" not in at_one_look[0].replace(b'\\"theirs', b"")


def test_usual_answer_loses_the_name_of_its_build(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(CHAT | {"system_fingerprint": "fp_1"}, separators=(",", ":")).encode()
    at_one_look = standard_chat.finish_standard(body, "ours")
    assert at_one_look is not None
    assert at_one_look == closely(monkeypatch, chat, body)
    assert json.loads(at_one_look[0])["system_fingerprint"] is None


ODD: list[tuple[ModuleType, dict[str, Any]]] = [
    *((chat, {name: "x"}) for name in ("provider", "x_groq", "model_name", "cost")),
    (chat, {"id": "gen-1"}),
    (chat, {"id": "model"}),
    (chat, {"error": {"message": "no"}}),
    (chat, {"choices": [CHOICE, CHOICE | {"index": 1}]}),
    (chat, chose(provider="x")),
    (chat, chose(index=1)),
    (chat, chose(finish_reason="eos")),
    (chat, chose(logprobs={"content": [], "model_id": "x"})),
    (chat, said(content="Hi", vendor="x")),
    (chat, said(content="Hi", annotations=[{"provider": "x"}])),
    (chat, said(content=None, tool_calls=[CALL | {"id": "gen-1"}])),
    (chat, said(content=None, tool_calls=[CALL | {"cost": 1}])),
    (chat, counted(cost=1)),
    (chat, counted(prompt_tokens="3")),
    (chat, counted(prompt_tokens=-3)),
    (chat, counted(total_tokens=1 << 54)),
    (chat, counted(num_search_queries=2)),
    (chat, counted(prompt_tokens_details={"provider": 1})),
    (messages, {"provider": "x"}),
    (messages, {"id": "msg_bdrk_1"}),
    (messages, {"id": "msg_vrtx_1"}),
    (messages, {"stop_reason": "eos"}),
    (messages, {"content": [TEXT, TEXT]}),
    (messages, {"content": [TEXT | {"vendor": "x"}]}),
    (messages, {"content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}),
    (messages, used(cost=1)),
    (messages, used(iterations=[{"type": "compaction", "input_tokens": 9}])),
    (messages, used(server_tool_use={"web_search_requests": 1})),
    (messages, used(cache_creation={"vendor": 1})),
]


@pytest.mark.parametrize(("dialect", "members"), ODD)
def test_answer_that_may_change_otherwise_is_not_usual(
    dialect: Any, members: dict[str, Any]
) -> None:
    whole = (CHAT if dialect is chat else MESSAGE) | members
    assert dialect.finish_standard(json.dumps(whole).encode(), "ours") is None


@pytest.mark.parametrize(
    ("dialect", "twice"),
    [
        (chat, b'{"id":"gen-1",'),
        (chat, b'{"system_fingerprint":"fp_1","system_fingerprint":null,'),
        (chat, b'{"model":"other",'),
        (messages, b'{"id":"msg_bdrk_1",'),
        (messages, b'{"model":"other",'),
    ],
)
def test_answer_with_a_member_that_stands_twice_is_not_usual(dialect: Any, twice: bytes) -> None:
    whole = json.dumps(CHAT if dialect is chat else MESSAGE).encode()
    assert dialect.finish_standard(twice + whole[1:], "ours") is None


@pytest.mark.parametrize("dialect", [chat, messages])
def test_bytes_that_are_no_answer_are_not_usual(dialect: Any) -> None:
    assert dialect.finish_standard(b"{}", "ours") is None
    assert dialect.finish_standard(b'{"\xff', "ours") is None
    assert dialect.finish_standard(b"[" * 100_000, "ours") is None
