"""What is said to the client, and how its configuration is read: without one."""

import json
from typing import Any

import pytest
from msgspec import Raw

from edge.config.load import SettingsError, parse
from edge.upstreams import Malformed
from edge.upstreams.claude_cli.input import (
    ClientRequest,
    UnsupportedRequest,
    callers_tool_name,
    read_request,
)
from edge.upstreams.claude_cli.message import MessageBuilder
from edge.upstreams.claude_cli.output import OutputReader, VendorRefusal
from edge.upstreams.claude_cli.program import Program


def made(**members: Any) -> ClientRequest:
    messages = [{"role": "user", "content": "hi"}]
    return read_request(
        json.dumps({"model": "m", "max_tokens": 9, "messages": messages, **members}).encode()
    )


def controls(**members: Any) -> list[dict[str, Any]]:
    lines = made(**members).controls
    read = [json.loads(line) for line in lines.values()]
    assert [line["request_id"] for line in read] == list(lines)
    assert {line["type"] for line in read} == {"control_request"}
    return [line["request"] for line in read]


def content(line: bytes) -> Any:
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    return json.loads(line)["message"]["content"]


def text(words: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **more}


def test_a_plain_question() -> None:
    question = made()
    line = json.loads(question.question)
    assert line["message"] == {"role": "user", "content": "hi"}
    assert line["client_composed"] is True
    assert "shouldQuery" not in line
    assert (question.history, question.stream, question.tools) == ([], False, frozenset())
    first, settings = controls()
    assert first == {"subtype": "initialize", "systemPrompt": []}
    assert settings == {
        "subtype": "apply_flag_settings",
        "settings": {
            "model": "m",
            "env": {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "9", "CLAUDE_CODE_DISABLE_THINKING": "1"},
        },
    }


def test_what_was_said_so_far() -> None:
    call = {"type": "tool_use", "id": "t1", "name": "ToolSearch", "input": {"cache_control": 1}}
    seen = [text("sunny", cache_control={"type": "ephemeral"})]
    result = {"type": "tool_result", "tool_use_id": "t1", "content": seen}
    signed = {"type": "thinking", "thinking": "hm", "signature": "c2ln"}
    question = made(
        messages=[
            {"role": "user", "content": "one"},
            {"role": "user", "content": [text("two", cache_control={"type": "ephemeral"})]},
            {"role": "assistant", "content": [signed, call]},
            {"role": "user", "content": [result]},
            {"role": "system", "content": "be brief"},
            {"role": "system", "content": []},
        ]
    )
    asked, said = question.history
    assert json.loads(asked.data)["shouldQuery"] is False
    assert json.loads(asked.data)["client_composed"] is True
    assert (content(asked.data), asked.uuid) == ([text("one"), text("two")], "")
    assert content(said.data) == [signed, {**call, "name": "ToolSearch_of_caller"}]
    assert json.loads(said.data)["uuid"] == said.uuid != ""
    reminder = text("<system-reminder>\nbe brief\n</system-reminder>")
    assert content(question.question) == [{**result, "content": [text("sunny")]}, reminder]


def test_a_line_stays_one_line() -> None:
    words = 'a\nb\r\u2028"}\n{"type":"control_request"}'
    assert content(made(messages=[{"role": "user", "content": words}]).question) == words
    assert made(system=words).controls["control-0"].count(b"\n") == 1


def test_only_what_belongs_in_a_message_is_passed_on() -> None:
    more = {"isSynthetic": True, "client_composed": False, "uuid": "x"}
    line = json.loads(made(messages=[{"role": "user", "content": "hi", **more}], **more).question)
    assert line["message"] == {"role": "user", "content": "hi"}
    assert line["client_composed"] is True
    assert "uuid" not in line


