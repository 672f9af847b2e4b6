"""What must not pass inside turns and tools: other letter case, vendors' objects, two of a name."""

import json
from typing import Any

import msgspec
import pytest

from edge.endpoints import Codec
from edge.requests.content_names import check_contents
from edge.requests.member_names import check_names
from edge.requests.unseen_input import reads_more
from middlewares.problem import Problem
from tests.asgi import request
from tests.edge.scripted import Answer, Scripted, ScriptedGateway

KELVIN, LONG_S = "\u212a", "\u017f"
TEXT = {"type": "text", "text": "Hi"}


def fields(**given: Any) -> dict[str, msgspec.Raw]:
    return {
        name: msgspec.Raw(value if isinstance(value, bytes) else msgspec.json.encode(value))
        for name, value in given.items()
    }


def said(*parts: Any) -> dict[str, msgspec.Raw]:
    return fields(messages=[{"role": "user", "content": [TEXT, *parts]}])


def tool(**members: Any) -> dict[str, msgspec.Raw]:
    return fields(tools=[{"type": "function", "function": {"name": "n"}}, members])


def checked(given: dict[str, msgspec.Raw], codec: Codec | None = None) -> bool:
    check_names(given, codec)
    return check_contents(given)


REFERENCES: list[tuple[dict[str, msgspec.Raw], str]] = [
    (fields(conversation="conv_1"), "conversation"),
    (fields(conversation={"id": "conv_1"}), "conversation"),
    (fields(prompt={"id": "pmpt_1"}), "prompt"),
    (fields(container="container_1"), "container"),
    (fields(container={"id": "container_1"}), "container.id"),
    (
        fields(container={"skills": [{"type": "custom", "skill_id": "skill_1"}]}),
        "container.skills[0].skill_id",
    ),
    (fields(vector_store_ids=["vs_1"]), "vector_store_ids"),
    (fields(data_sources=[{"type": "azure_search"}]), "data_sources"),
    (fields(cachedContent="cachedContents/1"), "cachedContent"),
    (
        fields(extra_body={"google": {"cached_content": "cachedContents/1"}}),
        "extra_body.google.cached_content",
    ),
    (said({"type": "file", "file": {"file_id": "f"}}), "messages[0].content[1].file.file_id"),
    (said({"type": "container_upload", "file_id": "f"}), "messages[0].content[1].file_id"),
    (
        said({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        "messages[0].content[1].source.file_id",
    ),
    (
        said({"type": "document", "source": {"content": [{"type": "image", "file_id": "f"}]}}),
        "messages[0].content[1].source.content[0].file_id",
    ),
    (
        said({"type": "tool_result", "tool_use_id": "t", "content": [{"file_id": "f"}]}),
        "messages[0].content[1].content[0].file_id",
    ),
    (
        said({"type": "image_file", "image_file": {"file_id": "f"}}),
        "messages[0].content[1].image_file.file_id",
    ),
    (fields(system=[{"type": "file", "file_id": "f"}]), "system[0].file_id"),
    (fields(input=[{"type": "input_file", "file_id": "f"}]), "input[0].file_id"),
    (fields(input=["Hi", {"type": "input_image", "file_id": "f"}]), "input[1].file_id"),
    (
        fields(
            input=[{"type": "computer_call_output", "call_id": "c", "output": {"file_id": "f"}}]
        ),
        "input[0].output.file_id",
    ),
    (
        fields(input=[{"type": "code_interpreter_call", "id": "ci", "container_id": "cntr_1"}]),
        "input[0].container_id",
    ),
    (fields(input=[{"type": "image_generation_call", "id": "ig_1"}]), "input[0].id"),
    (
        fields(input=[{"type": "additional_tools", "tools": [{"vector_store_ids": ["vs"]}]}]),
        "input[0].tools[0].vector_store_ids",
    ),
    (
        fields(messages=rb'[{"role":"user","content":[{"type":"file","file\u005fid":"f"}]}]'),
        "messages[0].content[0].file_id",
    ),
    (fields(thread={"type": "continue", "previous_message_id": "msg_1"}), "thread"),
    (fields(thread={"type": "create"}), "thread"),
    (fields(preset="@preset/x"), "preset"),
    (fields(assistant_id="asst_1"), "assistant_id"),
    (fields(threadId="thread_1"), "threadId"),
    (fields(api_base="http://elsewhere"), "api_base"),
    (fields(BaseURL="http://elsewhere"), "BaseURL"),
    (fields(user_config={"model_list": []}), "user_config"),
    (tool(type="advisor_20260301", name="advisor", model="claude-other"), "tools[1].model"),
    (tool(type="mcp", server_label="x", tunnel_id="t"), "tools[1].tunnel_id"),
    (said({"type": "file", "file": {"fileId": "f"}}), "messages[0].content[1].file.fileId"),
    (said({"type": "file", "file": {"FILE_ID": "f"}}), "messages[0].content[1].file.FILE_ID"),
    (tool(type="file_search", vector_store_ids=["vs_1"]), "tools[1].vector_store_ids"),
    (
        tool(type="file_search", **{f"vector_{LONG_S}tore_ids": ["vs_1"]}),
        f"tools[1].vector_{LONG_S}tore_ids",
    ),
    (tool(type="code_interpreter", container="cntr_1"), "tools[1].container"),
    (
        tool(type="code_interpreter", container={"type": "auto", "file_ids": ["f"]}),
        "tools[1].container.file_ids",
    ),
    (
        tool(type="shell", environment={"type": "container_reference", "container_id": "cntr_1"}),
        "tools[1].environment.container_id",
    ),
    (
        tool(
            type="shell",
            environment={
                "type": "container_auto",
                "skills": [{"type": "skill_reference", "skill_id": "s"}],
            },
        ),
        "tools[1].environment.skills[0].skill_id",
    ),
    (tool(type="mcp", connector_id="connector_x", authorization="t"), "tools[1].connector_id"),
    (
        tool(type="image_generation", input_image_mask={"file_id": "f"}),
        "tools[1].input_image_mask.file_id",
    ),
    (tool(type="retrieval", retrieval={"knowledge_id": "k"}), "tools[1].retrieval.knowledge_id"),
    (
        tool(type="namespace", tools=[{"type": "file_search", "vector_store_ids": ["v"]}]),
        "tools[1].tools[0].vector_store_ids",
    ),
    (
        said({"type": "image_url", "image_url": {"url": "gs://bucket/a.png"}}),
        "messages[0].content[1].image_url.url",
    ),
    (
        fields(input=[{"content": [{"type": "input_image", "image_url": "FILE:///etc/passwd"}]}]),
        "input[0].content[0].image_url",
    ),
    (
        fields(input=[{"type": "input_file", "file_url": "s3://bucket/a.pdf"}]),
        "input[0].file_url",
    ),
    (
        fields(
            messages=rb'[{"content":[{"type":"image_url","image_url":{"url":"\u0067s:\/\/b"}}]}]'
        ),
        "messages[0].content[0].image_url.url",
    ),
]


@pytest.mark.parametrize(("given", "path"), REFERENCES)
def test_check_contents_vendors_object_is_refused_by_path(
    given: dict[str, msgspec.Raw], path: str
) -> None:
    with pytest.raises(Problem) as raised:
        checked(given)
    assert raised.value.kind == "invalid_request"
    assert raised.value.param == path
    assert f"`{path}`" in str(raised.value.message)


TWINS: list[tuple[dict[str, msgspec.Raw], str, str]] = [
    (tool(Type="web_search"), "tools[1].Type", "tools[1].type"),
    (tool(type="web_search", max_uses=1, Max_Uses=99), "tools[1].Max_Uses", "tools[1].max_uses"),
    (
        tool(type="function", cache_control={"type": "ephemeral", "TTL": "1h"}),
        "tools[1].cache_control.TTL",
        "tools[1].cache_control.ttl",
    ),
    (
        tool(type="code_interpreter", container={"Type": "auto"}),
        "tools[1].container.Type",
        "tools[1].container.type",
    ),
    (
        fields(container={"skills": [{"type": "anthropic", "Type": "custom", "skill_id": "s"}]}),
        "container.skills[0].Type",
        "container.skills[0].type",
    ),
    (
        said({"Type": "document", "source": {}}),
        "messages[0].content[1].Type",
        "messages[0].content[1].type",
    ),
    (
        said({"type": "document", f"{LONG_S}ource": {"type": "url", "url": "https://x"}}),
        f"messages[0].content[1].{LONG_S}ource",
        "messages[0].content[1].source",
    ),
    (
        said({"type": "document", "source": {"type": "text", "URL": "https://x"}}),
        "messages[0].content[1].source.URL",
        "messages[0].content[1].source.url",
    ),
    (
        fields(messages=[{"role": "user", "content": "Hi", "Content": [TEXT]}]),
        "messages[0].Content",
        "messages[0].content",
    ),
    (
        fields(system=[{**TEXT, "Cache_Control": {"type": "ephemeral", "ttl": "1h"}}]),
        "system[0].Cache_Control",
        "system[0].cache_control",
    ),
    (
        fields(input=[{"type": "input_file", "File_Url": "https://x"}]),
        "input[0].File_Url",
        "input[0].file_url",
    ),
    (
        fields(stream_options={"INCLUDE_USAGE": False}),
        "stream_options.INCLUDE_USAGE",
        "stream_options.include_usage",
    ),
    (
        fields(response_format={"type": "text", "Type": "json_object"}),
        "response_format.Type",
        "response_format.type",
    ),
    (
        fields(response_format={"type": "json_schema", "json_schema": {"Schema": {}}}),
        "response_format.json_schema.Schema",
        "response_format.json_schema.schema",
    ),
    (
        fields(text={"format": {"type": "text", "TYPE": "x"}}),
        "text.format.TYPE",
        "text.format.type",
    ),
    (
        fields(tool_choice={"type": "auto", "Name": "n"}),
        "tool_choice.Name",
        "tool_choice.name",
    ),
    (
        fields(thinking={"type": "enabled", f"budget_to{KELVIN}ens": 9}),
        f"thinking.budget_to{KELVIN}ens",
        "thinking.budget_tokens",
    ),
    (fields(metadata={"User_Id": "u"}), "metadata.User_Id", "metadata.user_id"),
]


@pytest.mark.parametrize(("given", "path", "meant"), TWINS)
def test_check_member_that_folds_to_one_we_read_is_refused_by_path(
    given: dict[str, msgspec.Raw], path: str, meant: str
) -> None:
    with pytest.raises(Problem) as raised:
        checked(given, "messages")
    assert raised.value.param == path
    assert f"write `{meant}`" in str(raised.value.message)


FREE = {"file_id": "f", "Type": "x", "vector_store_ids": ["v"], "container": "c"}
PASSING: list[dict[str, msgspec.Raw]] = [
    fields(messages="Hi", input="Hi", system="Hi", tools=None),
    fields(messages=[], input=[], tools=[]),
    fields(messages=[{"role": "user", "content": None}, {"role": "assistant", "content": "Hi"}]),
    fields(input=["a", "b"]),
    fields(input=[[1, 2], [3]]),
    fields(prompt="Hi"),
    fields(prompt=["Hi", "there"]),
    fields(conversation=None, container=None, vector_store_ids=[], prompt=None),
    fields(container={"skills": [{"type": "anthropic", "skill_id": "pptx", "version": "latest"}]}),
    fields(metadata=FREE, safety_settings=[{"Category": "x", "Type": "y"}]),
    said({"type": "tool_use", "id": "t", "name": "n", "input": FREE}),
    said({"type": "text", "text": '{"file_id": "f"}'}),
    said(
        {
            "type": "code_execution_tool_result",
            "tool_use_id": "t",
            "content": {"type": "code_execution_result", "content": [{"file_id": "f"}]},
        }
    ),
    said({"type": "image_url", "image_url": {"url": "https://x/gs://a"}}),
    said({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}),
    said({"type": "image", "source": {"type": "base64", "data": "AA=="}}),
    said({"type": "file", "file": {"file_id": None, "file_data": "data:text/plain;base64,AA=="}}),
    fields(
        input=[
            {"type": "function_call", "call_id": "c", "name": "n", "arguments": json.dumps(FREE)},
            {"type": "message", "content": [{"type": "output_text", "annotations": [FREE]}]},
            {"type": "file_search_call", "id": "fs", "results": [FREE]},
            {"type": "image_generation_call", "id": "ig", "result": "AA=="},
            {"type": "item_reference", "id": "msg_1"},
        ]
    ),
    tool(type="function", function={"name": "n", "parameters": {"properties": FREE}}),
    tool(name="n", input_schema={"properties": FREE}),
    tool(type="code_interpreter", container={"type": "auto", "memory_limit": "4g"}),
    tool(type="mcp", server_url="https://x", authorization="t", headers=FREE),
    tool(type="computer_use_preview", environment="linux", display_width=1),
    tool(type="image_generation", model="gpt-image-1"),
    fields(fallbacks=[], thread=None),
    tool(type="not_invented_yet", Option=1, thing={"Type": "x"}),
    fields(messages=b'[{"role":"user","content":"\xff"}]'),
]


@pytest.mark.parametrize("given", PASSING)
def test_check_contents_free_json_and_usual_members_pass_as_they_came(
    given: dict[str, msgspec.Raw],
) -> None:
    before = dict(given)
    checked(given, "chat")
    assert {name: bytes(raw) for name, raw in given.items()} == {
        name: bytes(raw) for name, raw in before.items()
    }


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (b'[{"role":"user","content":[{"type":"file","type":"text","text":"x","odd":1}]}]',
         b'[{"role":"user","content":[{"type":"text","text":"x","odd":1}]}]'),
        (b'[{"content":[{"type":"file","file":{"file_id":"f"}}],"content":"x","odd":1}]',
         b'[{"content":"x","odd":1}]'),
        (b'[ {"role": "user", "content": "x", "odd": 1.0} ]',
         b'[{"role":"user","content":"x","odd":1.0}]'),
        (b'["x",{"type":"file","type":"input_text"}]', b'["x",{"type":"input_text"}]'),
        (b'[{"odd":1,"t\\u0079pe":"text"}]', b'[{"odd":1,"type":"text"}]'),
    ],
)  # fmt: skip
def test_check_contents_of_two_members_of_a_name_sends_the_one_that_is_read(
    given: bytes, sent: bytes
) -> None:
    members = fields(messages=given)
    check_contents(members)
    assert bytes(members["messages"]) == sent


