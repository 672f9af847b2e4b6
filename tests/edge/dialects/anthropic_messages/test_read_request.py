"""Requests of callers of Messages, as conversations."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest

from edge.dialects import signatures
from edge.dialects.anthropic_messages.read_request import read, read_counted
from edge.dialects.conversation import (
    Block,
    Cache,
    Conversation,
    Document,
    Image,
    Origin,
    OutputFormat,
    Reasoning,
    Signature,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
)
from middlewares.problem import Problem

PNG = b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
HELLO = [{"role": "user", "content": "Hi"}]


def asked(**members: Any) -> Conversation:
    body = {"model": "m", "max_tokens": 100, "messages": HELLO, **members}
    return read({name: msgspec.Raw(msgspec.json.encode(value)) for name, value in body.items()})


def refused(**members: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        asked(**members)
    return caught.value


def blocks_of(*content: Any, role: str = "user") -> list[Block]:
    return asked(messages=[{"role": role, "content": list(content)}]).turns[0].blocks


def test_the_simplest_request() -> None:
    read = asked(system="Be kind.", stream=True, temperature=0.5, top_k=3, stop_sequences=["X", ""])
    assert read == Conversation(
        turns=[Turn("user", [Text(text="Hi")])],
        system=[Text(text="Be kind.")],
        max_tokens=100,
        temperature=0.5,
        top_k=3,
        stop=("X",),
        stream=True,
    )


def test_the_line_about_billing_goes_to_anthropic_only() -> None:
    """api7/aisix#1144, musistudio/claude-code-router#1372, sgl-project/sglang#29169."""
    line = "x-anthropic-billing-header: cc_version=2.1.329; cch=5f3c1;"
    assert asked(
        system=[
            {"type": "text", "text": line},
            {"type": "text", "text": "You are.", "cache_control": {"type": "ephemeral"}},
        ]
    ).system == [Text(text="You are.", cache=Cache())]
    assert asked(system=f"{line}\n\nYou are.").system == [Text(text="You are.")]
    assert asked(system=line).system == []


def test_an_instruction_may_stand_between_turns() -> None:
    """chenyme/grok2api#598, router-for-me/CLIProxyAPI#3608."""
    turns = asked(
        messages=[
            {"role": "user", "content": "Hi"},
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "assistant", "content": "Yo"},
        ]
    ).turns
    assert [turn.role for turn in turns] == ["user", "system", "assistant"]
    assert turns[1].blocks == [Text(text="Be brief.")]


def test_images_of_every_source() -> None:
    """Xerxes-2/clewdr#121: the type is made right, by its name and by the bytes."""
    one, two, three, four = blocks_of(
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/jpg", "data": "////"},
            "cache_control": {"type": "ephemeral", "ttl": "1h"},
        },
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/jpeg", "data": PNG},
        },
        {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
    )
    at = "messages[0].content[{}]"
    assert one == Image(media_type="image/jpeg", data="////", cache=Cache("1h"), at=at.format(0))
    assert two == Image(media_type="image/png", data=PNG, at=at.format(1))
    assert three == Image(url="https://x.test/a.png", at=at.format(2))
    assert four == Image(file_id="file_1", at=at.format(3))


def test_documents_of_every_source() -> None:
    def document(source: dict[str, Any], **more: Any) -> Document:
        (block,) = blocks_of({"type": "document", "source": source, **more})
        assert isinstance(block, Document)
        return block

    inline = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"}
    pdf = document(inline, title="T", context="C")
    assert (pdf.media_type, pdf.data, pdf.name, pdf.context) == (
        "application/pdf",
        "JVBERi0x",
        "T",
        "C",
    )
    assert document({"type": "text", "media_type": "text/plain", "data": "abc"}).text == "abc"
    assert document({"type": "url", "url": "https://x.test/a"}).url == "https://x.test/a"
    assert document({"type": "file", "file_id": "file_2"}).file_id == "file_2"
    whole = document({"type": "content", "content": "abc"})
    assert whole.blocks == (Text(text="abc"),)
    parts = [
        {"type": "text", "text": "a"},
        {"type": "image", "source": {"type": "url", "url": "https://x.test/i"}},
    ]
    assert [type(b) for b in document({"type": "content", "content": parts}).blocks] == [
        Text,
        Image,
    ]


