"""Whole Responses answers that are read at one look come out as if they were looked at closely."""

import json
from typing import Any

import pytest

from edge.dialects.openai_responses import passthrough
from edge.dialects.openai_responses.editing import may_tell
from edge.dialects.openai_responses.standard_answer import finish_standard

PART = {"type": "output_text", "text": 'say "provider": 1', "annotations": [], "logprobs": []}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
ITEM = {**MESSAGE, "content": [PART]}
COUNTS = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
ANSWER = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "theirs",
    "status": "completed",
    "output": [ITEM],
    "usage": COUNTS,
}
ECHO = {"previous_response_id": "resp_0", "store": False}
THOUGHT = {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "a"}]}
CALL = {"id": "fc_1", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
TOOL = {"type": "function", "name": "f", "parameters": {"properties": {"model": {}, "cost": {}}}}
ASKED = {
    "background": False,
    "billing": {"payer": "developer"},
    "error": None,
    "incomplete_details": None,
    "metadata": {"provider": "mine"},
    "reasoning": {"effort": None},
    "temperature": 1.0,
    "tools": [TOOL],
    "top_p": 1,
    "truncation": "disabled",
}


def made(*items: Any) -> dict[str, Any]:
    return {"output": [*items]}


def counted(**counts: Any) -> dict[str, Any]:
    return {"usage": {**COUNTS, **counts}}


def closely(monkeypatch: pytest.MonkeyPatch, body: bytes, *, disclose: bool) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(passthrough, "finish_standard", lambda *_: None)
        return passthrough.finish_body(body, "ours", ECHO, disclose=disclose)


USUAL: list[dict[str, Any]] = [
    {},
    ASKED,
    {"store": True, "previous_response_id": None},
    {"usage": None, "service_tier": "priority"},
    {"service_tier": "priority"},
    made(THOUGHT, ITEM, CALL),
    made({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "a"}),
    made(),
    counted(total_tokens=9),
    counted(input_tokens=0),
    counted(input_tokens_details={"cached_tokens": 2}),
    counted(output_tokens_details={"reasoning_tokens": 6}),
]


@pytest.mark.parametrize("disclose", [False, True])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["dense", "spaced"])
@pytest.mark.parametrize("members", USUAL)
def test_usual_answer_comes_out_as_if_looked_at_closely(
    members: dict[str, Any], separators: Any, disclose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(ANSWER | members, separators=separators).encode()
    at_one_look = finish_standard(body, "ours", ECHO)
    assert at_one_look is not None
    assert at_one_look == closely(monkeypatch, body, disclose=disclose)
    assert b"theirs" not in at_one_look[0]


SAID: list[dict[str, Any]] = [
    made({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "model"}),
    made({**MESSAGE, "content": [{**PART, "annotations": [{"model": "said"}]}]}),
]


@pytest.mark.parametrize("members", SAID)
def test_usual_answer_keeps_the_spaces_around_what_the_model_said(
    members: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps(ANSWER | members).encode()
    at_one_look = finish_standard(body, "ours", ECHO)
    assert at_one_look is not None
    assert json.dumps(members["output"]).encode() in at_one_look[0]
    looked_at = closely(monkeypatch, body, disclose=False)
    assert json.loads(at_one_look[0]) == json.loads(looked_at[0])
    assert at_one_look[1] == looked_at[1]


ODD: list[dict[str, Any]] = [
    *({name: "x"} for name in ("provider", "x_groq", "model_name", "cost", "system_fingerprint")),
    {"id": "gen-1"},
    {"error": {"message": "no"}},
    {"status": "incomplete", "incomplete_details": {"reason": "length"}},
    {"status": "failed"},
    {"status": None},
    {"output": None},
    {"model": None},
    {"moderation": {"input": {"model": "x"}}},
    {"service_tier": {"provider": "x"}},
    {"billing": {"cost": "1"}},
    made(None),
    made(ITEM | {"provider": "x"}),
    made(ITEM | {"id": "gen-1"}),
    made({"type": "web_search_call", "id": "ws_1", "status": "completed"}),
    made(THOUGHT | {"summary": [{"type": "summary_text", "text": "a", "model": "x"}]}),
    counted(cost=1),
    counted(input_tokens="3"),
    counted(input_tokens=-3),
    counted(total_tokens=1 << 54),
    counted(input_tokens_details={"provider": 1}),
]


@pytest.mark.parametrize("members", ODD)
def test_answer_that_may_change_otherwise_is_not_usual(members: dict[str, Any]) -> None:
    assert finish_standard(json.dumps(ANSWER | members).encode(), "ours", ECHO) is None


@pytest.mark.parametrize("body", [b"{}", b'{"\xff', b"[" * 100_000])
def test_bytes_that_are_no_answer_are_not_usual(body: bytes) -> None:
    assert finish_standard(body, "ours", ECHO) is None


@pytest.mark.parametrize(
    ("response", "named"),
    [
        (b'{"id":"r"}', False),
        (b'{"model":"x","text":"\\u003cb\\u003e, \\u00e9"}', True),
    ],
)
def test_response_that_tells_nothing_is_not_looked_into(response: bytes, named: bool) -> None:
    assert not may_tell(response, named)


@pytest.mark.parametrize(
    ("response", "named"),
    [
        (b'{"usage":{"model":"x"}}', False),
        (b'{"model":"x","usage":{"model":"x"}}', True),
        (b'{"mod\\u0065l":"x","usage":{"model":"x"}}', True),
        (b'{"model":"x","\\u0070rovider":"x"}', True),
        (b'{"model":"x","base\\u005fresp":"x"}', True),
        (b'{"model":"x","provider":"x"}', True),
    ],
)
def test_response_that_may_tell_is_looked_into(response: bytes, named: bool) -> None:
    assert may_tell(response, named)