def test_check_contents_first_of_two_members_is_looked_at_where_both_are_sent() -> None:
    usual = rb'[{"role":"user","content":[{"type":"text","text":"a","text":"b"}]}]'
    members = fields(messages=usual)
    assert check_contents(members)
    assert bytes(members["messages"]) == usual
    hidden = rb'[{"content":[{"type":"file","file":{"file_id":"f"}}],"content":"x"}]'
    members = fields(messages=hidden)
    assert not check_contents(members)
    assert bytes(members["messages"]) == b'[{"content":"x"}]'


def test_check_contents_members_that_name_the_upstreams_models_are_left_out() -> None:
    for name in ("fallbacks", "Fallbacks", "fallback_models", "model_fallbacks"):
        for value in ("default", [{"model": "claude-other"}], ["other"]):
            members = fields(model="m", **{name: value})
            check_contents(members)
            assert set(members) == {"model"}


def test_check_names_of_two_inner_members_of_a_name_sends_the_one_that_is_read() -> None:
    members = fields(
        thinking=b'{"type":"enabled","budget_tokens":9000,"budget_tokens":1024}',
        text=b'{"format":{"type":"json_object","type":"text"}}',
    )
    check_names(members)
    assert bytes(members["thinking"]) == b'{"type":"enabled","budget_tokens":1024}'
    assert bytes(members["text"]) == b'{"format":{"type":"text"}}'


