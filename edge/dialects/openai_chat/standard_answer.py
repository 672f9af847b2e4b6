"""Fast path of whole answers in exactly the form of OpenAI and similar servers.

In such an answer only the names of the model and of its build change. An answer with any member
that is not listed, or of another type, takes the slow path of `passthrough.finish_body`.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from edge.dialects.passthrough import UNREADABLE, spliced
from edge.dialects.token_counts import MOST
from middlewares.exchange import Usage

from .editing import OWN
from .wire import NULL, ChatUsage

_Tokens = Annotated[int, Meta(ge=0, le=MOST)]
_InputDetail = Literal["cached_tokens", "cache_write_tokens", "audio_tokens", "text_tokens"]
_OutputDetail = Literal[
    "reasoning_tokens",
    "audio_tokens",
    "text_tokens",
    "accepted_prediction_tokens",
    "rejected_prediction_tokens",
]


class _Usage(ChatUsage, forbid_unknown_fields=True):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0
    total_tokens: _Tokens = 0
    prompt_tokens_details: dict[_InputDetail, _Tokens | None] | None = None
    completion_tokens_details: dict[_OutputDetail, _Tokens | None] | None = None
    prompt_cache_hit_tokens: _Tokens | None = None
    cached_tokens: _Tokens | None = None
    server_tool_use: None = None
    num_search_queries: None = None
    num_sources_used: None = None


class _Function(Struct, forbid_unknown_fields=True):
    name: str
    arguments: str


class _Call(Struct, forbid_unknown_fields=True):
    id: str
    function: _Function
    type: Literal["function"]


class _Message(Struct, forbid_unknown_fields=True):
    role: str
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None
    annotations: Annotated[list[None], Meta(max_length=0)] | None = None
    function_call: None = None
    audio: None = None


class _Choice(Struct, forbid_unknown_fields=True):
    message: _Message
    finish_reason: str
    index: Literal[0] = 0
    logprobs: None = None
    stop_reason: None = None
    token_ids: None = None


class _Answer(Struct, forbid_unknown_fields=True):
    model: str
    choices: tuple[_Choice]
    object: Literal["chat.completion"]
    id: str | None = None
    created: int = 0
    usage: _Usage | None = None
    service_tier: str | None = None
    system_fingerprint: Raw = NULL
    prompt_logprobs: None = None
    prompt_token_ids: None = None
    kv_transfer_params: None = None


_decode = msgspec.json.Decoder(_Answer).decode
_BUILD = b'"system_fingerprint"'
_THEIR_ID = b'"gen-'


def finish_standard(body: bytes, requested_model: str) -> tuple[bytes, Usage | None] | None:
    """The result of `finish_body` for a standard answer that hides its vendor; None for others.

    requested_model: the caller's name of the model.
    """
    try:
        answer = _decode(body)
    except UNREADABLE:
        return None
    if answer.choices[0].finish_reason not in OWN or body.find(_THEIR_ID) >= 0:
        return None
    named = spliced(body, answer.model, requested_model)
    if named is None:
        return None
    build = answer.system_fingerprint
    if build is not NULL:
        if named.count(_BUILD) != 1:
            return None
        if (mark := bytes(build)) != b"null":
            at = named.find(_BUILD + b":" + mark)
            if at < 0:
                return None
            at += len(_BUILD) + 1
            named = named[:at] + b"null" + named[at + len(mark) :]
    if answer.usage is None:
        return named, None
    usage = answer.usage.normal()
    if answer.service_tier is not None:
        usage.tiers = (answer.service_tier, "", "")
    return named, usage
