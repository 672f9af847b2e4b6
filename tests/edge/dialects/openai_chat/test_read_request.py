"""Requests of chat callers, read into conversations."""

from base64 import b64encode
from typing import Any

import msgspec
import pytest

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
from edge.dialects.history_repair import repair_turns
from edge.dialects.openai_chat import CLIENT
from edge.dialects.signatures import pack
from middlewares.problem import Problem

PNG = b64encode(b"\x89PNG\r\n\x1a\nxxxx").decode()
PDF = b64encode(b"%PDF-1.4 ...").decode()
HI = {"role": "user", "content": "hi"}


def read(*messages: Any, **fields: Any) -> Conversation:
    body = {"model": "m", "messages": list(messages) or [HI], **fields}
    return CLIENT.read({k: msgspec.Raw(msgspec.json.encode(v)) for k, v in body.items()})


def blocks(*parts: Any) -> list[Block]:
    """The blocks of one message of the user with these parts."""
    return read({"role": "user", "content": list(parts)}).turns[0].blocks


def refused(*messages: Any, **fields: Any) -> Problem:
    with pytest.raises(Problem) as raised:
        read(*messages, **fields)
    problem = raised.value
    assert problem.kind == "invalid_request"
    assert problem.param is not None
    assert f"`{problem.param}`" in (problem.message or "")
    return problem


# Messages ----------------------------------------------------------------------------------------


def test_roles() -> None:
    conversation = read(
        {"role": "system", "content": "A"},
        {
            "role": "developer",
            "content": [{"type": "text", "text": "B"}, {"type": "text", "text": "C"}],
        },
        HI,
        {"role": "assistant", "content": "yes", "refusal": None, "audio": None},
        {"role": "system", "content": "D"},
        {"role": "user", "content": "go", "name": "u"},
    )
    assert conversation.system == [Text(text="A"), Text(text="B"), Text(text="C")]
    assert conversation.turns == [
        Turn("user", [Text(text="hi")]),
        Turn("assistant", [Text(text="yes")]),
        Turn("system", [Text(text="D")]),
        Turn("user", [Text(text="go")]),
    ]


def test_calls_and_their_results() -> None:
    conversation = read(
        HI,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "w", "arguments": '{"ä": 1}'}},
                {"id": "b", "type": "custom", "custom": {"name": "p", "input": "raw"}},
                {"id": "c", "function": {"name": "v"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "A"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "B"}]},
        {"role": "tool", "tool_call_id": "c", "content": None},
    )
    assert conversation.turns[1].blocks == [
        ToolCall(id="a", name="w", arguments='{"ä": 1}'),
        ToolCall(id="b", name="p", arguments="raw", custom=True),
        ToolCall(id="c", name="v"),
    ]
    assert [turn.blocks for turn in conversation.turns[2:]] == [
        [ToolResult(id="a", content=(Text(text="A"),))],
        [ToolResult(id="b", content=(Text(text="B"),))],
        [ToolResult(id="c")],
    ]


def test_images_in_results() -> None:
    """CommandCodeAI/command-code#850, sgl-project/sglang#19233."""
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    source = {"type": "base64", "media_type": "image/png", "data": PNG}
    conversation = read(
        HI,
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "w"}}]},
        {
            "role": "tool",
            "tool_call_id": "a",
            "content": [url, {"type": "image", "source": source}],
        },
    )
    result = conversation.turns[2].blocks[0]
    assert isinstance(result, ToolResult)
    assert [type(part) for part in result.content] == [Image, Image]


def test_the_older_functions_pair_by_name() -> None:
    call = {"name": "w", "arguments": "{}"}
    conversation = read(
        HI,
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "w", "content": "A"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "w", "content": "B"},
        functions=[{"name": "w", "parameters": {"type": "object"}}],
        function_call={"name": "w"},
    )
    assert conversation.legacy_functions
    assert conversation.tools == [Tool(name="w", schema={"type": "object"})]
    assert conversation.tool_choice == ToolChoice(mode="one", name="w")
    calls = [call.id for call in conversation.calls()]
    assert len(set(calls)) == 2
    assert repair_turns(conversation.turns) == conversation.turns


