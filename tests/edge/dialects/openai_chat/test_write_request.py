"""Conversations, asked of chat upstreams of all kinds."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.dialects.codec import TargetModel, WrittenRequest, WrittenTool
from edge.dialects.conversation import (
    EFFORTS,
    Audio,
    Block,
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
from edge.dialects.openai_chat import UPSTREAM
from edge.upstreams.simulator import strictness
from edge.vendors.openai_models import is_openai
from middlewares.problem import Problem
from tests.schemas import check_request

HI = Turn("user", [Text(text="hi")])
OPEN = "llama-3.3"  # some server's model, of which nothing is known
EXTENSIONS = ("top_k", "reasoning_content", "reasoning_details")
OBJECT = {"type": "object", "properties": {}}


def write(
    *turns: Turn, model: str = OPEN, max_output: int | None = None, **more: Any
) -> WrittenRequest:
    conversation = Conversation(turns=list(turns) or [HI], **more)
    aim = TargetModel(model=model, max_output=max_output, origin="here")
    sent = UPSTREAM.write(conversation, aim)
    assert UPSTREAM.write(conversation, aim) == sent, "not the same bytes again"
    check_request("chat", sent.body, extensions=EXTENSIONS)
    if is_openai(model):
        strictness.check("openai", sent.body)
    return sent


def body(*turns: Turn, **more: Any) -> dict[str, Any]:
    out: dict[str, Any] = json.loads(write(*turns, **more).body)
    return out


def messages(*turns: Turn, **more: Any) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = body(*turns, **more)["messages"]
    return out


def user(*blocks: Block) -> Turn:
    return Turn("user", list(blocks))


def assistant(*blocks: Block) -> Turn:
    return Turn("assistant", list(blocks))


def text(said: str) -> Text:
    return Text(text=said)


def call(id_: str, name: str = "w", arguments: str = "{}") -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments)


# Messages ----------------------------------------------------------------------------------------


def test_the_least() -> None:
    assert write().body == b'{"model":"llama-3.3","messages":[{"role":"user","content":"hi"}]}'


@pytest.mark.parametrize(
    ("model", "role"), [(OPEN, "system"), ("gpt-4o", "system"), ("o3", "developer")]
)
def test_instructions(model: str, role: str) -> None:
    """chenyme/grok2api#598, router-for-me/CLIProxyAPI#3608: also those in the middle."""
    shown = messages(HI, Turn("system", [text("C")]), model=model, system=[text("A"), text("B")])
    assert shown == [
        {"role": role, "content": "A\n\nB"},
        {"role": "user", "content": "hi"},
        {"role": role, "content": "C"},
    ]


@pytest.mark.parametrize(
    "lines", ["x-anthropic-billing-header: a=1;", "x-anthropic-billing-header: a\nA"]
)
def test_the_billing_line_stays_behind(lines: str) -> None:
    """api7/aisix#1144, musistudio/claude-code-router#1372, sgl-project/sglang#29169."""
    shown = messages(system=[text(lines), text("B")])[0]["content"]
    assert shown == ("A\n\nB" if lines.endswith("A") else "B")


def test_a_turn_of_calls_has_no_content() -> None:
    """anthropics/anthropic-sdk-python#461, anomalyco/opencode#31259."""
    shown = messages(HI, assistant(call("a")), user(ToolResult(id="a", content=(text("A"),))))
    function = {"name": "w", "arguments": "{}"}
    assert shown[1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "a", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "a", "content": "A"},
    ]


def test_texts_of_the_model_are_one_sentence() -> None:
    cited = Text(text="is blue", citations=(Citation(url="https://a"),))
    shown = messages(HI, assistant(text("The sky "), cited, call("a"), text(".")))
    assert shown[1]["content"] == "The sky is blue."


def test_texts_of_the_user() -> None:
    turn = user(text("A"), text("B"))
    assert messages(turn)[0]["content"] == "A\n\nB"
    parts = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert messages(turn, model="gpt-4o")[0]["content"] == parts