@pytest.mark.parametrize("given", PASSING)
def test_check_contents_usual_only_where_nothing_is_unseen(given: dict[str, msgspec.Raw]) -> None:
    turns = {name: raw for name, raw in given.items() if name in ("messages", "input", "tools")}
    assert not (check_contents(turns) and reads_more(turns))


def test_check_contents_name_that_is_no_text_or_too_deep_is_refused() -> None:
    for given, what in (
        (b'[{"role":"user","\xff":1}]', "UTF-8"),
        (b'[{"x":' * 80 + b"1" + b"}]" * 80, "nested"),
    ):
        with pytest.raises(Problem) as raised:
            check_contents(fields(messages=given))
        assert what in str(raised.value.message)


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/completions", {"prompt": "x", "conversation": "c"}, "conversation"),
        ("/v1/responses", {"input": "x", "tools": [
            {"type": "file_search", "vector_store_ids": ["v"]}]}, "tools[0].vector_store_ids"),
        ("/v1/responses/compact", {"input": [{"type": "input_file", "content": [
            {"type": "input_file", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
        ("/v1/responses/input_tokens", {"input": "x", "prompt": {"id": "p"}}, "prompt"),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": [
            {"type": "container_upload", "file_id": "f"}]}]}, "messages[0].content[0].file_id"),
        ("/v1/embeddings", {"input": [{"type": "image", "file_id": "f"}]}, "input[0].file_id"),
    ],
)  # fmt: skip
async def test_request_with_vendors_object_is_refused_at_every_endpoint(
    path: str, body: dict[str, Any], param: str
) -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    answer = await request(gateway.app, "POST", path, json={"model": "m1", **body})
    assert answer.status == 400
    assert param in answer.json()["error"]["message"]
    assert not gateway.upstream.requests


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [
            {"type": "file", "file": {"file_id": "f"}}]}]}, "messages[0].content[0].file.file_id"),
        ("/v1/responses", {"input": [{"type": "input_image", "file_id": "f"}]}, "input[0].file_id"),
        ("/v1/responses/compact", {"input": [{"type": "input_file", "file_id": "f"}]},
         "input[0].file_id"),
        ("/v1/messages", {"max_tokens": 9, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
         "messages[0].content[0].source.file_id"),
    ],
)  # fmt: skip
async def test_a_part_with_a_file_that_is_not_there_is_refused(
    path: str, body: dict[str, Any], param: str
) -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    answer = await request(gateway.app, "POST", path, json={"model": "m1", **body})
    assert answer.status == 404
    assert answer.json()["error"]["message"] == f"No such file: f, named at `{param}`."
    assert not gateway.upstream.requests


