"""Conversations as a Responses upstream is asked them."""

import json
from typing import Any

import pytest

from edge.dialects.codec import TargetModel, WrittenRequest, WrittenTool
from edge.dialects.conversation import (
    Audio,
    Block,
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
from edge.dialects.openai_responses import UPSTREAM
from edge.dialects.signatures import fingerprint
from middlewares.problem import Problem
from tests.schemas import check_request

MODEL = "gpt-5.1"
ORIGIN = fingerprint("responses", MODEL)


def write(conversation: Conversation, model: str = MODEL, **aim: Any) -> WrittenRequest:
    sent = UPSTREAM.write(conversation, TargetModel(model=model, origin=ORIGIN, **aim))
    assert (
        UPSTREAM.write(conversation, TargetModel(model=model, origin=ORIGIN, **aim)).body
        == sent.body
    )
    check_request("responses", sent.body)
    return sent


def body(conversation: Conversation, model: str = MODEL, **aim: Any) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(write(conversation, model, **aim).body)
    return written


def said(text: str = "hi", **members: Any) -> Conversation:
    return Conversation(turns=[Turn("user", [Text(text=text)])], **members)


def history(*blocks: Block, results: tuple[ToolResult, ...] = ()) -> Conversation:
    turns = [Turn("user", [Text(text="hi")]), Turn("assistant", list(blocks))]
    return Conversation(turns=[*turns, Turn("user", [*results, Text(text="go on")])])


def items(conversation: Conversation, model: str = MODEL) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body(conversation, model)["input"]
    return found


HI = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
GO_ON = {**HI, "content": [{"type": "input_text", "text": "go on"}]}


def test_nothing_is_left_with_the_vendor() -> None:
    assert body(said(stream=True)) == {
        "model": MODEL,
        "input": [HI],
        "store": False,
        "include": ["reasoning.encrypted_content"],
        "stream": True,
    }
    assert "include" not in body(said(), "gpt-4.1")


def test_one_instruction_is_instructions() -> None:
    assert body(said(system=[Text(text="S"), Text(text=" ")]))["instructions"] == "S"


@pytest.mark.parametrize(("model", "role"), [(MODEL, "developer"), ("gpt-4.1", "system")])
def test_several_instructions_are_messages(model: str, role: str) -> None:
    conversation = said(system=[Text(text="A"), Text(text="B")])
    conversation.turns += [Turn("system", [Text(text="C")]), Turn("user", [Text(text="go on")])]
    written = body(conversation, model)
    assert "instructions" not in written
    parts = [{"type": "input_text", "text": text} for text in "AB"]
    later = {"type": "message", "role": role, "content": [{"type": "input_text", "text": "C"}]}
    first = {"type": "message", "role": role, "content": parts}
    assert written["input"] == [first, HI, later, GO_ON]


def test_only_instructions_are_input_too() -> None:
    written = body(Conversation(turns=[], system=[Text(text="S")]))
    assert [item["role"] for item in written["input"]] == ["developer"]


def test_the_word_json_stays_in_the_input() -> None:
    conversation = said(
        system=[Text(text="Answer in JSON.")], output=OutputFormat(kind="json_object")
    )
    assert "instructions" not in body(conversation)
    assert body(conversation)["text"] == {"format": {"type": "json_object"}}


def test_the_line_of_billing_is_not_for_others() -> None:
    """api7/aisix#1144, musistudio/claude-code-router#1372, sgl-project/sglang#29169."""
    line = "x-anthropic-billing-header: cc_version=1"
    system = [Text(text=line), Text(text="S")]
    assert body(said(system=system))["instructions"] == "S"
    assert body(said(system=[Text(text=f"{line}\n\nS")]))["instructions"] == "S"


# Turns


def test_what_the_model_said() -> None:
    assert items(history(Text(text="a"), Text(text="b"))) == [
        HI,
        {"type": "message", "role": "assistant", "content": "ab"},
        GO_ON,
    ]
    refused = items(history(Text(text="a"), Refusal(text="no")))[1]
    assert refused["content"] == [
        {"type": "output_text", "text": "a", "annotations": []},
        {"type": "refusal", "refusal": "no"},
    ]
    assert refused["id"].startswith("msg_")


def test_calls_and_results_stay_in_order() -> None:
    """The id of both is mapped the same way when it is too long (diegosouzapw/OmniRoute#4317,
    decolua/9router#393), and not cut (leookun/cursor-byok#364).
    """
    long = "call_" + "x" * 80
    found = items(
        history(
            Text(text="a"),
            ToolCall(id=long, name="f", arguments='{"a": 1}'),
            ToolCall(id="c2", name="g"),
            Text(text="b"),
            results=(
                ToolResult(id="c2", content=(Text(text="x"), Text(text="y"))),
                ToolResult(id=long, failed=True, content=(Text(text="boom"),)),
            ),
        )
    )
    id_ = found[2]["call_id"]
    assert len(id_) <= 64
    assert not long.startswith(id_)
    assert found == [
        HI,
        {"type": "message", "role": "assistant", "content": "a"},
        {"type": "function_call", "call_id": id_, "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "message", "role": "assistant", "content": "b"},
        {"type": "function_call_output", "call_id": id_, "output": "Error: boom"},
        {"type": "function_call_output", "call_id": "c2", "output": "x\ny"},
        GO_ON,
    ]


def test_a_call_without_a_result_gets_one() -> None:
    """OpenHands/OpenHands#7512, lidge-jun/opencodex#620."""
    found = items(history(ToolCall(id="c", name="f"), results=(ToolResult(id="other"),)))
    assert found[2] == {
        "type": "function_call_output",
        "call_id": "c",
        "output": "Error: No result was provided.",
    }
    assert len(found) == 4


@pytest.mark.parametrize(
    ("content", "failed", "output"),
    [
        ((), False, ""),
        ((), True, "Error: "),
        ((Text(text="Error: x"),), True, "Error: x"),
        (
            (Text(text="see"), Image(media_type="image/png", data="AAAA")),
            True,
            [
                {"type": "input_text", "text": "Error: see"},
                {
                    "type": "input_image",
                    "image_url": "data:image/png;base64,AAAA",
                    "detail": "auto",
                },
            ],
        ),
        (
            (Image(url="https://a.example/x.png", detail="low"),),
            True,
            [
                {"type": "input_text", "text": "Error:"},
                {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "low"},
            ],
        ),
        (
            (Document(media_type="application/pdf", data="JVBERi0=", name="a.pdf"),),
            False,
            [
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": "data:application/pdf;base64,JVBERi0=",
                }
            ],
        ),
    ],
)
def test_results_hold_images_and_files_themselves(
    content: tuple[Text | Image | Document, ...], failed: bool, output: Any
) -> None:
    """ggml-org/llama.cpp#22536, raine/claude-code-proxy#59."""
    result = ToolResult(id="c", content=content, failed=failed)
    found = items(history(ToolCall(id="c", name="f"), results=(result,)))
    assert found[2]["output"] == output


def test_files_of_the_user() -> None:
    blocks: list[Block] = [
        Document(text="hé", name="a.txt", media_type="text/plain", context="Notes."),
        Document(text="x", media_type="text/markdown"),
        Document(url="https://a.example/a.pdf"),
        Document(data="JVBERi0="),
        Document(name="mixed", blocks=(Text(text="t"), Image(url="https://a.example/x.png"))),
    ]
    [message] = items(Conversation(turns=[Turn("user", blocks)]))
    assert message["content"] == [
        {"type": "input_text", "text": "Notes."},
        {"type": "input_file", "filename": "a.txt", "file_data": "data:text/plain;base64,aMOp"},
        {
            "type": "input_file",
            "filename": "document.md",
            "file_data": "data:text/markdown;base64,eA==",
        },
        {"type": "input_file", "file_url": "https://a.example/a.pdf"},
        {
            "type": "input_file",
            "filename": "document.pdf",
            "file_data": "data:application/pdf;base64,JVBERi0=",
        },
        {"type": "input_text", "text": "mixed"},
        {"type": "input_text", "text": "t"},
        {"type": "input_image", "image_url": "https://a.example/x.png", "detail": "auto"},
    ]


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (
            Audio(data="AAAA", format="wav", at="messages[0].content[0]"),
            "audio_not_supported_by_model",
        ),
    ],
)
def test_what_cannot_be_sent_is_named(block: Block, kind: str) -> None:
    with pytest.raises(Problem) as caught:
        write(Conversation(turns=[Turn("user", [block])]))
    assert caught.value.kind == kind
    assert caught.value.param == "messages[0].content[0]"