def test_histories_are_repaired() -> None:
    """OpenHands/OpenHands#7512, lidge-jun/opencodex#620."""
    shown = messages(HI, assistant(call("a"), call("")), user(text("go")))
    assert [message["role"] for message in shown] == ["user", "assistant", "tool", "tool", "user"]
    assert shown[2]["content"] == "Error: No result was provided."
    ids = [each["id"] for each in shown[1]["tool_calls"]]
    assert ids == [shown[2]["tool_call_id"], shown[3]["tool_call_id"]]


IMAGE = Image(media_type="image/png", data="eHl6")
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eHl6"}}


def test_images_of_results_stand_behind_the_whole_run() -> None:
    """aaif-goose/goose#7393, BerriAI/litellm#20403, #34462, router-for-me/CLIProxyAPI#5706,

    weave-os/router#965, netease-lcap/wave-agent#1368.
    """
    shown = messages(
        HI,
        assistant(call("a"), call("b")),
        user(
            ToolResult(id="a", content=(text("see"), IMAGE)),
            ToolResult(id="b", content=(IMAGE,)),
            text("go"),
        ),
    )
    assert shown[2:] == [
        {"role": "tool", "tool_call_id": "a", "content": "see\n[image attached below]"},
        {"role": "tool", "tool_call_id": "b", "content": "[image attached below]"},
        {"role": "user", "content": [PICTURE, PICTURE, {"type": "text", "text": "go"}]},
    ]


@pytest.mark.parametrize(
    ("result", "content"),
    [
        (ToolResult(id="a"), ""),
        (ToolResult(id="a", content=(text("A"), text("B"))), "A\nB"),
        (ToolResult(id="a", failed=True, content=(text("no"),)), "Error: no"),
        (ToolResult(id="a", failed=True, content=(text("Error: no"),)), "Error: no"),
        (ToolResult(id="a", content=(Document(text="x", name="n.txt"),)), "n.txt\nx"),
        (ToolResult(id="a", content=(Document(data="eA==", at="p"),)), "[file attached below]"),
    ],
)
def test_results_are_text(result: ToolResult, content: str) -> None:
    assert messages(HI, assistant(call("a")), user(result))[2]["content"] == content


def test_parts() -> None:
    turn = user(
        Image(url="https://a/b.png", detail="low"),
        Document(media_type="application/pdf", data="eA=="),
        Document(media_type="application/pdf", data="eA==", name="a.pdf"),
        Document(media_type="application/pdf", data="eA==", name="a.pdf", context="About A"),
        Document(text="x", name="n.txt", context="c"),
        Document(media_type="text/csv", data="YSxi"),
        Document(blocks=(text("in"), IMAGE), name="n"),
        Audio(data="eA==", format="wav"),
    )
    pdf = "data:application/pdf;base64,eA=="
    assert messages(turn)[0]["content"] == [
        {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
        {"type": "file", "file": {"filename": "document.pdf", "file_data": pdf}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}},
        {"type": "text", "text": "About A"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}},
        {"type": "text", "text": "n.txt\nc\nx"},
        {"type": "text", "text": "a,b"},
        {"type": "text", "text": "n"},
        {"type": "text", "text": "in"},
        PICTURE,
        {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
    ]


@pytest.mark.parametrize(
    "block",
    [
        Image(file_id="file_1", at="messages[0].content[0]"),
        Document(url="https://a/b.pdf", at="messages[0].content[0]"),
    ],
)
def test_refuses_what_only_another_vendor_has(block: Block) -> None:
    with pytest.raises(Problem) as raised:
        write(user(block))
    assert raised.value.param == "messages[0].content[0]"


def test_a_file_of_the_vendor_is_named_by_its_id() -> None:
    part = {"type": "file", "file": {"file_id": "file_1"}}
    (message,) = messages(user(Document(file_id="file_1", name="a.pdf")))
    assert message["content"] == [part]


@pytest.mark.parametrize(
    ("id_", "same"),
    [
        ("toolu_01AbC", True),
        ("call_" + "x" * 35, True),
        ("x" * 41, False),
        ("functions.w:0", False),
    ],
)
def test_ids(id_: str, same: bool) -> None:
    """agno-agi/agno#5382, langgenius/dify#28987, leookun/cursor-byok#364,

    langchain-ai/langchain#37756.
    """
    shown = messages(HI, assistant(call(id_)), user(ToolResult(id=id_)))
    sent = shown[1]["tool_calls"][0]["id"]
    assert shown[2]["tool_call_id"] == sent
    assert (sent == id_) is same
    assert len(sent) <= 40
    assert id_[:24] not in sent or same


