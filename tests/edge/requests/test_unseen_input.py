"""What only the upstream sees is reserved at its possible size, what stands in the body is not."""

from typing import Any

import msgspec
import pytest

from edge.requests.unseen_input import reads_more


def body(**members: Any) -> dict[str, msgspec.Raw]:
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in members.items()}


def said(*parts: Any, role: str = "user") -> dict[str, msgspec.Raw]:
    return body(messages=[{"role": role, "content": list(parts)}])


PDF = "JVBERi0xLjcK"
TEXT = {"type": "text", "text": "Hi"}


@pytest.mark.parametrize(
    "fields",
    [
        body(messages="Hi", model="m"),
        body(input="Hi"),
        body(input=["Hi", "there"]),
        body(prompt=["Hi"]),
        body(messages=[{"role": "user", "content": "file_id video_url"}]),
        said(TEXT, {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}),
        said({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
        said({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}),
        said({"type": "document", "source": {"type": "text", "data": "Hi"}}),
        said(
            {"type": "document", "source": {"type": "base64", "media_type": "text/x", "data": ""}}
        ),
        said({"type": "document", "source": {"type": "content", "content": [TEXT]}}),
        said({"type": "file", "file": {"file_data": "data:text/plain;base64,SGk="}}),
        said({"type": "tool_result", "tool_use_id": "t", "content": [TEXT]}),
        said({"type": "web_search_tool_result", "content": [{"type": "text"}]}),
        said({"type": "tool_use", "id": "t", "name": "n", "input": {"file_id": "f"}}),
        said({"type": "thinking", "thinking": "Hm", "signature": "x"}, role="assistant"),
        body(
            input=[
                {"type": "message", "role": "user", "content": [{"type": "input_text"}]},
                {"type": "function_call", "name": "n", "arguments": "{}"},
                {"type": "function_call_output", "output": [{"type": "input_text", "text": "x"}]},
                {"type": "reasoning", "encrypted_content": "x"},
                {"type": "web_search_call", "id": "w"},
            ]
        ),
        body(tools=[{"type": "function", "function": {"name": "file_search"}}]),
        body(tools=[{"name": "n", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}]),
        body(tools=[{"type": "namespace", "name": "n", "tools": [{"type": "function"}]}]),
        body(tools=None, mcp_servers=[], web_search_options=None, metadata={"search": "x"}),
        {"messages": msgspec.Raw(b'[{"role":"user","content":"\\u00e4"}]')},
    ],
)
def test_what_stands_in_the_body_is_seen(fields: dict[str, msgspec.Raw]) -> None:
    assert not reads_more(fields)


@pytest.mark.parametrize(
    "fields",
    [
        said(TEXT, {"type": "file", "file": {"file_id": "f"}}),
        said({"type": "file", "file": {"file_data": "https://example.com/a.pdf"}}),
        said({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PDF}"}}),
        said({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}),
        said({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        said({"type": "document", "source": {"type": "base64", "data": PDF}}),
        said({"type": "document"}),
        said({"type": "image", "file_id": "f"}),
        said({"type": "container_upload", "file_id": "f"}),
        said({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}),
        said({"type": "audio_url", "audio_url": {"url": "https://example.com/a.mp3"}}),
        said({"type": "input_audio", "input_audio": {"data": "https://example.com/a.wav"}}),
        said({"type": "document_url", "document_url": "https://example.com/a.pdf"}),
        said({"type": "not_invented_yet"}),
        said({"type": "tool_result", "content": [{"type": "document", "source": {"type": "url"}}]}),
        said({"type": "document", "source": {"type": "content", "content": [{"type": "file"}]}}),
        body(input=[{"type": "item_reference", "id": "msg_1"}]),
        body(
            input=[{"role": "user", "content": [{"type": "input_file", "file_url": "https://x"}]}]
        ),
        body(input=[{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]),
        body(input=[{"type": "function_call_output", "output": [{"type": "input_file"}]}]),
        body(prompt={"id": "pmpt_1"}),
        body(conversation="conv_1"),
        body(tools=[{"type": "function"}, {"type": "web_search"}]),
        body(tools=[{"type": "web_search_20250305", "name": "web_search"}]),
        body(tools=[{"type": "web_fetch_20250910", "name": "web_fetch"}]),
        body(tools=[{"type": "code_execution_20250825", "name": "code_execution"}]),
        body(tools=[{"type": "file_search", "vector_store_ids": ["v"]}]),
        body(tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]),
        body(tools=[{"type": "mcp", "server_url": "https://example.com"}]),
        body(tools=[{"type": "image_generation"}]),
        body(tools=[{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]),
        body(tools="all"),
        body(web_search_options={"search_context_size": "low"}),
        body(Web_Search_Options={"search_context_size": "low"}),
        body(web_search_options={}),
        body(mcp_servers=[{"type": "url", "url": "https://example.com"}]),
        body(plugins=[{"id": "web"}]),
        body(enable_search=True),
        body(messages=[{"role": "user", "content": [{"type": 7}]}]),
        {"messages": msgspec.Raw(b'[{"content":[{"t\\u0079pe":"fil\\u0065","file":{}}]}]')},
        {"messages": msgspec.Raw(b"[" * 5000 + b'{"type":1}')},
    ],
)
def test_what_only_the_upstream_sees_is_not(fields: dict[str, msgspec.Raw]) -> None:
    assert reads_more(fields)
