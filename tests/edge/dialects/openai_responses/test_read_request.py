"""Requests of callers of Responses: how each member is decoded, and how faults are named."""

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

from edge.dialects.conversation import (
    Cache,
    Citation,
    Conversation,
    Document,
    Image,
    Origin,
    OutputFormat,
    Reasoning,
    Refusal,
    Signature,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from edge.dialects.openai_responses import CLIENT
from edge.dialects.signatures import pack
from middlewares.problem import Problem

PNG = b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode()


def read(input_: Any = "hi", **members: Any) -> Conversation:
    body = {"model": "m", "input": input_, **members}
    return CLIENT.read({name: msgspec.Raw(json.dumps(v).encode()) for name, v in body.items()})


def refused(input_: Any = "hi", **members: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        read(input_, **members)
    assert caught.value.kind == "invalid_request"
    return caught.value


def user(*blocks: Any) -> Turn:
    return Turn("user", list(blocks))


def assistant(*blocks: Any) -> Turn:
    return Turn("assistant", list(blocks))


# Input


def test_a_string_is_what_the_user_says() -> None:
    assert read("hi").turns == [user(Text(text="hi"))]


def test_messages_of_all_roles() -> None:
    """Those before the first turn are the system's, as instructions are; later ones stay."""
    found = read(
        [
            {"role": "system", "content": "S"},
            {
                "type": "message",
                "role": "developer",
                "content": ["D1", {"type": "input_text", "text": "D2"}],
            },
            {"role": "user", "content": "U"},
            {"role": "user", "content": [{"type": "input_text", "text": "U2"}]},
            {"role": "assistant", "content": ["A"], "phase": "commentary"},
            {"role": "system", "content": "Later"},
            "U3",
        ],
        instructions="I",
    )
    assert [text.text for text in found.system] == ["I", "S", "D1", "D2"]
    assert found.turns == [
        user(Text(text="U"), Text(text="U2")),
        assistant(Text(text="A")),
        Turn("system", [Text(text="Later")]),
        user(Text(text="U3")),
    ]


def test_parts_of_the_assistant() -> None:
    note = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0}
    [turn] = read(
        [
            {
                "type": "message",
                "role": "assistant",
                "id": "msg_1",
                "content": [
                    {"type": "output_text", "text": "x", "annotations": [note], "logprobs": []},
                    {"type": "refusal", "refusal": "No."},
                ],
            }
        ]
    ).turns
    assert turn.blocks == [
        Text(text="x", citations=(Citation("https://a.example", "A"),)),
        Refusal(text="No."),
    ]


def test_images_and_files() -> None:
    """Xerxes-2/clewdr#121: types of data URLs are put right."""
    pdf = b64encode(b"%PDF-1.7").decode()
    parts = [
        {"type": "input_image", "image_url": f"data:image/jpg;x=1;base64,{PNG}", "detail": "low"},
        {"type": "input_image", "image_url": "https://a.example/x.png"},
        {"type": "input_image", "file_id": "file_1"},
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": f"data:application/pdf;base64,{pdf}",
        },
        {"type": "input_file", "file_data": pdf},
        {"type": "input_file", "file_url": "https://a.example/a.pdf"},
        {"type": "input_file", "file_id": "file_2"},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain,h%C3%A9"},
        {"type": "input_file", "file_data": f"data:image/png;base64,{PNG}"},
        {"type": "input_text", "text": "t", "prompt_cache_breakpoint": {"mode": "explicit"}},
    ]
    [turn] = read([{"role": "user", "content": parts}]).turns
    at = "input[0].content[{}]".format
    assert turn.blocks == [
        Image(media_type="image/png", data=PNG, detail="low", at=at(0)),
        Image(url="https://a.example/x.png", at=at(1)),
        Image(file_id="file_1", at=at(2)),
        Document(media_type="application/pdf", data=pdf, name="a.pdf", at=at(3)),
        Document(media_type="application/pdf", data=pdf, at=at(4)),
        Document(url="https://a.example/a.pdf", at=at(5)),
        Document(file_id="file_2", at=at(6)),
        Document(media_type="text/plain", text="hé", name="a.txt", at=at(7)),
        Image(media_type="image/png", data=PNG, at=at(8)),
        Text(text="t", cache=Cache()),
    ]