def test_mistral_wants_the_assistant_behind_a_tool_and_ids_of_nine() -> None:
    """LibreChat-AI/agents#344."""
    shown = messages(
        HI,
        assistant(call("call_1"), call("AbC123xyZ")),
        user(ToolResult(id="call_1"), ToolResult(id="AbC123xyZ"), text("go")),
        model="mistral-large-latest",
    )
    assert [m["role"] for m in shown[2:]] == ["tool", "tool", "assistant", "user"]
    ids = [each["id"] for each in shown[1]["tool_calls"]]
    assert [shown[2]["tool_call_id"], shown[3]["tool_call_id"]] == ids
    assert ids[1] == "AbC123xyZ"
    assert len(ids[0]) == 9
    assert ids[0].isalnum()


def test_refusals() -> None:
    turn = assistant(text("Well. "), Refusal(text="No."))
    assert messages(HI, turn)[1] == {"role": "assistant", "content": "Well. No."}
    assert messages(HI, turn, model="gpt-4o")[1] == {
        "role": "assistant",
        "content": "Well. ",
        "refusal": "No.",
    }


# Thinking ----------------------------------------------------------------------------------------


def signature_from(dialect: str, data: str = "{}", model: str = "here") -> Signature:
    return Signature(origin=Origin(dialect, model), data=data)


@pytest.mark.parametrize(
    ("model", "shown"),
    [("deepseek-reasoner", "hm"), ("moonshotai/Kimi-K2", "hm"), ("GLM-4.7", "hm"), (OPEN, None)],
)
def test_thinking_goes_back_to_those_who_want_it(model: str, shown: str | None) -> None:
    turn = assistant(Thinking(text="hm"), call("a"))
    assert messages(HI, turn, model=model)[1].get("reasoning_content") == shown


def test_who_wants_thinking_back_refuses_a_call_without() -> None:
    """QuantumNous/new-api#3121: also where another model made the call, and there is none."""
    foreign = assistant(Thinking(text="hm", signature=signature_from("anthropic")), call("a"))
    assert messages(HI, foreign, model="kimi-k2.5")[1]["reasoning_content"] == ""
    assert "reasoning_content" not in messages(HI, foreign)[1]
    assert "reasoning_content" not in messages(HI, assistant(text("ok")), model="kimi-k2.5")[1]


@pytest.mark.parametrize("dialect", ["anthropic", "responses"])
def test_thinking_of_others_stays_behind(dialect: str) -> None:
    turn = assistant(Thinking(text="hm", signature=signature_from(dialect)), text("ok"))
    shown = messages(HI, turn, model="deepseek-reasoner")[1]
    assert shown == {"role": "assistant", "content": "ok"}


def test_details_go_back_to_their_maker_as_they_were() -> None:
    detail = {"type": "reasoning.text", "signature": "s", "index": 0}
    turn = assistant(
        Thinking(text="hm", signature=signature_from("openai", json.dumps(detail))), text("ok")
    )
    assert messages(HI, turn)[1]["reasoning_details"] == [{**detail, "text": "hm"}]
    for other in (
        signature_from("openai", json.dumps(detail), "there"),
        signature_from("openai", "spoilt"),
    ):
        turn = assistant(Thinking(text="hm", signature=other), text("ok"))
        assert "reasoning_details" not in messages(HI, turn)[1]


def test_what_the_assistant_did_not_say_is_named() -> None:
    turn = assistant(
        Thinking(text="a", signature=signature_from("anthropic")), Thinking(text="b"), IMAGE, IMAGE
    )
    assert write(HI, turn, HI).dropped == [
        "thinking of another model",
        "thinking: the model does not want it back",
        "Image in a turn of the assistant",
    ]


def test_a_turn_of_thinking_only_is_none() -> None:
    assert [m["role"] for m in messages(HI, assistant(Thinking(text="hm")), HI)] == ["user", "user"]


