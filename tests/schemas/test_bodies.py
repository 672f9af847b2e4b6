"""A body with a single fault is refused."""

import json
import re
from typing import Any

import pytest

from tests.schemas import Surface, check

from .faults import changed
from .samples import RESPONSE, TEXT, chat_bytes, messages_bytes, response


def test_a_compaction_and_a_list_of_items_pass() -> None:
    said = {
        "id": "msg_0",
        "type": "message",
        "role": "user",
        "status": "completed",
        "content": [{"type": "input_text", "text": "Hello"}],
    }
    output = [said, {"id": "cmp_1", "type": "compaction", "encrypted_content": "opaque"}]
    usage = response("completed", [])["usage"]
    compaction = {
        "id": "resp_1",
        "object": "response.compaction",
        "created_at": 1,
        "output": output,
        "usage": usage,
    }
    check("response.compaction", compaction)
    items = {
        "object": "list",
        "data": [said],
        "first_id": "msg_0",
        "last_id": "msg_0",
        "has_more": False,
    }
    check("response.items", items)
    check("response.input_tokens", {"object": "response.input_tokens", "input_tokens": 3})
    for surface, value, path in (
        ("response.compaction", compaction, "output.1.encrypted_content"),
        ("response.compaction", compaction, "usage"),
        ("response.items", items, "data.0.status"),
        ("response.items", items, "has_more"),
    ):
        with pytest.raises(AssertionError, match=r"is a required property|no branch"):
            check(surface, changed(value, path, drop=True))  # type: ignore[arg-type]


MESSAGE = json.loads(messages_bytes())


COMPLETION = json.loads(chat_bytes())


REQUIRED: list[tuple[Surface, Any, str]] = [
    *(("chat.completion", COMPLETION, key) for key in ("id", "object", "created", "model")),
    ("chat.completion", COMPLETION, "usage"),
    ("chat.completion", COMPLETION, "usage.prompt_tokens_details"),
    ("chat.completion", COMPLETION, "usage.completion_tokens_details.reasoning_tokens"),
    ("chat.completion", COMPLETION, "choices.0.logprobs"),
    ("chat.completion", COMPLETION, "choices.0.finish_reason"),
    ("chat.completion", COMPLETION, "choices.0.index"),
    ("chat.completion", COMPLETION, "choices.0.message.refusal"),
    ("chat.completion", COMPLETION, "choices.0.message.content"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.id"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.arguments"),
    *(("text_completion", TEXT, key) for key in ("id", "object", "created", "model", "usage")),
    ("text_completion", TEXT, "choices.0.logprobs"),
    ("text_completion", TEXT, "choices.0.finish_reason"),
    *(("message", MESSAGE, key) for key in MESSAGE),
    ("message", MESSAGE, "usage.cache_creation_input_tokens"),
    ("message", MESSAGE, "usage.cache_read_input_tokens"),
    ("message", MESSAGE, "content.0.signature"),
    ("message", MESSAGE, "content.2.input"),
    *(("response", RESPONSE, key) for key in RESPONSE),
    ("response", RESPONSE, "usage.input_tokens_details"),
    ("response", RESPONSE, "usage.output_tokens_details.reasoning_tokens"),
    ("response", RESPONSE, "tools.0.description"),
    ("response", RESPONSE, "tools.0.strict"),
    ("response", RESPONSE, "text.format"),
    ("response", RESPONSE, "output.0.id"),
    ("response", RESPONSE, "output.1.status"),
    ("response", RESPONSE, "output.1.content.0.annotations"),
    ("response", RESPONSE, "output.1.content.0.logprobs"),
    ("response", RESPONSE, "output.2.id"),
    ("response", RESPONSE, "output.2.status"),
]


@pytest.mark.parametrize(("surface", "body", "path"), REQUIRED)
def test_a_body_without_a_key_is_refused(surface: Surface, body: Any, path: str) -> None:
    check(surface, body)
    where = re.sub(r"\.(\d+)", r"[\1]", f".{path}").rpartition(".")[0]
    with pytest.raises(AssertionError) as refused:
        check(surface, changed(body, path, drop=True))
    assert str(refused.value).startswith(f"{surface}{where}: ")
    assert f"'{path.rpartition('.')[2]}'" in str(refused.value)


