"""Decode the usual messages of a caller's Messages request straight into turns.

Text, tool calls, their results and thinking, as clients write them, have types here, so decoding
proves them. Any other message is None, and is read by `read_blocks`, member by member, which says
what is wrong with it. Both give the same turn.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from edge.dialects.conversation import Block, Cache, Text, ToolCall, ToolResult, Turn
from edge.dialects.passthrough import UNREADABLE
from edge.requests.body_limits import PIECE
from edge.untyped_json import number

from .read_blocks import signed_thinking

_Filled = Annotated[str, Meta(min_length=1)]


class _Mark(Struct, forbid_unknown_fields=True, gc=False):
    type: str | None = None
    ttl: Literal["5m", "1h"] | None = None


class _Text(Struct, tag="text", forbid_unknown_fields=True, gc=False):
    text: str
    cache_control: _Mark | None = None


class _Part(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str
    cache_control: _Mark | None = None


class _Call(Struct, tag="tool_use", forbid_unknown_fields=True):
    id: _Filled
    name: _Filled
    input: dict[str, Any]
    cache_control: _Mark | None = None


class _Result(Struct, tag="tool_result", forbid_unknown_fields=True):
    tool_use_id: _Filled
    content: str | list[_Part] | None = None
    is_error: bool | None = None
    cache_control: _Mark | None = None


class _Thinking(Struct, tag="thinking", forbid_unknown_fields=True, gc=False):
    thinking: str = ""
    signature: str = ""


class _Asked(Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    content: str | list[_Text | _Result]


class _Answered(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    content: str | list[_Text | _Call | _Thinking]


_decode = msgspec.json.Decoder(_Asked | _Answered, float_hook=number).decode
_encode = msgspec.json.Encoder().encode


def usual_turn(message: Raw) -> Turn | None:
    """The turn of a message; None if it has anything unusual."""
    if len(message) > PIECE:
        return None
    try:
        read = _decode(message)
        content = read.content
        blocks = _blocks([_Text(content)] if isinstance(content, str) else content)
    except UNREADABLE:
        return None
    return Turn("user" if isinstance(read, _Asked) else "assistant", blocks)


def _blocks(content: Iterable[_Text | _Call | _Result | _Thinking]) -> list[Block]:
    """In one loop: a conversation has thousands."""
    blocks: list[Block] = []
    for block in content:
        if isinstance(block, _Thinking):
            blocks.append(signed_thinking(block.thinking, block.signature))
            continue
        mark = block.cache_control
        cache = None if mark is None else Cache(mark.ttl)
        if isinstance(block, _Result):
            failed = block.is_error is True
            held = _held(block.content)
            blocks.append(
                ToolResult(id=block.tool_use_id, content=held, failed=failed, cache=cache)
            )
        elif isinstance(block, _Call):
            arguments = _encode(block.input).decode()
            blocks.append(ToolCall(id=block.id, name=block.name, arguments=arguments, cache=cache))
        else:
            blocks.append(Text(text=block.text, cache=cache))
    return blocks


def _held(content: str | list[_Part] | None) -> tuple[Text, ...]:
    if isinstance(content, str):
        return (Text(text=content),)
    marks = ((part.text, part.cache_control) for part in content or ())
    return tuple(
        Text(text=text, cache=None if mark is None else Cache(mark.ttl)) for text, mark in marks
    )