@pytest.mark.parametrize(("given", "path"), REFERENCES)
def test_check_contents_with_files_refuses_all_but_files(
    given: dict[str, msgspec.Raw], path: str
) -> None:
    of_a_part = path.endswith(".file_id") and "image_file" not in path
    if of_a_part and path.startswith(("messages", "input", "system")):
        assert check_contents(given, files=True) in (True, False)
        return
    with pytest.raises(Problem) as raised:
        check_contents(given, files=True)
    assert raised.value.param == path


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "x", "file_id": "f"},
        {"type": "image", "source": {"type": "file", "file_id": "f"}, "x": {"file_id": "g"}},
        {"type": "image", "source": {"type": "file", "FILE_ID": "f"}},
        {"type": "image", "source": {"type": "file", "fileId": "f"}},
        {"type": "image", "content": [{"type": "input_file", "file_id": "f"}]},
        {"type": "other", "source": {"type": "file", "file_id": "f"}},
        {"type": "other", "file": {"file_id": "f"}},
        {"type": "file", "file": {"file_ids": ["f"]}},
        {"type": "input_image", "file_id": {"id": "f"}},
        {"type": "container_upload", "file_id": "f"},
        {"type": "image_file", "image_file": {"file_id": "f"}},
    ],
)
async def test_an_id_that_is_no_media_of_a_part_reaches_no_upstream(part: dict[str, Any]) -> None:
    """Beside a part whose file is known, too: what is not resolved is refused."""
    for path, member in (("/v1/chat/completions", "messages"), ("/v1/responses", "input")):
        gateway = ScriptedGateway(Scripted(Answer()))
        body = {"model": "m1", member: [{"role": "user", "content": [part]}]}
        answer = await request(gateway.app, "POST", path, json=body)
        assert answer.status == 400, part
        assert not gateway.upstream.requests


async def test_more_than_a_hundred_files_are_refused_unread() -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    parts = [{"type": "input_file", "file_id": f"f{n}"} for n in range(101)]
    body = {"model": "m1", "input": [{"role": "user", "content": parts}]}
    answer = await request(gateway.app, "POST", "/v1/responses", json=body)
    assert answer.status == 400
    assert answer.json()["error"]["param"] == "input[0].content[100].file_id"
    assert "at most 100 files" in answer.json()["error"]["message"]


async def test_messages_with_container_is_refused() -> None:
    gateway = ScriptedGateway(Scripted(Answer()))
    body = {
        "model": "m1",
        "max_tokens": 9,
        "messages": [{"role": "user", "content": "Hi"}],
        "container": "container_1",
    }
    answer = await request(gateway.app, "POST", "/v1/messages", json=body)
    assert answer.status == 400
    assert "`container`" in answer.json()["error"]["message"]
    assert not gateway.upstream.requests