def test_calls_and_results() -> None:
    """By `call_id`, never by the item's own. Images stay where they are: ggml-org/llama.cpp#22536,
    raine/claude-code-proxy#59.
    """
    found = read(
        [
            {
                "type": "function_call",
                "id": "fc_9",
                "call_id": "c1",
                "name": "f",
                "arguments": '{"a": 1}',
            },
            {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** x"},
            {
                "type": "function_call",
                "call_id": "c3",
                "name": "g",
                "namespace": "mcp",
                "arguments": "",
            },
            {"type": "function_call_output", "call_id": "c1", "output": "one"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": "two"},
            {
                "type": "function_call_output",
                "call_id": "c3",
                "output": [
                    {"type": "input_text", "text": "see"},
                    {"type": "input_image", "image_url": "https://a.example/x.png"},
                ],
            },
            {"role": "user", "content": "go on"},
        ]
    )
    image = Image(url="https://a.example/x.png", at="input[5].output[1]")
    assert found.turns == [
        assistant(
            ToolCall(id="c1", name="f", arguments='{"a": 1}'),
            ToolCall(id="c2", name="patch", arguments="*** x", custom=True),
            ToolCall(id="c3", name="g", namespace="mcp"),
        ),
        user(
            ToolResult(id="c1", content=(Text(text="one"),)),
            ToolResult(id="c2", content=(Text(text="two"),), custom=True),
            ToolResult(id="c3", content=(Text(text="see"), image)),
            Text(text="go on"),
        ),
    ]


def test_tools_the_caller_runs_for_openai() -> None:
    found = read(
        [
            {
                "type": "local_shell_call",
                "call_id": "c1",
                "action": {"type": "exec", "command": ["ls"]},
            },
            {"type": "local_shell_call_output", "id": "c1", "output": '{"stdout":"x"}'},
            {"type": "shell_call", "call_id": "c2", "action": {"commands": ["ls"]}},
            {"type": "shell_call_output", "call_id": "c2", "output": [{"stdout": "x"}]},
            {"type": "apply_patch_call", "call_id": "c3", "operation": {"type": "delete_file"}},
            {
                "type": "apply_patch_call_output",
                "call_id": "c3",
                "status": "failed",
                "output": "no",
            },
        ]
    )
    calls = list(found.calls())
    assert [(call.id, call.name, call.arguments) for call in calls] == [
        ("c1", "local_shell", '{"type":"exec","command":["ls"]}'),
        ("c2", "shell", '{"commands":["ls"]}'),
        ("c3", "apply_patch", '{"type":"delete_file"}'),
    ]
    results = [turn.blocks[0] for turn in found.turns if turn.role == "user"]
    assert results == [
        ToolResult(id="c1", content=(Text(text='{"stdout":"x"}'),)),
        ToolResult(id="c2", content=(Text(text='[{"stdout":"x"}]'),)),
        ToolResult(id="c3", content=(Text(text="no"),), failed=True),
    ]


def test_reasoning() -> None:
    """What another dialect's model made was packed; what is not packed is the vendor's own."""
    sealed = Signature(origin=Origin("anthropic", "f" * 12), data="sig")
    summary = [{"type": "summary_text", "text": text} for text in ("a", "b")]
    content = [{"type": "reasoning_text", "text": "raw"}]
    [turn] = read(
        [
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": summary,
                "encrypted_content": pack(sealed),
            },
            {"type": "reasoning", "id": "rs_2", "summary": [], "encrypted_content": "gAAA"},
            {"type": "reasoning", "id": "rs_3", "summary": [], "content": content},
            {"type": "reasoning", "id": "rs_4", "summary": [], "encrypted_content": None},
        ]
    ).turns
    native = Signature(origin=Origin("responses"), data="gAAA", id="rs_2", redacted=True)
    assert turn.blocks == [
        Thinking(text="a\n\nb", signature=sealed),
        Thinking(signature=native),
        Thinking(text="raw"),
    ]


def test_items_of_the_vendors_own_tools_are_noted_and_left_out() -> None:
    items = [
        {"type": "web_search_call", "id": "ws_1"},
        {"role": "assistant", "content": "Found."},
        {"type": "mcp_list_tools", "id": "m"},
        {"type": "tool_search_output", "call_id": "x"},
    ]
    found = read(items)
    assert found.turns == [assistant(Text(text="Found."))]
    assert found.dropped == [
        "input[0]: `web_search_call`",
        "input[2]: `mcp_list_tools`",
        "input[3]: `tool_search_output`",
    ]


@pytest.mark.parametrize(
    ("input_", "param"),
    [
        (None, "input"),
        (5, "input"),
        ([5], "input[0]"),
        ([{"type": "hologram"}], "input[0].type"),
        ([{"type": 5}], "input[0].type"),
        ([{}], "input[0].type"),
        ([{"type": "item_reference", "id": "x"}], "input[0]"),
        ([{"id": "x"}], "input[0]"),
        (["a", {"type": "compaction", "encrypted_content": "x"}], "input[1]"),
        ([{"role": "wizard", "content": "x"}], "input[0].role"),
        ([{"role": "user"}], "input[0].content"),
        ([{"role": "user", "content": [5]}], "input[0].content[0]"),
        ([{"role": "user", "content": [{"type": "smell"}]}], "input[0].content[0].type"),
        ([{"role": "user", "content": [{"type": "input_text"}]}], "input[0].content[0].text"),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "ftp://x"}]}],
            "input[0].content[0].image_url",
        ),
        (
            [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png"}]}],
            "input[0].content[0].image_url",
        ),
        (
            [{"role": "user", "content": [{"type": "input_file", "file_data": "zzz"}]}],
            "input[0].content[0].file_data",
        ),
        (
            [{"role": "user", "content": [{"type": "input_file", "file_url": "/etc/passwd"}]}],
            "input[0].content[0].file_url",
        ),
        (
            [{"role": "developer", "content": [{"type": "input_image", "file_id": "f"}]}],
            "input[0].content[0].type",
        ),
        ([{"type": "function_call", "name": "f", "arguments": "{}"}], "input[0].call_id"),
        ([{"type": "function_call", "call_id": "c", "arguments": "{}"}], "input[0].name"),
        (
            [{"type": "function_call", "call_id": "c", "name": "f", "arguments": 5}],
            "input[0].arguments",
        ),
        ([{"type": "function_call_output", "output": "x"}], "input[0].call_id"),
        (
            [
                {
                    "type": "function_call_output",
                    "call_id": "c",
                    "output": [{"type": "refusal", "refusal": "x"}],
                }
            ],
            "input[0].output[0].type",
        ),
        ([{"type": "reasoning", "summary": "x"}], "input[0].summary"),
        ([{"type": "shell_call", "call_id": "c", "action": "ls"}], "input[0].action"),
        ([{"type": "additional_tools", "tools": [{"type": "function"}]}], "input[0].tools[0].name"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(input_: Any, param: str) -> None:
    problem = refused(input_)
    assert problem.param == param


# Tools


def test_tools() -> None:
    """Unknown ones of Codex's do no harm: CommandCodeAI/command-code#885, lidge-jun/opencodex#3204;
    namespaces keep their name: diegosouzapw/OmniRoute#5483.
    """
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    found = read(
        tools=[
            {
                "type": "function",
                "name": "f",
                "description": "d",
                "parameters": schema,
                "strict": True,
            },
            {"type": "function", "name": "g", "parameters": None, "strict": None},
            {"type": "custom", "name": "patch", "description": "p", "format": grammar},
            {
                "type": "namespace",
                "name": "mcp",
                "description": "n",
                "tools": [{"type": "function", "name": "g"}, {"type": "custom", "name": "h"}],
            },
            {
                "type": "web_search_preview",
                "filters": {"allowed_domains": ["a.example"]},
                "user_location": {"type": "approximate", "country": "IT"},
                "search_context_size": "low",
                "external_web_access": True,
            },
            {"type": "tool_search"},
            {"type": "from_the_future", "x": 1},
        ],
    )
    assert found.tools == [
        Tool(name="f", description="d", schema=schema, strict=True),
        Tool(name="g"),
        Tool(name="patch", kind="custom", description="p", format=grammar),
        Tool(name="g", namespace="mcp"),
        Tool(name="h", kind="custom", namespace="mcp"),
        Tool(
            name="web_search",
            kind="hosted",
            raw={
                "allowed_domains": ["a.example"],
                "user_location": {"type": "approximate", "country": "IT"},
                "search_context_size": "low",
            },
        ),
        Tool(name="tool_search", kind="hosted", raw={"type": "tool_search"}),
        Tool(name="from_the_future", kind="hosted", raw={"type": "from_the_future", "x": 1}),
    ]


def test_tools_that_come_in_the_input() -> None:
    items = [
        {
            "type": "additional_tools",
            "role": "developer",
            "tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "g"}],
        },
        {"role": "user", "content": "x"},
    ]
    found = read(items, tools=[{"type": "function", "name": "f", "description": "first"}])
    assert [(tool.name, tool.description) for tool in found.tools] == [("f", "first"), ("g", "")]


TOOLS = [
    {"type": "function", "name": "f"},
    {"type": "namespace", "name": "mcp", "tools": [{"type": "function", "name": "g"}]},
    {"type": "custom", "name": "patch"},
    {"type": "web_search"},
]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", ToolChoice()),
        ("required", ToolChoice(mode="any")),
        ("none", ToolChoice(mode="none")),
        ({"type": "function", "name": "f"}, ToolChoice(mode="one", name="f")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="one", name="f")),
        ({"type": "function", "name": "g"}, ToolChoice(mode="one", name="mcp__g")),
        (
            {"type": "function", "name": "g", "namespace": "mcp"},
            ToolChoice(mode="one", name="mcp__g"),
        ),
        ({"type": "custom", "name": "patch"}, ToolChoice(mode="one", name="patch")),
        ({"type": "web_search_preview"}, ToolChoice(mode="one", name="web_search")),
        ({"type": "image_generation"}, ToolChoice(mode="one", name="image_generation")),
        (
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [{"type": "function", "name": "f"}, {"type": "web_search"}],
            },
            ToolChoice(mode="any", allowed=("f", "web_search")),
        ),
    ],
)
def test_choices(choice: Any, expected: ToolChoice | None) -> None:
    """hivecommons/hive#1643."""
    found = read(tools=TOOLS, tool_choice=choice, parallel_tool_calls=False)
    assert found.tool_choice == expected
    assert found.parallel is False