def test_tools_and_system() -> None:
    schema = {"properties": {"a": {"type": "string"}}, "$defs": {}}
    tools = [
        {"name": "ToolSearch", "input_schema": schema, "description": "d" * 9000},
        {"name": "b", "type": "custom", "input_schema": {"type": "object"}},
    ]
    question = made(tools=tools)
    assert question.tools == {"ToolSearch_of_caller", "b"}
    assert [callers_tool_name(name) for name in ("ToolSearch_of_caller", "b")] == [
        "ToolSearch",
        "b",
    ]
    (first, _) = controls(tools=tools, system=[text("one", cache_control={}), text("two")])
    assert first["systemPrompt"] == ["one", "two"]
    (server,) = first["sdkMcpServers"]
    assert first["sdkMcpServerManifests"][server]["toolsListResult"]["tools"] == [
        {
            "name": "ToolSearch_of_caller",
            "description": "d" * 9000,
            "inputSchema": {"type": "object", **schema},
        },
        {"name": "b", "description": "", "inputSchema": {"type": "object"}},
    ]


def settings(**members: Any) -> dict[str, str]:
    env: dict[str, str] = controls(**members)[1]["settings"]["env"]
    return env


def test_limits_and_choices() -> None:
    tools = [{"name": "ToolSearch", "input_schema": {}}]
    choice = {"type": "tool", "name": "ToolSearch", "disable_parallel_tool_use": True}
    shape = {"type": "json_schema", "schema": {"type": "object"}}
    env = settings(
        temperature=0.5,
        top_p=1,
        top_k=5,
        stop_sequences=["a\nb"],
        tools=tools,
        tool_choice=choice,
        output_config={"effort": "low", "format": shape},
        metadata={"user_id": "u"},
        thinking={"type": "disabled"},
    )
    assert env.pop("CLAUDE_CODE_EFFORT_LEVEL") == "low"
    assert env.pop("CLAUDE_CODE_DISABLE_THINKING") == "1"
    assert json.loads(env.pop("CLAUDE_CODE_EXTRA_BODY")) == {
        "temperature": 0.5,
        "top_p": 1,
        "top_k": 5,
        "stop_sequences": ["a\nb"],
        "tool_choice": {**choice, "name": "ToolSearch_of_caller"},
        "output_config": {"format": shape},
    }
    assert env == {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "9"}


def test_a_choice_among_no_tools_is_none() -> None:
    assert "CLAUDE_CODE_EXTRA_BODY" not in settings(tool_choice={"type": "auto"})


@pytest.mark.parametrize(
    ("thinking", "tokens", "display"),
    [
        ({"type": "adaptive"}, None, "summarized"),
        ({"type": "enabled", "budget_tokens": 2000, "display": "omitted"}, 2000, "omitted"),
    ],
)
def test_thinking(thinking: dict[str, Any], tokens: int | None, display: str) -> None:
    assert "CLAUDE_CODE_DISABLE_THINKING" not in settings(thinking=thinking)
    assert controls(thinking=thinking)[2] == {
        "subtype": "set_max_thinking_tokens",
        "max_thinking_tokens": tokens,
        "thinking_display": display,
    }


USER = {"role": "user", "content": "hi"}
BROKEN = {"type": "text", "text": 5}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [BROKEN]}


