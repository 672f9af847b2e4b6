"""Decode the usual messages of a Chat request straight into blocks.

Text, calls of functions, their results and thinking, as clients write them, have types here, so
decoding proves them. Any other message is None, and is read by `read_messages`, member by member,
which says what is wrong with it. Both give the same turn.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from edge.dialects.conversation import Block, Cache, Text, Thinking, ToolCall, ToolResult, Turn
from edge.dialects.passthrough import UNREADABLE
from edge.requests.body_limits import PIECE

_Filled = Annotated[str, Meta(min_length=1)]


class _Mark(Struct, forbid_unknown_fields=True, gc=False):
    type: str | None = None
    ttl: Literal["5m", "1h"] | None = None


class _Part(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["text"]
    text: str
    cache_control: _Mark | None = None


class _Function(Struct, forbid_unknown_fields=True, gc=False):
    name: _Filled
    arguments: str


class _Call(Struct, forbid_unknown_fields=True):
    function: _Function
    id: str = ""
    type: Literal["function"] = "function"
    index: int | None = None


class _Instruction(Struct, tag_field="role", tag="system", forbid_unknown_fields=True):
    content: str


class _Asked(Struct, tag_field="role", tag="user", forbid_unknown_fields=True):
    content: str | list[_Part]
    name: str | None = None


class _Answered(Struct, tag_field="role", tag="assistant", forbid_unknown_fields=True):
    content: str | list[_Part] | None = None
    tool_calls: list[_Call] | None = None
    reasoning_content: str | None = None
    refusal: None = None
    function_call: None = None
    audio: None = None
    annotations: Annotated[list[Raw], Meta(max_length=0)] | None = None
    name: str | None = None


class _Result(Struct, tag_field="role", tag="tool", forbid_unknown_fields=True):
    tool_call_id: str
    content: str | list[_Part] | None = None
    name: str | None = None


_decode = msgspec.json.Decoder(_Instruction | _Asked | _Answered | _Result).decode


def usual_turn(message: Raw) -> Turn | None:
    """The turn of a message; None if it has anything unusual."""
    if len(message) > PIECE:
        return None
    try:
        read = _decode(message)
    except UNREADABLE:
        return None
    content = read.content
    if isinstance(read, _Result):
        held = (Text(text=content),) if isinstance(content, str) else _texts(content or ())
        return Turn("user", [ToolResult(id=read.tool_call_id, content=tuple(held))])
    if isinstance(read, _Answered):
        return Turn("assistant", _answered(read))
    role: Literal["user", "system"] = "user" if isinstance(read, _Asked) else "system"
    return Turn(role, _blocks(content))


def _answered(read: _Answered) -> list[Block]:
    blocks: list[Block] = []
    if read.reasoning_content:
        blocks.append(Thinking(text=read.reasoning_content))
    if read.content is not None:
        blocks += _blocks(read.content)
    for call in read.tool_calls or ():
        function = call.function
        blocks.append(ToolCall(id=call.id, name=function.name, arguments=function.arguments))
    return blocks


def _blocks(content: Any) -> list[Block]:
    if isinstance(content, str):
        return [Text(text=content)]
    return [*_texts(content)]


def _texts(parts: Iterable[_Part]) -> list[Text]:
    marks = ((part.text, part.cache_control) for part in parts)
    return [
        Text(text=text, cache=None if mark is None else Cache(mark.ttl)) for text, mark in marks
    ]
