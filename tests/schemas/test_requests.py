"""Requests of each vendor pass, and those with a single fault do not."""

import json
import re
from copy import deepcopy
from typing import Any

import pytest

from tests.edge.upstreams.simulated import CHAT_TOOLS, MESSAGES_TOOLS
from tests.schemas import check_request

from .faults import changed
from .samples import RESPONSE

REQUESTS: dict[str, Any] = {
    "chat": {
        "model": "m",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "user",
                "content": [{"type": "image_url", "image_url": {"url": "https://x/y.png"}}],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "w", "arguments": "{}"},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
        ],
        "tools": CHAT_TOOLS,
        "max_completion_tokens": 5,
    },
    "messages": {
        "model": "m",
        "max_tokens": 5,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                    }
                ],
            },
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "toolu_1", "name": "w", "input": {}}],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "ok"}],
            },
        ],
        "tools": MESSAGES_TOOLS,
        "thinking": {"type": "adaptive"},
    },
    "responses": {
        "model": "m",
        "stream": True,
        "store": False,
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "x"}]},
            {"type": "function_call", "call_id": "call_1", "name": "w", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "ok"},
        ],
        "tools": RESPONSE["tools"],
        "include": ["reasoning.encrypted_content"],
    },
}


@pytest.mark.parametrize("dialect", list(REQUESTS))
def test_a_request_of_each_vendor_passes(dialect: Any) -> None:
    request = REQUESTS[dialect]
    assert check_request(dialect, json.dumps(request).encode()) == request
    del (unstreamed := deepcopy(request))["model"]
    with pytest.raises(AssertionError, match="'model' is a required property"):
        check_request(dialect, unstreamed)


@pytest.mark.parametrize(
    ("dialect", "path", "value", "complaint"),
    [
        ("chat", "top_k", 5, "'top_k' was unexpected"),
        ("chat", "messages.2.reasoning_content", "x", "reasoning_content"),
        ("chat", "messages.1.content.0.image_url", "https://x", "messages[1].content[0].image_url"),
        ("chat", "messages.3.role", "user", "tool_call_id"),
        ("chat", "stream", "true", "stream"),
        ("chat", "max_completion_tokens", "5", "max_completion_tokens"),
        ("messages", "stream_options", {}, "stream_options"),
        ("messages", "max_tokens", 5.0, "max_tokens"),
        ("messages", "messages.1.content.0.input", "{}", "messages[1].content[0]"),
        ("messages", "messages.0.content.0.source.media_type", "image/jpg", "image/jpg"),
        ("messages", "messages.2.role", "tool", "messages[2]"),
        ("messages", "tools.0.parameters", {}, "parameters"),
        ("responses", "messages", [], "messages"),
        ("responses", "input.1.arguments", {}, "input[1]"),
        ("responses", "input.2.tool_call_id", "x", "input[2]"),
        ("responses", "include", ["everything"], "include"),
    ],
)
def test_a_request_with_one_fault_is_refused(
    dialect: Any, path: str, value: Any, complaint: str
) -> None:
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        check_request(dialect, changed(REQUESTS[dialect], path, value))


def test_extensions_pass_where_they_are_allowed_by_name() -> None:
    request = changed(REQUESTS["chat"], "messages.2.reasoning_content", "x")
    check_request("chat", request, extensions={"reasoning_content"})
    with pytest.raises(AssertionError, match="reasoning_content"):
        check_request("chat", request, extensions={"reasoning"})