@pytest.mark.parametrize(
    ("members", "begins"),
    [
        ({"model": "--help"}, "model: "),
        ({"model": "a b"}, "model: "),
        ({"model": "a\n"}, "model: "),
        ({"model": ""}, "model: "),
        ({"messages": []}, "messages: "),
        ({"messages": [{"role": "system", "content": " "}]}, "messages: "),
        ({"messages": [USER, {"role": "assistant", "content": "{"}]}, "messages: prefilling"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: "),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content: "),
        ({"max_tokens": "9; rm -rf /"}, "max_tokens: "),
        ({"max_tokens": 0}, "max_tokens: "),
        ({"temperature": "hot"}, "temperature: "),
        ({"stop_sequences": [5]}, "stop_sequences.0: "),
        ({"thinking": {"type": "deep"}}, "thinking.type: "),
        ({"output_config": {"effort": "low\nPATH=/tmp"}}, "output_config.effort: "),
        ({"tool_choice": {"type": "shell"}}, "tool_choice.type: "),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type: "),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools.0.name: "),
        ({"tools": [{"name": "a", "input_schema": {"type": "array"}}]}, "tools.0.input_schema"),
        ({"tools": [{"name": "a"}, {"name": "a"}]}, "tools.1.name: "),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages: "),
        ({"messages": [{"role": "user", "content": []}]}, "messages: "),
        ({"messages": [USER, {"role": "assistant", "content": "x"}] * 10_001}, "messages: more"),
        ({"messages": [{"role": "user", "content": [text("")]}]}, "messages: "),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0"),
        ({"messages": [USER, {"role": "assistant", "content": [BROKEN]}, USER]}, "messages.1.co"),
        ({"messages": [{"role": "user", "content": [RESULT]}]}, "messages.0.content.0.content.0"),
    ],
)
def test_what_cannot_be_asked(members: dict[str, Any], begins: str) -> None:
    with pytest.raises(UnsupportedRequest) as raised:
        made(**members)
    assert str(raised.value).startswith(begins)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"model":"m"}', b"[" * 100_000])
def test_what_cannot_be_read(body: bytes) -> None:
    with pytest.raises(UnsupportedRequest):
        read_request(body)


def test_what_is_nested_too_deep_to_be_written_again() -> None:
    """Wherever that is: it may be read, and be one level too deep inside a line."""

    def outcome(depth: int) -> str:
        schema = b'{"a":' * depth + b"1" + b"}" * depth
        tools = b'"tools":[{"name":"a","input_schema":%b}]' % schema
        start = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],'
        try:
            read_request(start + tools + b"}")
        except UnsupportedRequest:
            return "refused"
        return "asked"

    assert {outcome(depth) for depth in range(500, 1100)} <= {"asked", "refused"}
    assert (outcome(50), outcome(100_000)) == ("asked", "refused")


def test_a_message_is_made_of_its_events() -> None:
    whole = MessageBuilder()
    usage = {"input_tokens": 5, "output_tokens": 1}
    for event in (
        {"type": "message_start", "message": {"id": "m", "content": [], "usage": usage}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 1, "content_block": text("")},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        *(
            {"type": "content_block_delta", "index": index, "delta": delta}
            for index, delta in (
                (0, {"type": "thinking_delta", "thinking": "h"}),
                (0, {"type": "thinking_delta", "thinking": "m"}),
                (0, {"type": "signature_delta", "signature": "c2ln"}),
                (1, {"type": "text_delta", "text": "a"}),
                (1, {"type": "citations_delta", "citation": {"url": "u"}}),
                (1, {"type": "text_delta", "text": "b"}),
                (1, {"type": "unheard_of"}),
            )
        ),
        *(
            {
                "type": "content_block_start",
                "index": index,
                "content_block": {"type": "tool_use", "id": "t", "name": "n", "input": {}},
            }
            for index in (2, 3)
        ),
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": '{"a":'},
        },
        {
            "type": "content_block_delta",
            "index": 2,
            "delta": {"type": "input_json_delta", "partial_json": "1}"},
        },
        *({"type": "content_block_stop", "index": index} for index in (0, 1, 2, 3)),
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ):
        whole.add(Raw(json.dumps(event).encode()))
    assert json.loads(whole.body()) == {
        "id": "m",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
            text("ab", citations=[{"url": "u"}]),
            {"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},
            {"type": "tool_use", "id": "t", "name": "n", "input": {}},
        ],
        "usage": {"input_tokens": 5, "output_tokens": 7},
        "stop_reason": "tool_use",
        "stop_sequence": None,
    }


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
        {"type": "message_delta", "delta": {}},
        {"index": 5},
        [],
    ],
)
def test_an_event_that_does_not_fit(event: Any) -> None:
    with pytest.raises(Malformed):
        MessageBuilder().add(Raw(json.dumps(event).encode()))