def test_blocks_of_anthropic_inside_a_chat() -> None:
    """Cursor sends them: calls and results as parts."""
    conversation = read(
        HI,
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "ok", "cache_control": {"type": "ephemeral"}},
                {"type": "tool_use", "id": "a", "name": "w", "input": {"x": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": "A", "is_error": True},
                {"type": "text", "text": "go"},
            ],
        },
        tools=[{"name": "w", "description": "d", "input_schema": {"type": "object"}}],
    )
    assert conversation.tools == [Tool(name="w", description="d", schema={"type": "object"})]
    assert conversation.turns[1:] == [
        Turn(
            "assistant",
            [Text(text="ok", cache=Cache()), ToolCall(id="a", name="w", arguments='{"x":1}')],
        ),
        Turn(
            "user",
            [ToolResult(id="a", content=(Text(text="A"),), failed=True), Text(text="go")],
        ),
    ]


def test_one_call_in_two_spellings_is_one() -> None:
    """BerriAI/litellm#23510."""
    message = {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "a", "name": "w", "input": {}}],
        "tool_calls": [{"id": "a", "function": {"name": "w", "arguments": "{ }"}}],
    }
    assert [call.id for call in read(HI, message).calls()] == ["a"]


SEAL = Signature(origin=Origin("anthropic", "abc"), data="c2ln")
HIDDEN = Signature(origin=Origin("anthropic", "abc"), data="ZGF0YQ==", redacted=True)


@pytest.mark.parametrize(
    "members",
    [
        {
            "reasoning_content": "hm",
            "reasoning_details": [
                {"type": "reasoning.text", "text": "hm", "signature": pack(SEAL), "index": 0},
                {"type": "reasoning.encrypted", "data": pack(HIDDEN), "index": 1},
            ],
        },
        {
            "reasoning": "hm",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "hm", "signature": pack(SEAL)},
                {"type": "redacted_thinking", "data": pack(HIDDEN)},
            ],
            "reasoning_details": [{"type": "reasoning.text", "text": "hm"}],
        },
    ],
)
def test_thinking_is_read_from_one_place(members: dict[str, Any]) -> None:
    message = {"role": "assistant", "content": "ok", **members}
    assert read(HI, message).turns[1].blocks == [
        Thinking(text="hm", signature=SEAL),
        Thinking(signature=HIDDEN),
        Text(text="ok"),
    ]


@pytest.mark.parametrize(
    "members",
    [
        {"reasoning_content": "hm", "reasoning": "hm"},
        {"reasoning": "hm"},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        {"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "Zm9yZWln"}]},
    ],
)
def test_thinking_without_a_seal_of_ours(members: dict[str, Any]) -> None:
    message = {"role": "assistant", "content": None, **members}
    assert read(HI, message).turns[1].blocks == [Thinking(text="hm")]


def test_refusals_in_the_history() -> None:
    part = {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}
    member = {"role": "assistant", "content": None, "refusal": "No."}
    for message in (part, member):
        assert read(HI, message).turns[1].blocks == [Refusal(text="No.")]


def test_cache_marks() -> None:
    mark = {"type": "ephemeral", "ttl": "1h"}
    conversation = read(
        {"role": "system", "content": [{"type": "text", "text": "A", "cache_control": mark}]},
        {"role": "user", "content": "hi", "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "w"}}]},
        {"role": "tool", "tool_call_id": "a", "content": "A", "cache_control": mark},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "B", "prompt_cache_breakpoint": {"mode": "explicit"}}
            ],
        },
        tools=[{"type": "function", "function": {"name": "w"}, "cache_control": mark}],
        cache_control=mark,
    )
    assert conversation.system[0].cache == Cache("1h")
    assert conversation.turns[0].blocks == [Text(text="hi", cache=Cache())]
    assert conversation.turns[2].blocks[0] == ToolResult(
        id="a", content=(Text(text="A"),), cache=Cache("1h")
    )
    assert conversation.turns[3].blocks == [Text(text="B", cache=Cache())]
    assert conversation.tools[0].cache == Cache("1h")
    assert conversation.cache == Cache("1h")