def test_files_of_the_vendor_are_named_by_their_ids() -> None:
    blocks: list[Block] = [Image(file_id="file_1", detail="low"), Document(file_id="file_2")]
    (item,) = items(Conversation(turns=[Turn("user", blocks)]))
    assert item["content"] == [
        {"type": "input_image", "file_id": "file_1", "detail": "low"},
        {"type": "input_file", "file_id": "file_2"},
    ]


# Thinking


def thought(model: str = ORIGIN, dialect: str = "responses", **more: Any) -> Thinking:
    signature = Signature(origin=Origin(dialect, model), data="gAAA", id="rs_1")
    return Thinking(signature=signature, **more)


def test_thinking_goes_back_to_its_maker_only() -> None:
    call = ToolCall(id="c", name="f")
    expected = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "gAAA",
        "id": "rs_1",
    }
    assert items(history(thought(text="Hm."), call))[1] == expected
    assert items(history(thought("", text="Hm."), call))[1] == expected
    for foreign in (thought("f" * 12), thought(dialect="anthropic"), Thinking(text="Hm.")):
        found = items(history(foreign, call))
        assert [item["type"] for item in found[:2]] == ["message", "function_call"]


def test_a_thought_without_its_deed_is_left_out() -> None:
    assert items(history(Text(text="a"), thought())) == [
        HI,
        {"type": "message", "role": "assistant", "content": "a"},
        GO_ON,
    ]