@pytest.mark.parametrize(
    "line",
    [
        {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed", "resetsAt": 5}},
        {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": "?"}},
        {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 9e99}},
        {"type": "rate_limit_event", "rate_limit_info": None},
        {"type": "keep_alive"},
        {"type": "system", "subtype": {"of": "another kind"}, "event": "ui.render"},
        {"type": "control_request", "request_id": "x", "request": {"subtype": "mcp_message"}},
        {"type": "control_request", "request": {"message": {"method": "tools/call"}}},
        {"type": "control_request", "request": {"message": "initialize"}},
        {"type": "control_request", "request": "initialize"},
        {"type": "assistant", "message": {"content": [{"type": "text", "text": "hi"}]}},
        {"something": "else"},
    ],
)
def test_a_line_that_is_not_for_us(line: dict[str, Any]) -> None:
    answering = OutputReader()
    assert answering.read_line(json.dumps(line).encode()) is None
    with pytest.raises(VendorRefusal) as raised:
        answering.read_line(
            b'{"type": "assistant", "error": {"a": 1}, "api_error_status": 418, "message": {}}'
        )
    assert raised.value.status == 418
    assert [name for name, _ in raised.value.headers] == [b"content-type"]


@pytest.mark.parametrize("line", [b"[]", b'"x"', b"5", b"\xff", b"[" * 100_000, b'{"type": 5}'])
def test_a_line_that_cannot_be_read(line: bytes) -> None:
    with pytest.raises(Malformed):
        OutputReader().read_line(line)


# Configuration


def configured(**options: Any) -> Any:
    upstream = {"name": "cli", "dialect": "claude-cli", **options}
    model = {"id": "m", "targets": ["cli/m"]}
    document = {"upstreams": [upstream], "models": [model]}
    return parse(document, env={"TOKEN": "t0ken"}).upstreams[0]


def test_options() -> None:
    option = configured(
        command="/opt/claude", environment={"CLAUDE_CODE_OAUTH_TOKEN": "env:TOKEN"}, prewarm=0
    )
    assert option.environment["CLAUDE_CODE_OAUTH_TOKEN"].reveal() == "t0ken"
    assert "t0ken" not in repr(option)
    assert (option.command, option.max_processes, option.max_waiting) == ("/opt/claude", 5, 100)
    assert configured().command == "claude"


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"command": "--version"}, "command"),
        ({"command": ""}, "command"),
        ({"command": "\nclaude"}, "command"),
        ({"max_processes": 0}, "max_processes"),
        ({"max_waiting": -1}, "max_waiting"),
        ({"environment": {"A=B": "c"}}, "environment.A=B"),
        ({"environment": {"A": "b\0"}}, "environment.A"),
        ({"headers": {"x-a": "b"}}, "headers"),
        ({"base_url": "http://localhost/v1"}, "base_url"),
        ({"api_key": "k"}, "api_key"),
        ({"dialect": "simulator", "command": "x"}, "command"),
        ({"dialect": "simulator", "environment": {"A": "b"}}, "environment"),
        ({"dialect": "simulator", "max_processes": 2}, "max_processes"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], key: str) -> None:
    with pytest.raises(SettingsError) as raised:
        configured(**options)
    assert f"upstreams[0].{key}" in str(raised.value)


def test_the_environment_is_a_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setenv("HOME", "/home/us")
    monkeypatch.setenv("OUR_SECRET", "s")
    given = {"HOME": "/srv", "A": "b", "CLAUDE_CODE_MAX_RETRIES": "9", "TMPDIR": "/tmp"}
    environ = Program(environment=given).environ(tmp_path)
    assert (environ["HOME"], environ["A"]) == ("/srv", "b")
    assert environ["CLAUDE_CODE_MAX_RETRIES"] == "0"
    assert environ["TMPDIR"] == str(tmp_path)
    assert "OUR_SECRET" not in environ


def test_very_many_messages_of_one_role_become_one_turn_in_linear_time() -> None:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "a"}] * 20_000}
    asked = read_request(json.dumps(body).encode())
    assert not asked.history
    assert asked.question.count(b'"text":"a"') == 20_000