WRONG: list[tuple[Surface, Any, str, Any]] = [
    ("chat.completion", COMPLETION, "id", "msg_1"),
    ("chat.completion", COMPLETION, "created", "1"),
    ("chat.completion", COMPLETION, "created", 1.0),
    ("chat.completion", COMPLETION, "created", True),
    ("chat.completion", COMPLETION, "model", None),
    ("chat.completion", COMPLETION, "choices", []),
    ("chat.completion", COMPLETION, "choices.0.index", 1),
    ("chat.completion", COMPLETION, "choices.0.finish_reason", "end_turn"),
    ("chat.completion", COMPLETION, "choices.0.finish_reason", "stop"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls", []),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.arguments", ""),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.arguments", "[]"),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.function.name", ""),
    ("chat.completion", COMPLETION, "choices.0.message.tool_calls.0.id", ""),
    (
        "chat.completion",
        COMPLETION,
        "choices.0.message.tool_calls.1.id",
        COMPLETION["choices"][0]["message"]["tool_calls"][0]["id"],
    ),
    ("chat.completion", COMPLETION, "choices.0.message.reasoning_content", 1),
    ("chat.completion", COMPLETION, "usage.total_tokens", 1),
    ("chat.completion", COMPLETION, "usage.prompt_tokens", -1),
    ("chat.completion", COMPLETION, "usage.prompt_tokens_details.cached_tokens", 10**9),
    ("chat.completion", COMPLETION, "service_tier", "standard"),
    ("text_completion", TEXT, "choices.0.text", None),
    ("text_completion", TEXT, "choices.0.finish_reason", None),
    ("text_completion", TEXT, "usage.total_tokens", 4),
    ("message", MESSAGE, "id", "chatcmpl-1"),
    ("message", MESSAGE, "type", "completion"),
    ("message", MESSAGE, "stop_reason", None),
    ("message", MESSAGE, "stop_reason", "tool_calls"),
    ("message", MESSAGE, "stop_reason", "end_turn"),
    ("message", MESSAGE, "stop_sequence", "END"),
    ("message", MESSAGE, "content", MESSAGE["content"][:2]),
    ("message", MESSAGE, "content.0.type", "thought"),
    ("message", MESSAGE, "content.1.text", ""),
    ("message", MESSAGE, "content.2.input", "{}"),
    ("message", MESSAGE, "content.2.id", "functions.x:0"),
    ("message", MESSAGE, "content.2.id", MESSAGE["content"][3]["id"]),
    ("message", MESSAGE, "usage.input_tokens", None),
    ("message", MESSAGE, "usage.service_tier", "default"),
    ("response", RESPONSE, "created_at", 1.5),
    ("response", RESPONSE, "completed_at", None),
    ("response", RESPONSE, "status", "in_progress"),
    ("response", RESPONSE, "status", "incomplete"),
    ("response", RESPONSE, "status", "failed"),
    ("response", RESPONSE, "error", {"code": "server_error", "message": "x"}),
    ("response", RESPONSE, "usage", None),
    ("response", RESPONSE, "usage.total_tokens", 1),
    ("response", RESPONSE, "usage.output_tokens_details.reasoning_tokens", 6),
    ("response", RESPONSE, "temperature", None),
    ("response", RESPONSE, "top_p", "1"),
    ("response", RESPONSE, "metadata", None),
    ("response", RESPONSE, "service_tier", None),
    ("response", RESPONSE, "truncation", None),
    ("response", RESPONSE, "store", None),
    ("response", RESPONSE, "reasoning", {"effort": "low"}),
    ("response", RESPONSE, "text.format", {"type": "json_schema", "name": "a", "schema": {}}),
    ("response", RESPONSE, "tool_choice", {"type": "function"}),
    ("response", RESPONSE, "output.0.encrypted_content", None),
    ("response", RESPONSE, "output.1.id", "fc_9"),
    ("response", RESPONSE, "output.1.status", "in_progress"),
    ("response", RESPONSE, "output.1.content.0.text", None),
    ("response", RESPONSE, "output.2.arguments", ""),
    ("response", RESPONSE, "output.2.call_id", "call_2"),
    ("response", RESPONSE, "output.2.call_id", "x" * 65),
    ("response", RESPONSE, "output.2.id", "fc_2"),
    ("response", RESPONSE, "output.2.type", "tool_use"),
]


@pytest.mark.parametrize(("surface", "body", "path", "value"), WRONG)
def test_a_body_with_a_wrong_value_is_refused(
    surface: Surface, body: Any, path: str, value: Any
) -> None:
    check(surface, body)
    with pytest.raises(AssertionError):
        check(surface, changed(body, path, value))


@pytest.mark.parametrize(
    ("surface", "value"),
    [
        ("openai.error", {"error": {"message": "m", "type": "t", "param": None}}),
        ("openai.error", {"error": {"message": "", "type": "t", "param": None, "code": None}}),
        ("openai.error", {"error": {"message": "m", "type": "t", "param": 1, "code": None}}),
        ("openai.error", {"detail": "m"}),
        ("anthropic.error", {"type": "error", "error": {"type": "api_error", "message": "m"}}),
        (
            "anthropic.error",
            {"type": "error", "error": {"type": "server_error", "message": "m"}, "request_id": "r"},
        ),
        ("message.count", {"input_tokens": "3"}),
        ("message.count", {}),
        ("response.input_tokens", {"input_tokens": 3}),
        ("openai.model", {"id": "m", "object": "model", "created": 1}),
        ("openai.models", {"data": []}),
        ("anthropic.models", {"data": [], "first_id": None, "has_more": False}),
        (
            "anthropic.model",
            {"type": "model", "id": "m", "display_name": "m", "created_at": "2026-01-01"}
            | {"lifecycle": "active"},
        ),
        ("embeddings", {"object": "list", "data": [], "model": "m"}),
        ("chat.completion", b"{"),
        ("chat.completion", b'{"id": NaN}'),
        ("chat.completion", b'{"id": "chatcmpl-1", "id": "chatcmpl-1"}'),
        ("chat.completion", b"\xff"),
    ],
)
def test_other_wrong_values_are_refused(surface: Surface, value: Any) -> None:
    with pytest.raises(AssertionError):
        check(surface, value)