# Tools


def test_tools() -> None:
    """What is not strict says so; a schema stays as it was (BerriAI/litellm#30557)."""
    strict = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    nested = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: x"}}
    sent = write(
        said(
            tools=[
                Tool(name="f", description="d", schema=strict, strict=True),
                Tool(name="g", schema=loose, strict=True),
                Tool(name="h"),
                Tool(name="i", schema={"anyOf": [strict, loose]}),
                Tool(name="patch", kind="custom", description="p", format=grammar),
                Tool(name="patch2", kind="custom", format=nested),
                Tool(name="f", namespace="mcp"),
                Tool(name="x" * 80),
                Tool(
                    name="web_search",
                    kind="hosted",
                    raw={
                        "max_uses": 3,
                        "allowed_domains": ["a.example"],
                        "user_location": {"type": "approximate", "country": "IT"},
                    },
                ),
                Tool(name="tool_search", kind="hosted", raw={"type": "tool_search"}),
            ],
            parallel=False,
        )
    )
    written = json.loads(sent.body)
    long = written["tools"][7]["name"]
    empty = {"type": "object", "properties": {}}
    value = {
        "type": "object",
        "properties": {"value": {"anyOf": [strict, loose]}},
        "required": ["value"],
    }
    assert written["tools"] == [
        {"type": "function", "name": "f", "description": "d", "parameters": strict, "strict": True},
        {"type": "function", "name": "g", "parameters": loose, "strict": False},
        {"type": "function", "name": "h", "parameters": empty, "strict": False},
        {"type": "function", "name": "i", "parameters": value, "strict": False},
        {"type": "custom", "name": "patch", "description": "p", "format": grammar},
        {"type": "custom", "name": "patch2", "format": grammar},
        {"type": "function", "name": "mcp__f", "parameters": empty, "strict": False},
        {"type": "function", "name": long, "parameters": empty, "strict": False},
        {
            "type": "web_search",
            "filters": {"allowed_domains": ["a.example"]},
            "user_location": {"type": "approximate", "country": "IT"},
        },
    ]
    assert written["parallel_tool_calls"] is False
    assert sent.names == {
        "patch": WrittenTool("patch", custom=True),
        "patch2": WrittenTool("patch2", custom=True),
        "mcp__f": WrittenTool("f", namespace="mcp"),
        long: WrittenTool("x" * 80),
    }
    assert sent.wrapped == {"i"}
    assert written["max_tool_calls"] == 3
    assert sent.dropped == ["hosted tool `tool_search`"]