def test_a_choice_without_tools_is_none() -> None:
    found = read(tool_choice="auto", parallel_tool_calls=True, tools=[])
    assert (found.tool_choice, found.parallel) == (None, None)


# Settings


def test_settings() -> None:
    schema = {"type": "object"}
    found = read(
        max_output_tokens=5,
        temperature=1.5,
        top_p=0.5,
        top_logprobs=2,
        reasoning={"effort": "xhigh", "summary": "auto"},
        text={
            "verbosity": "low",
            "format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True},
        },
        service_tier="scale",
        user="u",
        prompt_cache_key="k",
        metadata={"a": "b"},
        stream=True,
        store=False,
        include=["reasoning.encrypted_content"],
        truncation="auto",
        client_metadata={"x": "y"},
    )
    assert found.max_tokens == 5
    assert (found.temperature, found.top_p, found.top_logprobs) == (1.5, 0.5, 2)
    assert found.reasoning == Reasoning(effort="xhigh", shown=True)
    assert found.output == OutputFormat(
        kind="json_schema", name="n", schema=schema, strict=True, path="text.format.schema"
    )
    assert (found.verbosity, found.tier, found.user, found.session) == ("low", "priority", "u", "k")
    assert found.metadata == {"a": "b"}
    assert found.stream
    assert found.dropped == []


