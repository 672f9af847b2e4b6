"""Conversations, asked of Messages upstreams: held against the SDK's types and the simulator."""

import json
from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.dialects.anthropic_messages.write_request import write
from edge.dialects.codec import TargetModel, WrittenRequest, WrittenTool
from edge.dialects.conversation import (
    Audio,
    Block,
    Cache,
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
from edge.upstreams.simulator.strictness import messages as strictness
from middlewares.problem import Problem
from tests.schemas import check_request

NEWEST, ADAPTIVE, BUDGET, OLD, OTHER = (
    "claude-opus-5",
    "claude-sonnet-4-6",
    "claude-sonnet-4-5",
    "claude-opus-4-1",
    "qwen3-coder",
)
SAMPLING = ("temperature", "top_p", "top_k")
"""The SDK knows only the newest models, which take none of these."""
PNG = b64encode(b"\x89PNG\r\n\x1a\n0000").decode()
SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
F = Tool(name="f", schema=SCHEMA)


def user(*blocks: Block | str) -> Turn:
    return Turn("user", [Text(text=b) if isinstance(b, str) else b for b in blocks])


def assistant(*blocks: Block | str) -> Turn:
    return Turn("assistant", [Text(text=b) if isinstance(b, str) else b for b in blocks])


def call(id_: str = "toolu_1", name: str = "f", arguments: str = '{"a":"x"}') -> ToolCall:
    return ToolCall(id=id_, name=name, arguments=arguments)


def result(id_: str = "toolu_1", *content: Any) -> ToolResult:
    return ToolResult(id=id_, content=content or (Text(text="ok"),))


def send(*turns: Turn, model: str = BUDGET, origin: str = "abc", **members: Any) -> WrittenRequest:
    conversation = Conversation(turns=list(turns or [user("Hi")]), **members)
    sent = write(conversation, TargetModel(model=model, origin=origin))
    assert write(conversation, TargetModel(model=model, origin=origin)).body == sent.body
    return sent


def body_of(*turns: Turn, **members: Any) -> Any:
    return checked(send(*turns, **members))


def checked(sent: WrittenRequest) -> Any:
    """The body, which neither the SDK's types nor the vendor (as simulated) would refuse."""
    body = check_request("messages", sent.body, extensions=SAMPLING)
    held = body
    if body["model"] == OTHER:  # not the vendor's: its rules about sampling are not known
        held = {name: value for name, value in body.items() if name not in SAMPLING}
    strictness.check(held, version="2023-06-01", betas=False)
    return body


def refused(*turns: Turn, **members: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        send(*turns, **members)
    return caught.value


# Turns -------------------------------------------------------------------------------------------


def test_the_simplest_request() -> None:
    assert body_of(system=[Text(text="Be kind."), Text(text=" ")], stream=True) == {
        "model": BUDGET,
        "max_tokens": 64_000,
        "system": [{"type": "text", "text": "Be kind."}],
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
        "stream": True,
    }


def roles(body: Any) -> list[str]:
    return [message["role"] for message in body["messages"]]


def test_the_first_turn_is_the_users() -> None:
    """mckaywrigley/chatbot-ui#1656, anthropics/anthropic-sdk-typescript#622."""
    body = body_of(assistant("Hello."), user("Hi"))
    assert roles(body) == ["user", "assistant", "user"]
    assert body["messages"][0]["content"][0]["text"] == "Continue."


def test_turns_of_one_role_are_one_and_empty_text_goes() -> None:
    """aliasrobotics/cai#182, NousResearch/hermes-agent#11929."""
    body = body_of(user("a", " \n"), user("", "b"), assistant(""), user("c"))
    assert [b["text"] for b in body["messages"][0]["content"]] == ["a", "b", "c"]
    assert roles(body) == ["user"]


def test_instructions_alone_are_a_question() -> None:
    sent = write(
        Conversation(turns=[], system=[Text(text="A."), Text(text="B.")]), TargetModel(model=BUDGET)
    )
    body = checked(sent)
    assert body["system"] == [{"type": "text", "text": "A."}]
    assert body["messages"][0]["content"] == [{"type": "text", "text": "B."}]
    assert refused(user(" ")).kind == "invalid_request"


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("claude-opus-4-8", ["user", "system", "assistant", "user"]),
        (NEWEST, ["user", "system", "assistant", "user"]),
        ("claude-sonnet-5", ["user", "assistant", "user"]),
        (OTHER, ["user", "assistant", "user"]),
    ],
)
def test_an_instruction_in_between_stands_where_the_model_takes_it(
    model: str, wanted: list[str]
) -> None:
    """JustVugg/colibri#725: where it does not, the user says it."""
    turns = [
        user("Hi"),
        Turn("system", [Text(text="Be brief.")]),
        assistant("Yo."),
        Turn("system", [Text(text="Longer.")]),
        user("Go."),
    ]
    body = body_of(*turns, model=model)
    assert roles(body) == wanted
    assert [b["text"] for b in body["messages"][-1]["content"]] == ["Longer.", "Go."]


