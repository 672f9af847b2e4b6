"""Fast path of whole answers in exactly Anthropic's form, with one text.

In such an answer only the name of the model changes. An answer with any member that is not listed,
or of another type, takes the slow path of `passthrough.finish_body`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from edge.dialects.passthrough import UNREADABLE, spliced
from edge.dialects.token_counts import MOST
from middlewares.exchange import Usage

from .editing import OWN
from .wire import MessageUsage

_Tokens = Annotated[int, Meta(ge=0, le=MOST)]
_Kept = Literal["ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"]


class _Usage(MessageUsage, forbid_unknown_fields=True):
    input_tokens: _Tokens = 0
    output_tokens: _Tokens = 0
    cache_read_input_tokens: _Tokens | None = None
    cache_creation_input_tokens: _Tokens | None = None
    cache_creation: dict[_Kept, _Tokens | None] | None = None
    output_tokens_details: None = None
    iterations: None = None
    server_tool_use: None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: str | None = None

    def normal(self) -> Usage:
        """See `MessageUsage.normal`."""
        if (
            self.cache_read_input_tokens
            or self.cache_creation_input_tokens
            or self.cache_creation is not None
            or self.service_tier is not None
            or self.speed is not None
            or self.inference_geo is not None
        ):
            return MessageUsage.normal(self)
        return Usage(self.input_tokens, self.output_tokens)


class _Text(Struct, forbid_unknown_fields=True):
    type: Literal["text"]
    text: str
    citations: None = None


class _Message(Struct, forbid_unknown_fields=True):
    type: Literal["message"]
    model: str
    content: tuple[_Text]
    stop_reason: str
    id: str = ""
    role: str = ""
    stop_sequence: str | None = None
    stop_details: None = None
    container: None = None
    context_management: None = None
    usage: _Usage | None = None


_decode = msgspec.json.Decoder(_Message).decode


def finish_standard(body: bytes, requested_model: str) -> tuple[bytes, Usage | None] | None:
    """The result of `finish_body` for a standard answer that hides its vendor; None for others.

    requested_model: the caller's name of the model.
    """
    try:
        message = _decode(body)
    except UNREADABLE:
        return None
    if message.stop_reason not in OWN or body.count(b'"id"') > 1:
        return None
    sold = message.id
    if "_bdrk_" in sold or "_vrtx_" in sold:
        return None
    named = spliced(body, message.model, requested_model)
    if named is None:
        return None
    return named, None if message.usage is None else message.usage.normal()
