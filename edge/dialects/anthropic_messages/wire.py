"""Shapes of Anthropic's answers: only the members that are read."""

from typing import Any

import msgspec
from msgspec import Raw, Struct

from edge.dialects.passthrough import UNREADABLE
from edge.dialects.token_counts import Count, member, tokens
from edge.untyped_json import decode_any, number
from middlewares.exchange import Usage

NULL = Raw(b"null")

ANSWER_TOOL = "json_output"
"""The tool whose input is the structured answer, for models without output schemas."""


class MessageUsage(Struct):
    """`usage` of Anthropic's answers; cached tokens are not part of `input_tokens`.

    The figures exclude passes of kinds other than "message" (compaction, an advisor), which are
    only in `iterations`.
    """

    input_tokens: Count = None
    output_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: Any = None
    output_tokens_details: Any = None
    iterations: Any = None
    server_tool_use: Any = None
    service_tier: Any = None
    speed: Any = None
    inference_geo: Any = None

    def after(self, earlier: "MessageUsage | None") -> "MessageUsage":
        """This usage, with missing members from an earlier one: figures are cumulative.

        Input figures that add up to 0 count as missing: several servers end with them.
        """
        if earlier is None:
            return self
        silent = not any(tokens(getattr(self, name)) for name in _INPUT)
        changes = {
            name: getattr(earlier, name)
            for name in self.__struct_fields__
            if getattr(self, name) is None or (silent and name in _INPUT)
        }
        return msgspec.structs.replace(self, **changes)

    def normal(self) -> Usage:
        """The figures of all passes together."""
        usage = self._own()
        if type(self.iterations) is list:
            usage.passes = max(1, len(self.iterations))
            for one in self.iterations:
                if type(member(one, "type")) is str and one["type"] != "message":
                    usage = usage.plus(_of_pass(one))
        if type(self.server_tool_use) is dict:
            usage.hosted = sum(
                tokens(count) for name, count in self.server_tool_use.items() if name not in _FREE
            )
        tiers = (self.service_tier, self.speed, self.inference_geo)
        if tiers != (None, None, None):
            usage.tiers = tuple(one if type(one) is str else "" for one in tiers)
        return usage

    def _own(self) -> Usage:
        usage = Usage(tokens(self.input_tokens), tokens(self.output_tokens))
        if self.cache_read_input_tokens:
            usage.cache_read = tokens(self.cache_read_input_tokens)
        if self.cache_creation_input_tokens or self.cache_creation:
            hour = tokens(member(self.cache_creation, "ephemeral_1h_input_tokens"))
            other = tokens(member(self.cache_creation, "ephemeral_5m_input_tokens"))
            usage.cache_write = max(tokens(self.cache_creation_input_tokens), hour + other)
            usage.cache_write_1h = hour
        if self.output_tokens_details:
            thought = tokens(member(self.output_tokens_details, "thinking_tokens"))
            usage.reasoning = min(thought, usage.output)
        return usage


_INPUT = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_FREE = ("web_fetch_requests",)
"""Hosted tools that are free of charge."""
_decode_usage = msgspec.json.Decoder(MessageUsage, float_hook=number).decode


def _of_pass(one: Any) -> Usage:
    """The usage of one entry of `iterations`."""
    names = (*_INPUT, "output_tokens", "cache_creation")
    usage = MessageUsage(**{name: one.get(name) for name in names})._own()
    usage.passes = 0
    return usage


def usage_in(raw: Raw) -> MessageUsage | None:
    """A `usage` member; None if it is no object."""
    if raw is NULL or bytes(raw) == b"null":
        return None
    try:
        return _decode_usage(raw)
    except UNREADABLE:
        return None


def usage_at_start(raw: Raw) -> MessageUsage | None:
    """The usage of `message_start`; its output count is preliminary."""
    usage = usage_in(raw)
    if usage is not None:
        usage.output_tokens = None
    return usage


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
    """A whole answer, or the start of a streamed one."""

    type: str = ""
    content: list[Raw] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: StopDetails | None = None
    usage: Raw = NULL
    error: Raw = NULL


class StreamEvent(Struct):
    """One event."""

    type: str = ""
    delta: Delta | None = None
    content_block: Block | None = None
    message: Message | None = None
    usage: Raw = NULL
    error: Raw = NULL


class Typed(Struct):
    """An event of which only the type and the error are read."""

    type: str = ""
    error: Raw = NULL


NEEDED = frozenset(
    (
        *("type", "message", "content", "content_block", "delta"),
        *("text", "thinking", "partial_json", "name"),
    )
)
"""Members without which there is no answer; they must have the right type."""

_READ = (
    *("message", "message_start", "content_block_stop", "message_delta", "message_stop", "error"),
    *("text", "thinking", "redacted_thinking", "tool_use"),
    *("text_delta", "thinking_delta", "signature_delta", "input_json_delta", "citations_delta"),
)
"""Types that are read. All others may have any shape."""

decode_event = msgspec.json.Decoder(StreamEvent, float_hook=number).decode
decode_typed = msgspec.json.Decoder(Typed).decode
decode_block = msgspec.json.Decoder(Block, float_hook=number).decode
decode_message = msgspec.json.Decoder(Message, float_hook=number).decode


def is_known(data: bytes | Raw) -> bool:
    """Whether the type of `data`, an event or a block, is one that is read.

    True also if `data` is no object: no future type would be.
    """
    try:
        value = decode_any(data)
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