def test_an_instruction_stands_before_the_assistant_or_last() -> None:
    foreign = Thinking(text="hm", signature=Signature(origin=Origin("openai", "x"), data="d"))
    turns = (user("a"), Turn("system", [Text(text="b")]), assistant(foreign), user("c"))
    (message,) = body_of(*turns, model="claude-opus-4-8")["messages"]
    assert message["role"] == "user"
    assert [block["text"] for block in message["content"]] == ["a", "b", "c"]


def test_an_instruction_never_stands_between_a_call_and_its_result() -> None:
    body = body_of(
        user("Hi"), assistant(call()), Turn("system", [Text(text="S.")]), user(result()), tools=[F]
    )
    kinds = [block["type"] for block in body["messages"][2]["content"]]
    assert kinds == ["tool_result", "text"]


@pytest.mark.parametrize(
    ("model", "members", "ending"),
    [
        (BUDGET, {}, "assistant"),
        (OLD, {}, "assistant"),
        (BUDGET, {"reasoning": Reasoning(effort="high")}, "user"),
        (BUDGET, {"output": OutputFormat(kind="json_schema", schema=SCHEMA)}, "user"),
        (ADAPTIVE, {}, "user"),
        (NEWEST, {}, "user"),
        (OTHER, {}, "user"),
    ],
)
def test_only_older_models_go_on_from_the_assistants_words(
    model: str, members: dict[str, Any], ending: str
) -> None:
    body = body_of(user("Hi"), assistant("So: "), model=model, **members)
    assert roles(body)[-1] == ending
    if ending == "assistant":
        assert body["messages"][-1]["content"][-1]["text"] == "So:"
    else:
        assert body["messages"][-1]["content"] == [{"type": "text", "text": "Continue."}]


# Tools in the history ----------------------------------------------------------------------------


def test_calls_and_results_belong_together() -> None:
    """OpenHands/OpenHands#7512, lidge-jun/opencodex#620."""
    body = body_of(
        user("Hi"),
        assistant("Ok.", call("toolu_a"), call("toolu_b"), call("toolu_c")),
        user("by the way", result("toolu_c"), result("toolu_a", Image(media_type="x", data=PNG))),
        user(result("toolu_x", Text(text="orphan"))),
        tools=[F],
    )
    a, b, c, *rest = body["messages"][2]["content"]
    assert [x["tool_use_id"] for x in (a, b, c)] == ["toolu_a", "toolu_b", "toolu_c"]
    assert a["content"][0]["source"]["media_type"] == "image/png"
    assert (b["content"], b["is_error"]) == ("No result was provided.", True)
    assert c["content"] == "ok"
    assert "is_error" not in c
    assert [block["text"] for block in rest] == ["by the way", "orphan"]


def test_a_failed_result_says_so_and_an_empty_one_is_empty() -> None:
    body = body_of(
        user("Hi"),
        assistant(call("toolu_a"), call("toolu_b")),
        user(
            ToolResult(id="toolu_a", content=(Text(text="no"),), failed=True),
            ToolResult(id="toolu_b"),
        ),
        tools=[F],
    )
    one, two = body["messages"][2]["content"]
    assert (one["content"], one["is_error"]) == ("no", True)
    assert "content" not in two