def test_calls_and_results_of_every_kind() -> None:
    """CommandCodeAI/command-code#850, sgl-project/sglang#19233: images stand in results."""
    read = asked(
        messages=[
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "Ok."},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": "é", "a": 1}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "toolu_1",
                        "is_error": True,
                        "content": [
                            {"type": "text", "text": "t"},
                            {
                                "type": "image",
                                "source": {
                                    "type": "base64",
                                    "media_type": "image/png",
                                    "data": PNG,
                                },
                            },
                            {
                                "type": "document",
                                "source": {"type": "text", "media_type": "text/plain", "data": "d"},
                            },
                            {
                                "type": "search_result",
                                "source": "https://x.test",
                                "title": "X",
                                "content": [{"type": "text", "text": "found"}],
                            },
                            {"type": "tool_reference", "tool_name": "g"},
                        ],
                    },
                    {"type": "tool_result", "tool_use_id": "toolu_2"},
                    {"type": "tool_result", "tool_use_id": "toolu_3", "content": "plain"},
                ],
            },
        ]
    )
    assert read.turns[1].blocks == [
        Text(text="Ok."),
        ToolCall(id="toolu_1", name="f", arguments='{"b":"é","a":1}'),
    ]
    first, second, third = read.turns[2].blocks
    assert isinstance(first, ToolResult)
    assert first.failed
    assert [type(part) for part in first.content] == [Text, Image, Document, Text, Text]
    assert first.content[3] == Text(text="X\nhttps://x.test\nfound")
    assert second == ToolResult(id="toolu_2")
    assert third == ToolResult(id="toolu_3", content=(Text(text="plain"),))


def test_thinking_knows_its_maker() -> None:
    foreign = Signature(origin=Origin("responses", "f00"), data="gAAAA", id="rs_1")
    unsigned = Signature(origin=Origin("openai"), data="")
    blocks = blocks_of(
        {"type": "thinking", "thinking": "a", "signature": "c2ln"},
        {"type": "thinking", "thinking": "", "signature": signatures.pack(foreign)},
        {"type": "thinking", "thinking": "c", "signature": signatures.pack(unsigned)},
        {"type": "thinking", "thinking": "d", "signature": ""},
        {"type": "redacted_thinking", "data": "c2VjcmV0"},
        role="assistant",
    )
    own = Origin("anthropic")
    assert blocks == [
        Thinking(text="a", signature=Signature(origin=own, data="c2ln")),
        Thinking(signature=foreign),
        Thinking(text="c"),
        Thinking(text="d"),
        Thinking(signature=Signature(origin=own, data="c2VjcmV0", redacted=True)),
    ]


def test_what_the_vendor_ran_itself_is_left_out_and_noted() -> None:
    read = asked(
        messages=[
            *HELLO,
            {
                "role": "assistant",
                "content": [
                    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                    {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                    {"type": "text", "text": "Found."},
                ],
            },
        ]
    )
    assert read.turns[1].blocks == [Text(text="Found.")]
    assert read.dropped == [
        "messages[1].content[0]: `server_tool_use`",
        "messages[1].content[1]: `web_search_tool_result`",
    ]


def test_what_a_compaction_sums_up_is_not_lost() -> None:
    assert blocks_of({"type": "compaction", "content": "So far."}) == [Text(text="So far.")]


def test_tools() -> None:
    """BerriAI/litellm#30557: nothing of a tool but its schema is in its schema."""
    read = asked(
        tools=[
            {
                "name": "f",
                "type": "custom",
                "description": "d",
                "input_schema": {"type": "object", "properties": {}},
                "strict": True,
                "cache_control": {"type": "ephemeral"},
                "defer_loading": True,
            },
            {"type": "bash_20250124", "name": "bash"},
            {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool"},
            {
                "type": "computer_20251124",
                "name": "computer",
                "display_width_px": 1024,
                "display_height_px": 768,
            },
            {"type": "memory_20250818", "name": "memory"},
            {
                "type": "web_search_20250305",
                "name": "web_search",
                "max_uses": 3,
                "allowed_domains": ["x.test"],
                "user_location": {"type": "approximate", "city": "Rome", "country": None},
            },
            {"type": "code_execution_20250825", "name": "code_execution"},
        ]
    )
    own, bash, editor, computer, memory, search, code = read.tools
    assert own.schema == {"type": "object", "properties": {}}
    assert (own.strict, own.cache) == (True, Cache())
    for tool, member in (
        (bash, "restart"),
        (editor, "old_str"),
        (computer, "coordinate"),
        (memory, "old_path"),
    ):
        assert tool.kind == "function"
        assert tool.schema is not None
        assert member in tool.schema["properties"]
    assert "1024 x 768" in computer.description
    assert (search.name, search.kind, search.raw) == (
        "web_search",
        "hosted",
        {
            "max_uses": 3,
            "allowed_domains": ["x.test"],
            "user_location": {"type": "approximate", "city": "Rome"},
        },
    )
    assert (code.name, code.kind) == ("code_execution", "hosted")


@pytest.mark.parametrize(
    ("choice", "wanted", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice(mode="any"), False),
        ({"type": "none"}, ToolChoice(mode="none"), None),
        ({"type": "tool", "name": "f"}, ToolChoice(mode="one", name="f"), None),
    ],
)
def test_choices(choice: dict[str, Any], wanted: ToolChoice, parallel: bool | None) -> None:
    """BerriAI/litellm#24443, hivecommons/hive#1643."""
    read = asked(tools=[{"name": "f"}], tool_choice=choice)
    assert (read.tool_choice, read.parallel) == (wanted, parallel)
    without = asked(tool_choice=choice)
    assert (without.tool_choice, without.parallel) == (None, None)


@pytest.mark.parametrize(
    ("members", "reasoning"),
    [
        ({}, None),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 4096}},
            Reasoning(mode="enabled", budget=4096),
        ),
        (
            {
                "thinking": {"type": "adaptive", "display": "summarized"},
                "output_config": {"effort": "xhigh"},
            },
            Reasoning(mode="adaptive", effort="xhigh", shown=True),
        ),
        (
            {"thinking": {"type": "between_tools", "display": "omitted"}},
            Reasoning(mode="between_tools", shown=False),
        ),
        ({"thinking": {"type": "disabled"}}, Reasoning(mode="disabled")),
        ({"output_config": {"effort": "low"}}, Reasoning(effort="low")),
    ],
)
def test_thinking(members: dict[str, Any], reasoning: Reasoning | None) -> None:
    """BerriAI/litellm#8837: thinking is never an unknown member."""
    read = asked(**members)
    assert read.reasoning == reasoning
    assert read.dropped == []