# Parts -------------------------------------------------------------------------------------------


def test_images() -> None:
    inline = f"data:image/jpg;name=a;base64,{PNG}"
    assert blocks(
        {"type": "image_url", "image_url": {"url": inline, "detail": "high"}},
        {"type": "image_url", "image_url": "https://example.com/a"},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/b"}},
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
    ) == [
        Image(media_type="image/png", data=PNG, detail="high", at="messages[0].content[0]"),
        Image(url="https://example.com/a", at="messages[0].content[1]"),
        Image(url="https://example.com/b", at="messages[0].content[2]"),
        Image(file_id="f", at="messages[0].content[3]"),
    ]


def test_files_and_sound() -> None:
    text = b64encode("grüß".encode()).decode()
    pdf = {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}
    assert blocks(
        {"type": "file", "file": pdf},
        {"type": "file", "file": {"file_data": PDF}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "file", "file": {"filename": "a", "file_data": f"data:text/csv;base64,{text}"}},
        {"type": "file", "file": {"file_data": f"data:image/jpeg;base64,{PNG}"}},
        {"type": "document", "title": "t", "source": {"type": "text", "data": "x"}},
        {"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}},
        {"type": "input_file", **pdf},
        {"type": "input_file", "file_id": "f"},
    ) == [
        Document(media_type="application/pdf", data=PDF, name="a.pdf", at="messages[0].content[0]"),
        Document(media_type="application/pdf", data=PDF, at="messages[0].content[1]"),
        Document(file_id="f", at="messages[0].content[2]"),
        Document(media_type="text/csv", text="grüß", name="a", at="messages[0].content[3]"),
        Image(media_type="image/png", data=PNG, at="messages[0].content[4]"),
        Document(media_type="text/plain", text="x", name="t", at="messages[0].content[5]"),
        Audio(data="eA==", format="wav", at="messages[0].content[6]"),
        Document(media_type="application/pdf", data=PDF, name="a.pdf", at="messages[0].content[7]"),
        Document(file_id="f", at="messages[0].content[8]"),
    ]


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts)}


CALL = {"id": "a", "function": {"name": "w"}}


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([7], "messages[0]"),
        ([{"content": "x"}], "messages[0].role"),
        ([{"role": "bot", "content": "x"}], "messages[0].role"),
        ([{"role": "user"}], "messages[0].content"),
        ([HI, {"role": "user", "content": {}}], "messages[1].content"),
        ([user(7)], "messages[0].content[0]"),
        ([user({"type": "video_url"})], "messages[0].content[0].type"),
        ([user({"text": "x"})], "messages[0].content[0].type"),
        ([user({"type": "text"})], "messages[0].content[0].text"),
        ([user({"type": "image_url"})], "messages[0].content[0].image_url"),
        ([user({"type": "image_url", "image_url": {}})], "messages[0].content[0].image_url.url"),
        (
            [
                HI,
                user(
                    {"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "x"}}
                ),
            ],
            "messages[1].content[1].image_url.url",
        ),
        (
            [user({"type": "image_url", "image_url": {"url": "data:image/png;base64,!"}})],
            "messages[0].content[0].image_url.url",
        ),
        ([user({"type": "file", "file": {}})], "messages[0].content[0].file.file_data"),
        (
            [user({"type": "file", "file": {"file_data": "x"}})],
            "messages[0].content[0].file.file_data",
        ),
        (
            [user({"type": "input_audio", "input_audio": {"data": "x"}})],
            "messages[0].content[0].input_audio.format",
        ),
        (
            [user({"type": "image", "source": {"type": "x"}})],
            "messages[0].content[0].source.type",
        ),
        (
            [{"role": "system", "content": [{"type": "refusal", "refusal": "x"}]}],
            "messages[0].content[0].type",
        ),
        (
            [HI, {"role": "assistant", "tool_calls": [{"id": "a"}]}],
            "messages[1].tool_calls[0].function",
        ),
        (
            [HI, {"role": "assistant", "tool_calls": [{"function": {"name": ""}}]}],
            "messages[1].tool_calls[0].function.name",
        ),
        (
            [
                HI,
                {"role": "assistant", "tool_calls": [{"function": {"name": "w", "arguments": 1}}]},
            ],
            "messages[1].tool_calls[0].function.arguments",
        ),
        ([HI, {"role": "assistant", "tool_calls": "x"}], "messages[1].tool_calls"),
        ([HI, {"role": "tool", "content": "x"}], "messages[1].tool_call_id"),
        (
            [
                HI,
                {
                    "role": "tool",
                    "tool_call_id": "a",
                    "content": [
                        {"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}
                    ],
                },
            ],
            "messages[1].content[0].type",
        ),
    ],
)
def test_refuses_messages_by_their_path(messages: list[Any], param: str) -> None:
    assert refused(*messages).param == param