def test_ids_are_made_legal_alike_in_call_and_result() -> None:
    """maximhq/bifrost#5097, musistudio/claude-code-router#1808, weave-os/router#581,

    langchain-ai/langchain#37756, leookun/cursor-byok#364, ducks/claux#40.
    """
    long = "call_" + "x" * 300
    ids = ["functions.f:0", long, "", "call_1"]
    body = body_of(
        user("Hi"), assistant(*map(call, ids)), user(*(result(id_) for id_ in ids)), tools=[F]
    )
    used = [block["id"] for block in body["messages"][1]["content"]]
    given_ = [block["tool_use_id"] for block in body["messages"][2]["content"]]
    assert used == given_
    assert len(set(used)) == 4
    assert used[3] == "call_1"
    assert all(block["content"] == "ok" for block in body["messages"][2]["content"])


def test_ids_used_again_are_distinguished() -> None:
    """NVIDIA-NeMo/Switchyard#502, BerriAI/litellm#23510."""
    body = body_of(
        user("Hi"),
        assistant(call("call_0"), call("call_0")),
        user(result("call_0", Text(text="one"))),
        assistant(call("call_0", arguments='{"a":"y"}')),
        user(result("call_0", Text(text="two"))),
        tools=[F],
    )
    calls = [b for m in body["messages"] for b in m["content"] if b["type"] == "tool_use"]
    results = [b for m in body["messages"] for b in m["content"] if b["type"] == "tool_result"]
    assert len({b["id"] for b in calls}) == len(calls) == 2
    assert [b["content"] for b in results] == ["one", "two"]


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ("", {}),
        ('{"a": "é", "b": 1}', {"a": "é", "b": 1}),
        ("[1]", {"value": [1]}),
        ('{"a"', {"INVALID_JSON": '{"a"'}),
    ],
)
def test_the_input_of_a_past_call_is_an_object(arguments: str, sent: Any) -> None:
    body = body_of(user("Hi"), assistant(call(arguments=arguments)), user(result()), tools=[F])
    assert body["messages"][1]["content"][0]["input"] == sent


def test_a_history_of_calls_without_tools_gets_stubs() -> None:
    """hivecommons/hive#1633."""
    body = body_of(
        user("Hi"), assistant(call("a", "f"), call("b", "g"), call("c", "f")), user(result("a"))
    )
    assert [tool["name"] for tool in body["tools"]] == ["f", "g"]
    assert body["tool_choice"] == {"type": "none"}


# Tools -------------------------------------------------------------------------------------------


def test_definitions() -> None:
    """BerriAI/litellm#17904, BerriAI/litellm#26398, cline/cline#11885: long names come back.

    diegosouzapw/OmniRoute#13552, anthropics/claude-code#40075, anomalyco/opencode#35516: no choice
    at the top of a schema.
    """
    long = "mcp__server__" + "x" * 80
    sent = send(
        user("Hi"),
        assistant(call("t1", long, "{}"), call("t2", "either", '{"a":1}')),
        user(result("t1"), result("t2")),
        tools=[
            Tool(name=long),
            Tool(name="either", schema={"anyOf": [{"type": "object"}, {"type": "string"}]}),
            Tool(
                name="patch",
                kind="custom",
                description="Edit.",
                format={"type": "grammar", "syntax": "lark", "definition": "start: X"},
            ),
            Tool(name="read", namespace="fs", schema=SCHEMA, strict=True),
            Tool(name="loose", schema={"type": "object", "properties": {}}, strict=True),
        ],
        tool_choice=ToolChoice(mode="one", name=long),
    )
    body = checked(sent)
    one, two, three, four, five = body["tools"]
    assert one["input_schema"] == {"type": "object", "properties": {}}
    assert sent.names[one["name"]] == WrittenTool(long)
    assert body["tool_choice"] == {"type": "tool", "name": one["name"]}
    assert body["messages"][1]["content"][0]["name"] == one["name"]
    assert sent.wrapped == {"either"}
    assert two["input_schema"]["required"] == ["value"]
    assert body["messages"][1]["content"][1]["input"] == {"value": {"a": 1}}
    assert three["input_schema"]["required"] == ["input"]
    assert "start: X" in three["description"]
    assert sent.names["patch"] == WrittenTool("patch", custom=True)
    assert sent.names["fs__read"] == WrittenTool("read", namespace="fs")
    assert (four["strict"], "strict" in five) == (True, False)


