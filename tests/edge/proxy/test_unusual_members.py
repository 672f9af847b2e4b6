"""Members that clients of other servers send: understood or passed on, not refused."""

import json
from typing import Any

import pytest

from tests.asgi import request
from tests.edge.dialogue import DOCUMENT, MODELS, NATIVE, PAIRS, PATHS, PLAIN, SAY, ask
from tests.edge.scripted import Answer, Scripted, ScriptedGateway

NOTHING: list[dict[str, Any]] = [
    {"temperature": None, "top_p": None, "user": None, "tools": None, "metadata": None},
    {"tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "service_tier": None},
    {"metadata": {}, "tool_choice": None, "parallel_tool_calls": None},
]
CHAT: list[dict[str, Any]] = [
    {"reasoning_effort": "default"},
    {"thinking": {"type": "auto"}},
    {"thinking": {"type": "adaptive"}},
    {"thinking": {}, "reasoning": {}},
    {"top_k": -1},
    {"max_tokens": None, "n": None, "stop": None, "response_format": None, "stream": None},
    {"stop": "", "response_format": {"type": "text"}},
    {"stop": [], "response_format": {}},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}}},
    {"response_format": {"type": "json_schema", "schema": {"type": "object"}}},
]
ODD: dict[str, list[dict[str, Any]]] = {
    "chat.completions": [*NOTHING, *CHAT],
    "completions": [
        *NOTHING,
        {"top_k": -1, "max_tokens": None, "stop": "", "n": None, "best_of": None, "suffix": None},
    ],
    "responses": [
        *NOTHING,
        {"reasoning": {}, "text": {}, "include": None},
        {"reasoning": {"effort": "default", "summary": None}, "max_output_tokens": None},
        {"text": {"format": {"type": "text"}}},
        {"text": {"format": {"type": "json_schema", "schema": {"type": "object"}}}},
        {"text": {"format": {"type": "json_schema"}}},
    ],
    "messages": [
        {"temperature": None, "tools": [], "tool_choice": {"type": "auto"}, "metadata": None},
        {"top_k": -1, "stop_sequences": [], "system": None},
        {"thinking": {"type": "auto"}},
        {"thinking": {}, "output_config": {"effort": None}},
        {"tool_choice": "auto", "stop_sequences": ""},
    ],
}
EVERY = [*PAIRS, *(("completions", upstream) for upstream in MODELS)]


def sent_to(upstream: Scripted) -> dict[str, Any]:
    """The body that an upstream was last sent."""
    body = upstream.requests[-1].body
    assert isinstance(body, bytes)
    sent: dict[str, Any] = json.loads(body)
    return sent


@pytest.mark.parametrize(("caller", "upstream"), EVERY)
async def test_unusual_members_are_understood_or_passed_on(caller: str, upstream: str) -> None:
    up = Scripted(Answer([SAY[upstream]().whole("Hello")], headers=PLAIN))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    path = PATHS.get(caller, "/v1/completions")
    for members in ODD[caller]:
        if caller == "completions":
            body = {"model": MODELS[upstream], "prompt": "Hi", **members}
        else:
            body = ask(caller, upstream, **members)
        answer = await request(gateway.app, "POST", path, json=body)
        assert answer.status == 200, (members, answer.text)
        sent = sent_to(up)
        if NATIVE.get(caller) == upstream:
            assert members.items() <= sent.items()
        else:
            assert None not in sent.values()
            assert sent.get("top_k") != -1
            assert sent.get("reasoning_effort") is None


META = {"run": "7", "team": "blue"}


@pytest.mark.parametrize(("caller", "upstream"), EVERY)
async def test_metadata_is_translated_where_the_dialect_has_it(caller: str, upstream: str) -> None:
    up = Scripted(Answer([SAY[upstream]().whole("Hello")], headers=PLAIN))
    gateway = ScriptedGateway(up, document=DOCUMENT)
    if caller == "completions":
        body = {"model": MODELS[upstream], "prompt": "Hi", "metadata": META}
    else:
        body = ask(caller, upstream, metadata={"user_id": "u1"} if caller == "messages" else META)
    path = PATHS.get(caller, "/v1/completions")
    answer = await request(gateway.app, "POST", path, json=body)
    assert answer.status == 200
    sent = sent_to(up)
    if caller == "messages":
        crossed = sent.get("metadata", {}).get("user_id"), sent.get("safety_identifier")
        assert crossed in (("u1", None), (None, "u1")) or sent.get("user") == "u1"
    else:
        assert sent.get("metadata") == (None if upstream == "anthropic" else META)
    if caller == "responses" != upstream:
        assert answer.json()["metadata"] == META