def test_messages_are_needed() -> None:
    bodies: list[dict[str, Any]] = [
        {},
        {"messages": None},
        {"messages": []},
        {"messages": "hi"},
    ]
    for body in bodies:
        with pytest.raises(Problem) as raised:
            CLIENT.read({k: msgspec.Raw(msgspec.json.encode(v)) for k, v in body.items()})
        assert raised.value.param == "messages"


# Tools -------------------------------------------------------------------------------------------


def test_tools() -> None:
    """hivecommons/hive#1633, BerriAI/litellm#30557: all of them, and nothing of the envelope."""
    grammar = {"syntax": "lark", "definition": "start: x"}
    conversation = read(
        tools=[
            {"type": "function", "function": {"name": "w", "strict": True, "parameters": {"a": 1}}},
            {"type": "function", "name": "flat", "parameters": None},
            {"type": "custom", "name": "c", "input_schema": {"type": "object"}},
            {"type": "custom", "custom": {"name": "p", "description": "d"}},
            {
                "type": "custom",
                "custom": {"name": "q", "format": {"type": "grammar", "grammar": grammar}},
            },
            {"type": "file_search", "vector_store_ids": []},
        ],
        tool_choice="auto",
        parallel_tool_calls=False,
    )
    assert conversation.tools == [
        Tool(name="w", strict=True, schema={"a": 1}),
        Tool(name="flat"),
        Tool(name="c", schema={"type": "object"}),
        Tool(name="p", kind="custom", description="d"),
        Tool(name="q", kind="custom", format={"type": "grammar", **grammar}),
    ]
    assert conversation.tool_choice == ToolChoice()
    assert conversation.parallel is False
    assert conversation.dropped == ["tools[5]: hosted tool `file_search`"]


PLACE = {"type": "approximate", "approximate": {"country": "DE", "city": "Ulm"}}


def test_web_search() -> None:
    options = {"user_location": PLACE, "search_context_size": "low"}
    search = read(web_search_options=options).tools[0]
    assert search == Tool(
        name="web_search",
        kind="hosted",
        raw={
            "search_context_size": "low",
            "user_location": {"type": "approximate", "city": "Ulm", "country": "DE"},
        },
    )
    theirs = {
        "type": "web_search_20250305",
        "name": "web_search",
        "max_uses": 2,
        "blocked_domains": ["a.b"],
    }
    assert read(tools=[theirs]).tools[0].raw == {"max_uses": 2, "blocked_domains": ["a.b"]}
    assert read(web_search_options={}).tools[0].raw == {}