def test_a_free_text_call_of_the_past_has_its_text_in_input() -> None:
    """antirez/ds4#745, router-for-me/CLIProxyAPI#5753, github/gh-aw-firewall#8350."""
    made = ToolCall(id="t", name="patch", arguments='*** "Begin"', custom=True)
    body = body_of(
        user("Hi"),
        assistant(made),
        user(ToolResult(id="t", content=(Text(text="ok"),), custom=True)),
        tools=[Tool(name="patch", kind="custom")],
    )
    assert body["messages"][1]["content"][0]["input"] == {"input": '*** "Begin"'}


@pytest.mark.parametrize(
    ("choice", "parallel", "sent"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice(), None, {"type": "auto"}),
        (ToolChoice(mode="any"), False, {"type": "any", "disable_parallel_tool_use": True}),
        (ToolChoice(mode="none"), False, {"type": "none"}),
        (ToolChoice(mode="one", name="g"), None, {"type": "tool", "name": "g"}),
        (ToolChoice(mode="any", allowed=("g",)), None, {"type": "any"}),
    ],
)
def test_choices(choice: ToolChoice | None, parallel: bool | None, sent: Any) -> None:
    """BerriAI/litellm#24443, hivecommons/hive#1643."""
    tools = [F, Tool(name="g")]
    body = body_of(tools=tools, tool_choice=choice, parallel=parallel)
    assert body.get("tool_choice") == sent
    allowed = choice is not None and choice.allowed is not None
    assert [tool["name"] for tool in body["tools"]] == (["g"] if allowed else ["f", "g"])


def test_a_choice_without_tools_is_not_sent() -> None:
    body = body_of(tool_choice=ToolChoice(mode="any"), parallel=False)
    assert "tools" not in body
    assert "tool_choice" not in body


def test_a_choice_of_a_tool_that_is_not_there_is_refused() -> None:
    choice = ToolChoice(mode="one", name="h")
    assert refused(tools=[F], tool_choice=choice).param == "tool_choice"


def test_the_vendors_search_and_no_other_hosted_tool() -> None:
    """CommandCodeAI/command-code#885, lidge-jun/opencodex#3204: the rest is left out, not refused.

    A tool of the caller's with the same name keeps its own in the answer.
    """
    search = Tool(
        name="web_search",
        kind="hosted",
        raw={
            "max_uses": 2,
            "blocked_domains": ["x.test"],
            "search_context_size": "low",
            "user_location": {"type": "approximate", "city": "Rome"},
        },
    )
    runner = Tool(name="code_interpreter", kind="hosted", raw={})
    sent = send(tools=[Tool(name="web_search"), runner, search])
    body = checked(sent)
    hosted, own = body["tools"]
    assert hosted == {
        "type": "web_search_20250305",
        "name": "web_search",
        "max_uses": 2,
        "user_location": {"type": "approximate", "city": "Rome"},
        "blocked_domains": ["x.test"],
    }
    assert sent.names[own["name"]] == WrittenTool("web_search")
    assert sent.dropped == ["hosted tool `code_interpreter`"]
    assert "tools" not in body_of(tools=[search], model=OTHER)
    choice = ToolChoice(mode="one", name="code_interpreter")
    assert refused(tools=[F, runner], tool_choice=choice).param == "tool_choice"


# Pictures, files, sound --------------------------------------------------------------------------