def test_long_names_are_the_same_everywhere() -> None:
    """BerriAI/litellm#17904, #26398, cline/cline#11885."""
    conversation = history(
        ToolCall(id="c", name="x" * 80), ToolCall(id="d", name="f", namespace="mcp")
    )
    conversation.tools = [Tool(name="x" * 80), Tool(name="f", namespace="mcp")]
    conversation.tool_choice = ToolChoice(mode="one", name="x" * 80)
    written = body(conversation)
    name = written["tools"][0]["name"]
    assert len(name) == 64
    assert written["tool_choice"] == {"type": "function", "name": name}
    assert [item["name"] for item in written["input"] if "name" in item] == [name, "mcp__f"]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (ToolChoice(), "auto"),
        (ToolChoice(mode="any"), "required"),
        (ToolChoice(mode="none"), "none"),
        (ToolChoice(mode="one", name="mcp__f"), {"type": "function", "name": "mcp__f"}),
        (ToolChoice(mode="one", name="patch"), {"type": "custom", "name": "patch"}),
        (
            ToolChoice(mode="any", allowed=("patch", "mcp__f", "web_search")),
            {
                "type": "allowed_tools",
                "mode": "required",
                "tools": [
                    {"type": "custom", "name": "patch"},
                    {"type": "function", "name": "mcp__f"},
                    {"type": "web_search"},
                ],
            },
        ),
    ],
)
def test_choices(choice: ToolChoice, expected: Any) -> None:
    """BerriAI/litellm#24443, hivecommons/hive#1643."""
    tools = [
        Tool(name="f", namespace="mcp"),
        Tool(name="patch", kind="custom"),
        Tool(name="web_search", kind="hosted", raw={}),
    ]
    assert body(said(tools=tools, tool_choice=choice))["tool_choice"] == expected


@pytest.mark.parametrize("name", ["nothing", "image_generation"])
def test_a_choice_that_cannot_be_is_refused(name: str) -> None:
    tools = [Tool(name="f"), Tool(name="image_generation", kind="hosted", raw={})]
    choice = ToolChoice(mode="one", name=name)
    with pytest.raises(Problem) as caught:
        write(said(tools=tools, tool_choice=choice))
    assert caught.value.param == "tool_choice"


def test_without_tools_nothing_is_said_of_them() -> None:
    hosted = Tool(name="tool_search", kind="hosted", raw={})
    written = body(said(tools=[hosted], tool_choice=ToolChoice(), parallel=False))
    assert not written.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_custom_calls_are_raw() -> None:
    """antirez/ds4#745, router-for-me/CLIProxyAPI#5753, github/gh-aw-firewall#8350."""
    call = ToolCall(id="c", name="patch", arguments="*** x", custom=True)
    found = items(history(call, results=(ToolResult(id="c", content=(Text(text="ok"),)),)))
    assert found[1:3] == [
        {"type": "custom_tool_call", "call_id": "c", "name": "patch", "input": "*** x"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "ok"},
    ]


# Settings


@pytest.mark.parametrize(
    ("reasoning", "model", "expected"),
    [
        (None, MODEL, None),
        (Reasoning(effort="high"), MODEL, {"effort": "high", "summary": "auto"}),
        (Reasoning(effort="high", shown=False), MODEL, {"effort": "high"}),
        (Reasoning(mode="adaptive", shown=True), MODEL, {"summary": "auto"}),
        (Reasoning(mode="enabled", budget=5000), MODEL, {"effort": "low", "summary": "auto"}),
        (Reasoning(mode="disabled"), MODEL, {"effort": "none"}),
        (Reasoning(mode="disabled"), "gpt-5", {"effort": "minimal", "summary": "auto"}),
        (Reasoning(effort="max"), "o3", {"effort": "high", "summary": "auto"}),
        (Reasoning(effort="high"), "gpt-4.1", None),
        (Reasoning(effort="high"), "other", {"effort": "high", "summary": "auto"}),
    ],
)
def test_how_much_to_think(
    reasoning: Reasoning | None, model: str, expected: dict[str, Any] | None
) -> None:
    """BerriAI/litellm#27074: the effort is not lost on the way."""
    written = body(said(reasoning=reasoning), model)
    assert written.get("reasoning") == expected
    assert ("include" in written) == (model != "gpt-4.1")