FUNCTION = {"type": "function", "function": {"name": "w"}}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, None),
        ("auto", ToolChoice()),
        ("none", ToolChoice(mode="none")),
        ("required", ToolChoice(mode="any")),
        ({"type": "none"}, ToolChoice(mode="none")),
        ({"type": "function", "function": {"name": "w"}}, ToolChoice(mode="one", name="w")),
        ({"type": "function", "name": "w"}, ToolChoice(mode="one", name="w")),
        ({"type": "custom", "custom": {"name": "w"}}, ToolChoice(mode="one", name="w")),
        ({"type": "tool", "name": "w"}, ToolChoice(mode="one", name="w")),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [FUNCTION, {"name": "v"}]},
            },
            ToolChoice(mode="any", allowed=("w", "v")),
        ),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "w"}]},
            ToolChoice(allowed=("w",)),
        ),
    ],
)
def test_choices(choice: Any, expected: ToolChoice | None) -> None:
    """hivecommons/hive#1643, BerriAI/litellm#24443."""
    assert read(tools=[FUNCTION], tool_choice=choice).tool_choice == expected


def test_a_choice_without_tools_means_nothing() -> None:
    conversation = read(tools=[], tool_choice="auto", parallel_tool_calls=False)
    assert (conversation.tool_choice, conversation.parallel) == (None, None)
    assert conversation.dropped == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": {}}, "tools"),
        ({"tools": [7]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "w", "parameters": []}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [FUNCTION], "tool_choice": "must"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function"}}, "tool_choice.name"),
        (
            {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "mode": "auto"}},
            "tool_choice.tools",
        ),
        ({"functions": [{}]}, "functions[0].name"),
        ({"tools": [FUNCTION], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    ],
)
def test_refuses_tools_by_their_path(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


# Settings ----------------------------------------------------------------------------------------


def test_settings() -> None:
    conversation = read(
        max_completion_tokens=10.0,
        max_tokens=20,
        temperature=1.5,
        top_p=0.9,
        top_k=5,
        stop=["a", "", "b"],
        stream=True,
        stream_options={"include_usage": True},
        verbosity="low",
        service_tier="scale",
        safety_identifier="s",
        user="u",
        metadata={"a": "b"},
        prompt_cache_key="k",
        logprobs=True,
        top_logprobs=3,
        n=1,
        modalities=["text"],
    )
    assert conversation == Conversation(
        turns=[Turn("user", [Text(text="hi")])],
        max_tokens=10,
        temperature=1.5,
        top_p=0.9,
        top_k=5,
        stop=("a", "b"),
        stream=True,
        verbosity="low",
        tier="priority",
        user="s",
        metadata={"a": "b"},
        session="k",
        top_logprobs=3,
    )


def test_what_has_no_place_elsewhere_is_named() -> None:
    assert read(logprobs=True).top_logprobs == 0  # the logarithms of the tokens themselves
    assert read(service_tier="tomorrow's", seed=1).dropped == ["`service_tier`", "`seed`"]


def test_null_and_empty_are_absent() -> None:
    names = """
        max_tokens max_completion_tokens tools tool_choice stop temperature top_p n response_format
        reasoning_effort stream stream_options logprobs top_logprobs metadata modalities audio seed
        functions function_call parallel_tool_calls service_tier verbosity
    """
    plain = read()
    assert read(**dict.fromkeys(names.split())) == plain
    assert read(user="", tools=[], stop="", stream=False) == plain
    assert read(tool_choice="auto", parallel_tool_calls=False, functions=[]) == plain
    assert (
        read(stop=[], reasoning={}, thinking={}, response_format={}, modalities=["text"]) == plain
    )
    assert read(response_format={"type": "text"}, stream_options={}) == plain


@pytest.mark.parametrize("word", ["default", "auto", ""])
def test_effort_left_to_the_model_is_absent(word: str) -> None:
    """Groq's and vLLM's word for the level that the model has of its own."""
    plain = read()
    assert read(reasoning_effort=word) == plain
    shown = Reasoning(shown=True)
    assert read(reasoning={"effort": word}).reasoning == shown


def test_top_k_of_minus_one_is_absent() -> None:
    assert read(top_k=-1) == read(top_k=-1.0) == read()


def test_what_has_no_place_elsewhere_is_noted() -> None:
    conversation = read(seed=1, logit_bias={}, my_own={"a": 1})
    assert conversation.dropped == ["`seed`", "`logit_bias`", "`my_own`"]
    assert bytes(conversation.bag["my_own"]) == b'{"a":1}'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reasoning_effort": "high"}, Reasoning(effort="high", shown=True)),
        ({"reasoning": {"effort": "low", "exclude": True}}, Reasoning(effort="low", shown=False)),
        (
            {"reasoning": {"max_tokens": 2000}},
            Reasoning(mode="enabled", budget=2000, shown=True),
        ),
        ({"reasoning": {"enabled": False}}, Reasoning(effort="none", shown=True)),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 2000}},
            Reasoning(mode="enabled", budget=2000, shown=True),
        ),
        ({"reasoning_effort": "off"}, Reasoning(effort="none", shown=True)),
        ({"reasoning": {"enabled": True}}, Reasoning(mode="enabled", shown=True)),
        (
            {"reasoning_effort": "default", "thinking": {"type": "disabled"}},
            Reasoning(mode="disabled"),
        ),
        ({"thinking": {"type": "adaptive"}}, Reasoning(mode="adaptive", shown=True)),
        ({"thinking": {"type": "auto"}}, Reasoning(mode="adaptive", shown=True)),
        ({"thinking": {"type": "disabled"}}, Reasoning(mode="disabled")),
    ],
)
def test_reasoning(fields: dict[str, Any], expected: Reasoning) -> None:
    """BerriAI/litellm#8837: none of its spellings is dropped."""
    conversation = read(**fields)
    assert conversation.reasoning == expected
    assert conversation.dropped == []