def test_pictures_and_files() -> None:
    body = body_of(
        user(
            Image(media_type="image/jpeg", data=PNG, at="a"),
            Image(url="https://x.test/a.png"),
            Document(media_type="application/pdf", data="JVBERi0x", name="a.pdf", context="C"),
            Document(url="https://x.test/a.pdf"),
            Document(text="abc"),
            Document(media_type="text/csv", data=b64encode(b"a,b").decode()),
            Document(blocks=(Text(text="a"), Image(url="https://x.test/i.png"))),
            Document(text=" "),
        )
    )
    sources = [block["source"] for block in body["messages"][0]["content"]]
    assert sources == [
        {"type": "base64", "media_type": "image/png", "data": PNG},
        {"type": "url", "url": "https://x.test/a.png"},
        {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0x"},
        {"type": "url", "url": "https://x.test/a.pdf"},
        {"type": "text", "media_type": "text/plain", "data": "abc"},
        {"type": "text", "media_type": "text/plain", "data": "a,b"},
        {
            "type": "content",
            "content": [
                {"type": "text", "text": "a"},
                {"type": "image", "source": {"type": "url", "url": "https://x.test/i.png"}},
            ],
        },
    ]
    pdf = body["messages"][0]["content"][2]
    assert (pdf["title"], pdf["context"]) == ("a.pdf", "C")


@pytest.mark.parametrize(
    ("block", "kind"),
    [
        (Audio(data="AA==", format="wav", at="messages[0]"), "audio_not_supported_by_model"),
        (Image(media_type="image/tiff", data="AAAA", at="messages[0]"), "invalid_request"),
        (Document(media_type="application/zip", data="AAAA", at="messages[0]"), "invalid_request"),
    ],
)
def test_what_no_claude_can_read_is_refused_by_its_path(block: Block, kind: str) -> None:
    problem = refused(user(block))
    assert (problem.kind, problem.param) == (kind, "messages[0]")


def test_files_of_the_vendor_are_named_by_their_ids() -> None:
    blocks = (Image(file_id="file_1"), Document(file_id="file_2", name="a.pdf", context="C"))
    body = body_of(user(*blocks))
    assert body["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {
            "type": "document",
            "source": {"type": "file", "file_id": "file_2"},
            "title": "a.pdf",
            "context": "C",
        },
    ]


# Thinking ----------------------------------------------------------------------------------------


def thinking_of(effort: str, model: str, **members: Any) -> tuple[Any, Any, int]:
    body = body_of(model=model, reasoning=Reasoning(effort=effort), **members)
    return (
        body.get("thinking"),
        body.get("output_config", {}).get("effort"),
        body["max_tokens"],
    )


@pytest.mark.parametrize(
    ("model", "effort", "thinking", "sent"),
    [
        (NEWEST, "none", {"type": "disabled"}, None),
        (NEWEST, "minimal", {"type": "adaptive"}, "low"),
        (NEWEST, "xhigh", {"type": "adaptive"}, "xhigh"),
        ("claude-fable-5", "none", None, "low"),
        (ADAPTIVE, "xhigh", {"type": "adaptive"}, "max"),
        (ADAPTIVE, "medium", {"type": "adaptive"}, "medium"),
        (BUDGET, "none", None, None),
        (BUDGET, "minimal", {"type": "enabled", "budget_tokens": 1024}, None),
        (BUDGET, "low", {"type": "enabled", "budget_tokens": 4096}, None),
        (BUDGET, "medium", {"type": "enabled", "budget_tokens": 8192}, None),
        (BUDGET, "high", {"type": "enabled", "budget_tokens": 16384}, None),
        (BUDGET, "xhigh", {"type": "enabled", "budget_tokens": 32768}, None),
        (BUDGET, "max", {"type": "enabled", "budget_tokens": 59904}, None),
        ("claude-3-5-haiku-latest", "high", None, None),
        (OTHER, "high", {"type": "enabled", "budget_tokens": 16384}, None),
    ],
)
def test_levels(model: str, effort: str, thinking: Any, sent: str | None) -> None:
    assert thinking_of(effort, model)[:2] == (thinking, sent)


def test_nothing_said_is_nothing_sent() -> None:
    for model in (NEWEST, ADAPTIVE, BUDGET, OTHER):
        body = body_of(model=model)
        assert "thinking" not in body
        assert "output_config" not in body


def test_thinking_is_shown_to_those_who_can_show_it() -> None:
    shown = Reasoning(effort="low", shown=True)
    assert body_of(model=NEWEST, reasoning=shown)["thinking"]["display"] == "summarized"
    only = Reasoning(shown=True)
    assert body_of(model=NEWEST, reasoning=only)["thinking"] == {
        "type": "adaptive",
        "display": "summarized",
    }
    assert "thinking" not in body_of(model=ADAPTIVE, reasoning=only)