def test_null_is_absent() -> None:
    names = (
        "instructions tools tool_choice parallel_tool_calls max_output_tokens temperature top_p "
        "reasoning text service_tier user safety_identifier prompt_cache_key metadata include "
        "truncation top_logprobs stream max_tool_calls previous_response_id conversation prompt"
    )
    assert read(**dict.fromkeys(names.split())) == read()
    assert read(reasoning={}, text={}, tools=[], include=[], metadata=None) == read()
    assert read(text={"format": {}}) == read(text={"format": {"type": "text"}}) == read()


def test_format_without_name_or_schema_is_understood() -> None:
    """vercel/ai#21202."""
    schema = {"type": "object"}
    found = read(text={"format": {"type": "json_schema", "schema": schema}})
    assert found.output == OutputFormat(
        kind="json_schema", name="output", schema=schema, path="text.format.schema"
    )
    found = read(text={"format": {"type": "json_schema"}})
    assert found.output == OutputFormat(kind="json_object")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, None),
        ({"effort": "default"}, None),
        ({"effort": "auto", "summary": "auto"}, Reasoning(shown=True)),
        ({"summary": "auto"}, Reasoning(shown=True)),
        ({"generate_summary": "concise"}, Reasoning(shown=True)),
        ({"effort": "none"}, Reasoning(effort="none", shown=False)),
        ({"effort": "low", "summary": None}, Reasoning(effort="low", shown=False)),
    ],
)
def test_reasoning_asked(wanted: dict[str, Any], expected: Reasoning | None) -> None:
    assert read(reasoning=wanted).reasoning == expected