@pytest.mark.parametrize(
    ("wanted", "most", "sent"), [(1, None, 16), (0, None, 16), (500, None, 500), (500, 100, 100)]
)
def test_the_limit(wanted: int, most: int | None, sent: int) -> None:
    assert body(said(max_tokens=wanted), max_output=most)["max_output_tokens"] == sent


def test_sampling() -> None:
    """kortix-ai/suna#4833, odysseus-dev/odysseus#3117, Comfy-Org/ComfyUI#13923."""
    conversation = said(temperature=0.5, top_p=0.9, top_k=3)
    written = body(conversation, "gpt-4.1")
    assert (written["temperature"], written["top_p"]) == (0.5, 0.9)
    sent = write(conversation)
    assert not json.loads(sent.body).keys() & {"temperature", "top_p", "top_k"}
    assert sent.dropped == ["`temperature`", "`top_p`", "`top_k`"]
    quiet = said(temperature=0.5, reasoning=Reasoning(effort="none"))
    assert body(quiet)["temperature"] == 0.5


def test_stop_strings_are_enforced_here() -> None:
    sent = write(said(stop=("a", "", "b")))
    assert sent.stops == ("a", "b")
    assert "stop" not in json.loads(sent.body)


def test_structured_answers() -> None:
    strict = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    for schema, expected in ((strict, True), ({"type": "object", "properties": {}}, False)):
        output = OutputFormat(kind="json_schema", description="d", schema=schema)
        assert body(said(output=output))["text"]["format"] == {
            "type": "json_schema",
            "name": "output",
            "description": "d",
            "schema": schema,
            "strict": expected,
        }
    sent = write(said(output=OutputFormat(kind="json_schema", schema={"type": "array"})))
    assert sent.answer_wrapped
    schema = json.loads(sent.body)["text"]["format"]["schema"]
    assert schema["properties"] == {"value": {"type": "array"}}


def test_who_asks() -> None:
    conversation = said(
        user="u" * 65, session="s@example.com", tier="flex", verbosity="low", metadata={"a": "b"}
    )
    written = body(conversation)
    assert len(written["safety_identifier"]) == len(written["prompt_cache_key"]) == 64
    assert "example" not in written["prompt_cache_key"]
    assert written["service_tier"] == "flex"
    assert written["text"] == {"verbosity": "low"}
    assert written["metadata"] == {"a": "b"}
    assert body(said(user="u"))["safety_identifier"] == "u"


def test_a_choice_among_tools_of_which_some_stay_behind() -> None:
    tools = [Tool(name="f"), Tool(name="image_generation", kind="hosted", raw={})]
    both = ToolChoice(mode="any", allowed=("image_generation", "f"))
    actual = body(said(tools=tools, tool_choice=both))["tool_choice"]
    assert actual["tools"] == [{"type": "function", "name": "f"}]
    free = ToolChoice(allowed=("image_generation",))
    assert body(said(tools=tools, tool_choice=free))["tool_choice"] == "none"
    for offered, choice in (
        (tools, ToolChoice(mode="any", allowed=("image_generation",))),
        (tools[1:], ToolChoice(mode="any")),
    ):
        with pytest.raises(Problem) as raised:
            write(said(tools=offered, tool_choice=choice))
        assert raised.value.param == "tool_choice"


def test_calls_of_a_wrapped_tool_are_reported_as_it_takes_them() -> None:
    either = {"anyOf": [{"type": "object"}, {"type": "string"}]}
    asked = history(ToolCall(id="a", name="w", arguments='"x"'))
    asked.tools = [Tool(name="w", schema=either)]
    assert items(asked)[1]["arguments"] == '{"value":"x"}'


def test_what_the_assistant_did_not_say_is_named() -> None:
    foreign = Signature(origin=Origin("anthropic", "x"), data="sig")
    picture = Image(url="https://a.example/b.png")
    asked = history(Thinking(text="a", signature=foreign), Thinking(text="b"), picture, picture)
    assert write(asked).dropped == [
        "thinking of another model",
        "Image in a turn of the assistant",
    ]
