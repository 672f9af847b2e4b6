"""Fast check of turns and tools: the common kinds need no further search.

Most bodies hold no other kinds. Decoding decides it: a member or a kind that is not listed raises
ValidationError, even in the first of two members of one name.
"""

from typing import Literal

import msgspec

_NONE = msgspec.Raw(b"null")


class _Caching(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: msgspec.Raw = _NONE
    ttl: msgspec.Raw = _NONE


class CommonTurn(msgspec.Struct, forbid_unknown_fields=True):
    """A message, item or part of the common kinds.

    Decoding checks each of several members of one name.
    """

    type: (
        Literal[
            "text",
            "input_text",
            "output_text",
            "summary_text",
            "message",
            "reasoning",
            "thinking",
            "refusal",
            "tool_use",
            "tool_result",
            "function_call",
            "function_call_output",
            "custom_tool_call",
            "custom_tool_call_output",
        ]
        | None
    ) = None
    role: msgspec.Raw = _NONE
    content: "str | list[CommonTurn] | None" = None
    text: msgspec.Raw = _NONE
    cache_control: _Caching | None = None
    id: msgspec.Raw = _NONE
    name: msgspec.Raw = _NONE
    input: msgspec.Raw = _NONE
    tool_use_id: msgspec.Raw = _NONE
    is_error: msgspec.Raw = _NONE
    thinking: msgspec.Raw = _NONE
    signature: msgspec.Raw = _NONE
    tool_calls: msgspec.Raw = _NONE
    tool_call_id: msgspec.Raw = _NONE
    reasoning_content: msgspec.Raw = _NONE
    refusal: msgspec.Raw = _NONE
    call_id: msgspec.Raw = _NONE
    arguments: msgspec.Raw = _NONE
    output: "str | list[CommonTurn] | None" = None
    summary: "list[CommonTurn] | None" = None
    encrypted_content: msgspec.Raw = _NONE
    status: msgspec.Raw = _NONE
    phase: msgspec.Raw = _NONE
    annotations: msgspec.Raw = _NONE
    logprobs: msgspec.Raw = _NONE


class _CommonTool(msgspec.Struct, forbid_unknown_fields=True):
    """A tool that the caller runs."""

    type: Literal["function", "custom"] | None = None
    name: msgspec.Raw = _NONE
    description: msgspec.Raw = _NONE
    input_schema: msgspec.Raw = _NONE
    cache_control: _Caching | None = None
    function: msgspec.Raw = _NONE
    parameters: msgspec.Raw = _NONE
    strict: msgspec.Raw = _NONE
    format: msgspec.Raw = _NONE
    defer_loading: msgspec.Raw = _NONE
    input_examples: msgspec.Raw = _NONE
    eager_input_streaming: msgspec.Raw = _NONE


check_turns = msgspec.json.Decoder(str | list[CommonTurn] | None).decode
"""Raises a DecodeError unless all messages, items and parts are of the common kinds."""
check_tools = msgspec.json.Decoder(list[_CommonTool] | None).decode
"""The same for tools: those that the caller runs."""
