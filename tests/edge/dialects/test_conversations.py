"""Any conversation: each vendor takes what is sent for it, and no dialect changes what it says."""

import json
import re
from typing import Any, Literal

import pytest
from hypothesis import given

from edge.dialects import tool_names
from edge.dialects.codec import TargetModel
from edge.dialects.conversation import (
    Conversation,
    Image,
    Refusal,
    Text,
    ToolCall,
    ToolResult,
)
from edge.dialects.passthrough import decode_fields
from edge.proxy.translate import CLIENTS, UPSTREAMS
from edge.upstreams.simulator import Controls, answer
from middlewares.exchange import Dialect
from middlewares.problem import Problem
from tests.golden.play import EXTENSIONS
from tests.schemas import check_request

from .strategies import conversations

Surface = Literal["chat", "messages", "responses"]
SURFACES: dict[Dialect, Surface] = {
    "openai": "chat",
    "anthropic": "messages",
    "responses": "responses",
}
PATHS: dict[Dialect, bytes] = {
    "openai": b"/v1/chat/completions",
    "anthropic": b"/v1/messages",
    "responses": b"/v1/responses",
}
MODELS: dict[Dialect, list[str]] = {
    "openai": ["gpt-4.1", "gpt-5.2", "o3-mini"],
    "anthropic": [
        "claude-opus-5",
        "claude-opus-4-8",
        "claude-opus-4-6",
        "claude-sonnet-4-5",
        "claude-3-5-haiku-20241022",
        "claude-next",
    ],
    "responses": ["gpt-4.1", "gpt-5.2", "gpt-5-codex"],
}
every_target = pytest.mark.parametrize(
    ("dialect", "model"), [(dialect, model) for dialect in MODELS for model in MODELS[dialect]]
)
every_pair = pytest.mark.parametrize(
    ("first", "second"), [(first, second) for first in SURFACES for second in SURFACES]
)


def sent(conversation: Conversation, dialect: Dialect, model: str) -> bytes:
    aim = TargetModel(model=model, max_output=64_000, context=200_000, origin="0" * 12)
    return UPSTREAMS[dialect].write(conversation, aim).body


@every_target
@given(conversations())
def test_each_vendor_takes_what_is_sent(
    dialect: Dialect, model: str, conversation: Conversation
) -> None:
    try:
        body = sent(conversation, dialect, model)
    except Problem as problem:
        assert problem.kind == "invalid_request"  # what no vendor could do
        return
    assert sent(conversation, dialect, model) == body, "the same conversation, other bytes"
    check_request(SURFACES[dialect], body, extensions=EXTENSIONS[dialect])
    headers: tuple[tuple[bytes, bytes], ...] = ((b"content-type", b"application/json"),)
    if dialect == "anthropic":
        headers = (*headers, (b"anthropic-version", b"2023-06-01"))
    found = answer(b"POST", PATHS[dialect], headers, body, Controls(strict=True, tokens=1))
    assert found.status == 200, b"".join(data for _, data in found.steps)


def turns_of(conversation: Conversation) -> list[Any]:
    """What every dialect can say of a conversation, in one shape.

    Texts of one speaker run together, blanks between them do not count; ids and names are those
    that all vendors take.
    """
    found: list[Any] = [("system", _bare("".join(text.text for text in conversation.system)))]
    for turn in conversation.turns:
        for block in turn.blocks:
            match block:
                case Text() | Refusal():
                    if found[-1][0] == f"text of {turn.role}":
                        found[-1] = (found[-1][0], found[-1][1] + _bare(block.text))
                    else:
                        found.append((f"text of {turn.role}", _bare(block.text)))
                case ToolCall():
                    found.append(
                        ("call", _id(block.id), tool_names.tool_name(block.name), _object(block))
                    )
                case ToolResult():
                    text = "".join(part.text for part in block.content if isinstance(part, Text))
                    found.append(("result", _id(block.id), _bare(text)))
                case Image():
                    found.append(("image", block.data or block.url))
                case _:
                    raise AssertionError(f"a tidy conversation has no {block}")
    tools = [tool_names.tool_name(tool.full_name) for tool in conversation.tools]
    return [*found, tools]


def _bare(text: str) -> str:
    return re.sub(r"\s", "", text)


def _id(id_: str) -> str:
    return tool_names.call_id(
        tool_names.call_id(tool_names.call_id(id_, "anthropic"), "responses"), "openai"
    )


def _object(call: ToolCall) -> Any:
    return {"input": call.arguments} if call.custom else json.loads(call.arguments or "{}")


@every_pair
@given(conversations(tidy=True))
def test_a_request_says_the_same_in_every_dialect(
    first: Dialect, second: Dialect, conversation: Conversation
) -> None:
    """A body of one dialect, read, written for an upstream of another, and read again."""
    body = sent(conversation, first, MODELS[first][0])
    read = CLIENTS[SURFACES[first]].read(decode_fields(body))
    over = sent(read, second, MODELS[second][0])
    again = CLIENTS[SURFACES[second]].read(decode_fields(over))
    assert turns_of(again) == turns_of(read)