def test_the_format_of_the_answer_in_both_spellings() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    format_ = {"type": "json_schema", "schema": schema}
    for members, path in (
        ({"output_config": {"format": format_}}, "output_config.format.schema"),
        ({"output_format": format_}, "output_format.schema"),
    ):
        assert asked(**members).output == OutputFormat(kind="json_schema", schema=schema, path=path)


def test_a_user_and_a_session() -> None:
    older = f"user_{'a' * 64}_account__session_6f0c1c3e-1111-4222-8333-123456789abc"
    newer = (
        '{"device_id":"d","account_uuid":"","session_id":"6f0c1c3e-1111-4222-8333-123456789abc"}'
    )
    one, two = (asked(metadata={"user_id": id_}) for id_ in (older, newer))
    assert one.user == older
    assert one.session == two.session
    assert len(one.session) == 32
    assert "6f0c1c3e" not in one.session
    assert asked(metadata={"user_id": "me"}).session == ""


def test_tiers() -> None:
    assert asked(service_tier="standard_only").tier == "default"
    assert asked(service_tier="auto").tier == "auto"
    assert asked(speed="fast").tier == "priority"


def test_what_is_unknown_is_noted_and_null_is_nothing() -> None:
    read = asked(context_management={"edits": []}, top_p=None, tools=None, mcp_servers=[])
    assert set(read.bag) == {"context_management", "mcp_servers"}
    assert read.dropped == ["`context_management`", "`mcp_servers`"]


def test_settings_that_mean_nothing_are_absent() -> None:
    plain = asked()
    names = """
        system temperature top_p top_k stop_sequences tools tool_choice thinking output_config
        metadata service_tier stream container cache_control
    """
    assert asked(**dict.fromkeys(names.split())) == plain
    assert asked(tools=[], tool_choice={"type": "auto"}, thinking={}, output_config={}) == plain
    assert asked(top_k=-1, stop_sequences=[], metadata={}) == plain
    assert asked(stop_sequences="", output_config={"effort": "default"}) == plain


def test_settings_in_other_words_are_understood() -> None:
    auto = asked(thinking={"type": "auto"}).reasoning
    assert auto == asked(thinking={"type": "adaptive"}).reasoning
    assert asked(stop_sequences="END").stop == ("END",)
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    for word, kind in (("auto", "auto"), ("any", "any"), ("required", "any"), ("none", "none")):
        said = asked(tools=tools, tool_choice=word)
        assert said == asked(tools=tools, tool_choice={"type": kind})


def test_a_limit_is_needed_except_to_count() -> None:
    with pytest.raises(Problem) as caught:
        read({"messages": msgspec.Raw(b'[{"role":"user","content":"x"}]')})
    assert caught.value.param == "max_tokens"
    assert caught.value.message == "max_tokens: Field required"
    assert (
        read_counted({"messages": msgspec.Raw(b'[{"role":"user","content":"x"}]')}).max_tokens
        is None
    )
    assert asked(max_tokens=0).max_tokens == 1


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "hologram"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "tool_result",
                                "tool_use_id": "t",
                                "content": [{"type": "beam"}],
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].content[0].type",
        ),
        (
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [
                            {
                                "type": "image",
                                "source": {
                                    "type": "base64",
                                    "media_type": "image/png",
                                    "data": "%%",
                                },
                            }
                        ],
                    }
                ]
            },
            "messages[0].content[0].source.data",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "thinking"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "assistant", "content": [{"type": "tool_result"}]}]},
            "messages[0].content[0].type",
        ),
        ({"system": [{"type": "image"}]}, "system[0].source"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"stop_sequences": [3]}, "stop_sequences[0]"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tools": [{"name": "f"}], "tool_choice": {"type": "best"}}, "tool_choice.type"),
        ({"thinking": {"type": "deep"}}, "thinking.type"),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
        ({"output_config": {"effort": "huge"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type"),
    ],
)
def test_what_is_wrong_is_refused_by_its_path(members: dict[str, Any], path: str) -> None:
    """BerriAI/litellm#27074 among them: an unknown effort is an error, not silence."""
    problem = refused(**members)
    assert (problem.kind, problem.param) == ("invalid_request", path)
    assert problem.message is not None
    assert path in problem.message