# Tools -------------------------------------------------------------------------------------------

STRICT = {
    "type": "object",
    "properties": {"x": {"type": "string"}},
    "required": ["x"],
    "additionalProperties": False,
}


def test_tools() -> None:
    tools = [
        Tool(name="w", description="d", schema=STRICT, strict=True),
        Tool(name="v", schema={**OBJECT, "properties": {"x": {}}}, strict=True),
        Tool(name="u"),
    ]
    sent = write(tools=tools, parallel=False, tool_choice=ToolChoice())
    shown = json.loads(sent.body)
    assert [tool["function"] for tool in shown["tools"]] == [
        {"name": "w", "description": "d", "parameters": STRICT, "strict": True},
        {"name": "v", "parameters": {"type": "object", "properties": {"x": {}}}},
        {"name": "u", "parameters": OBJECT},
    ]
    assert shown["tool_choice"] == "auto"
    assert shown["parallel_tool_calls"] is False
    assert sent.names == {}


def test_nothing_about_tools_without_tools() -> None:
    shown = body(tool_choice=ToolChoice(mode="any"), parallel=False)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & shown.keys()


LONG = "mcp__" + "x" * 80


def test_names_are_mapped_everywhere_and_back() -> None:
    """BerriAI/litellm#17904, #26398, cline/cline#11885; diegosouzapw/OmniRoute#5483."""
    sent = write(
        HI,
        assistant(call("a", LONG), ToolCall(id="b", name="go", namespace="ns")),
        tools=[
            Tool(name=LONG),
            Tool(name="go", namespace="ns"),
            Tool(name="a.b"),
            Tool(name="a_b"),
        ],
        tool_choice=ToolChoice(mode="one", name=LONG),
    )
    shown = json.loads(sent.body)
    names = [tool["function"]["name"] for tool in shown["tools"]]
    assert all(len(name) <= 64 and name.replace("_", "").isalnum() for name in names)
    assert len(set(names)) == 4
    assert names[1] == "ns__go"
    assert shown["tool_choice"] == {"type": "function", "function": {"name": names[0]}}
    history = [each["function"]["name"] for each in shown["messages"][1]["tool_calls"]]
    assert history == names[:2]
    assert sent.names == {
        names[0]: WrittenTool(LONG),
        "ns__go": WrittenTool("go", namespace="ns"),
        names[2]: WrittenTool("a.b"),
    }


