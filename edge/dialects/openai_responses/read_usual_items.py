"""Decode the usual items of a Responses input straight into blocks.

Messages of text, calls, their results and reasoning, as clients write them, have types here, so
decoding proves them. Any other item is None, and is read by `read_input`, member by member, which
says what is wrong with it. Both give the same blocks.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from edge.dialects.conversation import Text, Thinking, ToolCall, ToolResult, Turn
from edge.dialects.passthrough import UNREADABLE
from edge.requests.body_limits import PIECE

from .read_parts import reasoning_signature

_Filled = Annotated[str, Meta(min_length=1)]
_Empty = Annotated[list[Raw], Meta(max_length=0)]
_Status = Literal["completed", "in_progress", "incomplete"]


class _Text(Struct, tag="input_text", forbid_unknown_fields=True, gc=False):
    text: str


class _Said(Struct, tag="output_text", forbid_unknown_fields=True):
    text: str
    annotations: _Empty | None = None
    logprobs: _Empty | None = None


class _Part(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["input_text"]
    text: str


class _Summary(Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["summary_text", "reasoning_text"]
    text: str


class _Message(Struct, tag="message", forbid_unknown_fields=True):
    role: Literal["user", "assistant"]
    content: str | list[_Text | _Said]
    id: str | None = None
    status: _Status | None = None
    phase: str | None = None


class _Call(Struct, tag="function_call", forbid_unknown_fields=True, gc=False):
    call_id: str
    name: _Filled
    arguments: str
    id: str | None = None
    status: _Status | None = None


class _CustomCall(Struct, tag="custom_tool_call", forbid_unknown_fields=True, gc=False):
    call_id: str
    name: _Filled
    input: str
    id: str | None = None
    status: _Status | None = None


class _Result(Struct, tag="function_call_output", forbid_unknown_fields=True):
    call_id: str
    output: str | list[_Part]
    id: str | None = None
    status: _Status | None = None


class _CustomResult(Struct, tag="custom_tool_call_output", forbid_unknown_fields=True):
    call_id: str
    output: str | list[_Part]
    id: str | None = None
    status: _Status | None = None


class _Reasoning(Struct, tag="reasoning", forbid_unknown_fields=True):
    summary: list[_Summary]
    content: _Empty | None = None
    encrypted_content: str | None = None
    id: str = ""
    status: _Status | None = None


_Item = _Message | _Call | _CustomCall | _Result | _CustomResult | _Reasoning
_decode = msgspec.json.Decoder(_Item).decode


def usual_item(item: Raw) -> Turn | None:
    """The item as a turn; None if it has anything unusual."""
    if len(item) > PIECE:
        return None
    try:
        read = _decode(item)
    except UNREADABLE:
        return None
    if isinstance(read, _Call):
        call = ToolCall(id=read.call_id, name=read.name, arguments=read.arguments)
        return Turn("assistant", [call])
    if isinstance(read, _Result | _CustomResult):
        custom = isinstance(read, _CustomResult)
        result = ToolResult(id=read.call_id, content=(*_texts(read.output),), custom=custom)
        return Turn("user", [result])
    if isinstance(read, _Message):
        return Turn(read.role, [*_texts(read.content)])
    if isinstance(read, _Reasoning):
        return _thinking(read)
    call = ToolCall(id=read.call_id, name=read.name, arguments=read.input, custom=True)
    return Turn("assistant", [call])


def _texts(content: str | list[_Part] | list[_Text | _Said]) -> list[Text]:
    if isinstance(content, str):
        return [Text(text=content)]
    return [Text(text=part.text) for part in content]


def _thinking(read: _Reasoning) -> Turn | None:
    text = "\n\n".join([part.text for part in read.summary if part.text])
    signature = reasoning_signature(read.encrypted_content or "", read.id, text)
    if not text and signature is None:
        return None
    return Turn("assistant", [Thinking(text=text, signature=signature)])