def test_a_budget_is_below_the_limit() -> None:
    """BerriAI/litellm#27051, ENTERPILOT/GoModel#45: its own limit grows, the caller's does not."""
    assert thinking_of("high", OTHER) == (
        {"type": "enabled", "budget_tokens": 16384},
        None,
        16384 + 4096,
    )
    assert thinking_of("high", BUDGET, max_tokens=10_000) == (
        {"type": "enabled", "budget_tokens": 8976},
        None,
        10_000,
    )
    assert thinking_of("high", BUDGET, max_tokens=2000) == (None, None, 2000)
    sent = send(reasoning=Reasoning(effort="high"), max_tokens=2000)
    assert sent.dropped == ["thinking: the limit of the answer leaves no room for it"]


@pytest.mark.parametrize("mode", ["any", "one"])
def test_a_forced_call_ends_thinking_by_a_budget(mode: Any) -> None:
    """braintrustdata/braintrust-proxy#242, srtab/daiv#527."""
    members: dict[str, Any] = {
        "tools": [F],
        "tool_choice": ToolChoice(mode=mode, name="f"),
        "reasoning": Reasoning(effort="high"),
    }
    assert "thinking" not in body_of(model=BUDGET, **members)
    assert body_of(model=ADAPTIVE, **members)["thinking"] == {"type": "adaptive"}


def thought(text: str, data: str, *, dialect: str = "anthropic", model: str = "abc") -> Thinking:
    return Thinking(text=text, signature=Signature(origin=Origin(dialect, model), data=data))


def test_thinking_goes_back_to_its_maker_in_its_place() -> None:
    """BerriAI/litellm#38809: also without a text."""
    redacted = Signature(origin=Origin("anthropic"), data="c2Vj", redacted=True)
    sent = send(
        user("Hi"),
        assistant(thought("", "c2ln"), Thinking(signature=redacted), "Ok.", call()),
        user(result()),
        tools=[F],
        reasoning=Reasoning(effort="low"),
    )
    body = check_request("messages", sent.body)
    assert body["messages"][1]["content"][:3] == [
        {"type": "thinking", "thinking": "", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "c2Vj"},
        {"type": "text", "text": "Ok."},
    ]
    assert body["thinking"]["type"] == "enabled"
    assert sent.dropped == []


@pytest.mark.parametrize(
    "block",
    [
        thought("hm", "c2ln", model="another"),
        thought("hm", "gAAAA", dialect="responses"),
        Thinking(text="hm"),
    ],
)
def test_without_the_thinking_before_a_call_there_is_none_after_it(block: Thinking) -> None:
    """anomalyco/opencode#3077, langgenius/dify#41092."""
    turns = [user("Hi"), assistant(block, call()), user(result())]
    sent = send(*turns, tools=[F], reasoning=Reasoning(effort="low"))
    body = checked(sent)
    assert "thinking" not in body
    assert [b["type"] for b in body["messages"][1]["content"]] == ["tool_use"]
    assert sent.dropped == ["thinking of another model", "thinking: that of the last turn is gone"]
    adaptive = body_of(*turns, tools=[F], reasoning=Reasoning(effort="low"), model=ADAPTIVE)
    assert adaptive["thinking"] == {"type": "adaptive"}


# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "members", "sent"),
    [
        (OLD, {"temperature": 1.5}, {"temperature": 1}),
        (OLD, {"temperature": 0.2, "top_p": 0.9}, {"temperature": 0.2}),
        (BUDGET, {"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}),
        ("claude-sonnet-4-0", {"temperature": 0.2, "top_p": 0.9}, None),
        (NEWEST, {"temperature": 0.2, "top_p": 0.9, "top_k": 5}, {}),
        (
            BUDGET,
            {"temperature": 0.2, "top_p": 0.9, "top_k": 5, "reasoning": Reasoning(effort="low")},
            {},
        ),
        (BUDGET, {"top_p": 0.97, "reasoning": Reasoning(effort="low")}, {"top_p": 0.97}),
        (NEWEST, {"temperature": 0.2, "reasoning": Reasoning(effort="none")}, {}),
    ],
)
def test_sampling(model: str, members: dict[str, Any], sent: dict[str, Any] | None) -> None:
    """kortix-ai/suna#4833, odysseus-dev/odysseus#3117, Comfy-Org/ComfyUI#13923."""
    body = body_of(model=model, **members)
    found = {name: body[name] for name in SAMPLING if name in body}
    assert found == (members if sent is None else sent)


def test_other_servers_get_what_was_asked() -> None:
    sent = send(model=OTHER, temperature=1.5, top_p=0.9, top_k=5, reasoning=Reasoning(effort="low"))
    body = json.loads(sent.body)
    assert (body["temperature"], body["top_p"], body["top_k"]) == (1.5, 0.9, 5)
    assert sent.dropped == []


def test_limits() -> None:
    def limit(model: str, most: int | None, asked: int | None) -> Any:
        conversation = Conversation(turns=[user("Hi")], max_tokens=asked)
        return checked(write(conversation, TargetModel(model=model, max_output=most)))["max_tokens"]

    assert limit(OTHER, None, None) == 4096
    assert limit(OTHER, 8192, None) == 8192
    assert limit(OTHER, None, 100_000) == 100_000
    assert limit(BUDGET, None, None) == 64_000
    assert limit(BUDGET, 32_000, None) == 32_000
    assert limit(BUDGET, None, 100_000) == 64_000
    assert limit(BUDGET, None, 1) == 1


def test_stop_strings() -> None:
    sent = send(stop=("END", "", "\n\n", "X"))
    assert checked(sent)["stop_sequences"] == ["END", "X"]
    assert sent.stops == ("\n\n",)


def test_users_and_tiers() -> None:
    body = body_of(user=("u" * 10), tier="default", metadata={"a": "b"})
    assert body["metadata"] == {"user_id": "u" * 10}
    assert body_of(metadata={"user_id": "theirs", "a": "b"})["metadata"] == {"user_id": "theirs"}
    assert "metadata" not in body_of(metadata={"a": "b"})
    assert body["service_tier"] == "standard_only"
    assert body_of(tier="flex")["service_tier"] == "auto"
    assert "service_tier" not in body_of(tier="flex", model=OTHER)
    for personal in ("me@x.test", "u" * 300):
        assert len(body_of(user=personal)["metadata"]["user_id"]) == 64


def test_marks_of_caches_and_no_more_than_four() -> None:
    mark = Cache("1h")
    body = body_of(
        user(Text(text="a", cache=Cache()), Text(text="b", cache=Cache())),
        system=[Text(text="S", cache=mark)],
        tools=[Tool(name="f", cache=mark)],
    )
    assert body["tools"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert [b["cache_control"] for b in body["messages"][0]["content"]] == [
        {"type": "ephemeral"},
        {"type": "ephemeral"},
    ]
    more = body_of(
        user(*(Text(text=t, cache=Cache()) for t in "abcde")),
        system=[Text(text="S", cache=mark)],
        cache=Cache(),
    )
    assert "cache_control" not in more["system"][0]
    marked = [b["text"] for b in more["messages"][0]["content"] if "cache_control" in b]
    assert marked == ["c", "d", "e"]


# Structured output -------------------------------------------------------------------------------


def structured(schema: Any, **members: Any) -> WrittenRequest:
    return send(output=OutputFormat(kind="json_schema", schema=schema), **members)


def test_a_schema_is_the_models_own_where_it_can() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 3}}}
    sent = structured(schema, model=BUDGET, reasoning=Reasoning(effort="low"))
    body = checked(sent)
    format_ = body["output_config"]["format"]
    assert format_["schema"]["additionalProperties"] is False
    assert body["thinking"]["type"] == "enabled"
    assert (sent.answer_tool, sent.answer_wrapped) == ("", False)
    wrapped = structured({"type": "array", "items": {"type": "string"}}, model=NEWEST)
    assert checked(wrapped)["output_config"]["format"]["schema"]["required"] == ["value"]
    assert wrapped.answer_wrapped


