"""Token usage in answers of images and speech: `usage`, and `svg_usage` of a second model."""

from typing import Any

import msgspec

from edge.untyped_json import number
from middlewares.exchange import Usage

from .passthrough import UNREADABLE, Fields
from .token_counts import Count, disjoint, member


class _MediaUsage(msgspec.Struct):
    input_tokens: Count = None
    output_tokens: Count = None
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    reasoning_tokens: Count = None
    input_tokens_details: Any = None
    output_tokens_details: Any = None


_decode = msgspec.json.Decoder(_MediaUsage, float_hook=number).decode


def usage_of(fields: Fields) -> Usage | None:
    """The usage that an answer or an event reports, None without one. fields: its members."""
    made = _usage(fields.get("usage"))
    drawn = _usage(fields.get("svg_usage"))
    if made is None or drawn is None:
        return made or drawn
    return made.plus(drawn)


def _usage(raw: msgspec.Raw | None) -> Usage | None:
    try:
        counted = None if raw is None or bytes(raw) == b"null" else _decode(raw)
    except UNREADABLE:
        return None
    if counted is None:
        return None
    reasoning = counted.reasoning_tokens or member(
        counted.output_tokens_details, "reasoning_tokens"
    )
    usage = disjoint(
        counted.input_tokens or counted.prompt_tokens,
        counted.output_tokens or counted.completion_tokens,
        read=member(counted.input_tokens_details, "cached_tokens"),
        written=None,
        reasoning=counted.reasoning_tokens or reasoning,
        total=counted.total_tokens,
    )
    return usage if usage.tokens else None
