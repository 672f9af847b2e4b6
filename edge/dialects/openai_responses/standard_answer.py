"""Fast path of whole answers in exactly the form of OpenAI and similar servers.

In such an answer only the model's name and the members that the gateway sets change. An answer with
any member that is not listed, or of another type, takes the slow path of `passthrough.finish_body`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from edge.dialects.passthrough import UNREADABLE, Echo, decode_fields, encode
from middlewares.exchange import Usage

from .wire import NULL, ResponseUsage, tiered

_Tokens = Annotated[int, Meta(ge=0, le=1 << 53)]
_InputDetail = Literal["cached_tokens", "cache_write_tokens", "audio_tokens", "text_tokens"]
_OutputDetail = Literal["reasoning_tokens", "audio_tokens", "text_tokens"]


class _Usage(ResponseUsage, forbid_unknown_fields=True):
    input_tokens: _Tokens = 0
    output_tokens: _Tokens = 0
    total_tokens: _Tokens = 0
    input_tokens_details: dict[_InputDetail, _Tokens | None] | None = None
    output_tokens_details: dict[_OutputDetail, _Tokens | None] | None = None

    def normal(self) -> Usage:
        """See `ResponseUsage.normal`."""
        input_tokens, output_tokens = self.input_tokens, self.output_tokens
        if (
            input_tokens + output_tokens == self.total_tokens
            and self.input_tokens_details is None
            and self.output_tokens_details is None
        ):
            return Usage(input_tokens, output_tokens)
        return ResponseUsage.normal(self)


class _Summary(Struct, forbid_unknown_fields=True):
    type: str
    text: str


class _Item(Struct, forbid_unknown_fields=True):
    """An item of no hosted tool. content: is not decoded."""

    type: Literal["message", "reasoning", "function_call", "custom_tool_call"]
    id: str | None = None
    status: str | None = None
    role: str | None = None
    phase: str | None = None
    content: Raw = NULL
    summary: list[_Summary] | None = None
    encrypted_content: str | None = None
    call_id: str | None = None
    name: str | None = None
    namespace: str | None = None
    arguments: str | None = None
    input: str | None = None


class _Answer(Struct, forbid_unknown_fields=True):
    """A standard answer. Raw members came from the caller, or are numbers, which are decoded once
    although a member may be repeated."""

    id: str
    object: str
    model: str
    status: Literal["completed"]
    output: list[_Item]
    usage: _Usage | None = None
    created_at: int | None = None
    completed_at: int | None = None
    error: None = None
    incomplete_details: None = None
    moderation: None = None
    conversation: None = None
    background: bool | None = None
    billing: dict[Literal["payer"], str] | None = None
    instructions: Raw = NULL
    metadata: Raw = NULL
    prompt: Raw = NULL
    reasoning: Raw = NULL
    text: Raw = NULL
    tool_choice: Raw = NULL
    tools: Raw = NULL
    parallel_tool_calls: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    temperature: Raw = NULL
    top_p: Raw = NULL
    top_logprobs: int | None = None
    frequency_penalty: Raw = NULL
    presence_penalty: Raw = NULL
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    truncation: str | None = None
    user: str | None = None


_decode = msgspec.json.Decoder(_Answer).decode
_decode_number = msgspec.json.Decoder(float | None).decode
_NO_NUMBERS = (NULL,) * 4
_THEIR_ID = b'"gen-'


def finish_standard(
    body: bytes, requested_model: str, echo: Echo
) -> tuple[bytes, Usage | None] | None:
    """The result of `finish_body` for a standard answer; None for others.

    requested_model: the caller's name of the model. echo: members that the gateway sets.
    """
    try:
        answer = _decode(body)
        numbers = (
            answer.temperature,
            answer.top_p,
            answer.frequency_penalty,
            answer.presence_penalty,
        )
        if numbers != _NO_NUMBERS:
            for number in numbers:
                _decode_number(number)
        if body.find(_THEIR_ID) >= 0:
            return None
        ours = encode({**decode_fields(body), "model": requested_model, **echo})
    except UNREADABLE:
        return None
    usage = answer.usage
    return ours, None if usage is None else tiered(usage, answer.service_tier)
