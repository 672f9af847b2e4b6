"""What is read of Anthropic's answers, and the words both sides of the dialect use."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from edge.dialects.neutral import Stop
from edge.dialects.passthrough import UNREADABLE, Count, tokens
from middlewares.exchange import Usage

NULL = Raw(b"null")

STOPS: dict[str, Stop] = {
    "end_turn": "end",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_use",
    "pause_turn": "pause",
    "refusal": "refusal",
    "compaction": "end",
}
"""`stop_reason` as we know it. What is not in it ends well."""

ANSWER_TOOL = "json_output"
"""The tool whose input is the answer, for models that take no schema for it."""


class OutputDetails(Struct):
    """`output_tokens_details`."""

    thinking_tokens: Count = None


class MessageUsage(Struct):
    """`usage` of Anthropic answers; cached tokens are beside `input_tokens`."""

    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    output_tokens_details: OutputDetails | None = None

    def update(self, usage: Usage) -> Usage:
        """`usage` with the figures present here in place of its own (they are cumulative).

        Input figures that add up to 0 say nothing: several servers end with such.
        """
        said = (self.input_tokens, self.cache_read_input_tokens, self.cache_creation_input_tokens)
        if not any(map(tokens, said)):
            said = (None, None, None)
        details = self.output_tokens_details
        output = _either(self.output_tokens, usage.output)
        thought = _either(details.thinking_tokens if details else None, usage.reasoning)
        return Usage(
            input=_either(said[0], usage.input),
            output=output,
            cache_read=_either(said[1], usage.cache_read),
            cache_write=_either(said[2], usage.cache_write),
            reasoning=min(thought, output),
        )


def _either(new: Count, old: int) -> int:
    return old if new is None else tokens(new)


class Block(Struct):
    """`content_block` of a start, or an entry of `content`."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NULL
    citations: list[dict[str, Any]] | None = None


class StopDetails(Struct):
    """Of a refusal."""

    explanation: str | None = None


class Delta(Struct):
    """`delta` of a block, or of the message."""

    type: str = ""
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    citation: dict[str, Any] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None


class Message(Struct):
    """The whole answer, or the beginning of a streamed one."""

    type: str = ""
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: MessageUsage | None = None
    error: Raw = NULL


class StreamEvent(Struct):
    """One event."""

    type: str = ""
    delta: Delta | None = None
    content_block: Block | None = None
    message: Message | None = None
    usage: MessageUsage | None = None
    error: Raw = NULL


_READ = (
    *("message", "message_start", "content_block_stop", "message_delta", "message_stop", "error"),
    *("text", "thinking", "redacted_thinking", "tool_use"),
    *("text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta"),
)
"""Kinds that are read. Of others, also of those to come, nothing is expected."""

decode_event = msgspec.json.Decoder(StreamEvent).decode
decode_block = msgspec.json.Decoder(Block).decode
decode_message = msgspec.json.Decoder(Message).decode
_decode = msgspec.json.Decoder().decode


def is_known(data: bytes | Raw) -> bool:
    """Whether `data`, an event or a block, says that it is of a kind that is read.

    True also for what is no object at all: that is no kind to come.
    """
    try:
        value = _decode(data)
    except UNREADABLE:
        return True
    if not isinstance(value, dict):
        return True
    kind, inner = value.get("type"), None
    if kind == "content_block_start":
        kind, inner = None, value.get("content_block")
    elif kind == "content_block_delta":
        kind, inner = None, value.get("delta")
    if kind is None:
        kind = inner.get("type") if isinstance(inner, dict) else None
    return not isinstance(kind, str) or kind in _READ