def test_a_schema_is_a_tools_where_the_model_cannot() -> None:
    """BerriAI/litellm#12463, vercel/ai#6577: that one tool, and no other, is the answer."""
    sent = structured(SCHEMA, model=OLD, reasoning=Reasoning(effort="low"))
    body = checked(sent)
    assert body["tool_choice"] == {"type": "tool", "name": "json_output"}
    assert body["tools"][0]["input_schema"] == SCHEMA
    assert "thinking" not in body
    assert sent.answer_tool == "json_output"
    several = structured(SCHEMA, model=OTHER, tools=[F, Tool(name="json_output")])
    body = checked(several)
    assert body["tool_choice"] == {"type": "any"}
    assert several.answer_tool == body["tools"][-1]["name"] != "json_output"
    array = structured({"type": "array"}, model=OLD)
    assert array.answer_wrapped
    assert array.wrapped == frozenset()


def test_a_schema_that_refers_to_itself_is_a_tools() -> None:
    node = {
        "type": "object",
        "properties": {"next": {"$ref": "#/$defs/node"}},
        "additionalProperties": False,
    }
    schema = {**node, "$defs": {"node": node}}
    sent = structured(schema, model=NEWEST)
    assert checked(sent)["tool_choice"]["type"] == "tool"
    assert sent.answer_tool == "json_output"


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    sent = send(output=OutputFormat(kind="json_object"), system=[Text(text="S.")])
    body = checked(sent)
    assert body["system"][-1]["text"] == "Reply with a single JSON object and nothing else."
    assert sent.fenced


def test_a_caller_who_wants_no_call_still_gets_its_structure() -> None:
    sent = structured(SCHEMA, model=OLD, tools=[F], tool_choice=ToolChoice(mode="none"))
    assert checked(sent)["tool_choice"] == {"type": "tool", "name": "json_output"}


# Whatever comes ----------------------------------------------------------------------------------

_IDS = st.sampled_from(["toolu_1", "call_0", "functions.f:0", "", "ü"])
_PARTS = st.one_of(
    st.builds(Text, text=st.text()),
    st.builds(Image, media_type=st.just("image/png"), data=st.just(PNG)),
)
_BLOCKS = st.one_of(
    st.builds(Text, text=st.text(), cache=st.sampled_from([None, Cache()])),
    st.builds(Refusal, text=st.text()),
    st.builds(Thinking, text=st.text()),
    st.builds(
        ToolCall,
        id=_IDS,
        name=st.sampled_from(["f", "no such tool", "x" * 90]),
        arguments=st.sampled_from(["", "{}", '{"a":"x"}', "[1]", "{"]),
        custom=st.booleans(),
    ),
    st.builds(ToolResult, id=_IDS, content=st.lists(_PARTS, max_size=2).map(tuple)),
)
_TURNS = st.lists(
    st.builds(
        Turn,
        st.sampled_from(["user", "assistant", "system"]),
        st.lists(_BLOCKS, max_size=4),
    ),
    max_size=6,
)


@given(
    _TURNS,
    st.sampled_from([NEWEST, ADAPTIVE, BUDGET, OLD, OTHER, "claude-opus-4-8"]),
    st.sampled_from([None, "none", "low", "max"]),
    st.sampled_from([None, ToolChoice(), ToolChoice(mode="any"), ToolChoice(mode="none")]),
    st.booleans(),
    st.sampled_from([None, 1, 5000, 1_000_000]),
)
@settings(max_examples=200)
def test_no_conversation_makes_a_request_that_is_refused(
    turns: list[Turn],
    model: str,
    effort: str | None,
    choice: ToolChoice | None,
    tools: bool,
    limit: int | None,
) -> None:
    body = body_of(
        *turns,
        user("last"),
        model=model,
        reasoning=Reasoning(effort=effort),
        tools=[F] if tools else [],
        tool_choice=choice,
        max_tokens=limit,
        temperature=0.3,
        top_p=0.5,
    )
    said = [text.text for turn in turns for text in turn.blocks if isinstance(text, Text)]
    sent = [
        block["text"]
        for message in body["messages"]
        for block in message["content"]
        if block["type"] == "text"
    ]
    for text in said:
        assert not text.strip() or text in sent


def test_a_tool_that_has_to_be_called_must_be_there() -> None:
    hosted = Tool(name="image_generation", kind="hosted", raw={})
    for choice in (ToolChoice(mode="any"), ToolChoice(mode="any", allowed=("image_generation",))):
        with pytest.raises(Problem) as raised:
            send(tools=[hosted], tool_choice=choice)
        assert raised.value.param == "tool_choice"