def test_free_text_is_a_function_to_most() -> None:
    format_ = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    tool = Tool(name="p", kind="custom", description="d", format=format_)
    history = ToolCall(id="a", name="p", arguments='*** "Begin"', custom=True)
    sent = write(HI, assistant(history), tools=[tool], tool_choice=ToolChoice(mode="one", name="p"))
    shown = json.loads(sent.body)
    function = shown["tools"][0]["function"]
    assert function["parameters"]["required"] == ["input"]
    assert function["description"].startswith("d\n\n")
    assert function["description"].endswith("start: x")
    assert shown["tool_choice"] == {"type": "function", "function": {"name": "p"}}
    arguments = shown["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"input": '*** "Begin"'}
    assert sent.names == {"p": WrittenTool("p", custom=True)}


def test_free_text_is_native_to_those_who_know_it() -> None:
    format_ = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    tool = Tool(name="p", kind="custom", format=format_)
    history = ToolCall(id="a", name="p", arguments="raw", custom=True)
    shown = body(
        HI,
        assistant(history),
        model="gpt-5",
        tools=[tool],
        tool_choice=ToolChoice(mode="one", name="p"),
    )
    grammar = {"syntax": "lark", "definition": "start: x"}
    assert shown["tools"] == [
        {
            "type": "custom",
            "custom": {"name": "p", "format": {"type": "grammar", "grammar": grammar}},
        }
    ]
    assert shown["tool_choice"] == {"type": "custom", "custom": {"name": "p"}}
    assert shown["messages"][1]["tool_calls"] == [
        {"id": "a", "type": "custom", "custom": {"name": "p", "input": "raw"}}
    ]


def test_a_choice_of_schemas_goes_inside_an_object() -> None:
    """diegosouzapw/OmniRoute#13552, anthropics/claude-code#40075, anomalyco/opencode#35516."""
    either = {"anyOf": [{"type": "object"}, {"type": "string"}]}
    sent = write(HI, assistant(call("a", "w", '"x"')), tools=[Tool(name="w", schema=either)])
    shown = json.loads(sent.body)
    assert shown["tools"][0]["function"]["parameters"]["properties"] == {"value": either}
    assert shown["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"value":"x"}'
    assert sent.wrapped == {"w"}


def test_a_schema_without_a_bottom_is_refused() -> None:
    deep: dict[str, Any] = {"anyOf": []}
    for _ in range(5000):
        deep = {"anyOf": [deep]}
    with pytest.raises(Problem) as raised:
        write(tools=[Tool(name="w", schema=deep)])
    assert raised.value.kind == "invalid_request"


@pytest.mark.parametrize(
    ("choice", "shown"),
    [
        (ToolChoice(), "auto"),
        (ToolChoice(mode="any"), "required"),
        (ToolChoice(mode="none"), "none"),
        (ToolChoice(mode="one", name="w"), {"type": "function", "function": {"name": "w"}}),
    ],
)
def test_choices(choice: ToolChoice, shown: Any) -> None:
    """hivecommons/hive#1643."""
    assert body(tools=[Tool(name="w")], tool_choice=choice)["tool_choice"] == shown


def test_allowed_tools() -> None:
    tools = [Tool(name="w"), Tool(name="v")]
    choice = ToolChoice(mode="any", allowed=("v",))
    shown = body(tools=tools, tool_choice=choice)
    assert [tool["function"]["name"] for tool in shown["tools"]] == ["v"]
    assert shown["tool_choice"] == "required"
    shown = body(tools=tools, tool_choice=choice, model="gpt-5")
    assert len(shown["tools"]) == 2
    reference = {"type": "function", "function": {"name": "v"}}
    allowed = {"mode": "required", "tools": [reference]}
    assert shown["tool_choice"] == {"type": "allowed_tools", "allowed_tools": allowed}


def test_hosted_tools_stay_behind() -> None:
    """CommandCodeAI/command-code#885, lidge-jun/opencodex#3204."""
    search = Tool(name="web_search", kind="hosted", raw={})
    sent = write(tools=[search])
    assert "tools" not in json.loads(sent.body)
    assert sent.dropped == ["hosted tool `web_search`"]
    with pytest.raises(Problem) as raised:
        write(tools=[search], tool_choice=ToolChoice(mode="one", name="web_search"))
    assert raised.value.param == "tool_choice"


@pytest.mark.parametrize("model", [OPEN, "gpt-5.2"])
def test_a_choice_among_tools_of_which_some_stay_behind(model: str) -> None:
    """Codex offers several hosted tools: they do not spoil a choice, unless nothing is left."""
    tools = [Tool(name="w"), Tool(name="image_generation", kind="hosted", raw={})]
    both = ToolChoice(mode="any", allowed=("image_generation", "w"))
    shown = body(tools=tools, tool_choice=both, model=model)["tool_choice"]
    assert shown == "required" or [
        t["function"]["name"] for t in shown["allowed_tools"]["tools"]
    ] == ["w"]
    free = ToolChoice(allowed=("image_generation",))
    assert body(tools=tools, tool_choice=free, model=model).get("tool_choice") in (None, "none")
    for offered, choice in (
        (tools, ToolChoice(mode="any", allowed=("image_generation",))),
        (tools[1:], ToolChoice(mode="any")),
    ):
        with pytest.raises(Problem) as raised:
            write(tools=offered, tool_choice=choice, model=model)
        assert raised.value.param == "tool_choice"


def test_web_search_for_models_made_for_it() -> None:
    place = {"type": "approximate", "city": "Ulm"}
    search = Tool(name="web_search", kind="hosted", raw={"user_location": place, "max_uses": 2})
    shown = body(tools=[search], model="gpt-4o-search-preview")
    assert shown["web_search_options"] == {
        "user_location": {"type": "approximate", "approximate": {"city": "Ulm"}}
    }


def test_refuses_to_force_a_tool_that_is_not_there() -> None:
    with pytest.raises(Problem) as raised:
        write(tools=[Tool(name="w")], tool_choice=ToolChoice(mode="one", name="x"))
    assert raised.value.param == "tool_choice"


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "member"),
    [(OPEN, "max_tokens"), ("gpt-4o", "max_completion_tokens"), ("o3", "max_completion_tokens")],
)
def test_the_limit_in_one_spelling(model: str, member: str) -> None:
    shown = body(model=model, max_tokens=100)
    assert {k: v for k, v in shown.items() if k.startswith("max")} == {member: 100}


