"""Which way a request takes, and what cannot take any."""

import json
from typing import Any

import msgspec
import pytest

from edge.billing.token_estimate import Estimator
from edge.dialects.codec import TargetModel
from edge.dialects.passthrough import Fields
from edge.endpoints import BY_NAME
from edge.proxy.translate import CLIENTS, Passthrough, Translator, translator_for
from edge.proxy.translation import Translation
from middlewares.exchange import Dialect
from middlewares.problem import Problem
from tests.edge.exchanges import exchange_at

HI = {"role": "user", "content": "hi"}
CALL = {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "ok"}
MIXED = [HI, {"role": "assistant", "content": [CALL]}, {"role": "user", "content": [RESULT]}]


def read(body: str) -> Fields:
    return msgspec.json.decode(body.encode(), type=Fields)


def way(
    fields: Fields, endpoint: str = "chat.completions", spoken: Dialect = "openai"
) -> Translator:
    exchange = exchange_at(endpoint, request_id="0" * 32, model="asked", fields=fields)
    found = translator_for(exchange, [spoken], TargetModel(model="gpt-4.1"), estimator=Estimator())
    assert found is not None
    return found


def chat(*messages: Any, **members: Any) -> Translator:
    return way(read(json.dumps({"messages": messages, **members})))


def test_anthropics_blocks_in_a_chat_are_rewritten() -> None:
    """router-for-me/CLIProxyAPI#658: Cursor sends them to every configured model."""
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {}}}
    found = chat(*MIXED, tools=[tool])
    assert isinstance(found, Translation)
    sent = json.loads(found.take_body())
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant", "tool"]
    assert sent["messages"][1]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert sent["tools"][0]["function"]["name"] == "f"
    assert isinstance(chat(HI, tools=[tool]), Translation)


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{**HI, "content": json.dumps(MIXED)}]},
        {"messages": [HI], "tools": [{"function": {"parameters": {"input_schema": {}}}}]},
        {"messages": "tool_use", "tools": "input_schema"},
        {"messages": [HI], "tools": None},
    ],
)
def test_what_only_speaks_of_them_passes(body: Any) -> None:
    assert isinstance(way(read(json.dumps(body))), Passthrough)


def test_what_can_be_read_but_not_written_is_refused() -> None:
    """At some depth reading just succeeds; at which one depends on the stack."""
    for depth in range(700, 1000):
        arguments = '{"a":' * depth + "1" + "}" * depth
        item = '{"type":"function_call","call_id":"a","name":"f","arguments":' + arguments + "}"
        try:
            fields = read('{"input":[' + item + "]}")
        except RecursionError:  # the intake answers for it
            break
        try:
            found = way(fields, "responses")
        except Problem as problem:
            assert problem.kind == "invalid_request"
        else:
            assert b'{\\"a\\":' in found.take_body()


@pytest.mark.parametrize(
    ("endpoint", "before", "behind"),
    [
        (
            "responses",
            '{"input":[{"type":"function_call","call_id":"a","name":"f","arguments":',
            "}]}",
        ),
        ("responses", '{"input":[{"type":"local_shell_call","call_id":"a","action":', "}]}"),
        ("responses", '{"input":[{"type":"shell_call_output","call_id":"a","output":', "}]}"),
        (
            "chat.completions",
            '{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":',
            "}}]}]}",
        ),
        (
            "chat.completions",
            '{"messages":[{"role":"assistant","content":[{"type":"tool_use","name":"f","input":',
            "}]}]}",
        ),
        (
            "messages",
            '{"max_tokens":9,"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"a",'
            '"name":"f","input":',
            "}]}]}",
        ),
    ],
)
def test_a_reader_refuses_what_is_too_deep(endpoint: str, before: str, behind: str) -> None:
    """As counts do, who have no way across."""
    for depth in range(700, 1000):
        try:
            fields = read(before + '{"a":' * depth + "1" + "}" * depth + behind)
        except RecursionError:
            break
        try:
            codec = BY_NAME[endpoint].codec
            assert codec is not None
            conversation = CLIENTS[codec].read(fields)
        except Problem as problem:
            assert problem.kind == "invalid_request"
        else:
            assert conversation.turns


DOUBLING: dict[str, Any] = {"type": "object", "properties": {"p0": {"type": "string"}}}
for n in range(1, 26):
    DOUBLING["properties"][f"p{n}"] = {"anyOf": [{"$ref": f"#/properties/p{n - 1}"}] * 2}


@pytest.mark.parametrize(
    ("endpoint", "members", "param"),
    [
        (
            "chat.completions",
            {
                "messages": [HI],
                "response_format": {"type": "json_schema", "json_schema": {"schema": DOUBLING}},
            },
            "response_format.json_schema.schema",
        ),
        (
            "responses",
            {"input": "hi", "text": {"format": {"type": "json_schema", "schema": DOUBLING}}},
            "text.format.schema",
        ),
    ],
)
def test_a_schema_that_expands_without_end_is_refused_by_its_path(
    endpoint: str, members: dict[str, Any], param: str
) -> None:
    fields = read(json.dumps(members))
    exchange = exchange_at(endpoint, request_id="0" * 32, model="asked", fields=fields)
    with pytest.raises(Problem, match="at most 10000 schemas") as refused:
        translator_for(
            exchange, ["anthropic"], TargetModel(model="claude-opus-4-8"), estimator=Estimator()
        )
    assert refused.value.param == param
    tool = {"type": "function", "name": "f", "strict": True, "parameters": DOUBLING}
    if endpoint == "chat.completions":
        tool = {"type": "function", "function": tool}
    members = {**members, "tools": [tool]}
    members.pop("text", None), members.pop("response_format", None)
    sent = way(read(json.dumps(members)), endpoint, "anthropic").take_body()
    assert "strict" not in json.loads(sent)["tools"][0]