def test_output_formats() -> None:
    assert read(response_format={"type": "text"}).output is None
    json_object = read(response_format={"type": "json_object"}).output
    assert json_object == OutputFormat(kind="json_object")
    schema: dict[str, Any]
    path = "response_format.json_schema.schema"
    for unnamed in ({"schema": {"type": "array"}}, {"name": "", "schema": {"type": "array"}}):
        assert read(response_format={"type": "json_schema", "json_schema": unnamed}).output == (
            OutputFormat(kind="json_schema", name="output", schema={"type": "array"}, path=path)
        )
    for kind in ("json_schema", "json_object"):  # as llama.cpp and Together have it
        assert read(response_format={"type": kind, "schema": {"type": "array"}}).output == (
            OutputFormat(
                kind="json_schema", schema={"type": "array"}, path="response_format.schema"
            )
        )
    assert read(response_format={"type": "json_schema"}).output == json_object
    beside = {"type": "json_object", "json_schema": {"schema": {}}}
    assert read(response_format=beside).output == json_object
    schema = {"name": "n", "schema": {"type": "array"}, "strict": True, "description": "d"}
    assert read(response_format={"type": "json_schema", "json_schema": schema}).output == (
        OutputFormat(
            kind="json_schema",
            name="n",
            description="d",
            schema={"type": "array"},
            strict=True,
            path=path,
        )
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities[1]"),
        ({"audio": {"voice": "x"}}, "audio"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 0, "max_tokens": 5}, "max_completion_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "0"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"stop": 1}, "stop"),
        ({"stop": ["a", 1]}, "stop[1]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"reasoning": {"effort": "very"}}, "reasoning.effort"),
        ({"thinking": {"type": "x"}}, "thinking.type"),
        ({"verbosity": "loud"}, "verbosity"),
        ({"metadata": []}, "metadata"),
        ({"user": 7}, "user"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": 1}},
            "response_format.json_schema",
        ),
        ({"response_format": {"type": "json_object", "schema": 1}}, "response_format.schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": 1}}},
            "response_format.json_schema.name",
        ),
    ],
)
def test_refuses_settings_by_their_path(fields: dict[str, Any], param: str) -> None:
    assert refused(**fields).param == param


def test_a_wrong_effort_is_refused() -> None:
    """BerriAI/litellm#27074."""
    problem = refused(reasoning_effort="hgih")
    assert problem.param == "reasoning_effort"
    assert "`high`" in (problem.message or "")


def test_several_choices_are_an_unsupported_parameter() -> None:
    assert refused(n=2).extra == {"code": "unsupported_parameter"}