@pytest.mark.parametrize(("asked", "most", "shown"), [(0, None, 1), (100, 64, 64), (10, 64, 10)])
def test_limits_fit_the_model(asked: int, most: int | None, shown: int) -> None:
    assert body(max_tokens=asked, max_output=most)["max_tokens"] == shown


SAMPLING: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9, "top_k": 3}


@pytest.mark.parametrize(
    ("model", "effort", "kept"),
    [
        (OPEN, None, {"temperature", "top_p", "top_k"}),
        ("gpt-4o", None, {"temperature", "top_p"}),
        ("o3", None, set()),
        ("gpt-5.2", "low", set()),
        ("gpt-5.2", "none", {"temperature", "top_p"}),
    ],
)
def test_sampling(model: str, effort: str | None, kept: set[str]) -> None:
    """kortix-ai/suna#4833, odysseus-dev/odysseus#3117, Comfy-Org/ComfyUI#13923."""
    reasoning = Reasoning(effort=effort) if effort else None
    sent = write(model=model, reasoning=reasoning, **SAMPLING)
    assert SAMPLING.keys() & json.loads(sent.body).keys() == kept
    assert {f"`{name}`" for name in SAMPLING.keys() - kept} == set(sent.dropped)


@pytest.mark.parametrize(
    ("model", "stops", "shown", "local"),
    [
        (OPEN, ("a",), ["a"], ()),
        (OPEN, ("a", "b", "c", "d"), ["a", "b", "c", "d"], ()),
        (OPEN, ("a", "b", "c", "d", "e"), ["a", "b", "c", "d"], ("a", "b", "c", "d", "e")),
        ("gpt-5", ("a",), None, ("a",)),
        (OPEN, (), None, ()),
    ],
)
def test_stops(model: str, stops: Any, shown: Any, local: Any) -> None:
    sent = write(model=model, stop=stops)
    assert json.loads(sent.body).get("stop") == shown
    assert sent.stops == local


@pytest.mark.parametrize(
    ("model", "effort", "shown"),
    [
        ("gpt-5", "max", "high"),
        ("gpt-5.2", "xhigh", "xhigh"),
        ("gpt-4o", "high", None),
        (OPEN, "minimal", "low"),
        (OPEN, "none", None),
        (OPEN, None, None),
    ],
)
def test_efforts(model: str, effort: str | None, shown: str | None) -> None:
    """BerriAI/litellm#27074: effort is not dropped on the way, where the model can do it."""
    reasoning = Reasoning(effort=effort) if effort else None
    assert body(model=model, reasoning=reasoning).get("reasoning_effort") == shown


def test_output_formats() -> None:
    assert body(output=OutputFormat(kind="json_object"))["response_format"] == {
        "type": "json_object"
    }
    named = OutputFormat(kind="json_schema", name="my name", description="d", schema=STRICT)
    wanted = body(output=named)["response_format"]["json_schema"]
    assert wanted.pop("name").startswith("my_name_")
    assert wanted == {"description": "d", "schema": STRICT, "strict": True}
    loose = OutputFormat(kind="json_schema", schema=OBJECT)
    assert body(output=loose)["response_format"]["json_schema"] == {
        "name": "output",
        "schema": OBJECT,
        "strict": False,
    }


@pytest.mark.parametrize("model", [OPEN, "gpt-5.2"])
def test_an_answer_that_is_no_object_goes_inside_one(model: str) -> None:
    words = {"type": "array", "items": {"type": "string"}}
    sent = write(output=OutputFormat(kind="json_schema", schema=words), model=model)
    wanted = json.loads(sent.body)["response_format"]["json_schema"]
    assert wanted["schema"]["properties"] == {"value": words}
    assert sent.answer_wrapped