def test_what_is_unknown_is_kept_apart_and_noted() -> None:
    found = read(moon_phase="full")
    assert bytes(found.bag["moon_phase"]) == b'"full"'
    assert found.dropped == ["`moon_phase`"]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"instructions": 5}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),  # BerriAI/litellm#27074
        ({"reasoning": {"summary": "long"}}, "reasoning.summary"),
        ({"reasoning": "high"}, "reasoning"),
        ({"text": {"format": {"type": "xml"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": 1}}}, "text.format.schema"),
        (
            {"text": {"format": {"type": "json_schema", "name": 1, "schema": {}}}},
            "text.format.name",
        ),
        ({"text": {"verbosity": "chatty"}}, "text.verbosity"),
        ({"tools": {}}, "tools"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [{"type": "custom", "name": "f", "format": "x"}]}, "tools[0].format"),
        (
            {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]},
            "tools[0].tools[0].name",
        ),
        ({"tools": [{"type": "web_search", "filters": 1}]}, "tools[0].filters"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tools": TOOLS, "tool_choice": {"type": "allowed_tools"}}, "tool_choice.tools"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"metadata": []}, "metadata"),
        ({"include": "x"}, "include"),
        ({"include": [1]}, "include[0]"),
        ({"truncation": "some"}, "truncation"),
        ({"service_tier": 1}, "service_tier"),
        ({"safety_identifier": 1}, "safety_identifier"),
        ({"max_tool_calls": -1}, "max_tool_calls"),
        ({"stream": "yes"}, "stream"),
    ],
)
def test_wrong_settings_are_named(members: dict[str, Any], param: str) -> None:
    assert refused(**members).param == param


def test_members_that_are_no_json() -> None:
    with pytest.raises(Problem) as caught:
        CLIENT.read({"input": msgspec.Raw(b'"hi"'), "tools": msgspec.Raw(b"[")})
    assert caught.value.param == "tools"


def test_bound_of_hosted_calls_becomes_one_of_web_search() -> None:
    search = {"type": "web_search"}
    (tool,) = read(tools=[search], max_tool_calls=3).tools
    assert (tool.raw or {})["max_uses"] == 3
    assert read(tools=[search], max_tool_calls=3).dropped == []
    assert read(tools=[search], max_tool_calls=0).dropped == ["`max_tool_calls`"]


def test_what_has_no_place_elsewhere_is_named() -> None:
    found = read(context_management=[{"type": "compaction"}], max_tool_calls=3, service_tier="new")
    assert set(found.dropped) == {"`context_management`", "`max_tool_calls`", "`service_tier`"}
