"""Shapes of Responses answers: only the members that are read.

They are lenient: new events, items and members appear every month, and other servers write this
dialect too. So items are decoded only if their type is one that is read.
"""

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from edge.dialects.lenient_json import decode_leniently
from edge.dialects.passthrough import UNREADABLE
from edge.dialects.token_counts import Count, disjoint, member
from edge.untyped_json import number
from middlewares.exchange import Usage

NULL = Raw(b"null")


class ResponseUsage(Struct):
    """`usage`: cached tokens are part of `input_tokens`."""

    input_tokens: Count = None
    output_tokens: Count = None
    total_tokens: Count = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None

    def normal(self) -> Usage:
        """The figures as disjoint counts."""
        details = self.input_tokens_details
        return disjoint(
            self.input_tokens,
            self.output_tokens,
            read=member(details, "cached_tokens"),
            written=member(details, "cache_write_tokens"),
            reasoning=member(self.output_tokens_details, "reasoning_tokens"),
            total=self.total_tokens,
        )


_decode_usage = msgspec.json.Decoder(ResponseUsage, float_hook=number).decode


def usage_in(response: Any) -> Usage | None:
    """The usage of a response, with its tier; None without one.

    A value that is no object counts as none.
    """
    raw = response.usage
    if raw is NULL or bytes(raw) == b"null":
        return None
    try:
        return tiered(_decode_usage(raw), response.service_tier)
    except UNREADABLE:
        return None


def tiered(usage: ResponseUsage, tier: Any) -> Usage:
    """`usage`, disjoint, of an answer with this `service_tier`."""
    normal = usage.normal()
    if type(tier) is str:
        normal.tiers = (tier, "", "")
    return normal


class Annotation(Struct):
    """A citation."""

    type: str = ""
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class Part(Struct):
    """A part of a message's content, or of a reasoning item's content or summary."""

    type: str = ""
    text: str | None = None
    refusal: str | None = None
    annotations: list[Raw] | None = None


class Item(Struct):
    """An output item. `summary` and `content` are lists of parts in the kinds acted on."""

    type: str = ""
    id: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None
    content: list[Part] | None = None
    summary: list[Part] | None = None
    encrypted_content: str | None = None


class Incomplete(Struct):
    """The reason of an incomplete response."""

    reason: str | None = None


class Response(Struct):
    """The response object."""

    status: str | None = None
    output: list[Raw] | None = None
    incomplete_details: Incomplete | None = None
    usage: Raw = NULL
    service_tier: Any = None
    error: Raw = NULL


class Event(Struct):
    """An event of a stream."""

    type: str = ""
    delta: str = ""
    output_index: int | None = None
    item_id: str | None = None
    content_index: int | None = None
    summary_index: int | None = None
    text: str | None = None
    refusal: str | None = None
    arguments: str | None = None
    input: str | None = None
    item: Raw = NULL
    annotation: Raw = NULL
    response: Response | None = None
    error: Raw = NULL


class Typed(Struct):
    """An event or an item of which only the type is read."""

    type: str = ""


HOSTED = frozenset(
    ("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call")
)
"""Types of items that are calls of hosted tools, which are charged for."""
_HOSTED_ITEM = re.compile(b'"type"\\s*:\\s*"(?:%b)"' % "|".join(sorted(HOSTED)).encode())


def hosted_in(response: bytes) -> int:
    """The number of calls of hosted tools in a response, or in an item."""
    return len(_HOSTED_ITEM.findall(response)) if b'_call"' in response else 0


ACTED_ON = frozenset(("message", "reasoning", "function_call", "custom_tool_call"))
"""Types of items that are passed on."""

NEEDED = frozenset(
    (
        *("type", "delta", "text", "refusal", "arguments", "input", "name"),
        *("response", "output", "item", "content", "summary", "status"),
    )
)
"""Members without which there is no answer; they must have the right type."""

decode_event = msgspec.json.Decoder(Event, float_hook=number).decode
decode_typed = msgspec.json.Decoder(Typed).decode
decode_response = msgspec.json.Decoder(Response, float_hook=number).decode
_decode_item = msgspec.json.Decoder(Item).decode
_decode_annotation = msgspec.json.Decoder(Annotation).decode


def item_of(raw: Raw) -> Item | None:
    """An item, with only its type if it is not acted on; None for null.

    Raises one of UNREADABLE for an invalid item of a type that is read.
    """
    if raw is NULL or bytes(raw) == b"null":
        return None
    kind = decode_typed(raw).type
    if kind not in ACTED_ON:
        return Item(type=kind)
    try:
        return _decode_item(raw)
    except UNREADABLE:
        return decode_leniently(_decode_item, bytes(raw), NEEDED)


def annotation_of(raw: Raw) -> Annotation | None:
    """An annotation that has an address; None for any other."""
    try:
        annotation = _decode_annotation(raw)
    except UNREADABLE:
        return None
    return annotation if annotation.url else None