def test_what_other_servers_do_not_know_is_named() -> None:
    assert write(verbosity="low", tier="priority", top_logprobs=0).dropped == [
        "verbosity",
        "service tier",
        "log probabilities",
    ]


def test_mistral_gets_no_member_it_does_not_know() -> None:
    """mistralai/platform-docs-public#7: it refuses those of other servers."""
    sent = write(model="mistral-large-latest", user="u", top_k=5, metadata={"a": "b"})
    assert json.loads(sent.body).keys() == {"model", "messages"}
    assert "`metadata`" in sent.dropped
    assert body(user="u", top_k=5).keys() == {"model", "messages", "user", "top_k"}


def test_what_only_openai_knows() -> None:
    said: dict[str, Any] = {
        "verbosity": "low",
        "tier": "priority",
        "session": "s",
        "user": "u",
        "metadata": {"a": "b"},
        "top_logprobs": 2,
    }
    assert body(**said).keys() == {"model", "messages", "user", "metadata"}
    shown = body(model="gpt-5", **said)
    assert shown.keys() - {"model", "messages"} == {
        "verbosity",
        "service_tier",
        "prompt_cache_key",
        "safety_identifier",
        "metadata",
    }


@pytest.mark.parametrize("user_id", ["x" * 65, "ann@example.com"])
def test_long_ids_and_addresses_are_digested(user_id: str) -> None:
    shown = body(model="gpt-4o", user=user_id, session="y" * 65)
    assert shown["safety_identifier"] == sha256(user_id.encode()).hexdigest()
    assert shown["prompt_cache_key"] == sha256(b"y" * 65).hexdigest()


def test_usage_is_always_asked_of_a_stream() -> None:
    shown = body(stream=True)
    assert shown["stream"] is True
    assert shown["stream_options"] == {"include_usage": True}
    assert not {"stream", "stream_options"} & body().keys()


# Any conversation --------------------------------------------------------------------------------

_WORDS = st.sampled_from(["", " ", "one", "two"])
_IDS = st.sampled_from(["", "a", "b", "functions.w:0", "x" * 50])
_SAID = st.builds(Text, text=_WORDS)
_BLOCKS: dict[str, st.SearchStrategy[Any]] = {
    "user": st.one_of(
        _SAID,
        st.just(IMAGE),
        st.builds(
            ToolResult, id=_IDS, content=st.tuples(_SAID | st.just(IMAGE)), failed=st.booleans()
        ),
    ),
    "assistant": st.one_of(
        _SAID,
        st.builds(Refusal, text=_WORDS),
        st.builds(Thinking, text=_WORDS),
        st.builds(call, _IDS, st.sampled_from(["w", LONG, "a.b"])),
        st.builds(ToolCall, id=_IDS, name=st.just("p"), arguments=_WORDS, custom=st.just(True)),
    ),
    "system": _SAID,
}
_TURNS = st.sampled_from(sorted(_BLOCKS)).flatmap(
    lambda role: st.builds(Turn, st.just(role), st.lists(_BLOCKS[role], max_size=3))
)
_TOOLS = [Tool(name="w"), Tool(name=LONG), Tool(name="p", kind="custom")]


@given(
    st.lists(_TURNS, max_size=6),
    st.sampled_from([OPEN, "gpt-4o", "gpt-5.2", "o3", "mistral-small", "kimi-k2"]),
    st.lists(st.sampled_from(_TOOLS), unique_by=lambda tool: tool.name),
    st.sampled_from([None, *(Reasoning(effort=effort) for effort in EFFORTS)]),
)
def test_every_conversation_is_one_that_is_taken(
    turns: list[Turn], model: str, tools: list[Tool], reasoning: Reasoning | None
) -> None:
    write(
        HI,
        *turns,
        model=model,
        tools=tools,
        tool_choice=ToolChoice(mode="any"),
        parallel=False,
        reasoning=reasoning,
        stop=("a", "b", "c", "d", "e"),
        max_tokens=0,
        stream=True,
        **SAMPLING,
    )
